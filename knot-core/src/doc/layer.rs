//! One layer of a document: an automerge document, and the held changes it is made of.
//!
//! Held and applied are two things: a layer holds every well-formed change of its number whose
//! dependencies are held, and its automerge document has those that may be applied. While it holds
//! nothing but one plain change, it has no automerge document: see [`first`].

mod full;

use std::{
    collections::{BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use automerge::{
    ActorId, Automerge, Change, ROOT, ReadDoc,
    transaction::{CommitOptions, Transactable},
};
use bytes::Bytes;
use full::Full;
pub(super) use full::Origin;

use super::{
    EditError, first, message,
    view::{from_automerge, to_automerge},
    wall::{Checked, Operation},
};
use crate::{clock::Millis, id::ChangeHash, schema::Scalar};

/// One held change.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) hash: ChangeHash,
    /// What it depends on: changes of this layer, by their place, and of lower ones.
    deps: Vec<usize>,
    pub(super) parents: Vec<ChangeHash>,
    pub(super) change: Change,
    pub(super) applied: bool,
    /// Another held change has the same actor and number and a lower hash.
    loses: bool,
    /// It is not what a sound server writes, and automerge may read it differently by how changes
    /// are batched: it overwrites an operation that is not held or wrote another key, or it stands
    /// in a layer that it does not belong to.
    unsound: bool,
    /// The number of the stored row that has its bytes; `None` once it is in the layer's chunk.
    row: Option<u32>,
}

/// What is told of a change to hold besides its bytes.
pub(super) struct Holding {
    pub(super) row: Option<u32>,
    pub(super) unsound: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    /// While there is none, the layer holds nothing or one plain change.
    full: Option<Box<Full>>,
    /// The operations of that change.
    plain: Vec<Operation>,
    /// Whom this process writes as; asked for when it first writes.
    actor: Option<ActorId>,
    /// In the order they were held: dependencies first.
    nodes: Vec<Node>,
    places: HashMap<ChangeHash, usize>,
    heads: BTreeSet<ChangeHash>,
    /// The places of the changes of an actor and number: more than one is a fork.
    by_actor: HashMap<(ActorId, u64), Vec<usize>>,
    /// How many rows have come since the last chunk.
    loose: usize,
}

impl Layer {
    /// The held changes, dependencies first.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn node(&self, hash: &ChangeHash) -> Option<&Node> {
        self.nodes.get(*self.places.get(hash)?)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn heads(&self) -> &BTreeSet<ChangeHash> {
        &self.heads
    }

    pub(super) fn unapplied(&self) -> usize {
        self.nodes.iter().filter(|node| !node.applied).count()
    }

    /// Whether an edit can go on from everything that is held here.
    pub(super) fn is_whole(&self) -> bool {
        let applied = |head| self.node(head).is_some_and(|node| node.applied);
        self.heads.iter().all(applied)
    }

    /// How many rows have come since the last chunk.
    pub(super) fn loose(&self) -> usize {
        self.loose
    }

    /// The applied changes as one chunk, and the rows that it replaces. `None` where they do not come
    /// out of a chunk byte for byte: automerge takes changes that it does not write so itself.
    pub(super) fn compact(&mut self) -> Option<(Bytes, Vec<u32>)> {
        self.loose = 0;
        let automerge = &self.full().automerge;
        let saved = AssertUnwindSafe(|| {
            let chunk = automerge.save();
            let changes = Automerge::load(&chunk).ok()?.get_changes(&[]);
            Some((chunk, changes))
        });
        let (chunk, changes) = catch_unwind(saved).ok().flatten()?;
        let same = |change: &Change| {
            let node = self.node(&ChangeHash(change.hash().0));
            node.is_some_and(|node| node.applied && node.change.raw_bytes() == change.raw_bytes())
        };
        let applied = self.nodes.iter().filter(|node| node.applied).count();
        if changes.len() != applied || !changes.iter().all(same) {
            return None;
        }
        let applied = self.nodes.iter_mut().filter(|node| node.applied);
        let replaces = applied.filter_map(|node| node.row.take()).collect();
        Some((chunk.into(), replaces))
    }

    /// A layer from the chunk that [`Layer::compact`] made; `None` where automerge does not read it.
    pub(super) fn from_chunk(
        chunk: &[u8],
        mut sound: impl FnMut(&Checked) -> bool,
    ) -> Option<Self> {
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let automerge = Automerge::load(chunk).ok()?;
            let changes = automerge.get_changes(&[]);
            Some((automerge, changes))
        }));
        let (automerge, changes) = loaded.ok()??;
        let full = Full { automerge, ..Full::default() };
        let mut layer = Self { full: Some(full.into()), ..Self::default() };
        for change in changes {
            let checked = Checked::trusted(change)?;
            let unsound = !sound(&checked);
            let place = layer.hold(checked, Holding { row: None, unsound });
            layer.set_applied(place);
        }
        Some(layer)
    }

    /// Holds a change whose dependencies are held, and returns its place.
    pub(super) fn hold(&mut self, checked: Checked, how: Holding) -> usize {
        let Checked { hash, deps, below, change, operations, plain, .. } = checked;
        let place = self.nodes.len();
        self.loose += usize::from(how.row.is_some());
        for dep in &deps {
            self.heads.remove(dep);
        }
        self.heads.insert(hash);
        self.places.insert(hash, place);
        let here: Vec<_> = deps.iter().filter_map(|dep| self.places.get(dep).copied()).collect();
        let sound = if plain && place == 0 && !how.unsound && self.full.is_none() {
            self.plain = operations;
            true
        } else {
            self.unfold();
            self.hold_operations(place, &change, operations, &here)
        };
        let unsound = how.unsound || !sound || here.len() != deps.len();
        let parents = deps.into_iter().chain(below).collect();
        let rivals = self.by_actor.entry((change.actor_id().clone(), change.seq())).or_default();
        rivals.push(place);
        let rivals = if rivals.len() > 1 { rivals.clone() } else { Vec::new() };
        let (applied, loses) = (false, false);
        let deps = here;
        self.nodes.push(Node {
            hash,
            deps,
            parents,
            change,
            applied,
            loses,
            unsound,
            row: how.row,
        });
        self.judge(&rivals);
        place
    }

    /// Notes a change's operations; whether each overwrites only what its author had seen, of its
    /// own key.
    fn hold_operations(
        &mut self,
        place: usize,
        change: &Change,
        operations: Vec<Operation>,
        deps: &[usize],
    ) -> bool {
        let actor = change.actor_id();
        let mut sound = true;
        let counters = change.start_op().get()..;
        for (counter, Operation { key, overwrites, .. }) in counters.zip(operations) {
            let seen = |id: &(u64, ActorId)| {
                let there = self.full.as_ref().and_then(|full| full.operations.get(id));
                let same_key = |(writer, old): &(usize, Arc<str>)| {
                    *old == key && (*writer == place || self.descends(deps, *writer))
                };
                there.into_iter().flatten().any(same_key)
            };
            sound &= overwrites.iter().all(seen);
            let id = (counter, actor.clone());
            let full = self.full.get_or_insert_default();
            full.operations.entry(id).or_default().push((place, key));
        }
        sound
    }

    /// Whether a change is one of these or an ancestor of one.
    fn descends(&self, from: &[usize], ancestor: usize) -> bool {
        if from.contains(&ancestor) {
            return true;
        }
        // Dependencies stand before what depends on them: one pass back finds all.
        let mut reached: BTreeSet<usize> = from.iter().copied().collect();
        while let Some(place) = reached.pop_last().filter(|place| *place > ancestor) {
            if let Some(node) = self.nodes.get(place) {
                if node.deps.contains(&ancestor) {
                    return true;
                }
                reached.extend(&node.deps);
            }
        }
        false
    }

    /// Of changes with one actor and number, the one with the lowest hash counts.
    fn judge(&mut self, rivals: &[usize]) {
        let hashes = rivals.iter().filter_map(|at| self.nodes.get(*at)).map(|node| node.hash);
        let Some(winner) = hashes.min() else { return };
        for place in rivals {
            if let Some(node) = self.nodes.get_mut(*place) {
                node.loses = node.hash != winner;
            }
        }
    }

    /// Whether a held change has this one's actor and number.
    pub(super) fn forks(&self, checked: &Checked) -> bool {
        let Checked { change, .. } = checked;
        self.by_actor.contains_key(&(change.actor_id().clone(), change.seq()))
    }

    fn set_applied(&mut self, place: usize) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.applied = true;
        }
    }

    /// Applies everything held anew: which of two forks counts may have changed. It may be ours that
    /// somebody else writes under, so our next change takes another actor.
    pub(super) fn rebuild(&mut self) {
        self.actor = None;
        self.clear();
        self.nodes.iter_mut().for_each(|node| node.applied = false);
        self.apply_held();
    }

    /// Applies what is held and may be applied: all at once, or one by one where that fails.
    pub(super) fn apply_held(&mut self) {
        let places = self.applicable();
        if places.is_empty() {
            return;
        }
        if self.try_apply(&places) {
            places.into_iter().for_each(|place| self.set_applied(place));
        } else {
            self.apply_one_by_one(&places);
        }
    }

    /// automerge has failed on one of these and may be in any state: begins again from those that
    /// it took before, and leaves out each that it fails on.
    fn apply_one_by_one(&mut self, places: &[usize]) {
        self.restore();
        for place in places {
            if !self.may_apply(*place) {
                continue;
            }
            if self.try_apply(&[*place]) {
                self.set_applied(*place);
            } else {
                self.restore();
            }
        }
    }

    /// The automerge document of the changes that are marked as applied.
    fn restore(&mut self) {
        self.clear();
        let applied = self.nodes.iter().enumerate().filter(|(_, node)| node.applied);
        let places: Vec<_> = applied.map(|(place, _)| place).collect();
        if !self.try_apply(&places) {
            // It took them all before, one batch after the other.
            self.clear();
            for place in places {
                self.try_apply(&[place]);
            }
        }
    }

    /// Whether automerge takes all of these. Where not, its document is in no known state.
    fn try_apply(&mut self, places: &[usize]) -> bool {
        // The one plain change needs no automerge to be applied.
        let Some(full) = &mut self.full else { return true };
        let changes = places.iter().filter_map(|place| self.nodes.get(*place));
        let changes: Vec<_> = changes.map(|node| node.change.clone()).collect();
        let automerge = &mut full.automerge;
        let taken = catch_unwind(AssertUnwindSafe(|| automerge.apply_changes(changes).is_ok()));
        let arrived = |place: &usize| {
            let hash = self.nodes.get(*place).map(|node| automerge::ChangeHash(node.hash.0));
            hash.is_some_and(|hash| automerge.get_change_meta_by_hash(&hash).is_some())
        };
        matches!(taken, Ok(true)) && places.iter().all(arrived)
    }

    fn may_apply(&self, place: usize) -> bool {
        self.nodes.get(place).is_some_and(|node| {
            !node.applied
                && !node.loses
                && !node.unsound
                && node.deps.iter().all(|dep| self.nodes.get(*dep).is_some_and(|dep| dep.applied))
        })
    }

    /// The places of the changes that may be applied, one after the other in this order.
    fn applicable(&self) -> Vec<usize> {
        let mut ready: Vec<bool> = self.nodes.iter().map(|node| node.applied).collect();
        let mut places = Vec::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let may = !node.applied && !node.loses && !node.unsound;
            if may && node.deps.iter().all(|dep| ready.get(*dep).copied().unwrap_or(false)) {
                places.push(place);
                if let Some(ready) = ready.get_mut(place) {
                    *ready = true;
                }
            }
        }
        places
    }

    /// Writes these keys in one change, which is applied and has yet to be held.
    pub(super) fn write(
        &mut self,
        puts: Vec<(String, Scalar)>,
        message: String,
        time: Millis,
        actor: impl FnOnce() -> [u8; 16],
    ) -> Result<Change, EditError> {
        let actor = self.actor.get_or_insert_with(|| ActorId::from(actor())).clone();
        if self.nodes.is_empty()
            && self.full.is_none()
            && let Some(change) = first::write(&puts, &message, time, &actor)
        {
            return Ok(change);
        }
        let automerge = &mut self.full().automerge;
        let commit = AssertUnwindSafe(|| {
            automerge.set_actor(actor);
            let mut transaction = automerge.transaction();
            for (key, value) in puts {
                // automerge takes a value that is there already for no change, though it may be one
                // of several: this write would then be lost to one that had not seen it.
                let there = transaction.get_all(ROOT, key.as_str())?;
                let same = |(one, _): &(_, _)| from_automerge(one).as_ref() == Some(&value);
                if there.len() > 1 || there.iter().any(same) {
                    transaction.delete(ROOT, key.as_str())?;
                }
                transaction.put(ROOT, key, to_automerge(value))?;
            }
            let options = CommitOptions::default().with_message(message).with_time(time.0);
            transaction.commit_with(options);
            Ok::<_, automerge::AutomergeError>(automerge.get_last_local_change())
        });
        match catch_unwind(commit) {
            Ok(Ok(Some(change))) => Ok(change),
            failed => {
                self.actor = None;
                self.restore();
                match failed {
                    Ok(Err(error)) => Err(EditError::Automerge(error)),
                    _ => Err(EditError::Failed),
                }
            }
        }
    }

    /// Holds the change that [`Layer::write`] made.
    pub(super) fn hold_own(&mut self, checked: Checked, row: u32) {
        let is_new = self.full.is_none();
        let place = self.hold(checked, Holding { row: Some(row), unsound: false });
        if !is_new || self.try_apply(&[place]) {
            self.set_applied(place);
        }
    }

    /// Takes back a change that [`Layer::write`] made and that cannot be held.
    pub(super) fn take_back(&mut self) {
        self.actor = None;
        self.restore();
    }
}

impl Node {
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.change.raw_bytes())
    }

    /// Who made it, where it says so, and when.
    pub(super) fn written(&self) -> (Option<crate::id::Author>, Millis) {
        let author = message::read(self.change.message()).author;
        (author, Millis(self.change.timestamp()))
    }
}
