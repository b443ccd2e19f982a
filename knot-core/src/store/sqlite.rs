//! The default store: one SQLite database in WAL mode, every commit synchronised to disk.

use std::{error::Error as StdError, path::Path, time::Duration};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Contents, Error, Grave, RECENT, Record, Store, StoredDocument, Transaction};
use crate::{
    id::{DocId, Kind},
    wire,
};

/// The format of the tables below.
const FORMAT: i64 = 1;

/// Each row has a checksum: damage is found, and the row is set aside. A change needs none, since
/// its bytes carry their own hash.
const TABLES: &str = "
    CREATE TABLE documents (
        key    INTEGER PRIMARY KEY,
        kind   TEXT NOT NULL,
        uuid   BLOB NOT NULL,
        heads  BLOB NOT NULL,
        view   BLOB NOT NULL,
        schema INTEGER NOT NULL,
        sum    BLOB NOT NULL,
        UNIQUE (kind, uuid)
    );
    CREATE TABLE changes (
        document INTEGER NOT NULL,
        number   INTEGER NOT NULL,
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
    CREATE TABLE recent (
        slot INTEGER PRIMARY KEY,
        n    INTEGER NOT NULL,
        kind TEXT NOT NULL,
        uuid BLOB NOT NULL
    );
    CREATE TABLE runs (run INTEGER NOT NULL);
    INSERT INTO runs VALUES (0);
";

/// A store in one SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    /// The number of the next document that is written or buried.
    touched: i64,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it. No other process can then open it.
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
                 PRAGMA cache_size = -8192;
                 PRAGMA temp_store = MEMORY;
                 BEGIN EXCLUSIVE;
                 COMMIT;",
            )
            .map_err(in_use)?;
        connection.set_prepared_statement_cache_capacity(32);
        let mut store = Self { connection, touched: 0 };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&mut self) -> Result<(), Error> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed("reading its format"))?;
        match found {
            FORMAT => Ok(()),
            0 => {
                let make = format!("BEGIN; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;");
                self.connection.execute_batch(&make).map_err(failed("making its tables"))
            }
            found => Err(Error::TooNew { found, known: FORMAT }),
        }
    }

    fn documents(&self) -> Result<Vec<StoredDocument>, rusqlite::Error> {
        let mut query = self
            .connection
            .prepare_cached("SELECT kind, uuid, heads, view, schema, sum FROM documents")?;
        let mut rows = query.query([])?;
        let mut documents = Vec::new();
        while let Some(row) = rows.next()? {
            let Some(doc) = doc_id(row.get(0)?, row.get(1)?) else { continue };
            let (heads, view): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
            let schema: u32 = row.get(4)?;
            let sound = sum(&[&heads, &view, &schema.to_be_bytes()]) == row.get::<_, Vec<u8>>(5)?;
            let decoded =
                if sound { Some((wire::decode(&heads), wire::decode(&view))) } else { None };
            documents.push(match decoded {
                Some((Ok(heads), Ok(view))) => {
                    StoredDocument { doc, heads, view: Some(view), schema }
                }
                _ => {
                    tracing::error!(%doc, "a stored view is damaged and will be rebuilt");
                    StoredDocument { doc, heads: Vec::new(), view: None, schema }
                }
            });
        }
        Ok(documents)
    }

    /// The bodies of a table; damaged ones are named and left out.
    fn bodies<T: DeserializeOwned>(&self, table: &'static str) -> Result<Vec<T>, rusqlite::Error> {
        let mut query = self.connection.prepare(&format!("SELECT body, sum FROM {table}"))?;
        let mut rows = query.query([])?;
        let mut bodies = Vec::new();
        while let Some(row) = rows.next()? {
            let (body, stored): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
            match wire::decode(&body) {
                Ok(decoded) if sum(&[&body]) == stored => bodies.push(decoded),
                _ => tracing::error!(table, "a stored row is damaged and is set aside"),
            }
        }
        Ok(bodies)
    }

    /// A ring of the documents that were written last, the newest last.
    fn recent(&mut self) -> Result<Vec<DocId>, rusqlite::Error> {
        let mut query = self.connection.prepare("SELECT n, kind, uuid FROM recent ORDER BY n")?;
        let mut rows = query.query([])?;
        let (mut recent, mut touched) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            touched = row.get::<_, i64>(0)? + 1;
            recent.extend(doc_id(row.get(1)?, row.get(2)?));
        }
        self.touched = touched;
        Ok(recent)
    }

    fn next_run(&self) -> Result<u64, rusqlite::Error> {
        self.connection.execute("UPDATE runs SET run = run + 1", [])?;
        let run: i64 = self.connection.query_row("SELECT run FROM runs", [], |row| row.get(0))?;
        Ok(run.unsigned_abs())
    }

    fn write(&mut self, transaction: &Transaction) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for document in &transaction.documents {
            put_document(&tx, document)?;
        }
        for (doc, number, bytes) in &transaction.changes {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO changes
                 SELECT key, ?3, ?4 FROM documents WHERE kind = ?1 AND uuid = ?2",
            )?
            .execute(params![
                doc.kind.as_str(),
                doc.uuid.as_bytes(),
                number,
                bytes.as_ref()
            ])?;
        }
        for grave in &transaction.graves {
            put_grave(&tx, grave)?;
        }
        for record in &transaction.records {
            put_record(&tx, record)?;
        }
        let mut touched = self.touched;
        for doc in transaction.touched() {
            let slot = touched % i64::from(RECENT);
            tx.prepare_cached("INSERT OR REPLACE INTO recent VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![slot, touched, doc.kind.as_str(), doc.uuid.as_bytes()])?;
            touched += 1;
        }
        tx.commit()?;
        self.touched = touched;
        Ok(())
    }
}

