//! Who belongs to the cluster.

use serde::{Deserialize, Serialize};

use crate::net::PublicKey;

crate::entity! {
    /// A server of the cluster, or an invitation to become one: its key has yet to be filled in.
    /// Its grave is its removal.
    pub struct Server("server", 1) {
        /// Its name, for people.
        name: Field<String>,
        /// The failure domain it stands in.
        zone: Field<String>,
        /// The key of the invitation: who holds it may fill in `key`, once.
        invitation: Field<Option<PublicKey>>,
        /// The key the server joined with. Of two joins with one token, one key wins.
        key: Field<Option<PublicKey>>,
        /// Where its peers reach it: `address:port`, UDP.
        quic: Field<String>,
        /// Where people reach it: a URL.
        http: Field<String>,
    }
}

/// What a server says of itself: the record about its own document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its version.
    pub version: String,
    /// The platforms whose engine answers on it.
    pub platforms: Vec<String>,
}
