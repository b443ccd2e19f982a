//! Changes from a peer: through the wall, into a document, and read. automerge may panic on the way, which is caught;
//! nothing may come out of it, hang, or make what is read depend on the order of arrival.
#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use knot_core::{
    clock::Millis,
    doc::{Document, Layering, Stored, StoredChange, wall},
    id::{Author, Kind, ServerId},
    model,
    schema::{Scalar, Schema},
};
use libfuzzer_sys::fuzz_target;

const KIND: Kind = Kind::new("template");

fuzz_target!(init: knot_fuzz::let_panics_be_caught(), |data: &[u8]| {
    // As it is: a decoder must stand bytes that are no change at all.
    drop(wall::inspect(&Bytes::copy_from_slice(data)));
    let passed: Vec<_> =
        knot_fuzz::changes(data).iter().filter_map(|change| wall::inspect(change).ok()).collect();
    if passed.is_empty() {
        return;
    }
    let schema = model::schema();

    let mut together = Document::default();
    let held = together.receive(passed.clone()).held;
    let view = together.view(KIND, &schema);

    let mut backwards = Document::default();
    for change in passed.into_iter().rev() {
        let waiting = backwards.receive(vec![change]).waiting;
        backwards.receive(waiting);
    }
    // One by one, what came too early is not kept here: send it again, as reconciliation would.
    for change in &held {
        backwards.receive(wall::inspect(&change.bytes).into_iter().collect());
    }
    assert_eq!(backwards.heads(), together.heads(), "what is held depends on the order of arrival");
    assert_eq!(backwards.view(KIND, &schema), view, "what is read depends on the order of arrival");

    let rows = held.iter().map(StoredChange::from).collect();
    check_load(Stored { changes: rows, ..Stored::default() }, &together, &schema);

    // The same with as many layers at rest as can be.
    let mut resting = Document::new(SHORT);
    let mut rows: BTreeMap<u32, StoredChange> = BTreeMap::new();
    let mut stored = Stored::default();
    for change in &held {
        let receipt = resting.receive(wall::inspect(&change.bytes).into_iter().collect());
        rows.extend(receipt.held.iter().map(|held| (held.number, held.into())));
    }
    let compaction = resting.compact();
    for chunk in compaction.chunks {
        rows.retain(|number, _| !chunk.replaces.contains(number));
        stored.chunks.insert(chunk.layer, chunk.bytes);
    }
    stored.changes = rows.into_values().collect();
    check_load(stored.clone(), &together, &schema);
    if let Some((first, base)) = compaction.base {
        stored.chunks.retain(|layer, _| *layer >= first);
        stored.changes.retain(|change| change.layer >= first);
        (stored.first, stored.base) = (first, Some(base));
        check_load(stored, &together, &schema);
    }

    let all = together.changes_since(&together.sample()).expect("nothing rests here");
    assert!(all.is_empty(), "its own sample does not cover a document");
    let puts = [("name".to_owned(), Scalar::Text("edited".to_owned()))].into();
    drop(together.edit(puts, Author::Server(ServerId(uuid::Uuid::nil())), Millis(0), || [7; 16]));
    together.view(KIND, &schema);
});

const SHORT: Layering = Layering { full: 1, loose: 1 };

fn check_load(stored: Stored, document: &Document, schema: &Schema) {
    let (loaded, damaged) = Document::load(&stored, SHORT);
    assert!(!damaged, "what is held cannot be loaded");
    assert_eq!(loaded.heads(), document.heads(), "what is held changes at a start");
    assert_eq!(loaded.view(KIND, schema), document.view(KIND, schema), "what is read changes at a start");
}