impl Store for SqliteStore {
    fn open(&mut self) -> Result<Contents, Error> {
        Ok(Contents {
            documents: self.documents().map_err(failed("reading documents"))?,
            graves: self.bodies::<Grave>("graves").map_err(failed("reading graves"))?,
            records: self.bodies::<Record>("records").map_err(failed("reading records"))?,
            recent: self.recent().map_err(failed("reading what was written last"))?,
            run: self.next_run().map_err(failed("counting runs"))?,
        })
    }

    fn changes(&mut self, doc: DocId) -> Result<Vec<(u32, Bytes)>, Error> {
        let read = || -> Result<Vec<(u32, Bytes)>, rusqlite::Error> {
            let mut query = self.connection.prepare_cached(
                "SELECT number, bytes FROM changes WHERE document =
                 (SELECT key FROM documents WHERE kind = ?1 AND uuid = ?2) ORDER BY number",
            )?;
            let rows = query.query_map(params![doc.kind.as_str(), doc.uuid.as_bytes()], |row| {
                Ok((row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?)))
            })?;
            rows.collect()
        };
        read().map_err(failed("reading changes"))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        self.write(transaction).map_err(|source| Error::Failed { what: "committing", source })
    }
}

fn put_document(
    tx: &Connection,
    document: &StoredDocument,
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let StoredDocument { doc, heads, view, schema } = document;
    let (heads, view) = (wire::encode(heads)?, wire::encode(view)?);
    let sum = sum(&[&heads, &view, &schema.to_be_bytes()]);
    tx.prepare_cached(
        "INSERT INTO documents (kind, uuid, heads, view, schema, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (kind, uuid) DO UPDATE
         SET heads = excluded.heads, view = excluded.view, schema = excluded.schema, sum = excluded.sum",
    )?
    .execute(params![doc.kind.as_str(), doc.uuid.as_bytes(), heads, view, schema, sum])?;
    Ok(())
}

fn put_grave(tx: &Connection, grave: &Grave) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let (kind, uuid) = (grave.doc.kind.as_str(), grave.doc.uuid.as_bytes());
    let key: Option<i64> = tx
        .prepare_cached("DELETE FROM documents WHERE kind = ?1 AND uuid = ?2 RETURNING key")?
        .query_row(params![kind, uuid], |row| row.get(0))
        .optional()?;
    if let Some(key) = key {
        tx.prepare_cached("DELETE FROM changes WHERE document = ?1")?.execute([key])?;
    }
    let (body, sum) = body(grave)?;
    tx.prepare_cached("INSERT OR REPLACE INTO graves VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, uuid, body, sum])?;
    Ok(())
}

fn put_record(tx: &Connection, record: &Record) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let (kind, uuid) = (record.subject.kind.as_str(), record.subject.uuid.as_bytes());
    let (body, sum) = body(record)?;
    tx.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![kind, uuid, record.server.0.as_bytes(), body, sum])?;
    Ok(())
}

fn body<T: Serialize>(value: &T) -> Result<(Vec<u8>, Vec<u8>), wire::Error> {
    let body = wire::encode(value)?;
    let sum = sum(&[&body]);
    Ok((body, sum))
}

/// The first 8 bytes of the SHA-256 of a row's parts.
fn sum(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into_iter().take(8).collect()
}

fn doc_id(kind: String, uuid: Vec<u8>) -> Option<DocId> {
    let kind: Kind = kind.parse().ok()?;
    Some(DocId { kind, uuid: uuid::Uuid::from_slice(&uuid).ok()? })
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Failed { what, source: source.into() }
}
