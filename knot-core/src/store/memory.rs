//! A store in memory: for embedders that need no disk, and for simulations of one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Contents, Error, Grave, RECENT, Record, Remains, Store, StoredDocument, Transaction};
use crate::{
    clock::Millis,
    doc::{Compaction, Stored, StoredChange},
    id::{DocId, ServerId},
};

/// Keeps everything that was committed, for as long as it lives.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    documents: BTreeMap<DocId, StoredDocument>,
    remains: BTreeMap<DocId, Remains>,
    histories: BTreeMap<DocId, History>,
    graves: BTreeMap<DocId, Grave>,
    records: BTreeMap<(DocId, ServerId), Record>,
    recent: VecDeque<DocId>,
    run: u64,
}

#[derive(Clone, Debug, Default)]
struct History {
    changes: BTreeMap<u32, StoredChange>,
    chunks: BTreeMap<u32, Bytes>,
    base: Option<(u32, Bytes)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn compact(&mut self, doc: DocId, compaction: &Compaction) {
        let history = self.histories.entry(doc).or_default();
        for chunk in &compaction.chunks {
            history.chunks.insert(chunk.layer, chunk.bytes.clone());
            history.changes.retain(|number, _| !chunk.replaces.contains(number));
        }
        if compaction.base.is_some() {
            history.base.clone_from(&compaction.base);
        }
    }

    fn bury(&mut self, grave: Grave, since: Millis) {
        self.graves.insert(grave.doc, grave);
        if let Some(document) = self.documents.remove(&grave.doc) {
            self.remains.insert(grave.doc, Remains { document, since });
        }
    }
}

impl Store for MemoryStore {
    fn open(&mut self) -> Result<Contents, Error> {
        self.run += 1;
        Ok(Contents {
            documents: self.documents.values().cloned().collect(),
            remains: self.remains.values().cloned().collect(),
            graves: self.graves.values().copied().collect(),
            records: self.records.values().cloned().collect(),
            recent: self.recent.iter().copied().collect(),
            run: self.run,
        })
    }

    fn load(&mut self, doc: DocId, whole: bool) -> Result<Stored, Error> {
        let Some(history) = self.histories.get(&doc) else { return Ok(Stored::default()) };
        let needed = history.base.as_ref().map_or(0, |(first, _)| *first);
        let base = history.base.clone().filter(|_| !whole);
        let first = base.as_ref().map_or(0, |(first, _)| *first);
        let chunks = history.chunks.range(first..);
        let changes = history.changes.values().filter(|change| change.layer >= first);
        Ok(Stored {
            first: needed,
            base: base.map(|(_, bytes)| bytes),
            chunks: chunks.map(|(layer, bytes)| (*layer, bytes.clone())).collect(),
            changes: changes.cloned().collect(),
            damaged: false,
        })
    }

    fn is_buried(&mut self, doc: DocId) -> Result<bool, Error> {
        Ok(self.graves.contains_key(&doc))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        for (doc, change) in &transaction.changes {
            let history = self.histories.entry(*doc).or_default();
            history.changes.insert(change.number, change.clone());
        }
        self.recent.extend(transaction.touched());
        let excess = self.recent.len().saturating_sub(RECENT.into());
        self.recent.drain(..excess);
        for document in &transaction.documents {
            self.documents.insert(document.doc, document.clone());
        }
        for (doc, compaction) in &transaction.compactions {
            self.compact(*doc, compaction);
        }
        for (grave, since) in &transaction.graves {
            self.bury(*grave, *since);
        }
        for record in &transaction.records {
            self.records.insert((record.subject, record.server), record.clone());
        }
        for doc in &transaction.purges {
            self.histories.remove(doc);
            self.remains.remove(doc);
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
