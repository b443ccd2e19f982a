//! The default store: one SQLite database in WAL mode, every commit synchronised to disk.
//!
//! What a commit costs is the pages that it touches. So changes are first appended to one table, the
//! tail, whose last page is the only one that most commits write; the views that go with them stay
//! in memory. From time to time the tail is sorted into the tables that are read by document, with
//! the views: see `tail.rs`.

mod read;
mod tail;
mod write;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tail::Tail;

use super::{Contents, Error, Store, Transaction};
use crate::{
    doc::Stored,
    id::{DocId, Kind},
};

/// The format of the tables below.
const FORMAT: i64 = 2;

/// Rows that are no changes have a checksum: damage is found, and the row is set aside. A change
/// needs none, since its bytes carry their own hash.
const TABLES: &str = "
    CREATE TABLE documents (
        key    INTEGER PRIMARY KEY,
        kind   TEXT NOT NULL,
        uuid   BLOB NOT NULL,
        heads  BLOB NOT NULL,
        view   BLOB NOT NULL,
        schema INTEGER NOT NULL,
        dead   INTEGER,
        sum    BLOB NOT NULL,
        UNIQUE (kind, uuid)
    );
    CREATE TABLE changes (
        document INTEGER NOT NULL,
        number   INTEGER NOT NULL,
        layer    INTEGER NOT NULL,
        bytes    BLOB NOT NULL,
        PRIMARY KEY (document, number)
    ) WITHOUT ROWID;
    CREATE TABLE graves (
        kind TEXT NOT NULL,
        uuid BLOB NOT NULL,
        body BLOB NOT NULL,
        sum  BLOB NOT NULL,
        PRIMARY KEY (kind, uuid)
    ) WITHOUT ROWID;
    CREATE TABLE records (
        kind   TEXT NOT NULL,
        uuid   BLOB NOT NULL,
        server BLOB NOT NULL,
        body   BLOB NOT NULL,
        sum    BLOB NOT NULL,
        PRIMARY KEY (kind, uuid, server)
    ) WITHOUT ROWID;
    CREATE TABLE runs (run INTEGER NOT NULL);
    INSERT INTO runs VALUES (0);
";

/// The tables that a database of format 1 lacks.
const SINCE_2: &str = "
    CREATE TABLE tail (
        row    INTEGER PRIMARY KEY,
        kind   TEXT NOT NULL,
        uuid   BLOB NOT NULL,
        number INTEGER NOT NULL,
        layer  INTEGER NOT NULL,
        bytes  BLOB NOT NULL
    );
    CREATE TABLE chunks (
        document INTEGER NOT NULL,
        layer    INTEGER NOT NULL,
        bytes    BLOB NOT NULL,
        sum      BLOB NOT NULL,
        PRIMARY KEY (document, layer)
    );
    CREATE TABLE bases (
        document INTEGER PRIMARY KEY,
        first    INTEGER NOT NULL,
        bytes    BLOB NOT NULL,
        sum      BLOB NOT NULL
    );
    CREATE TABLE recent (body BLOB NOT NULL, sum BLOB NOT NULL);
";

/// What its other tables lack.
const FROM_1: &str = "
    ALTER TABLE documents ADD COLUMN dead INTEGER;
    ALTER TABLE changes ADD COLUMN layer INTEGER NOT NULL DEFAULT 0;
";

/// A checkpoint is due when the write-ahead log has so many bytes; it is made when nothing else is
/// to be done.
const LOG_DUE: u64 = 4 << 20;
/// With so many, it is made at once.
const LOG_MUST: u64 = 64 << 20;

