//! The held changes of one document and how they depend on each other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use automerge::Change;
use bytes::Bytes;

use super::{
    ByNumber,
    wall::{Checked, Operation},
};
use crate::id::ChangeHash;

/// The most hashes of a sample.
const SAMPLE: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    /// In the order they were held: dependencies first.
    nodes: Vec<Node>,
    numbers: HashMap<ChangeHash, u32>,
    heads: BTreeSet<ChangeHash>,
    by_actor: ByNumber,
    /// The key that each held operation wrote, by its counter and actor.
    keys: HashMap<(u64, Bytes), Arc<str>>,
}

#[derive(Clone, Debug)]
struct Node {
    hash: ChangeHash,
    deps: Vec<u32>,
    bytes: Bytes,
    change: Change,
    applied: bool,
    /// Another held change has the same actor and number and a lower hash.
    loses: bool,
    /// It overwrites an operation that is not held, or wrote another key. automerge takes it, and
    /// reads it differently by how changes are batched.
    unsound: bool,
}

impl Graph {
    pub(super) fn heads(&self) -> Vec<ChangeHash> {
        self.heads.iter().copied().collect()
    }

    pub(super) fn holds(&self, hash: &ChangeHash) -> bool {
        self.numbers.contains_key(hash)
    }

    pub(super) fn holds_all(&self, hashes: &[ChangeHash]) -> bool {
        hashes.iter().all(|hash| self.holds(hash))
    }

    pub(super) fn unapplied(&self) -> usize {
        self.nodes.iter().filter(|node| !node.applied).count()
    }

    /// Holds a change whose dependencies are held, and returns its number.
    pub(super) fn hold(&mut self, checked: Checked) -> u32 {
        let Checked { hash, deps, bytes, change, operations } = checked;
        let unsound = !self.hold_operations(&change, operations);
        let number = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        for dep in &deps {
            self.heads.remove(dep);
        }
        self.heads.insert(hash);
        self.numbers.insert(hash, number);
        let deps = deps.iter().filter_map(|dep| self.numbers.get(dep).copied()).collect();
        let rivals = self.by_actor.entry(actor_and_number(&change)).or_default();
        rivals.push(number);
        let rivals = rivals.clone();
        let (applied, loses) = (false, false);
        self.nodes.push(Node { hash, deps, bytes, change, applied, loses, unsound });
        self.judge(&rivals);
        number
    }

    /// Notes the keys of a change's operations; whether each overwrites its own key only.
    fn hold_operations(&mut self, change: &Change, operations: Vec<Operation>) -> bool {
        let actor = Bytes::copy_from_slice(change.actor_id().to_bytes());
        let mut sound = true;
        for (counter, Operation { key, overwrites }) in (change.start_op().get()..).zip(operations)
        {
            sound &= overwrites.iter().all(|id| self.keys.get(id).is_some_and(|old| *old == key));
            self.keys.entry((counter, actor.clone())).or_insert(key);
        }
        sound
    }

    /// Of changes with one actor and number, the one with the lowest hash counts.
    fn judge(&mut self, rivals: &[u32]) {
        let Some(winner) = rivals.iter().filter_map(|n| self.node(*n)).map(|node| node.hash).min()
        else {
            return;
        };
        for number in rivals {
            if let Some(node) = self.node_mut(*number) {
                node.loses = node.hash != winner;
            }
        }
    }

    /// Whether a held change has this one's actor and number.
    pub(super) fn forks(&self, checked: &Checked) -> bool {
        self.by_actor.contains_key(&actor_and_number(&checked.change))
    }

    pub(super) fn change(&self, number: u32) -> Option<&Change> {
        self.node(number).map(|node| &node.change)
    }

    pub(super) fn set_applied(&mut self, number: u32) {
        if let Some(node) = self.node_mut(number) {
            node.applied = true;
        }
    }

    pub(super) fn forget_applied(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.applied = false);
    }

    /// Whether a held change is not applied and all that it depends on is.
    pub(super) fn may_apply(&self, number: u32) -> bool {
        self.node(number).is_some_and(|node| {
            !node.applied
                && !node.loses
                && !node.unsound
                && node.deps.iter().all(|dep| self.is_applied(*dep))
        })
    }

    /// The changes that may be applied, one after the other in this order.
    pub(super) fn applicable(&self) -> Vec<u32> {
        let mut numbers = BTreeSet::new();
        for (number, node) in (0..).zip(&self.nodes) {
            let ready = |dep: &u32| self.is_applied(*dep) || numbers.contains(dep);
            let may = !node.applied && !node.loses && !node.unsound;
            if may && node.deps.iter().all(ready) {
                numbers.insert(number);
            }
        }
        numbers.into_iter().collect()
    }

    fn is_applied(&self, number: u32) -> bool {
        self.node(number).is_some_and(|node| node.applied)
    }

    pub(super) fn sample(&self) -> Vec<ChangeHash> {
        let mut sample: Vec<_> = self.heads.iter().copied().take(SAMPLE / 2).collect();
        let mut back = 2;
        while let Some(node) = self.nodes.len().checked_sub(back).and_then(|at| self.nodes.get(at))
        {
            sample.push(node.hash);
            back *= 2;
        }
        sample.truncate(SAMPLE);
        sample
    }

    pub(super) fn since(&self, have: &[ChangeHash]) -> (Vec<Bytes>, bool) {
        let mut known = BTreeSet::new();
        let mut next: Vec<u32> =
            have.iter().filter_map(|hash| self.numbers.get(hash)).copied().collect();
        while let Some(number) = next.pop() {
            if known.insert(number) {
                next.extend(self.node(number).into_iter().flat_map(|node| &node.deps));
            }
        }
        let missing = (0..).zip(&self.nodes).filter(|(number, _)| !known.contains(number));
        (missing.map(|(_, node)| node.bytes.clone()).collect(), self.holds_all(have))
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(number).ok()?)
    }

    fn node_mut(&mut self, number: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(number).ok()?)
    }
}

fn actor_and_number(change: &Change) -> (Bytes, u64) {
    (Bytes::copy_from_slice(change.actor_id().to_bytes()), change.seq())
}
