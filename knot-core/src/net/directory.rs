//! Whose key opens which door: followed from documents and records, asked in the TLS verifier.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use uuid::Uuid;

use super::{enrol, keys::PublicKey, tls::Verdict};
use crate::{
    generation::Generation,
    id::{DocId, Id, ServerId},
    model::{Observed, Server, Space, SpaceStatus},
    replica::{Doc, Replica},
    schema::{Entity as _, FieldValue as _},
};

/// What the holder of a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A server of the cluster.
    Peer(ServerId),
    /// The holder of an invitation that nobody has used: it may fill in this `Server` document.
    Invitee(ServerId),
    /// Who holds the secret that the agent of a space's running generation was started with: it may name
    /// the agent's key.
    Newcomer(Uuid),
    /// The agent of the running generation of a space.
    Agent {
        /// The space.
        space: Uuid,
        /// The generation.
        generation: Generation,
    },
}

/// The accepted keys, each with its role.
#[derive(Debug, Default)]
pub(super) struct Directory(RwLock<Keys>);

#[derive(Debug, Default)]
struct Keys {
    roles: HashMap<PublicKey, Role>,
    by_subject: HashMap<DocId, Vec<PublicKey>>,
    /// The keys of servers that belong no more, and why: those are told so.
    expelled: HashMap<PublicKey, Verdict>,
}

impl Directory {
    /// The role of a key; `None` for a key that opens no door.
    pub(super) fn role(&self, key: &PublicKey) -> Option<Role> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).roles.get(key).copied()
    }

    /// What the TLS verifier says to the holder of a key.
    pub(super) fn verdict(&self, key: &PublicKey) -> Verdict {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if keys.roles.contains_key(key) {
            Verdict::Known
        } else {
            keys.expelled.get(key).copied().unwrap_or(Verdict::Unknown)
        }
    }

    /// The keys of a server that are accepted here.
    pub(super) fn keys_of(&self, server: ServerId) -> Vec<PublicKey> {
        let subject = DocId::from(Id::<Server>::from_uuid(server.0));
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = keys.by_subject.get(&subject).cloned().unwrap_or_default();
        let peers = held.into_iter().filter(|key| keys.roles.get(key) == Some(&Role::Peer(server)));
        peers.collect()
    }

    /// Reads everything that says who belongs, or no longer does.
    pub(super) fn follow_all(&self, replica: &Replica) {
        for space in replica.list::<Space>() {
            self.follow(replica, space.id().into());
        }
        for server in replica.list::<Server>() {
            self.follow(replica, server.id().into());
        }
        for server in replica.all_remains::<Server>() {
            self.expel(all_keys(&server), Verdict::Removed);
        }
    }

    /// Accepts a key before the documents that hold it have come: the first peer after a join.
    pub(super) fn introduce(&self, server: ServerId, keys: &[PublicKey]) {
        let subject = DocId::from(Id::<Server>::from_uuid(server.0));
        self.set(subject, keys.iter().map(|key| (*key, Role::Peer(server))).collect());
    }

    /// Reads a subject again; whether a key has lost its role.
    pub(super) fn follow(&self, replica: &Replica, subject: DocId) -> bool {
        let roles = if subject == DocId::from(Id::<Server>::from_uuid(subject.uuid)) {
            let id = Id::<Server>::from_uuid(subject.uuid);
            if let Some(remains) = replica.remains(id) {
                self.expel(all_keys(&remains), Verdict::Removed);
            }
            if let Some(server) = replica.get(id) {
                self.expel(losers(&server), Verdict::Superseded);
            }
            server_roles(replica, id)
        } else if subject.kind == Space::KIND || subject.kind == enrol::KIND {
            let id = Id::<Space>::from_uuid(subject.uuid);
            return self.set(id.into(), agent_roles(replica, id));
        } else {
            return false;
        };
        self.set(subject, roles)
    }

    fn expel(&self, lost: Vec<PublicKey>, why: Verdict) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.expelled.extend(lost.into_iter().map(|key| (key, why)));
    }

    fn set(&self, subject: DocId, roles: Vec<(PublicKey, Role)>) -> bool {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = keys.by_subject.remove(&subject).unwrap_or_default();
        let mut lost = false;
        for key in before {
            let now = roles.iter().find(|(other, _)| *other == key).map(|(_, role)| *role);
            let then = keys.roles.remove(&key);
            lost |= then != now;
        }
        if !roles.is_empty() {
            keys.by_subject.insert(subject, roles.iter().map(|(key, _)| *key).collect());
        }
        keys.roles.extend(roles);
        lost
    }
}

fn server_roles(replica: &Replica, id: Id<Server>) -> Vec<(PublicKey, Role)> {
    let Some(server) = replica.get(id) else { return Vec::new() };
    let id = ServerId(id.uuid());
    match (server.key, server.invitation) {
        (Some(_), _) => server.accepted().into_iter().map(|key| (key, Role::Peer(id))).collect(),
        (None, Some(invitation)) => vec![(invitation, Role::Invitee(id))],
        (None, None) => Vec::new(),
    }
}

/// Every key that a server ever had.
fn all_keys(server: &Doc<Server>) -> Vec<PublicKey> {
    let mut keys = losers(server);
    keys.extend(server.key);
    keys.extend(server.keys.keys().copied());
    keys
}

/// The keys of servers that used the token of this one too, and lost: those that they joined with,
/// and those that they added since.
fn losers(server: &Doc<Server>) -> Vec<PublicKey> {
    let contenders = server.conflicts().filter(|(field, _)| *field == "key");
    let joined: Vec<PublicKey> = contenders
        .flat_map(|(_, conflict)| conflict)
        .filter_map(|contender| PublicKey::from_scalar(&contender.value))
        .filter(|key| Some(*key) != server.key)
        .collect();
    let added = server.keys.iter().filter(|(_, by)| joined.contains(by)).map(|(key, _)| *key);
    let added: Vec<_> = added.collect();
    [joined, added].concat()
}

/// The secret and the agent that the space's home names, while the home is still the one that the space is placed
/// on: whoever has heard of a newer placement lets no agent of an older term in.
fn agent_roles(replica: &Replica, id: Id<Space>) -> Vec<(PublicKey, Role)> {
    let Some(space) = replica.get(id) else { return Vec::new() };
    let status = replica.observed::<SpaceStatus>(id, space.placement.server);
    let Some(SpaceStatus { state, generation, agent: Some(key), .. }) = status else {
        return Vec::new();
    };
    let runs = matches!(
        state,
        Observed::Provisioning | Observed::Starting | Observed::Running | Observed::Stopping
    );
    if !runs || generation.term != space.placement.term {
        return Vec::new();
    }
    let own = enrol::own_key(replica, &space, id, generation);
    let own = own.map(|key| (key, Role::Agent { space: id.uuid(), generation }));
    [Some((key, Role::Newcomer(id.uuid()))), own].into_iter().flatten().collect()
}
