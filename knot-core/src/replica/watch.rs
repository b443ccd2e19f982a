//! Being told what changed on this replica.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::id::{DocId, Kind};

/// What a watch is told: read the replica for what is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Changed {
    /// A document was created, changed or deleted.
    Document(DocId),
    /// A record or the presence of a server about this subject changed.
    Record(DocId),
}

impl Changed {
    fn kind(self) -> Kind {
        match self {
            Self::Document(doc) | Self::Record(doc) => doc.kind,
        }
    }
}

/// A stream of what changed since it was made.
///
/// A subject that changes again before it was taken is told once: what is read then is the newest.
/// So nothing is missed, and a slow watcher holds at most one entry for each subject. Subjects are
/// told in the order in which they first changed, so that one that changes all the time keeps no
/// other waiting.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kinds: Vec<Kind>,
    records: bool,
    waiting: Mutex<Waiting>,
    notify: Notify,
}

/// What was not taken yet, each subject once.
#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Changed>,
    all: HashSet<Changed>,
}

impl Watch {
    /// The next subject that changed. Cancel-safe.
    pub async fn next(&mut self) -> Changed {
        loop {
            let notified = self.shared.notify.notified();
            if let Some(changed) = self.shared.take() {
                return changed;
            }
            notified.await;
        }
    }

    /// The next subject that changed, if one has.
    pub fn try_next(&mut self) -> Option<Changed> {
        self.shared.take()
    }

    /// Counts a subject as changed.
    pub(super) fn add(&self, changed: Changed) {
        self.shared.add(std::iter::once(changed));
    }
}

impl Shared {
    fn take(&self) -> Option<Changed> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.order.pop_front()?;
        waiting.all.remove(&next);
        Some(next)
    }

    fn add(&self, changed: impl Iterator<Item = Changed>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for one in changed.filter(|one| self.wants(*one)) {
            if waiting.all.insert(one) {
                waiting.order.push_back(one);
            }
        }
        drop(waiting);
        self.notify.notify_one();
    }

    fn wants(&self, changed: Changed) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&changed.kind());
        kind && (self.records || matches!(changed, Changed::Document(_)))
    }
}

/// The watches of a replica.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Vec<Weak<Shared>>>);

impl Watches {
    /// A watch of these kinds, or of all where none is named.
    pub(super) fn watch(&self, kinds: &[Kind]) -> Watch {
        self.register(kinds.to_vec(), true)
    }

    /// A watch of the documents of one kind.
    pub(super) fn watch_documents(&self, kind: Kind) -> Watch {
        self.register(vec![kind], false)
    }

    fn register(&self, kinds: Vec<Kind>, records: bool) -> Watch {
        let (waiting, notify) = Default::default();
        let shared = Arc::new(Shared { kinds, records, waiting, notify });
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&shared));
        Watch { shared }
    }

    pub(super) fn tell(&self, changed: &BTreeSet<Changed>) {
        if changed.is_empty() {
            return;
        }
        let watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for watch in watches.iter().filter_map(Weak::upgrade) {
            watch.add(changed.iter().copied());
        }
    }
}
