//! A store in memory: for embedders that need no disk, and for simulations of one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Contents, Error, Grave, RECENT, Record, Store, StoredDocument, Transaction};
use crate::id::{DocId, ServerId};

/// Keeps everything that was committed, for as long as it lives.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    documents: BTreeMap<DocId, StoredDocument>,
    changes: BTreeMap<DocId, BTreeMap<u32, Bytes>>,
    graves: BTreeMap<DocId, Grave>,
    records: BTreeMap<(DocId, ServerId), Record>,
    recent: VecDeque<DocId>,
    run: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn open(&mut self) -> Result<Contents, Error> {
        self.run += 1;
        Ok(Contents {
            documents: self.documents.values().cloned().collect(),
            graves: self.graves.values().copied().collect(),
            records: self.records.values().cloned().collect(),
            recent: self.recent.iter().copied().collect(),
            run: self.run,
        })
    }

    fn changes(&mut self, doc: DocId) -> Result<Vec<(u32, Bytes)>, Error> {
        let log = self.changes.get(&doc).into_iter().flatten();
        Ok(log.map(|(number, bytes)| (*number, bytes.clone())).collect())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        for (doc, number, bytes) in &transaction.changes {
            self.changes.entry(*doc).or_default().insert(*number, bytes.clone());
        }
        self.recent.extend(transaction.touched());
        let excess = self.recent.len().saturating_sub(RECENT.into());
        self.recent.drain(..excess);
        for document in &transaction.documents {
            self.documents.insert(document.doc, document.clone());
        }
        for grave in &transaction.graves {
            self.documents.remove(&grave.doc);
            self.changes.remove(&grave.doc);
            self.graves.insert(grave.doc, *grave);
        }
        for record in &transaction.records {
            self.records.insert((record.subject, record.server), record.clone());
        }
        Ok(())
    }
}
