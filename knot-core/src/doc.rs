//! One document: the changes of it that are held, and what follows from applying them.
//!
//! Held and applied are two things. Every well-formed change whose dependencies are held is held:
//! its bytes are kept and passed on, and heads count it. What is applied follows from what is held
//! alone: not a change that automerge fails on, not the higher hash of two changes with one actor
//! and number, and nothing that depends on such a one.
//!
//! A document is a stack of automerge documents, its layers, since what it costs to receive a change
//! grows with an automerge document's history. An author writes to the highest layer and opens the
//! next, which starts empty, when that one is full; its change names the heads of the lower layers
//! that the author held. Nobody agrees to it, and two that open one layer at once open the same.
//! Lower layers that everything above knows rest: of them only a `Base` is in memory. A layer that
//! holds one plain change and no more is read from that change.

mod base;
mod first;
pub mod history;
mod layer;
mod message;
mod read;
mod stored;
mod view;
pub mod wall;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base::Base;
use bytes::Bytes;
use layer::{Holding, Layer};
pub use message::MAX_BELOW;
pub use stored::{Chunk, Compaction, Stored, StoredChange};
pub use view::{Conflict, Contender, View};
use wall::Checked;

use crate::{
    clock::Millis,
    id::{Author, ChangeHash},
    schema::Scalar,
};

/// The most bytes of keys and values that one edit may put: 256 KiB. A constant of the protocol:
/// what fits in it passes [`wall::inspect`] on every other server.
pub const MAX_EDIT: usize = 256 << 10;
/// The most keys that one edit may put. A constant of the protocol.
pub const MAX_PUTS: usize = 2_000;
/// With more layers than this loaded, the next is opened early, since its first change lets all of
/// them rest.
const OPEN_LAYERS: usize = 2;
/// A layer opened for that reason has so many changes at least.
const SHORT_LAYER: usize = 128;

/// When a document's layers are ended and its changes put together: each server's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layering {
    /// The next layer is opened when the highest holds so many changes.
    pub full: usize,
    /// A layer with so many changes beside its chunk gets a new chunk.
    pub loose: usize,
}

/// A full layer is 5 KB saved, and receiving a change takes it 0.4 ms.
impl Default for Layering {
    fn default() -> Self {
        Self { full: 2_000, loose: 256 }
    }
}

/// An edit could not be made. The document is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The edit puts more than a change may carry.
    #[error(
        "the edit is too large: {bytes} bytes in {puts} fields, where {MAX_EDIT} and {MAX_PUTS} are the limits"
    )]
    TooLarge {
        /// Bytes of keys and values.
        bytes: usize,
        /// Number of keys.
        puts: usize,
    },
    /// automerge refused the edit.
    #[error("automerge refused the edit")]
    Automerge(#[from] automerge::AutomergeError),
    /// automerge panicked, or made a change that its own readers refuse.
    #[error("automerge failed on the edit")]
    Failed,
}

/// One change that is now held.
#[derive(Clone, Debug)]
pub struct Held {
    /// The number of its layer.
    pub layer: u32,
    /// Its number among the stored rows of the document.
    pub number: u32,
    /// Its bytes, as they came.
    pub bytes: Bytes,
}

/// What came of changes from elsewhere.
#[derive(Debug, Default)]
pub struct Receipt {
    /// Those that are held now and were not before.
    pub held: Vec<Held>,
    /// Those that depend on something that is not held.
    pub waiting: Vec<Checked>,
    /// Those that have the actor and number of another held one.
    pub forks: Vec<ChangeHash>,
}

/// Layers at rest would have to be read to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtRest;

/// One document in memory.
#[derive(Clone, Debug, Default)]
pub struct Document {
    layering: Layering,
    base: Base,
    /// The layers that do not rest.
    layers: BTreeMap<u32, Layer>,
    heads: BTreeSet<ChangeHash>,
    /// The number of the next row.
    next: u32,
    /// The lowest layer that a start would read: where another is needed now, that has to be stored.
    stored_first: u32,
    /// Something was left out when it was loaded.
    damaged: bool,
    /// A layer is new here: those below it may rest now.
    grown: bool,
}

