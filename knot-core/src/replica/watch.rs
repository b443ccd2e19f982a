//! Being told what changed on this replica.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::id::{DocId, Kind};

/// What a watch is told: read the replica for what is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
/// So nothing is missed, and a slow watcher holds at most one entry for each subject.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kinds: Vec<Kind>,
    changed: Mutex<BTreeSet<Changed>>,
    notify: Notify,
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
}

impl Shared {
    fn take(&self) -> Option<Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}

/// The watches of a replica.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Vec<Weak<Shared>>>);

impl Watches {
    /// A watch of these kinds, or of all where none is named.
    pub(super) fn watch(&self, kinds: &[Kind]) -> Watch {
        let shared = Arc::new(Shared {
            kinds: kinds.to_vec(),
            changed: Mutex::default(),
            notify: Notify::new(),
        });
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
            let wanted =
                |one: &&Changed| watch.kinds.is_empty() || watch.kinds.contains(&one.kind());
            let mut set = watch.changed.lock().unwrap_or_else(PoisonError::into_inner);
            set.extend(changed.iter().filter(wanted));
            drop(set);
            watch.notify.notify_one();
        }
    }
}
