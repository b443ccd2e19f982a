//! Who belongs to the cluster, and the keys that its servers share.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Millis,
    id::Id,
    net::PublicKey,
    secrets::{Sealed, SealingKey, Wrapped},
};

crate::entity! {
    /// A server of the cluster, or an invitation to become one: its key has yet to be filled in.
    /// Its grave is its removal.
    pub struct Server("server", 3) {
        /// Its name, for people.
        name: Field<String>,
        /// The failure domain it stands in.
        zone: Field<String>,
        /// The key of the invitation: who holds it may fill in `key`, once.
        invitation: Field<Option<PublicKey>>,
        /// The key the server joined with. Of two joins with one token, one key wins; it stays here
        /// when it has been retired, since it says who won.
        key: Field<Option<PublicKey>>,
        /// The keys it has taken since, each with the `key` of the server that added it: what the
        /// loser of a token adds counts for nothing.
        keys: Map<PublicKey, PublicKey>,
        /// The keys it presents no more. Nothing is ever taken out.
        retired: Set<PublicKey>,
        /// What data keys are sealed for it with, by the `key` it joined with.
        sealing: Map<PublicKey, SealingKey>,
        /// Set before it is removed, where somebody else may have what was on it: nothing that it
        /// says later is believed.
        stolen: Field<bool>,
        /// Where its peers reach it: `address:port`, UDP.
        quic: Field<String>,
        /// Where people reach it: a URL.
        http: Field<String>,
        /// Where people reach its SSH gateway: `host:port`; empty where it has none.
        ssh: Field<String>,
    }
}

impl Server {
    /// The keys that open a door to this server's peers: the one it joined with and those it added
    /// since, but for the retired. None before it has joined.
    pub fn accepted(&self) -> BTreeSet<PublicKey> {
        let Some(joined) = self.key else { return BTreeSet::new() };
        let added = self.keys.iter().filter(|(_, by)| **by == joined).map(|(key, _)| *key);
        added.chain([joined]).filter(|key| !self.retired.contains(key)).collect()
    }

    /// The key that secrets are sealed for this server with, once it has joined.
    pub fn sealing_key(&self) -> Option<SealingKey> {
        self.sealing.get(&self.key?).copied()
    }
}

crate::entity! {
    /// A key that secrets in documents are sealed with. Which is the newest follows from `number`
    /// and the id, never from a clock.
    pub struct DataKey("data-key", 1) {
        /// Larger than that of every data key its maker knew of.
        number: Field<u64>,
        /// When it was made, for people.
        made: Field<Millis>,
        /// The key itself, once for each server that may open it.
        wrapped: Map<SealingKey, Wrapped>,
    }
}

crate::entity! {
    /// A key that sessions and tokens are signed with. Its grave ends all that it signed.
    pub struct SessionKey("session-key", 1) {
        /// Larger than that of every session key its maker knew of.
        number: Field<u64>,
        /// The 32 secret bytes.
        key: Field<Sealed>,
    }
}

crate::entity! {
    /// What the SSH gateways of all servers show that they are this cluster. There is one, by
    /// [`HostKey::id`]; where two were made at once, the register's winner is it everywhere.
    pub struct HostKey("host-key", 1) {
        /// The 32 bytes that the Ed25519 key follows from.
        seed: Field<Sealed>,
    }
}

impl HostKey {
    /// The id of the one host key.
    pub fn id() -> Id<Self> {
        Id::of_key(&[b"ssh host key"])
    }
}

/// What a server says of itself: the record about its own document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its version.
    pub version: String,
    /// The platforms whose engine answers on it.
    pub platforms: Vec<String>,
    /// Who those engines are, by platform, where they say: servers that name the same share it.
    #[serde(default)]
    pub engines: BTreeMap<String, String>,
    /// Volumes on its engines with this cluster's labels and of no document: platform and the
    /// engine's name. At most 64.
    #[serde(default)]
    pub strays: BTreeSet<(String, String)>,
    /// Whether its folder was restored and it has not been level with another server since: it acts on
    /// no engine.
    #[serde(default)]
    pub restored: bool,
    /// Spaces that are its own and that wait, since its engine has run what its database does not know
    /// of. At most 1,000.
    #[serde(default)]
    pub outdated: BTreeSet<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::KeyPair;

    fn key(seed: u8) -> PublicKey {
        KeyPair::from_seed(&[seed; 32]).unwrap().public()
    }

    #[test]
    fn what_the_loser_of_a_token_added_opens_no_door() {
        let (winner, renewed, losers) = (key(1), key(2), key(3));
        let mut server = Server {
            key: Some(winner),
            keys: [(renewed, winner), (losers, key(4))].into(),
            ..Server::default()
        };
        assert_eq!(server.accepted(), [winner, renewed].into());
        server.retired.insert(winner);
        assert_eq!(server.accepted(), [renewed].into());
        server.key = None;
        assert!(server.accepted().is_empty());
    }
}