impl Document {
    /// A document of which nothing is held.
    pub fn new(layering: Layering) -> Self {
        Self { layering, ..Self::default() }
    }

    /// The hashes of the held changes that no held change depends on, in order.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.heads.iter().copied().collect()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Whether a change is held; where that cannot be told from memory, an error.
    pub fn holds(&self, hash: &ChangeHash) -> Result<bool, AtRest> {
        match self.has(hash) {
            true => Ok(true),
            false if self.base.first == 0 => Ok(false),
            false => Err(AtRest),
        }
    }

    /// Held changes that are not applied: while there are any, what is read is behind.
    pub fn unapplied(&self) -> usize {
        self.base.unapplied + self.layers.values().map(Layer::unapplied).sum::<usize>()
    }

    /// Whether these changes can be received without the layers at rest.
    pub fn can_receive(&self, changes: &[Checked]) -> bool {
        self.base.first == 0 || changes.iter().all(|change| self.goes_on(change))
    }

    /// Whether a change is known, or builds on all that rests.
    fn goes_on(&self, change: &Checked) -> bool {
        let open = |hash: &ChangeHash| self.layer_of(hash).is_some();
        if open(&change.hash) {
            return true;
        }
        if change.layer < self.base.first {
            return false;
        }
        let known = |hash: &&ChangeHash| open(hash) || self.base.heads.contains(hash);
        if !change.below.iter().all(|hash| known(&hash)) {
            return false;
        }
        // In an open layer, a dependency that is not held here is held nowhere at rest.
        let begins = change.deps.is_empty() && !change.below.iter().any(open);
        !begins || self.base.heads.iter().all(|head| change.below.contains(head))
    }

    /// Applies an edit of the given author and returns its change; `None` where it changes nothing.
    ///
    /// `actor` is asked for when this value first writes to a layer.
    ///
    /// # Errors
    /// The edit is too large, or automerge fails on it.
    pub fn edit(
        &mut self,
        puts: BTreeMap<String, Scalar>,
        author: Author,
        time: Millis,
        actor: impl FnOnce() -> [u8; 16],
    ) -> Result<Option<Held>, EditError> {
        let bytes = puts.iter().map(|(key, value)| key.len() + size(value)).sum();
        if bytes > MAX_EDIT || puts.len() > MAX_PUTS {
            return Err(EditError::TooLarge { bytes, puts: puts.len() });
        }
        let puts: Vec<_> =
            puts.into_iter().filter(|(key, value)| self.differs(key, value)).collect();
        if puts.is_empty() {
            return Ok(None);
        }
        let number = self.layer_to_write();
        let below = self.heads_below(number);
        let message = message::write(author, number, &below);
        self.grown |= !self.layers.contains_key(&number);
        let layer = self.layers.entry(number).or_default();
        let written = layer.write(puts, message, time, actor).and_then(|change| {
            let checked = Checked::own(change).map_err(|_| EditError::Failed);
            checked.inspect_err(|_| layer.take_back())
        });
        let checked = match written {
            Ok(checked) => checked,
            Err(error) => {
                if layer.len() == 0 {
                    self.layers.remove(&number);
                }
                return Err(error);
            }
        };
        let row = self.next;
        self.next = self.next.saturating_add(1);
        for parent in checked.parents() {
            self.heads.remove(parent);
        }
        self.heads.insert(checked.hash);
        let bytes = checked.bytes.clone();
        layer.hold_own(checked, row);
        Ok(Some(Held { layer: number, number: row, bytes }))
    }

