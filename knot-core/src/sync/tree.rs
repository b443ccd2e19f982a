//! A tree of fingerprints over everything a replica holds, to find what two replicas do not share.
//!
//! Items lie at the hash of their name, so the tree is balanced by itself: a node stands for a prefix
//! of that hash, four bits a level. Its fingerprint is a count and the 256-bit sum of its items'
//! hashes; a sum, since that can be updated in O(depth) and does not depend on order (Meyer,
//! "Range-Based Set Reconciliation", 2023, section 5).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::{ChangeHash, DocId, ServerId},
    store::Record,
};

/// Levels below the root. At 16⁵ nodes, ten million items are ten a leaf.
const DEPTH: u8 = 5;

/// Where an item lies: the hash of its name, cut to 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "(u64, u64)", from = "(u64, u64)")]
pub struct ItemKey(u128);

impl From<ItemKey> for (u64, u64) {
    #[allow(clippy::cast_possible_truncation)]
    fn from(key: ItemKey) -> Self {
        ((key.0 >> 64) as u64, key.0 as u64)
    }
}

impl From<(u64, u64)> for ItemKey {
    fn from((high, low): (u64, u64)) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl ItemKey {
    /// The key of a document, living or dead.
    pub fn document(doc: DocId) -> Self {
        Self::hash(&[b"document", doc.kind.as_str().as_bytes(), doc.uuid.as_bytes()])
    }

    /// The key of a server's record about a subject.
    pub fn record(subject: DocId, server: ServerId) -> Self {
        let kind = subject.kind.as_str().as_bytes();
        Self::hash(&[b"record", kind, subject.uuid.as_bytes(), server.0.as_bytes()])
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let digest = digest(parts);
        let (high, _) = digest.split_at(16);
        Self(u128::from_be_bytes(high.try_into().unwrap_or_default()))
    }
}

/// The digest of a living document: of the heads of all its held changes, in order.
pub fn heads_digest(heads: &[ChangeHash]) -> [u8; 32] {
    let parts: Vec<&[u8]> = heads.iter().map(|head| head.0.as_slice()).collect();
    digest(&parts)
}

/// The digest of every dead document.
pub fn dead_digest() -> [u8; 32] {
    digest(&[b"dead"])
}

/// The digest of a record: of its number, which only its server raises, and of its value, since a
/// server whose database was restored may give a number twice.
pub fn record_digest(record: &Record) -> [u8; 32] {
    let value: &[&[u8]] = match &record.value {
        Some(value) => &[value.as_ref()],
        None => &[],
    };
    digest(&[[&record.run.to_be_bytes()[..], &record.n.to_be_bytes()].as_slice(), value].concat())
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The first bits of item keys: a node of the tree.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Prefix {
    /// Levels below the root.
    depth: u8,
    /// Four bits a level, the last level's lowest.
    path: u32,
}

impl Prefix {
    /// The node that stands for everything.
    pub const ROOT: Self = Self { depth: 0, path: 0 };

    /// Whether there are nodes below: at the last level there are only items.
    pub fn has_children(self) -> bool {
        self.depth < DEPTH
    }

    /// The sixteen nodes below.
    pub fn children(self) -> impl Iterator<Item = Self> {
        (0..16).map(move |nibble| Self { depth: self.depth + 1, path: self.path << 4 | nibble })
    }

    /// Whether a prefix from outside is one that the tree has.
    pub fn is_valid(self) -> bool {
        self.depth <= DEPTH && u64::from(self.path) < 1 << (4 * u32::from(self.depth))
    }

    #[allow(clippy::cast_possible_truncation)]
    fn of(key: ItemKey, depth: u8) -> Self {
        let path = if depth == 0 { 0 } else { key.0 >> (128 - 4 * u32::from(depth)) };
        Self { depth, path: path as u32 }
    }

    /// The first and the last key under the prefix.
    fn range(self) -> (ItemKey, ItemKey) {
        if self.depth == 0 {
            return (ItemKey(0), ItemKey(u128::MAX));
        }
        let shift = 128 - 4 * u32::from(self.depth);
        let first = u128::from(self.path) << shift;
        (ItemKey(first), ItemKey(first | ((1 << shift) - 1)))
    }
}

/// How many items a node has, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Number of items.
    pub count: u64,
    /// The sum modulo 2²⁵⁶, the lowest word first.
    sum: [u64; 4],
}

impl Fingerprint {
    /// 64 bits of the sum: what two honest replicas compare below the root.
    pub fn short(&self) -> u64 {
        self.sum.first().copied().unwrap_or_default()
    }

