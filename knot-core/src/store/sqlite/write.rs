//! Writing rows.

use std::error::Error as StdError;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    clock::Millis,
    doc::{Compaction, StoredChange},
    id::DocId,
    store::{Grave, RECENT, Record, StoredDocument, Transaction},
    wire,
};

pub(super) type Failure = Box<dyn StdError + Send + Sync>;

/// The number that no declaration has: the view of such a row is made anew.
pub(super) const STALE: u32 = u32::MAX;

/// What a transaction has besides changes and documents.
pub(super) fn rest(tx: &Connection, transaction: &Transaction) -> Result<(), Failure> {
    for (doc, compaction) in &transaction.compactions {
        compact(tx, doc, compaction)?;
    }
    for (grave, since) in &transaction.graves {
        bury(tx, grave, *since)?;
    }
    for record in &transaction.records {
        put_record(tx, record)?;
    }
    for doc in &transaction.purges {
        purge(tx, doc)?;
    }
    Ok(())
}

pub(super) fn document(tx: &Connection, document: &StoredDocument) -> Result<(), Failure> {
    let StoredDocument { doc, heads, view, schema } = document;
    let Some(view) = view else { return stale(tx, doc) };
    let (heads, view) = (wire::encode(heads)?, wire::encode(&**view)?);
    let sum = sum(&[&heads, &view, &schema.to_be_bytes()]);
    tx.prepare_cached(
        "INSERT INTO documents (kind, uuid, heads, view, schema, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (kind, uuid) DO UPDATE
         SET heads = excluded.heads, view = excluded.view, schema = excluded.schema, sum = excluded.sum",
    )?
    .execute(params![doc.kind.as_str(), doc.uuid.as_bytes(), heads, view, schema, sum])?;
    Ok(())
}

/// Notes that a document's view has to be made anew.
pub(super) fn stale(tx: &Connection, doc: &DocId) -> Result<(), Failure> {
    tx.prepare_cached(
        "INSERT INTO documents (kind, uuid, heads, view, schema, sum) VALUES (?1, ?2, x'', x'', ?3, x'')
         ON CONFLICT (kind, uuid) DO UPDATE SET schema = excluded.schema",
    )?
    .execute(params![doc.kind.as_str(), doc.uuid.as_bytes(), STALE])?;
    Ok(())
}

/// Writes a change of a document that has a row.
pub(super) fn change(tx: &Connection, doc: &DocId, change: &StoredChange) -> Result<(), Failure> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO changes (document, number, layer, bytes)
         SELECT key, ?3, ?4, ?5 FROM documents WHERE kind = ?1 AND uuid = ?2",
    )?
    .execute(params![
        doc.kind.as_str(),
        doc.uuid.as_bytes(),
        change.number,
        change.layer,
        change.bytes.as_ref()
    ])?;
    Ok(())
}

/// The documents that were written last; what is beyond the newest is not wanted.
pub(super) fn recent(tx: &Connection, docs: &[DocId]) -> Result<(), Failure> {
    let excess = docs.len().saturating_sub(RECENT.into());
    let (body, sum) = body(&docs.get(excess..).unwrap_or_default())?;
    tx.prepare_cached("DELETE FROM recent")?.execute([])?;
    tx.prepare_cached("INSERT INTO recent VALUES (?1, ?2)")?.execute(params![body, sum])?;
    Ok(())
}

fn key(tx: &Connection, doc: &DocId) -> Result<Option<i64>, rusqlite::Error> {
    tx.prepare_cached("SELECT key FROM documents WHERE kind = ?1 AND uuid = ?2")?
        .query_row(params![doc.kind.as_str(), doc.uuid.as_bytes()], |row| row.get(0))
        .optional()
}

fn compact(tx: &Connection, doc: &DocId, compaction: &Compaction) -> Result<(), Failure> {
    let Some(key) = key(tx, doc)? else { return Ok(()) };
    for chunk in &compaction.chunks {
        let sum = sum(&[&chunk.bytes]);
        tx.prepare_cached("INSERT OR REPLACE INTO chunks VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key, chunk.layer, chunk.bytes.as_ref(), sum])?;
        for number in &chunk.replaces {
            tx.prepare_cached("DELETE FROM changes WHERE document = ?1 AND number = ?2")?
                .execute(params![key, number])?;
        }
    }
    if let Some((first, bytes)) = &compaction.base {
        tx.prepare_cached("INSERT OR REPLACE INTO bases VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key, first, bytes.as_ref(), sum(&[bytes])])?;
    }
    Ok(())
}

fn bury(tx: &Connection, grave: &Grave, since: Millis) -> Result<(), Failure> {
    let (kind, uuid) = (grave.doc.kind.as_str(), grave.doc.uuid.as_bytes());
    tx.prepare_cached(
        "UPDATE documents SET dead = coalesce(dead, ?3) WHERE kind = ?1 AND uuid = ?2",
    )?
    .execute(params![kind, uuid, since.0])?;
    let (body, sum) = body(grave)?;
    tx.prepare_cached("INSERT OR REPLACE INTO graves VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, uuid, body, sum])?;
    Ok(())
}

fn purge(tx: &Connection, doc: &DocId) -> Result<(), Failure> {
    let Some(key) = key(tx, doc)? else { return Ok(()) };
    for table in ["changes", "chunks", "bases"] {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE document = ?1"))?.execute([key])?;
    }
    tx.prepare_cached("DELETE FROM documents WHERE key = ?1")?.execute([key])?;
    Ok(())
}

fn put_record(tx: &Connection, record: &Record) -> Result<(), Failure> {
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
pub(super) fn sum(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into_iter().take(8).collect()
}
