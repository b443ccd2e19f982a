//! The newest changes, which one table has in the order they came, and the views that go with them,
//! which are only in memory.
//!
//! A document is in the tail if changes of it are. The row of such a document may be older than its
//! changes: after a crash its view is made anew.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::{
    doc_id, read,
    write::{self, Failure},
};
use crate::{
    doc::{Stored, StoredChange},
    id::DocId,
    store::{RECENT, StoredDocument, Transaction},
};

/// With so many changes the tail is sorted in with the next commit: a start makes as many views at
/// most, and what the commit takes longer stays some milliseconds.
const LONG: usize = 512;
/// The same for what it has of bytes, views counted.
const LARGE: usize = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Tail {
    changes: BTreeMap<DocId, Vec<StoredChange>>,
    /// What is to be written of documents with changes in the tail, and of some others.
    documents: BTreeMap<DocId, StoredDocument>,
    /// The documents that were written last, the newest last.
    recent: VecDeque<DocId>,
    count: usize,
    bytes: usize,
    /// A commit has failed, and nobody knows what of it is on the disk.
    in_doubt: bool,
}

impl Tail {
    /// What the database has.
    pub(super) fn read(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut query = connection
            .prepare_cached("SELECT kind, uuid, number, layer, bytes FROM tail ORDER BY row")?;
        let mut rows = query.query([])?;
        let mut tail = Self { recent: read::recent(connection)?.into(), ..Self::default() };
        while let Some(row) = rows.next()? {
            let Some(doc) = doc_id(row.get(0)?, row.get(1)?) else { continue };
            let bytes = Bytes::from(row.get::<_, Vec<u8>>(4)?);
            tail.touch([doc]);
            tail.push(doc, StoredChange { number: row.get(2)?, layer: row.get(3)?, bytes });
        }
        Ok(tail)
    }

    fn push(&mut self, doc: DocId, change: StoredChange) {
        self.count += 1;
        self.bytes += change.bytes.len();
        self.changes.entry(doc).or_default().push(change);
    }

    fn touch(&mut self, docs: impl IntoIterator<Item = DocId>) {
        for doc in docs {
            self.recent.retain(|other| *other != doc);
            self.recent.push_back(doc);
        }
        let excess = self.recent.len().saturating_sub(RECENT.into());
        self.recent.drain(..excess);
    }

    /// The documents that were written last, the newest last.
    pub(super) fn recent(&self) -> Vec<DocId> {
        self.recent.iter().copied().collect()
    }

    pub(super) fn doubt(&mut self) {
        self.in_doubt = true;
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether sorting it in is of use.
    pub(super) fn is_due(&self) -> bool {
        self.count > 0 || !self.documents.is_empty()
    }

    /// Whether all must be sorted in with this transaction.
    pub(super) fn must_settle(&self, transaction: &Transaction) -> bool {
        self.count >= LONG
            || self.bytes >= LARGE
            || self.documents.len() >= LONG
            || transaction.changes.len() >= LONG
            || !transaction.compactions.is_empty()
            || !transaction.graves.is_empty()
            || !transaction.purges.is_empty()
    }

    /// The documents whose row is older than their changes.
    pub(super) fn holds(&self, doc: &DocId) -> bool {
        self.changes.contains_key(doc)
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = DocId> {
        self.changes.keys().copied()
    }

    /// Adds what the tail has of a document.
    pub(super) fn add_to(&self, doc: DocId, stored: &mut Stored) {
        stored.changes.extend(self.changes.get(&doc).into_iter().flatten().cloned());
    }

    /// Writes new changes into the table.
    pub(super) fn append(&self, tx: &Connection, transaction: &Transaction) -> Result<(), Failure> {
        for (doc, change) in &transaction.changes {
            tx.prepare_cached(
                "INSERT INTO tail (kind, uuid, number, layer, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                doc.kind.as_str(),
                doc.uuid.as_bytes(),
                change.number,
                change.layer,
                change.bytes.as_ref()
            ])?;
        }
        Ok(())
    }

    /// Sorts the tail and a transaction's changes into the tables that are read by document.
    pub(super) fn settle(&self, tx: &Connection, transaction: &Transaction) -> Result<(), Failure> {
        let newer = |doc: &DocId| transaction.documents.iter().any(|one| one.doc == *doc);
        let older = self.documents.values().filter(|one| !newer(&one.doc));
        for document in older.chain(&transaction.documents) {
            write::document(tx, document)?;
        }
        for doc in self.changes.keys() {
            if !self.documents.contains_key(doc) && !newer(doc) {
                write::stale(tx, doc)?;
            }
        }
        for (doc, changes) in &self.changes {
            for change in changes {
                write::change(tx, doc, change)?;
            }
        }
        for (doc, change) in &transaction.changes {
            write::change(tx, doc, change)?;
        }
        tx.prepare_cached("DELETE FROM tail")?.execute([])?;
        let recent = self.recent.iter().copied().chain(transaction.touched());
        write::recent(tx, &recent.collect::<Vec<_>>())
    }

    /// A transaction is durable.
    pub(super) fn committed(&mut self, transaction: &Transaction, settled: bool) {
        self.touch(transaction.touched());
        if settled {
            *self = Self { recent: std::mem::take(&mut self.recent), ..Self::default() };
            return;
        }
        for (doc, change) in &transaction.changes {
            self.push(*doc, change.clone());
        }
        for document in &transaction.documents {
            self.documents.insert(document.doc, document.clone());
        }
    }
}