    /// The whole sum, as it travels.
    pub fn sum(&self) -> [u64; 4] {
        self.sum
    }

    fn add(&mut self, item: [u64; 4]) {
        self.count += 1;
        let mut carry = false;
        for (word, other) in self.sum.iter_mut().zip(item) {
            let (sum, over) = word.overflowing_add(other);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, over || over_again);
        }
    }

    fn subtract(&mut self, item: [u64; 4]) {
        self.count = self.count.saturating_sub(1);
        let mut borrow = false;
        for (word, other) in self.sum.iter_mut().zip(item) {
            let (rest, under) = word.overflowing_sub(other);
            let (rest, under_again) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, under || under_again);
        }
    }
}

/// The hash that an item adds to the sums: of its key and its digest.
fn item_hash(key: ItemKey, item: [u8; 32]) -> [u64; 4] {
    let digest = digest(&[&key.0.to_be_bytes(), &item]);
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// Fingerprints over a set of items, each a key and a digest.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    items: BTreeMap<ItemKey, [u8; 32]>,
    nodes: HashMap<Prefix, Fingerprint>,
}

impl Tree {
    /// Puts an item in, or gives it another digest.
    pub fn put(&mut self, key: ItemKey, digest: [u8; 32]) {
        let before = self.items.insert(key, digest);
        if before == Some(digest) {
            return;
        }
        for depth in 0..=DEPTH {
            let node = self.nodes.entry(Prefix::of(key, depth)).or_default();
            if let Some(before) = before {
                node.subtract(item_hash(key, before));
            }
            node.add(item_hash(key, digest));
        }
    }

    /// The fingerprint of everything.
    pub fn root(&self) -> Fingerprint {
        self.node(Prefix::ROOT)
    }

    /// The fingerprint of the items under a prefix.
    pub fn node(&self, prefix: Prefix) -> Fingerprint {
        self.nodes.get(&prefix).copied().unwrap_or_default()
    }

    /// The digest of an item, cut to what travels.
    pub fn item(&self, key: ItemKey) -> Option<u64> {
        self.items.get(&key).map(short)
    }

    /// The items under a prefix, their digests cut to what travels.
    pub fn items(&self, prefix: Prefix) -> impl Iterator<Item = (ItemKey, u64)> {
        let (first, last) = prefix.range();
        self.items.range(first..=last).map(|(key, digest)| (*key, short(digest)))
    }
}

fn short(digest: &[u8; 32]) -> u64 {
    let (first, _) = digest.split_at(8);
    u64::from_be_bytes(first.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u64) -> ItemKey {
        ItemKey::hash(&[&n.to_be_bytes()])
    }

    proptest! {
        #[test]
        fn fingerprints_depend_on_the_items_alone(
            puts in prop::collection::vec((0_u64..50, 0_u8..4), 0..200),
        ) {
            let mut grown = Tree::default();
            for (n, digest) in &puts {
                grown.put(key(*n), [*digest; 32]);
            }
            let last: BTreeMap<u64, u8> = puts.into_iter().collect();
            let mut direct = Tree::default();
            for (n, digest) in last.into_iter().rev() {
                direct.put(key(n), [digest; 32]);
            }
            prop_assert_eq!(grown.root(), direct.root());
            for child in Prefix::ROOT.children() {
                prop_assert_eq!(grown.node(child), direct.node(child));
                prop_assert_eq!(grown.node(child).count, grown.items(child).count() as u64);
            }
        }

        #[test]
        fn every_item_lies_under_its_prefix_at_each_level(n: u64) {
            for depth in 0..=DEPTH {
                let prefix = Prefix::of(key(n), depth);
                let (first, last) = prefix.range();
                prop_assert!(prefix.is_valid() && first <= key(n) && key(n) <= last);
            }
        }
    }

    #[test]
    fn prefixes_from_outside_are_checked() {
        assert!(Prefix::ROOT.is_valid());
        assert!(!Prefix { depth: 0, path: 1 }.is_valid());
        assert!(!Prefix { depth: 6, path: 0 }.is_valid());
        assert!(!Prefix { depth: 1, path: 16 }.is_valid());
    }
}
