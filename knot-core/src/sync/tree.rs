//! A tree of fingerprints over everything a replica holds, to find what two replicas do not share.
//!
//! Items lie at the hash of their name, so the tree is balanced by itself: a node stands for a prefix
//! of that hash, four bits a level. Its fingerprint is a count and the 256-bit sum of its items'
//! hashes; a sum, since that can be updated in O(depth) and does not depend on order (Meyer,
//! "Range-Based Set Reconciliation", 2023, section 5).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
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
#[serde(into = "Bytes", from = "Bytes")]
pub struct ItemKey(u128);

impl From<ItemKey> for Bytes {
    fn from(key: ItemKey) -> Self {
        Self::copy_from_slice(&key.to_bytes())
    }
}

/// Bytes of another length give a key that no item has.
impl From<Bytes> for ItemKey {
    fn from(bytes: Bytes) -> Self {
        Self::from_bytes(bytes.as_ref().try_into().unwrap_or_default())
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

    /// The key as it travels.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The key that travelled as these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Levels below the root.
    depth: u8,
    /// Four bits a level, the last level's lowest.
    path: u32,
}

impl Prefix {
    /// The node that stands for everything.
    pub const ROOT: Self = Self { depth: 0, path: 0 };

    /// How many levels there are below: at the last level there are only items.
    pub fn levels(self) -> u8 {
        DEPTH.saturating_sub(self.depth)
    }

    /// The nodes so many levels below, in order: 16 for each level. There are none below the last.
    pub fn below(self, levels: u8) -> impl Iterator<Item = Self> {
        let count = if levels <= self.levels() { 1_u32 << (4 * u32::from(levels)) } else { 0 };
        let (depth, first) = (self.depth + levels, self.path.wrapping_shl(4 * u32::from(levels)));
        (0..count).map(move |nth| Self { depth, path: first | nth })
    }

    /// The prefix as it travels: four bits of depth and twenty of path.
    pub fn to_bytes(self) -> [u8; 3] {
        let [_, high, middle, low] = self.path.to_be_bytes();
        [self.depth << 4 | high, middle, low]
    }

    /// The prefix that travelled as these bytes; `None` for one that the tree has not.
    pub fn from_bytes([first, middle, low]: [u8; 3]) -> Option<Self> {
        let (depth, path) = (first >> 4, u32::from_be_bytes([0, first & 0xf, middle, low]));
        let prefix = Self { depth, path };
        let known = depth <= DEPTH && u64::from(path) < 1 << (4 * u32::from(depth));
        known.then_some(prefix)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn of(key: ItemKey, depth: u8) -> Self {
        let path = if depth == 0 { 0 } else { key.0 >> (128 - 4 * u32::from(depth)) };
        Self { depth, path: path as u32 }
    }

    /// The first and the last key under the prefix.
    pub(super) fn range(self) -> (ItemKey, ItemKey) {
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
    /// 32 bits that two replicas compare below the root. Fingerprints that differ give the same
    /// under one salt in 2³², and hardly under another: each walk takes a new one.
    #[allow(clippy::cast_possible_truncation)]
    pub fn salted(&self, salt: u32) -> u32 {
        let words = self.sum.iter().chain([&self.count]);
        let mixed = words.fold(mix(u64::from(salt) + 1), |state, word| mix(state ^ word));
        (mixed >> 32) as u32
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

/// The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
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
        self.items.get(&key).map(short_digest)
    }

    /// The items under a prefix, their digests cut to what travels.
    pub fn items(&self, prefix: Prefix) -> impl Iterator<Item = (ItemKey, u64)> {
        let (first, last) = prefix.range();
        self.items.range(first..=last).map(|(key, digest)| (*key, short_digest(digest)))
    }
}

/// The part of a digest that travels.
pub fn short_digest(digest: &[u8; 32]) -> u64 {
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
            for child in Prefix::ROOT.below(1) {
                prop_assert_eq!(grown.node(child), direct.node(child));
                prop_assert_eq!(grown.node(child).count, grown.items(child).count() as u64);
            }
        }

        #[test]
        fn every_item_lies_under_its_prefix_at_each_level(n: u64) {
            for depth in 0..=DEPTH {
                let prefix = Prefix::of(key(n), depth);
                let (first, last) = prefix.range();
                prop_assert!(first <= key(n) && key(n) <= last);
                prop_assert_eq!(Prefix::from_bytes(prefix.to_bytes()), Some(prefix));
            }
        }
    }

    #[test]
    fn prefixes_from_outside_are_checked() {
        assert_eq!(Prefix::from_bytes([0, 0, 0]), Some(Prefix::ROOT));
        assert_eq!(Prefix::from_bytes([0, 0, 1]), None, "the root has no path");
        assert_eq!(Prefix::from_bytes([6 << 4, 0, 0]), None, "there are five levels");
        assert_eq!(Prefix::from_bytes([1 << 4, 0, 16]), None, "a level has sixteen nodes");
    }
}
