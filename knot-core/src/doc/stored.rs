//! A document as a store keeps it: single changes as they came, chunks of many, and what is needed
//! of the layers at rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Document, Held, Layering,
    base::Base,
    layer::{Layer, Node},
    wall::{self, Checked},
};
use crate::{id::ChangeHash, wire};

/// One stored change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChange {
    /// The number of its layer.
    pub layer: u32,
    /// Its number among the rows of the document.
    pub number: u32,
    /// Its bytes, as they came.
    pub bytes: Bytes,
}

impl From<&Held> for StoredChange {
    fn from(held: &Held) -> Self {
        Self { layer: held.layer, number: held.number, bytes: held.bytes.clone() }
    }
}

/// What a store has of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The layer that [`Compaction::base`] last said a start needs; 0 before.
    pub first: u32,
    /// What it said of the layers below, where those are not given.
    pub base: Option<Bytes>,
    /// The chunks of the layers, by their numbers.
    pub chunks: BTreeMap<u32, Bytes>,
    /// The changes that stand by themselves, by their numbers.
    pub changes: Vec<StoredChange>,
    /// A row was damaged and is left out.
    pub damaged: bool,
}

/// One layer's changes in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The number of the layer.
    pub layer: u32,
    /// All of its applied changes, as automerge saves them: they come out of it byte for byte.
    pub bytes: Bytes,
    /// The rows whose changes are in it.
    pub replaces: Vec<u32>,
}

/// What a store shall have otherwise, with no change more or less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// New chunks.
    pub chunks: Vec<Chunk>,
    /// The lowest layer that a start needs, and what it needs of those below it.
    pub base: Option<(u32, Bytes)>,
}

impl Compaction {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.base.is_none()
    }
}

impl Document {
    /// A document from what is stored of it. A change that does not pass the wall is left out, with
    /// everything that depends on it; what is held later has a number past all of them. The second
    /// value says whether anything was left out.
    pub fn load(stored: &Stored, layering: Layering) -> (Self, bool) {
        let mut damaged = stored.damaged;
        let mut document = Self { layering, stored_first: stored.first, ..Self::default() };
        if let Some(base) = &stored.base {
            match wire::decode::<Base>(base) {
                Ok(base) => document.base = base,
                Err(_) => damaged = true,
            }
        }
        document.heads.extend(&document.base.heads);
        let numbers: BTreeSet<_> = stored.changes.iter().map(|change| change.layer).collect();
        let mut early = Vec::new();
        for number in numbers.union(&stored.chunks.keys().copied().collect()) {
            if let Some(chunk) = stored.chunks.get(number) {
                damaged |= !document.load_chunk(*number, chunk);
            }
            for change in stored.changes.iter().filter(|change| change.layer == *number) {
                document.next = document.next.max(change.number.saturating_add(1));
                match wall::inspect(&change.bytes) {
                    Ok(checked) => early.extend(document.load_change(change.number, checked)),
                    Err(_) => damaged = true,
                }
            }
        }
        damaged |= !document.load_early(early);
        document.layers.values_mut().for_each(Layer::apply_held);
        document.grown = true;
        document.damaged = damaged;
        (document, damaged)
    }

    fn load_chunk(&mut self, number: u32, chunk: &[u8]) -> bool {
        let Some(layer) = Layer::from_chunk(chunk, |change| change.layer == number) else {
            return false;
        };
        // What it stands on may be damaged: then it stands on nothing.
        let stands = |parent: &ChangeHash| layer.node(parent).is_some() || self.rests(parent);
        if !layer.nodes().iter().all(|node| node.parents.iter().all(stands)) {
            return false;
        }
        let parents = layer.nodes().iter().flat_map(|node| &node.parents);
        parents.for_each(|parent| {
            self.heads.remove(parent);
        });
        self.heads.extend(layer.heads());
        self.layers.insert(number, layer);
        true
    }

    /// Holds a stored change; gives it back where it stands before what it depends on: that was
    /// damaged once, and fetched again.
    fn load_change(&mut self, number: u32, change: Checked) -> Option<(u32, Checked)> {
        if self.has(&change.hash) {
            return None;
        }
        let below = change.below.iter().all(|parent| self.rests(parent));
        if !below || !change.deps.iter().all(|parent| self.has(parent)) {
            return Some((number, change));
        }
        self.hold(change, Some(number));
        None
    }

