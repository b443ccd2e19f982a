//! What servers say to each other about what they hold.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    packed::{Buckets, Items, Nodes},
    tree::ItemKey,
};
use crate::{
    id::{ChangeHash, DocId},
    store::{Grave, Record},
};

/// One message between two servers, in a frame of [`crate::wire`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Everything the sender holds, as one fingerprint. It travels with
    /// every probe of membership, and by itself when a link comes up and when the two have become equal.
    Root {
        /// Number of items.
        count: u64,
        /// The sum of their hashes.
        sum: [u64; 4],
    },
    /// The sender's sums below some nodes where the two differ.
    Nodes(Nodes),
    /// All of the sender's items under some nodes where the two differ.
    Items(Buckets),
    /// Items that the sender has and the receiver lacks or has otherwise.
    Offer(Items),
    /// Asks for items, naming what is held of each.
    Pull {
        /// The asker's number for it; 0 where no `Pulled` is waited for.
        number: u32,
        /// What is asked for.
        wants: Vec<Want>,
    },
    /// All that was asked for with a `Pull` has been sent, but for these.
    Pulled {
        /// The number of the `Pull`.
        number: u32,
        /// Asked for and not sent: ask again.
        rest: Vec<ItemKey>,
    },
    /// What the sender has newly heard of and does not send to this peer unasked.
    IHave(Items),
    /// Asks for what an `IHave` named, and to be sent news unasked from now on.
    Graft(Vec<Want>),
    /// Asks to be told of news by `IHave` only.
    Prune,
    /// Changes, graves and records: news, or what was asked for.
    News(Answer),
    /// What the sender observes now and nobody stores.
    Presence(Vec<Record>),
    /// Asks to be told once the receiver holds these edits with all they depend on.
    AskHeld(Vec<Heads>),
    /// The sender holds these edits: they are committed there.
    Held(Vec<Heads>),
}

impl Message {
    /// What sort of message it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Root { .. } => "Root",
            Self::Nodes(_) => "Nodes",
            Self::Items(_) => "Items",
            Self::Offer(_) => "Offer",
            Self::Pull { .. } => "Pull",
            Self::Pulled { .. } => "Pulled",
            Self::News(_) => "News",
            Self::IHave(_) => "IHave",
            Self::Graft(_) => "Graft",
            Self::Prune => "Prune",
            Self::Presence(_) => "Presence",
            Self::AskHeld(_) => "AskHeld",
            Self::Held(_) => "Held",
        }
    }
}

/// An edit: its document, and the heads that the edit left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Heads {
    /// The document.
    pub doc: DocId,
    /// The heads; [`ChangeHash::DEAD`] alone for a deletion.
    pub heads: Vec<ChangeHash>,
}

/// One item asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "(ItemKey, Bytes)", from = "(ItemKey, Bytes)")]
pub struct Want {
    /// Which.
    pub key: ItemKey,
    /// For a document: the heads held of it, and hashes at doubling distance back from them.
    pub have: Vec<ChangeHash>,
}

/// The hashes travel as one byte string.
impl From<Want> for (ItemKey, Bytes) {
    fn from(Want { key, have }: Want) -> Self {
        (key, have.iter().flat_map(|hash| hash.0).collect())
    }
}

impl From<(ItemKey, Bytes)> for Want {
    fn from((key, have): (ItemKey, Bytes)) -> Self {
        let hash = |bytes: &[u8]| bytes.try_into().ok().map(ChangeHash);
        Self { key, have: have.chunks_exact(32).filter_map(hash).collect() }
    }
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
    /// For news that is passed on, how often it has been; `None` for what goes no further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<u8>,
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
