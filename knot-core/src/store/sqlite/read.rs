//! Reading rows. A damaged one is named and left out.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;

use super::{
    doc_id,
    tail::Tail,
    write::{STALE, sum},
};
use crate::{
    clock::Millis,
    doc::{Stored, StoredChange},
    id::DocId,
    store::{Contents, Grave, Record, Remains, StoredDocument},
    wire,
};

pub(super) fn contents(
    connection: &Connection,
    tail: &Tail,
    run: u64,
) -> Result<Contents, rusqlite::Error> {
    let mut contents = Contents {
        graves: bodies::<Grave>(connection, "graves")?,
        records: bodies::<Record>(connection, "records")?,
        recent: tail.recent(),
        run,
        ..Contents::default()
    };
    let mut missing: std::collections::BTreeSet<_> = tail.documents().collect();
    let mut query =
        connection.prepare("SELECT kind, uuid, heads, view, schema, sum, dead FROM documents")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let Some(doc) = doc_id(row.get(0)?, row.get(1)?) else { continue };
        missing.remove(&doc);
        let document = document(row, doc, tail.holds(&doc))?;
        match row.get::<_, Option<i64>>(6)? {
            Some(since) => {
                contents.remains.push(Remains { document, since: Millis(since) });
            }
            None => contents.documents.push(document),
        }
    }
    let unread = |doc| StoredDocument { doc, heads: Vec::new(), view: None, schema: STALE };
    contents.documents.extend(missing.into_iter().map(unread));
    Ok(contents)
}

fn document(row: &Row<'_>, doc: DocId, stale: bool) -> Result<StoredDocument, rusqlite::Error> {
    let schema: u32 = row.get(4)?;
    let unread = StoredDocument { doc, heads: Vec::new(), view: None, schema: STALE };
    if stale || schema == STALE {
        return Ok(unread);
    }
    let (heads, view): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
    let sound = sum(&[&heads, &view, &schema.to_be_bytes()]) == row.get::<_, Vec<u8>>(5)?;
    if sound && let (Ok(heads), Ok(view)) = (wire::decode(&heads), wire::decode(&view)) {
        return Ok(StoredDocument { doc, heads, view: Some(std::sync::Arc::new(view)), schema });
    }
    tracing::error!(%doc, "a stored view is damaged and will be rebuilt");
    Ok(unread)
}

/// The documents that had been written last when the tail was last sorted in.
pub(super) fn recent(connection: &Connection) -> Result<Vec<DocId>, rusqlite::Error> {
    Ok(bodies::<Vec<DocId>>(connection, "recent")?.pop().unwrap_or_default())
}

/// The bodies of a table; damaged ones are named and left out.
fn bodies<T: DeserializeOwned>(
    connection: &Connection,
    table: &'static str,
) -> Result<Vec<T>, rusqlite::Error> {
    let mut query = connection.prepare(&format!("SELECT body, sum FROM {table}"))?;
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

pub(super) fn is_buried(connection: &Connection, doc: DocId) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM graves WHERE kind = ?1 AND uuid = ?2")?
        .exists(params![doc.kind.as_str(), doc.uuid.as_bytes()])
}

/// What the tables that are read by document have of one.
pub(super) fn stored(
    connection: &Connection,
    doc: DocId,
    whole: bool,
) -> Result<Stored, rusqlite::Error> {
    let mut stored = Stored::default();
    let key: Option<i64> = connection
        .prepare_cached("SELECT key FROM documents WHERE kind = ?1 AND uuid = ?2")?
        .query_row(params![doc.kind.as_str(), doc.uuid.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(key) = key else { return Ok(stored) };
    let base = base(connection, key)?;
    stored.first = base.as_ref().map_or(0, |(first, _)| *first);
    let base = base.filter(|_| !whole);
    let first = base.as_ref().map_or(0, |(first, _)| *first);
    stored.base = base.map(|(_, bytes)| bytes);
    (stored.chunks, stored.damaged) = chunks(connection, key, first)?;
    let mut query = connection.prepare_cached(
        "SELECT number, layer, bytes FROM changes WHERE document = ?1 AND layer >= ?2
         ORDER BY number",
    )?;
    let rows = query.query_map(params![key, first], |row| {
        let bytes = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        Ok(StoredChange { number: row.get(0)?, layer: row.get(1)?, bytes })
    })?;
    stored.changes = rows.collect::<Result<_, _>>()?;
    Ok(stored)
}

/// What was last said of the layers at rest; where that is damaged, all layers are read.
fn base(connection: &Connection, key: i64) -> Result<Option<(u32, Bytes)>, rusqlite::Error> {
    let row = connection
        .prepare_cached("SELECT first, bytes, sum FROM bases WHERE document = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let sound = row.filter(|(_, bytes, stored): &(u32, Vec<u8>, Vec<u8>)| sum(&[bytes]) == *stored);
    Ok(sound.map(|(first, bytes, _)| (first, bytes.into())))
}

/// The chunks of the layers from `first` on, and whether one is damaged.
fn chunks(
    connection: &Connection,
    key: i64,
    first: u32,
) -> Result<(BTreeMap<u32, Bytes>, bool), rusqlite::Error> {
    let mut query = connection.prepare_cached(
        "SELECT layer, bytes, sum FROM chunks WHERE document = ?1 AND layer >= ?2",
    )?;
    let mut rows = query.query(params![key, first])?;
    let (mut chunks, mut damaged) = (BTreeMap::new(), false);
    while let Some(row) = rows.next()? {
        let (bytes, stored): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
        if sum(&[&bytes]) == stored {
            chunks.insert(row.get(0)?, bytes.into());
        } else {
            damaged = true;
        }
    }
    Ok((chunks, damaged))
}
