//! The durable log of a replica: changes, graves, records, and views beside the changes.

pub mod memory;
pub mod sqlite;

use std::{error::Error as StdError, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    doc::{Compaction, Stored, StoredChange, View},
    id::{Author, ChangeHash, DocId, ServerId},
};

/// That a document was deleted, by whom and when. Never dropped: nothing deleted comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grave {
    /// The document.
    pub doc: DocId,
    /// Who deleted it.
    pub by: Author,
    /// When, by the clock of the server that took the request. Decides nothing.
    pub at: Millis,
}

/// What one server observes of a subject. Only that server writes it; a higher (run, n) replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The document it is about.
    pub subject: DocId,
    /// The server that observes.
    pub server: ServerId,
    /// The run of that server's process, raised at each start.
    pub run: u64,
    /// The number within the run.
    pub n: u64,
    /// The observation, CBOR; `None` once it is withdrawn.
    pub value: Option<Bytes>,
}

/// A document as a start needs it: no change is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// Which.
    pub doc: DocId,
    /// The heads of its held changes.
    pub heads: Vec<ChangeHash>,
    /// What was read of it with those heads; `None` where that is not known any more.
    pub view: Option<Arc<View>>,
    /// The number of the declaration that the view was made by.
    pub schema: u32,
}

/// A deleted document of which something is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// What it was when it died.
    pub document: StoredDocument,
    /// Since when this server knows that it is dead, by its clock.
    pub since: Millis,
}

/// Everything that a start needs.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Every living document.
    pub documents: Vec<StoredDocument>,
    /// Every dead document that has not been purged.
    pub remains: Vec<Remains>,
    /// Every grave.
    pub graves: Vec<Grave>,
    /// Every stored record.
    pub records: Vec<Record>,
    /// Documents that were committed or buried last, the newest last; some 256 will do. Each may
    /// stand there more than once.
    pub recent: Vec<DocId>,
    /// The number of this run: one more than at the last open.
    pub run: u64,
}

/// One transaction: all of it is durable, or nothing. It is carried out in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Changes by document.
    pub changes: Vec<(DocId, StoredChange)>,
    /// Documents whose heads or view changed. Since a view follows from the changes, a store may
    /// write it later: until then, it says `None` for it after a crash.
    pub documents: Vec<StoredDocument>,
    /// Documents whose changes shall be kept otherwise.
    pub compactions: Vec<(DocId, Compaction)>,
    /// New graves, and since when this server knows of them. What there is of the document becomes
    /// its remains.
    pub graves: Vec<(Grave, Millis)>,
    /// New or newer records.
    pub records: Vec<Record>,
    /// Dead documents whose remains are dropped. Their graves stay.
    pub purges: Vec<DocId>,
}

/// How many of the last committed documents a store tells of when it is opened.
const RECENT: u16 = 256;

impl Transaction {
    /// The documents that it writes or buries.
    fn touched(&self) -> impl Iterator<Item = DocId> {
        let written = self.documents.iter().map(|document| document.doc);
        written.chain(self.graves.iter().map(|(grave, _)| grave.doc))
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.documents.is_empty()
            && self.compactions.is_empty()
            && self.graves.is_empty()
            && self.records.is_empty()
            && self.purges.is_empty()
    }
}

/// The store failed. What was asked for did not happen, but for a commit whose failure is in doubt:
/// the caller must read again what it has in memory of the documents concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the database open.
    #[error("the database {0} is in use by another process: stop that one first")]
    InUse(String),
    /// The database was written by a later version.
    #[error(
        "the database has format {found}, and this version reads up to {known}: run the newer version"
    )]
    TooNew {
        /// The format found.
        found: i64,
        /// The newest format that this version knows.
        known: i64,
    },
    /// The database cannot be read or written.
    #[error("the database failed: {what}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A durable store. Calls block; one thread owns it.
pub trait Store: Send {
    /// Everything a start needs. Counts as the beginning of a new run.
    fn open(&mut self) -> Result<Contents, Error>;

    /// What is kept of a document: all of it, or, where a compaction has named a base, that and what
    /// is above it. Damaged rows are left out.
    fn load(&mut self, doc: DocId, whole: bool) -> Result<Stored, Error>;

    /// Whether a document's grave is durable.
    fn is_buried(&mut self, doc: DocId) -> Result<bool, Error>;

    /// Makes a transaction durable: on return it survives a crash and a power cut.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error>;

    /// Does what keeps the store fast and is not urgent; called when nothing else is to be done. It
    /// may be killed at any moment.
    fn maintain(&mut self) -> Result<(), Error>;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn open(&mut self) -> Result<Contents, Error> {
        (**self).open()
    }

    fn load(&mut self, doc: DocId, whole: bool) -> Result<Stored, Error> {
        (**self).load(doc, whole)
    }

    fn is_buried(&mut self, doc: DocId) -> Result<bool, Error> {
        (**self).is_buried(doc)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        (**self).commit(transaction)
    }

    fn maintain(&mut self) -> Result<(), Error> {
        (**self).maintain()
    }
}

#[cfg(test)]
mod tests;
