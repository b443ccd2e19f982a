//! Changes that wait for what they depend on.

use std::collections::HashMap;

use crate::{doc::wall::Checked, id::DocId};

/// The most changes that wait, over all documents. Those beyond are dropped: reconciliation brings
/// them again.
const WAITING: usize = 4_096;
/// The most bytes that wait.
const WAITING_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: HashMap<DocId, Vec<Checked>>,
    count: usize,
    bytes: usize,
}

impl Pending {
    /// Takes out what waits of a document.
    pub(super) fn take(&mut self, doc: DocId) -> Vec<Checked> {
        let changes = self.changes.remove(&doc).unwrap_or_default();
        self.count -= changes.len();
        self.bytes -= changes.iter().map(|change| change.bytes.len()).sum::<usize>();
        changes
    }

    /// Keeps changes until more of their document comes; `false` where there is no room.
    pub(super) fn keep(&mut self, doc: DocId, changes: Vec<Checked>) -> bool {
        let bytes: usize = changes.iter().map(|change| change.bytes.len()).sum();
        if self.count + changes.len() > WAITING || self.bytes + bytes > WAITING_BYTES {
            tracing::warn!(%doc, changes = changes.len(), "changes that came too early were dropped");
            return false;
        }
        self.count += changes.len();
        self.bytes += bytes;
        self.changes.entry(doc).or_default().extend(changes);
        true
    }

    /// Whether what waits is within the bounds.
    #[cfg(feature = "sim")]
    pub(super) fn is_bounded(&self) -> bool {
        self.count <= WAITING && self.bytes <= WAITING_BYTES
    }

    pub(super) fn forget(&mut self, doc: DocId) {
        self.take(doc);
    }
}