    /// Whether a stored change's parent is there or, for all that memory tells, in a layer at rest.
    fn rests(&self, parent: &ChangeHash) -> bool {
        self.base.first > 0 || self.has(parent)
    }

    /// Whether all of these can be held once all others are.
    fn load_early(&mut self, mut early: Vec<(u32, Checked)>) -> bool {
        loop {
            let before = early.len();
            for (number, change) in std::mem::take(&mut early) {
                early.extend(self.load_change(number, change));
            }
            if early.len() == before {
                return early.is_empty();
            }
        }
    }

    /// Lets the layers rest that may, and makes chunks of what has become much.
    pub fn compact(&mut self) -> Compaction {
        let mut compaction = Compaction::default();
        let first = if self.grown { self.lowest_needed() } else { self.base.first };
        self.grown = false;
        if first > self.base.first {
            let base = self.base_below(first);
            let rests = self.layers.range(..first).map(|(number, _)| *number);
            for number in rests.collect::<Vec<_>>() {
                if let Some(mut layer) = self.layers.remove(&number) {
                    compaction.chunk(number, &mut layer, 1);
                }
            }
            self.base = base;
            self.stored_first = u32::MAX;
        }
        if self.stored_first != self.base.first {
            self.stored_first = self.base.first;
            compaction.base = wire::encode(&self.base).ok().map(|bytes| (first, bytes.into()));
        }
        // What came in the place of what was damaged is put together at once, to replace it.
        let loose = if self.damaged { 1 } else { self.layering.loose };
        self.damaged = false;
        for (number, layer) in &mut self.layers {
            compaction.chunk(*number, layer, loose);
        }
        compaction
    }

    /// The highest layer of which every applied change that begins there names all heads of the
    /// layers below.
    fn lowest_needed(&self) -> u32 {
        let settled = |number: &u32| {
            let below = self.heads_of_lower(*number);
            let nodes = self.layers.range(number..).flat_map(|(_, layer)| layer.nodes());
            let mut begin = nodes.filter(|node| node.applied && self.begins(node, *number));
            !below.is_empty()
                && begin.all(|node| below.iter().all(|head| node.parents.contains(head)))
        };
        let candidates = self.layers.keys().copied().rev();
        let higher = candidates.take_while(|number| *number > self.base.first);
        higher.into_iter().find(settled).unwrap_or(self.base.first)
    }

    /// Whether nothing that a change depends on is in the layers from `number` on.
    fn begins(&self, node: &Node, number: u32) -> bool {
        let upper = |parent: &ChangeHash| self.layer_of(parent).is_some_and(|one| one >= number);
        !node.parents.iter().any(upper)
    }

    /// The changes below a layer that none below it depends on.
    fn heads_of_lower(&self, number: u32) -> BTreeSet<ChangeHash> {
        let lower = self.layers.range(..number).flat_map(|(_, layer)| layer.nodes());
        let mut heads: BTreeSet<_> = self.base.heads.iter().copied().collect();
        heads.extend(lower.clone().map(|node| node.hash));
        for parent in lower.flat_map(|node| &node.parents) {
            heads.remove(parent);
        }
        heads
    }

    fn base_below(&self, first: u32) -> Base {
        let top = first.saturating_sub(1);
        let lower = || self.layers.range(..first).map(|(_, layer)| layer);
        let keys = self.keys().into_iter();
        let written = keys.map(|key| {
            let values = self.rest_of(&key, top);
            (key, values)
        });
        let changes = lower().map(|layer| u64::try_from(layer.len()).unwrap_or(u64::MAX));
        Base {
            first,
            heads: self.heads_of_lower(first).into_iter().collect(),
            changes: self.base.changes + changes.sum::<u64>(),
            unapplied: self.base.unapplied + lower().map(Layer::unapplied).sum::<usize>(),
            written: written.filter(|(_, values)| !values.is_empty()).collect(),
        }
    }
}

impl Compaction {
    /// Makes a chunk of a layer that has at least so many rows to replace.
    fn chunk(&mut self, number: u32, layer: &mut Layer, rows: usize) {
        if layer.loose() >= rows
            && let Some((bytes, replaces)) = layer.compact()
        {
            self.chunks.push(Chunk { layer: number, bytes, replaces });
        }
    }
}
