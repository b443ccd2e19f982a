//! What a walk says, packed: ten thousand sums or items make no CBOR item each.
//!
//! A packed list is one byte string. Whoever reads it gets well-formed entries in rising order that do
//! not overlap, and no more than may be answered; the rest is left for the next walk.

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};

use super::tree::{ItemKey, Prefix};

/// The most nodes of one `Nodes` that are looked at.
pub(super) const NODES: usize = 128;
/// The most levels that one node's sums go down.
pub(super) const LEVELS: u8 = 2;

/// The sums of the nodes so many levels below some others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// What the sums are salted with, drawn for each walk.
    pub salt: u32,
    /// How far below each node the sums are.
    pub levels: u8,
    /// For each node its prefix (3 bytes) and its sums (4 bytes each, in order).
    packed: Bytes,
}

impl Nodes {
    /// Packs nodes, each with its sums.
    pub fn new(salt: u32, levels: u8, nodes: impl IntoIterator<Item = (Prefix, Vec<u32>)>) -> Self {
        let mut packed = Vec::new();
        for (prefix, sums) in nodes {
            packed.extend(prefix.to_bytes());
            packed.extend(sums.iter().flat_map(|sum| sum.to_be_bytes()));
        }
        Self { salt, levels, packed: packed.into() }
    }

    /// The nodes with their sums, as far as they are sound and in order.
    pub fn read(&self) -> impl Iterator<Item = (Prefix, Vec<u32>)> {
        let sums = 1_usize << (4 * u32::from(self.levels.min(LEVELS)));
        let levels = self.levels;
        let mut packed = self.packed.clone();
        let mut order = Rising::default();
        let read = move || {
            if packed.remaining() < 3 + 4 * sums || !(1..=LEVELS).contains(&levels) {
                return None;
            }
            let prefix = order.take(&mut packed)?;
            (levels <= prefix.levels()).then_some(())?;
            Some((prefix, (0..sums).map(|_| packed.get_u32()).collect()))
        };
        std::iter::from_fn(read).take(NODES)
    }
}

/// All items under some nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Buckets(
    /// For each node its prefix (3 bytes), how many items (2 bytes), and the items.
    Bytes,
);

impl Buckets {
    /// Packs nodes, each with its items.
    pub fn new(buckets: impl IntoIterator<Item = (Prefix, Vec<(ItemKey, u64)>)>) -> Self {
        let mut packed = Vec::new();
        for (prefix, items) in buckets {
            let count = u16::try_from(items.len()).unwrap_or(u16::MAX);
            packed.extend(prefix.to_bytes());
            packed.extend(count.to_be_bytes());
            items.iter().take(count.into()).for_each(|item| pack(&mut packed, item));
        }
        Self(packed.into())
    }

    /// The nodes with their items, as far as they are sound and in order.
    pub fn read(&self) -> impl Iterator<Item = (Prefix, Vec<(ItemKey, u64)>)> {
        let mut packed = self.0.clone();
        let mut order = Rising::default();
        std::iter::from_fn(move || {
            if packed.remaining() < 5 {
                return None;
            }
            let prefix = order.take(&mut packed)?;
            let count = usize::from(packed.get_u16());
            let items = (0..count).map_while(|_| unpack(&mut packed)).collect::<Vec<_>>();
            (items.len() == count).then_some((prefix, items))
        })
    }
}

/// Items, each a key and 64 bits: of its digest, or of the hash of a change of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Items(
    /// 24 bytes each.
    Bytes,
);

impl Items {
    /// Packs items.
    pub fn new(items: &[(ItemKey, u64)]) -> Self {
        let mut packed = Vec::with_capacity(items.len() * 24);
        items.iter().for_each(|item| pack(&mut packed, item));
        Self(packed.into())
    }

    /// The items, at most so many.
    pub fn read(&self, most: usize) -> impl Iterator<Item = (ItemKey, u64)> {
        let mut packed = self.0.clone();
        std::iter::from_fn(move || unpack(&mut packed)).take(most)
    }
}

fn pack(packed: &mut Vec<u8>, (key, digest): &(ItemKey, u64)) {
    packed.extend(key.to_bytes());
    packed.extend(digest.to_be_bytes());
}

fn unpack(packed: &mut Bytes) -> Option<(ItemKey, u64)> {
    if packed.remaining() < 24 {
        return None;
    }
    let mut key = [0; 16];
    packed.copy_to_slice(&mut key);
    Some((ItemKey::from_bytes(key), packed.get_u64()))
}

/// Takes prefixes that rise and do not overlap, so that no part of the tree is looked at twice.
#[derive(Default)]
struct Rising(Option<ItemKey>);

impl Rising {
    fn take(&mut self, packed: &mut Bytes) -> Option<Prefix> {
        let mut bytes = [0; 3];
        packed.copy_to_slice(&mut bytes);
        let prefix = Prefix::from_bytes(bytes)?;
        let (first, last) = prefix.range();
        if self.0.is_some_and(|before| first <= before) {
            return None;
        }
        self.0 = Some(last);
        Some(prefix)
    }
}
