//! How replicas become equal, without sockets, clocks, disks or tasks.
//!
//! A new change goes straight to every connected peer, or where there are many, along a tree of them
//! ([`plumtree`]). What that misses, reconciliation finds: each replica keeps a [`Tree`] of fingerprints over all it holds, roots are compared now and then, and
//! where they differ two replicas walk only what differs and pull it from each other.

mod engine;
mod message;
mod packed;
pub mod plumtree;
mod tree;

pub use engine::{Engine, Input, Output};
pub use message::{Answer, DocChanges, Heads, Message, Want};
pub use packed::{Buckets, Items, Nodes};
pub use tree::{
    Fingerprint, ItemKey, Prefix, Tree, dead_digest, heads_digest, record_digest, short_digest,
};
