//! After a failed commit, and for damaged documents: memory is made again what the store has.

use std::{ops::Bound, sync::Arc, time::Duration};

use super::{Batch, Core, Effects, Entry};
use crate::{
    id::DocId,
    store::Error as StoreError,
    sync::{ItemKey, Message, Want},
};

/// How often a document is looked at for damage, where nothing else is to be done: of 10,000, each
/// every three hours.
const SCRUB: Duration = Duration::from_secs(1);

impl Core {
    /// After a commit that failed, or whose outcome is in doubt: what is in memory of its documents
    /// is dropped, with their actor ids, and read again.
    pub(super) fn recover(&mut self, now: Duration, batch: &Batch, effects: &mut Effects) {
        let mut found = Batch::default();
        for doc in batch.entries.keys().chain(batch.graves.keys()) {
            self.library.forget(*doc);
        }
        for grave in batch.graves.values() {
            match self.store.is_buried(grave.doc) {
                Ok(true) => {
                    found.graves.insert(grave.doc, *grave);
                }
                Ok(false) => {}
                // It cannot be told: what may be dead stays so.
                Err(_) => {
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
            match library.get(&mut **store, doc, Some(&[])) {
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

    /// Looks whether one more document is still what it was when it was stored, its layers at rest
    /// too: damage is to be found while there are peers to mend it.
    pub(super) fn scrub(&mut self, now: Duration, effects: &mut Effects) {
        if now < self.scrubbed.0 + SCRUB {
            return;
        }
        let last = self.scrubbed.1;
        let next = self.read(|index| {
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let mut documents = index.documents.range((from, Bound::Unbounded));
            documents.next().map(|(doc, entry)| (*doc, Arc::clone(&entry.heads)))
        });
        self.scrubbed = (now, next.as_ref().map(|(doc, _)| *doc));
        let Some((doc, shown)) = next else { return };
        match self.library.scrub(&mut *self.store, doc, &shown) {
            Ok(false) => {}
            Ok(true) => {
                tracing::error!(%doc, "old changes are damaged: a peer is asked for them");
                let wants = vec![Want { key: ItemKey::document(doc), have: Vec::new() }];
                let peer = self.engine.peers().next().into_iter().collect();
                effects.sends.push((peer, Message::Pull { number: 0, wants }));
            }
            Err(error) => tracing::error!(%doc, %error, "a document could not be read"),
        }
    }

    /// A document as its stored changes have it.
    pub(super) fn reread(&mut self, doc: DocId) -> Result<Entry, StoreError> {
        let mut document = self.library.read(&mut *self.store, doc, None, false)?;
        if document.unapplied() > 0 {
            // They are tried again at each start, those at rest too.
            document = self.library.read(&mut *self.store, doc, None, true)?;
        }
        let view = document.view(doc.kind, &self.schema);
        let entry = Entry::new(doc.kind, &self.schema, document.heads(), view);
        self.library.keep(doc, document);
        Ok(entry)
    }
}