    /// The highest layer, or the next, where that one is full, cannot be gone on from here, or has
    /// too many beneath it.
    fn layer_to_write(&self) -> u32 {
        let Some((number, layer)) = self.layers.last_key_value() else { return self.base.first };
        let deep =
            self.layers.len() > OPEN_LAYERS && layer.len() >= SHORT_LAYER.min(self.layering.full);
        let wide = layer.heads().len() > wall::MAX_DEPS;
        if layer.len() >= self.layering.full || deep || wide || !layer.is_whole() {
            number.saturating_add(1)
        } else {
            *number
        }
    }

    /// The heads in layers below this one, as many as a change may name, those of the highest layers
    /// first.
    fn heads_below(&self, number: u32) -> Vec<ChangeHash> {
        let lower = self.layers.range(..number).rev();
        let heads = lower.flat_map(|(_, layer)| layer.heads()).chain(&self.base.heads);
        let mut below: Vec<_> =
            heads.filter(|hash| self.heads.contains(hash)).take(MAX_BELOW).copied().collect();
        below.sort_unstable();
        below
    }

    /// Holds what can be held of these changes, in whatever order they came, and applies what can
    /// be applied. They must be such that [`Document::can_receive`] them.
    pub fn receive(&mut self, changes: Vec<Checked>) -> Receipt {
        let mut receipt = Receipt { waiting: changes, ..Receipt::default() };
        let mut seen = HashSet::new();
        receipt.waiting.retain(|change| seen.insert(change.hash));
        let (mut forked, mut grown) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let before = receipt.held.len();
            for change in std::mem::take(&mut receipt.waiting) {
                if self.has(&change.hash) {
                    continue;
                }
                if !change.parents().all(|parent| self.has(parent)) {
                    receipt.waiting.push(change);
                    continue;
                }
                if self.layers.get(&change.layer).is_some_and(|layer| layer.forks(&change)) {
                    receipt.forks.push(change.hash);
                    forked.insert(change.layer);
                }
                grown.insert(change.layer);
                let (layer, number, bytes) = (change.layer, self.next, change.bytes.clone());
                self.next = self.next.saturating_add(1);
                self.hold(change, Some(number));
                receipt.held.push(Held { layer, number, bytes });
            }
            if receipt.held.len() == before {
                break;
            }
        }
        for number in grown {
            if let Some(layer) = self.layers.get_mut(&number) {
                if forked.contains(&number) { layer.rebuild() } else { layer.apply_held() }
            }
        }
        receipt
    }

    /// Holds a change whose dependencies are held.
    fn hold(&mut self, change: Checked, row: Option<u32>) {
        let how = Holding { row, unsound: !self.fits(&change) };
        for parent in change.parents() {
            self.heads.remove(parent);
        }
        self.heads.insert(change.hash);
        self.grown |= !self.layers.contains_key(&change.layer);
        self.layers.entry(change.layer).or_default().hold(change, how);
    }

    /// Whether a change stands on lower layers as one of its layer does.
    fn fits(&self, change: &Checked) -> bool {
        let lower = |hash: &ChangeHash| match self.layer_of(hash) {
            Some(layer) => layer < change.layer,
            None => self.base.heads.contains(hash),
        };
        let founded = change.layer == 0 || !change.deps.is_empty() || !change.below.is_empty();
        founded && change.below.iter().all(lower)
    }

    /// Whether a change is held, as far as memory tells.
    fn has(&self, hash: &ChangeHash) -> bool {
        self.layer_of(hash).is_some() || self.base.heads.contains(hash)
    }

    fn layer_of(&self, hash: &ChangeHash) -> Option<u32> {
        let holds = |(number, layer): (&u32, &Layer)| layer.node(hash).map(|_| *number);
        self.layers.iter().rev().find_map(holds)
    }

    fn node(&self, hash: &ChangeHash) -> Option<&layer::Node> {
        self.layers.values().rev().find_map(|layer| layer.node(hash))
    }
}

fn size(value: &Scalar) -> usize {
    match value {
        Scalar::Text(text) => text.len(),
        Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) => 8,
    }
}

#[cfg(test)]
mod tests;
