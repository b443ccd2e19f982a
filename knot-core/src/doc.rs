//! One document: the changes of it that are held, and what follows from applying them.
//!
//! Held and applied are two things. Every well-formed change whose dependencies are held is held:
//! its bytes are kept and passed on, and heads count it. What is applied follows from what is held
//! alone: not a change that automerge fails on, not the higher hash of two changes with one actor
//! and number, and nothing that depends on such a one.

mod graph;
mod view;
pub mod wall;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use automerge::{
    ActorId, Automerge, ROOT, ReadDoc, ScalarValue,
    transaction::{CommitOptions, Transactable},
};
use bytes::Bytes;
use graph::Graph;
pub use view::{Conflict, Contender, View};
use wall::Checked;

use crate::{
    clock::Millis,
    id::{Author, ChangeHash, Kind},
    schema::{Scalar, Schema},
};

/// The most bytes of keys and values that one edit may put: 256 KiB. A constant of the protocol:
/// what fits in it passes [`wall::inspect`] on every other server.
pub const MAX_EDIT: usize = 256 << 10;
/// The most keys that one edit may put. A constant of the protocol.
pub const MAX_PUTS: usize = 2_000;

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
    /// Its number among the stored changes of the document; rising, from 0.
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

/// One document in memory.
#[derive(Clone, Debug)]
pub struct Document {
    automerge: Automerge,
    graph: Graph,
    actor: Option<ActorId>,
    /// The number of the next change that is held.
    next: u32,
}

impl Default for Document {
    fn default() -> Self {
        Self { automerge: Automerge::new(), graph: Graph::default(), actor: None, next: 0 }
    }
}

impl Document {
    /// A document from its stored changes with their numbers. One that does not pass the wall is left
    /// out, with everything that depends on it, and returned by its number; what is held later has a
    /// number past all of them.
    pub fn load(changes: impl IntoIterator<Item = (u32, Bytes)>) -> (Self, Vec<u32>) {
        let mut document = Self::default();
        let (mut damaged, mut early) = (Vec::new(), Vec::new());
        for (number, bytes) in changes {
            document.next = document.next.max(number.saturating_add(1));
            match wall::inspect(&bytes) {
                Ok(change) if document.graph.holds(&change.hash) => {}
                Ok(change) if document.graph.holds_all(&change.deps) => {
                    document.graph.hold(change);
                }
                Ok(change) => early.push((number, change)),
                Err(_) => damaged.push(number),
            }
        }
        document.hold_early(early, &mut damaged);
        document.rebuild();
        (document, damaged)
    }

    /// Holds changes that are stored before what they depend on: that was damaged once, and fetched
    /// again.
    fn hold_early(&mut self, mut early: Vec<(u32, Checked)>, damaged: &mut Vec<u32>) {
        loop {
            let before = early.len();
            for (number, change) in std::mem::take(&mut early) {
                if self.graph.holds(&change.hash) {
                    continue;
                }
                if self.graph.holds_all(&change.deps) {
                    self.graph.hold(change);
                } else {
                    early.push((number, change));
                }
            }
            if early.len() == before {
                break;
            }
        }
        damaged.extend(early.into_iter().map(|(number, _)| number));
    }

