//! Whose key opens which door: followed from documents and records, asked in the TLS verifier.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use uuid::Uuid;

use super::{keys::PublicKey, tls::Verdict};
use crate::{
    generation::Generation,
    id::{DocId, Id, ServerId},
    model::{Observed, Server, Space, SpaceStatus},
    replica::Replica,
};

/// What the holder of a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A server of the cluster.
    Peer(ServerId),
    /// The holder of an invitation that nobody has used: it may fill in this `Server` document.
    Invitee(ServerId),
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
    /// Keys of servers that were removed while this process ran: those are told so.
    removed: HashMap<PublicKey, ServerId>,
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
        } else if keys.removed.contains_key(key) {
            Verdict::Removed
        } else {
            Verdict::Unknown
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
            if replica.grave(id).is_some() {
                self.remove(subject);
            }
            server_roles(replica, id)
        } else if subject == DocId::from(Id::<Space>::from_uuid(subject.uuid)) {
            agent_role(replica, Id::from_uuid(subject.uuid))
        } else {
            return false;
        };
        self.set(subject, roles)
    }

    fn remove(&self, subject: DocId) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for key in keys.by_subject.get(&subject).cloned().unwrap_or_default() {
            keys.removed.insert(key, ServerId(subject.uuid));
        }
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
        (Some(key), _) => vec![(key, Role::Peer(id))],
        (None, Some(invitation)) => vec![(invitation, Role::Invitee(id))],
        (None, None) => Vec::new(),
    }
}

/// The agent that the space's home names, while the home is still the one that the space is placed
/// on: whoever has heard of a newer placement lets no agent of an older term in.
fn agent_role(replica: &Replica, id: Id<Space>) -> Vec<(PublicKey, Role)> {
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
    vec![(key, Role::Agent { space: id.uuid(), generation })]
}