/// A store in one SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    /// The write-ahead log.
    log: PathBuf,
    tail: Tail,
    commits: u64,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it. No other process can then open it.
    ///
    /// # Errors
    /// It is in use, was written by a later version, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let in_use = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::InUse(path.display().to_string())
            }
            _ => failed("opening it")(error),
        };
        let connection = Connection::open(path).map_err(in_use)?;
        connection.busy_timeout(Duration::ZERO).map_err(failed("opening it"))?;
        // Exclusive: the file is locked until the process ends, and WAL needs no shared memory.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA fullfsync = ON;
                 PRAGMA checkpoint_fullfsync = ON;
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA cache_size = -4096;
                 PRAGMA temp_store = MEMORY;
                 BEGIN EXCLUSIVE;
                 COMMIT;",
            )
            .map_err(in_use)?;
        connection.set_prepared_statement_cache_capacity(32);
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let mut store = Self { connection, log: log.into(), tail: Tail::default(), commits: 0 };
        store.prepare()?;
        store.tail = Tail::read(&store.connection).map_err(failed("reading its newest changes"))?;
        Ok(store)
    }

    fn prepare(&mut self) -> Result<(), Error> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed("reading its format"))?;
        match found {
            FORMAT => Ok(()),
            0 => self.bring_up(TABLES).map_err(failed("making its tables")),
            1 => self.bring_up(FROM_1).map_err(failed("bringing it up to date")),
            found => Err(Error::TooNew { found, known: FORMAT }),
        }
    }

    fn bring_up(&self, lacking: &str) -> Result<(), rusqlite::Error> {
        self.connection.execute_batch(&format!(
            "BEGIN; {lacking} {SINCE_2} PRAGMA user_version = {FORMAT}; COMMIT;"
        ))
    }

    fn next_run(&self) -> Result<u64, rusqlite::Error> {
        self.connection.execute("UPDATE runs SET run = run + 1", [])?;
        let run: i64 = self.connection.query_row("SELECT run FROM runs", [], |row| row.get(0))?;
        Ok(run.unsigned_abs())
    }

    /// After a commit that failed: what of it is on the disk?
    fn end_doubt(&mut self) -> Result<(), Error> {
        if self.tail.is_in_doubt() {
            self.tail = Tail::read(&self.connection)
                .map_err(failed("reading its newest changes after a failure"))?;
        }
        Ok(())
    }

    /// Moves what is in the write-ahead log into the database.
    fn checkpoint(&self) -> Result<(), Error> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(failed("writing a checkpoint"))
    }

    fn log_is_longer_than(&self, bytes: u64) -> bool {
        std::fs::metadata(&self.log).is_ok_and(|log| log.len() > bytes)
    }

    /// Carries out a transaction, and all that waits in the tail with it where `settle` says so.
    fn write(&mut self, transaction: &Transaction, settle: bool) -> Result<(), write::Failure> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if settle {
            self.tail.settle(&tx, transaction)?;
        } else {
            self.tail.append(&tx, transaction)?;
        }
        write::rest(&tx, transaction)?;
        tx.commit()?;
        self.tail.committed(transaction, settle);
        Ok(())
    }
}

impl Store for SqliteStore {
    fn open(&mut self) -> Result<Contents, Error> {
        let run = self.next_run().map_err(failed("counting runs"))?;
        let contents = read::contents(&self.connection, &self.tail, run);
        // The pages that were read for it are not what will be needed next.
        self.connection.execute_batch("PRAGMA shrink_memory").map_err(failed("reading it"))?;
        contents.map_err(failed("reading it"))
    }

    fn load(&mut self, doc: DocId, whole: bool) -> Result<Stored, Error> {
        self.end_doubt()?;
        let mut stored =
            read::stored(&self.connection, doc, whole).map_err(failed("reading changes"))?;
        self.tail.add_to(doc, &mut stored);
        Ok(stored)
    }

    fn is_buried(&mut self, doc: DocId) -> Result<bool, Error> {
        read::is_buried(&self.connection, doc).map_err(failed("reading a grave"))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        self.end_doubt()?;
        let settle = self.tail.must_settle(transaction);
        self.write(transaction, settle).map_err(|source| {
            self.tail.doubt();
            Error::Failed { what: "committing", source }
        })?;
        self.commits += 1;
        if self.commits.is_multiple_of(1_024)
            && self.log_is_longer_than(LOG_MUST)
            && let Err(error) = self.checkpoint()
        {
            // What was committed is durable all the same.
            tracing::warn!(%error, "the write-ahead log grows");
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), Error> {
        self.end_doubt()?;
        if self.tail.is_due() {
            self.write(&Transaction::default(), true).map_err(|source| {
                self.tail.doubt();
                Error::Failed { what: "sorting its newest changes", source }
            })?;
        }
        if self.log_is_longer_than(LOG_DUE) { self.checkpoint() } else { Ok(()) }
    }
}

fn doc_id(kind: String, uuid: Vec<u8>) -> Option<DocId> {
    let kind: Kind = kind.parse().ok()?;
    Some(DocId { kind, uuid: uuid::Uuid::from_slice(&uuid).ok()? })
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Failed { what, source: source.into() }
}
