//! What a store gives back: rows whose checksums are right and whose content is not what any version wrote. A start may
//! leave things out; it may not fail.
#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use knot_core::{
    clock::Millis,
    doc::{Document, Layering, Stored, StoredChange, View},
    id::{Author, ChangeHash, DocId, Kind, ServerId},
    model,
    schema::Scalar,
    store::{Grave, Record},
    wire,
};
use libfuzzer_sys::fuzz_target;

const KIND: Kind = Kind::new("template");

fuzz_target!(init: knot_fuzz::let_panics_be_caught(), |data: &[u8]| {
    drop(wire::decode::<View>(data));
    drop(wire::decode::<Grave>(data));
    drop(wire::decode::<Record>(data));
    drop(wire::decode::<Vec<ChangeHash>>(data));
    drop(wire::decode::<Vec<DocId>>(data));

    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (base, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
    let rows = (0..).zip(knot_fuzz::changes(rest));
    let rows = rows.map(|(number, bytes)| StoredChange { layer: number / 2, number, bytes });
    let stored = Stored {
        first: 1,
        base: Some(Bytes::copy_from_slice(base)),
        chunks: BTreeMap::new(),
        changes: rows.collect(),
        damaged: false,
    };
    let schema = model::schema();
    let (mut document, _) = Document::load(&stored, Layering { full: 2, loose: 1 });
    document.view(KIND, &schema);
    drop(document.changes_since(&document.sample()));
    let puts = [("name".to_owned(), Scalar::Text("edited".to_owned()))].into();
    drop(document.edit(puts, Author::Server(ServerId(uuid::Uuid::nil())), Millis(0), || [7; 16]));
    document.compact();
    document.view(KIND, &schema);
});
