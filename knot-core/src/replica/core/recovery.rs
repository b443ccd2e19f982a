//! After a failed commit, and for damaged documents: memory is made again what the store has.

use std::time::Duration;

use super::{Batch, Core, Effects, Entry};
use crate::{id::DocId, store::Error as StoreError};

impl Core {
    /// After a commit that failed, or whose outcome is in doubt: what is in memory of its documents
    /// is dropped, with their actor ids, and read again.
    pub(super) fn recover(&mut self, now: Duration, batch: &Batch, effects: &mut Effects) {
        let mut found = Batch::default();
        for doc in batch.entries.keys().chain(batch.graves.keys()) {
            self.library.forget(*doc);
        }
        for grave in batch.graves.values() {
            let lived = self.read(|index| index.documents.contains_key(&grave.doc));
            match self.store.changes(grave.doc) {
                // The grave was written: it took the changes.
                Ok(changes) if lived && changes.is_empty() => {
                    found.graves.insert(grave.doc, *grave);
                }
                Ok(_) if lived => {}
                // It cannot be told: what may be dead stays so.
                Ok(_) | Err(_) => {
                    self.unsure.insert(grave.doc, *grave);
                }
            }
        }
        for doc in batch.entries.keys() {
            match self.reread(*doc) {
                Ok(entry) if !entry.heads.is_empty() => {
                    found.entries.insert(*doc, entry);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%doc, %error, "a document could not be read again"),
            }
        }
        self.publish(now, &found, effects);
    }

    /// Shows of damaged documents what is left of them, so that peers are seen to have more.
    pub(super) fn show_damaged(&mut self, batch: &mut Batch) {
        for doc in self.library.damaged() {
            if batch.graves.contains_key(&doc) {
                continue;
            }
            let Self { library, store, schema, .. } = self;
            match library.get(&mut **store, doc) {
                Ok(document) => {
                    let (heads, view) = (document.heads(), document.view(doc.kind, schema));
                    let shown = self.entry(batch, doc);
                    let known =
                        shown.is_some_and(|shown| *shown.heads == heads && *shown.view == view);
                    if !known {
                        let entry = Entry::new(doc.kind, &self.schema, heads, view);
                        batch.entries.insert(doc, entry);
                    }
                }
                Err(error) => tracing::error!(%doc, %error, "a document could not be read again"),
            }
        }
        // Each is read anew just now: that it is still damaged is known.
        self.library.damaged();
    }

    /// A document as its stored changes have it.
    pub(super) fn reread(&mut self, doc: DocId) -> Result<Entry, StoreError> {
        let document = self.library.load(&mut *self.store, doc)?;
        let view = document.view(doc.kind, &self.schema);
        Ok(Entry::new(doc.kind, &self.schema, document.heads(), view))
    }
}
