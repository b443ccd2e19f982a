//! What servers say to each other about what they hold.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::tree::{ItemKey, Prefix};
use crate::{
    id::{ChangeHash, DocId},
    store::{Grave, Record},
};

/// One message between two servers, in a frame of [`crate::wire`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Everything the sender holds, as one fingerprint. Sent when a link comes up and every second.
    Root {
        /// Number of items.
        count: u64,
        /// The sum of their hashes.
        sum: [u64; 4],
    },
    /// The sender's fingerprints below some nodes where the two differ.
    Nodes(Vec<Node>),
    /// All of the sender's items under some nodes where the two differ.
    Items(Vec<Bucket>),
    /// Items that the sender has and the receiver lacks or has otherwise.
    Offer(Vec<(ItemKey, u64)>),
    /// Asks for items, naming what is held of each.
    Pull(Vec<Want>),
    /// All that was asked for with the last `Pull` has been sent, but for these.
    Pulled {
        /// Asked for and not sent: ask again.
        rest: Vec<ItemKey>,
    },
    /// Changes, graves and records: news, or what was asked for.
    News(Answer),
    /// What the sender observes now and nobody stores.
    Presence(Vec<Record>),
    /// Asks to be told once the receiver holds these edits with all they depend on.
    AskHeld(Vec<Heads>),
    /// The sender holds these edits: they are committed there.
    Held(Vec<Heads>),
}

/// An edit: its document, and the heads that the edit left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Heads {
    /// The document.
    pub doc: DocId,
    /// The heads; [`ChangeHash::DEAD`] alone for a deletion.
    pub heads: Vec<ChangeHash>,
}

/// A node and its sixteen children.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The node.
    pub prefix: Prefix,
    /// Count and short sum of each child, in order.
    pub children: Vec<(u64, u64)>,
}

/// A node and all items under it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The node.
    pub prefix: Prefix,
    /// Key and short digest of each item, in order.
    pub items: Vec<(ItemKey, u64)>,
}

/// One item asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Want {
    /// Which.
    pub key: ItemKey,
    /// For a document: the heads held of it, and hashes at doubling distance back from them.
    pub have: Vec<ChangeHash>,
}

/// Changes, graves and records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Changes by document.
    pub changes: Vec<DocChanges>,
    /// Graves.
    pub graves: Vec<Grave>,
    /// Records that are stored.
    pub records: Vec<Record>,
}

impl Answer {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.graves.is_empty() && self.records.is_empty()
    }
}

/// Changes of one document, dependencies first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocChanges {
    /// The document.
    pub doc: DocId,
    /// Raw uncompressed change chunks.
    pub changes: Vec<Bytes>,
}