    /// The hashes of the held changes that no held change depends on, in order.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.graph.heads()
    }

    /// Whether a change is held.
    pub fn holds(&self, hash: &ChangeHash) -> bool {
        self.graph.holds(hash)
    }

    /// Held changes that are not applied: while there are any, what is read is behind.
    pub fn unapplied(&self) -> usize {
        self.graph.unapplied()
    }

    /// Hashes at doubling distance back from the newest, heads first: at most 64.
    pub fn sample(&self) -> Vec<ChangeHash> {
        self.graph.sample()
    }

    /// The held changes that are no ancestors of `have`, dependencies first, and whether all of
    /// `have` is held here.
    pub fn changes_since(&self, have: &[ChangeHash]) -> (Vec<Bytes>, bool) {
        self.graph.since(have)
    }

    /// Applies an edit of the given actor and returns its change; `None` where it changes nothing.
    ///
    /// `actor` is asked for once in the life of this value, when it first writes.
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
        let actor = self.actor.get_or_insert_with(|| ActorId::from(actor())).clone();
        let mut copy = self.automerge.clone();
        let commit = AssertUnwindSafe(|| {
            copy.set_actor(actor);
            let mut transaction = copy.transaction();
            for (key, value) in puts {
                // automerge takes the value that wins a conflict for there already, and would only
                // drop the others: this write would then be lost to one that had not seen it.
                if transaction.get_all(ROOT, key.as_str())?.len() > 1 {
                    transaction.delete(ROOT, key.as_str())?;
                }
                transaction.put(ROOT, key, to_automerge(value))?;
            }
            let options =
                CommitOptions::default().with_message(author.to_message()).with_time(time.0);
            transaction.commit_with(options);
            Ok::<_, automerge::AutomergeError>((copy.get_last_local_change(), copy))
        });
        let (change, copy) = catch_unwind(commit).map_err(|_| EditError::Failed)??;
        let bytes = Bytes::copy_from_slice(change.ok_or(EditError::Failed)?.raw_bytes());
        let change = wall::inspect(&bytes).map_err(|_| EditError::Failed)?;
        self.automerge = copy;
        let node = self.graph.hold(change);
        self.graph.set_applied(node);
        Ok(Some(Held { number: self.number(), bytes }))
    }

    /// Holds what can be held of these changes, in whatever order they came, and applies what can
    /// be applied.
    pub fn receive(&mut self, changes: Vec<Checked>) -> Receipt {
        let mut receipt = Receipt { waiting: changes, ..Receipt::default() };
        let mut seen = HashSet::new();
        receipt.waiting.retain(|change| seen.insert(change.hash));
        loop {
            let before = receipt.held.len();
            for change in std::mem::take(&mut receipt.waiting) {
                if self.graph.holds(&change.hash) {
                    continue;
                }
                if !self.graph.holds_all(&change.deps) {
                    receipt.waiting.push(change);
                    continue;
                }
                if self.graph.forks(&change) {
                    receipt.forks.push(change.hash);
                }
                let bytes = change.bytes.clone();
                self.graph.hold(change);
                receipt.held.push(Held { number: self.number(), bytes });
            }
            if receipt.held.len() == before {
                break;
            }
        }
        if !receipt.forks.is_empty() {
            // It may be ours that somebody else writes under: our next change takes another.
            self.actor = None;
            self.rebuild();
        } else {
            self.apply_held();
        }
        receipt
    }

    /// The number of a change that is newly held.
    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// Applies everything held anew: which of two forks counts may have changed.
    fn rebuild(&mut self) {
        self.automerge = Automerge::new();
        self.graph.forget_applied();
        self.apply_held();
    }

    /// Applies what is held and may be applied: all at once, or one by one where that fails.
    fn apply_held(&mut self) {
        let numbers = self.graph.applicable();
        if self.try_apply(&numbers) {
            return;
        }
        for number in numbers {
            if self.graph.may_apply(number) {
                self.try_apply(&[number]);
            }
        }
    }

    /// Applies all of these or, where automerge errs, panics or leaves one out, none.
    fn try_apply(&mut self, numbers: &[u32]) -> bool {
        if numbers.is_empty() {
            return true;
        }
        let changes: Vec<_> =
            numbers.iter().filter_map(|number| self.graph.change(*number)).cloned().collect();
        let mut copy = self.automerge.clone();
        let applied = catch_unwind(AssertUnwindSafe(|| {
            copy.apply_changes(changes.clone()).ok()?;
            let complete =
                changes.iter().all(|change| copy.get_change_meta_by_hash(&change.hash()).is_some());
            complete.then_some(copy)
        }));
        let Ok(Some(copy)) = applied else {
            tracing::warn!(changes = numbers.len(), "changes are held and could not be applied");
            return false;
        };
        self.automerge = copy;
        numbers.iter().for_each(|number| self.graph.set_applied(*number));
        true
    }

    /// Whether putting `value` is a change: it is another one, or settles a conflict.
    fn differs(&self, key: &str, value: &Scalar) -> bool {
        match self.automerge.get_all(ROOT, key) {
            Ok(values) => match values.as_slice() {
                [] => *value != Scalar::Null,
                [(only, _)] => view::from_automerge(only).as_ref() != Some(value),
                _ => true,
            },
            Err(_) => true,
        }
    }

    /// What is read of the document: each key's value by its rule.
    pub fn view(&self, kind: Kind, schema: &Schema) -> View {
        let mut view = View { unapplied: self.unapplied(), ..View::default() };
        for key in self.automerge.keys(ROOT) {
            self.read_key(kind, schema, &key, &mut view);
        }
        view
    }

    /// The view with only these keys read again.
    pub fn refreshed<'a>(
        &self,
        kind: Kind,
        schema: &Schema,
        mut view: View,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> View {
        for key in keys {
            view.fields.remove(key);
            view.conflicts.remove(key);
            self.read_key(kind, schema, key, &mut view);
        }
        view
    }

    fn read_key(&self, kind: Kind, schema: &Schema, key: &str, view: &mut View) {
        let Ok(values) = self.automerge.get_all(ROOT, key) else { return };
        let contenders = values.iter().filter_map(|(value, id)| {
            let value = view::from_automerge(value)?;
            Some((value, id.clone()))
        });
        let contenders: Vec<_> = contenders.collect();
        view.put(key, schema.rule(kind, key), contenders, |id| {
            let hash = self.automerge.hash_for_opid(id)?;
            let meta = self.automerge.get_change_meta_by_hash(&hash)?;
            let author = meta.message.as_deref().and_then(Author::from_message);
            Some((author, Millis(meta.timestamp)))
        });
    }
}

fn size(value: &Scalar) -> usize {
    match value {
        Scalar::Text(text) => text.len(),
        Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) => 8,
    }
}

fn to_automerge(value: Scalar) -> ScalarValue {
    match value {
        Scalar::Null => ScalarValue::Null,
        Scalar::Bool(value) => ScalarValue::Boolean(value),
        Scalar::Int(value) => ScalarValue::Int(value),
        Scalar::Text(text) => ScalarValue::Str(text.into()),
    }
}

/// The applied changes of a document by actor and number, to find two that share both.
type ByNumber = HashMap<(Bytes, u64), Vec<u32>>;

#[cfg(test)]
mod tests;
