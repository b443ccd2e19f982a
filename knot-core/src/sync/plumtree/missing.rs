//! News that was named by peers and has not come.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::NewsId;
use crate::{id::ServerId, sync::tree::ItemKey};

/// How long news that was named may take to come along the tree, beyond the round trip to the peer
/// that named it.
const PATIENCE: Duration = Duration::from_millis(25);
/// How long the answer to a `Graft` may take, beyond two round trips.
const ANSWER: Duration = Duration::from_millis(40);
/// The most peers that are remembered to have one piece of news.
const WITNESSES: usize = 3;
/// The most names that are waited for: what is beyond, reconciliation brings.
const NAMES: usize = 16_384;

#[derive(Debug)]
struct Wait {
    due: Duration,
    /// Who has it, with the time to wait for each once it is asked; the first is asked first.
    witnesses: Vec<(ServerId, Duration)>,
    /// Who was asked last.
    asked: Option<ServerId>,
}

#[derive(Debug, Default)]
pub(super) struct Missing {
    waits: BTreeMap<NewsId, Wait>,
    due: BTreeSet<(Duration, NewsId)>,
}

impl Missing {
    /// A peer has named something that is not held.
    pub(super) fn heard(
        &mut self,
        now: Duration,
        from: ServerId,
        round_trip: Duration,
        name: NewsId,
    ) {
        let witness = (from, 2 * round_trip + ANSWER);
        if let Some(wait) = self.waits.get_mut(&name) {
            let known = wait.witnesses.iter().any(|(id, _)| *id == from);
            if wait.witnesses.len() < WITNESSES && !known {
                wait.witnesses.push(witness);
            }
        } else if self.waits.len() < NAMES {
            let due = now + round_trip + PATIENCE;
            self.waits.insert(name, Wait { due, witnesses: vec![witness], asked: None });
            self.due.insert((due, name));
        }
    }

    /// It is held now.
    pub(super) fn came(&mut self, name: &NewsId) {
        if let Some(wait) = self.waits.remove(name) {
            self.due.remove(&(wait.due, *name));
        }
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, id: ServerId) {
        self.waits.values_mut().for_each(|wait| wait.witnesses.retain(|(one, _)| *one != id));
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// What to ask of whom now. Without items: all were asked in vain, and this one was the last.
    pub(super) fn due(&mut self, now: Duration) -> BTreeMap<ServerId, Vec<ItemKey>> {
        let mut asks: BTreeMap<ServerId, BTreeSet<ItemKey>> = BTreeMap::new();
        while let Some(entry) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&entry);
            let name = entry.1;
            let Some(wait) = self.waits.get_mut(&name) else { continue };
            if wait.witnesses.is_empty() {
                if let Some(asked) = wait.asked {
                    asks.entry(asked).or_default();
                }
                self.waits.remove(&name);
                continue;
            }
            let (witness, patience) = wait.witnesses.remove(0);
            (wait.due, wait.asked) = (now + patience, Some(witness));
            self.due.insert((wait.due, name));
            asks.entry(witness).or_default().insert(name.0);
        }
        asks.into_iter().map(|(id, keys)| (id, keys.into_iter().collect())).collect()
    }
}
