//! One replica on a disk: what was done to a document, what is left of it, and what becomes of
//! damage.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use knot_core::{
    entity,
    id::{Author, ChangeHash, Id, ServerId},
    replica::{HistoryError, Made, MadeOne, Replica, Service, What},
    schema::{Scalar, Schema},
    store::{Store as _, sqlite::SqliteStore},
};
use uuid::Uuid;

entity! {
    /// A note.
    pub struct Note("note", 1) {
        /// What it says.
        text: Field<String>,
        /// Who reads it.
        readers: Set<String> [RemovalWins],
    }
}

const ME: ServerId = ServerId(Uuid::from_u128(1));
const ANNA: Author = Author::User(Uuid::from_u128(7));
const BERT: Author = Author::User(Uuid::from_u128(8));

fn note(n: u128) -> Id<Note> {
    Id::from_uuid(Uuid::from_u128(n))
}

fn start(path: &Path) -> (Service, Replica) {
    let store = SqliteStore::open(path).unwrap();
    Service::start(ME, Schema::new().with::<Note>(), Box::new(store)).unwrap()
}

async fn write(replica: &Replica, n: u128, author: Author, text: &str) -> Vec<ChangeHash> {
    let text = text.to_owned();
    let put = replica.put(note(n), author, move |note: &mut knot_core::schema::Edit<'_, Note>| {
        note.set(Note::text, text);
        Ok(())
    });
    put.await.unwrap().heads
}

#[tokio::test]
async fn what_says_nothing_is_written_only_over_something() {
    let folder = tempfile::tempdir().unwrap();
    let (_service, replica) = start(&folder.path().join("knot.db"));
    let write = async |text: &'static str| {
        let put =
            replica.put(note(1), ANNA, move |note: &mut knot_core::schema::Edit<'_, Note>| {
                note.insert(Note::readers, &"cleo".to_owned());
                note.set_sparse(Note::text, text.to_owned());
                Ok(())
            });
        put.await.unwrap();
        let newest = replica.history(note(1)).await.unwrap().page(None, 1).unwrap().remove(0);
        newest.fields.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(write("").await, ["readers/cleo"]);
    assert_eq!(write("").await, ["readers/cleo"], "the same again is no change");
    assert_eq!(write("one").await, ["text"]);
    assert_eq!(write("").await, ["text"]);
    assert_eq!(replica.get(note(1)).unwrap().text, "");
    assert_eq!(replica.history(note(1)).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_documents_history_says_who_changed_what_and_gives_back_any_state() {
    let folder = tempfile::tempdir().unwrap();
    let (service, replica) = start(&folder.path().join("knot.db"));
    let first = write(&replica, 1, ANNA, "one").await;
    let second = replica
        .edit(note(1), BERT, |note| {
            note.set(Note::text, "two".to_owned());
            note.insert(Note::readers, &"cleo".to_owned());
            Ok(())
        })
        .await
        .unwrap()
        .heads;
    let writer = replica.last_writer(note(1), Note::text).await.unwrap();
    assert_eq!(writer.as_slice(), second);
    write(&replica, 1, ANNA, "three").await;

    let history = replica.history(note(1)).await.unwrap();
    let newest = history.page(None, 2).unwrap();
    let authors: Vec<_> = newest.iter().map(|change| change.author).collect();
    assert_eq!(authors, [Some(ANNA), Some(BERT)]);
    let mut fields = newest[1].fields.clone();
    fields.sort();
    let readers = ("readers/cleo".to_owned(), Scalar::Bool(true));
    assert_eq!(fields, [readers, ("text".to_owned(), Scalar::Text("two".to_owned()))]);
    assert_eq!(history.change(&newest[1].hash).as_ref(), Some(&newest[1]));
    assert_eq!(history.change(&ChangeHash([9; 32])), None);
    let digits = newest[1].hash.to_string();
    assert_eq!(history.starting(&digits[..16]), [newest[1].hash]);
    assert_eq!((history.starting("").len(), history.starting("x").len()), (3, 0));
    let rest = history.page(Some(newest[1].hash), 10).unwrap();
    assert_eq!(rest.iter().map(|change| change.hash).collect::<Vec<_>>(), first);
    assert_eq!(replica.at(note(1), &second).await.unwrap().text, "two");

    replica.revert(note(1), &first, BERT).await.unwrap();
    let now = replica.get(note(1)).unwrap();
    assert_eq!((now.text.as_str(), now.readers.len()), ("one", 0));
    assert_eq!(replica.history(note(1)).await.unwrap().len(), 4, "going back is a change too");

    let unknown = [ChangeHash([9; 32])];
    assert!(matches!(replica.at(note(1), &unknown).await, Err(HistoryError::UnknownHeads(_))));
    assert!(replica.revert(note(1), &unknown, ANNA).await.is_err());
    assert!(matches!(replica.history(note(2)).await, Err(HistoryError::Unknown(_))));
    service.stop().await;
}

#[tokio::test]
async fn what_a_server_made_is_listed_newest_first_and_within_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let (service, replica) = start(&folder.path().join("knot.db"));
    let (lost, other) = (ServerId(Uuid::from_u128(9)), Author::Server(ME));
    let by = Author::Server(lost);
    let first = write(&replica, 1, by, "one").await;
    write(&replica, 1, other, "another server's").await;
    write(&replica, 2, by, "of a dead document").await;
    replica.delete(note(2), by).await.unwrap();
    write(&replica, 3, ANNA, "a user's").await;
    let last = write(&replica, 1, by, "two").await;

    let all = replica.made_by(lost, 10).await.unwrap();
    let times: Vec<_> = all.newest.iter().map(|made| made.time).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    assert_eq!((all.newest.len(), all.more, all.unread.len()), (4, 0, 0));
    let made = |heads: &[ChangeHash]| {
        let is = |what: &What| matches!(what, What::Changed { hash, .. } if *hash == heads[0]);
        all.newest.iter().find(|made| is(&made.what)).unwrap()
    };
    assert_eq!([made(&first).doc, made(&last).doc], [note(1).into(); 2]);
    let fields = |what: &What| matches!(what, What::Changed { fields, .. } if fields == &["text"]);
    assert!(fields(&made(&last).what));
    let deleted = |made: &&MadeOne| made.what == What::Deleted && made.doc == note(2).into();
    assert_eq!(all.newest.iter().filter(deleted).count(), 1);

    let some = replica.made_by(lost, 3).await.unwrap();
    assert_eq!((&some.newest[..], some.more), (&all.newest[..3], 1));
    assert_eq!(replica.made_by(ServerId(Uuid::max()), 3).await.unwrap(), Made::default());
    service.stop().await;
}

#[tokio::test]
async fn a_long_history_is_read_through_all_layers_and_survives_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knot.db");
    let (service, replica) = start(&path);
    let mut states = Vec::new();
    for n in 0..4_500 {
        states.push(write(&replica, 1, ANNA, &n.to_string()).await);
    }
    service.stop().await;
    let (service, replica) = start(&path);
    assert_eq!(replica.get(note(1)).unwrap().text, "4499");
    write(&replica, 1, BERT, "after the start").await;
    let history = replica.history(note(1)).await.unwrap();
    assert_eq!(history.len(), 4_501);
    for n in [0, 1_999, 2_000, 2_001, 4_499] {
        assert_eq!(replica.at(note(1), &states[n]).await.unwrap().text, n.to_string());
    }
    assert!(replica.holds(note(1), &states[7]).await.unwrap());
    service.stop().await;
}

#[tokio::test]
async fn what_is_left_of_a_dead_document_outlives_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knot.db");
    let (service, replica) = start(&path);
    write(&replica, 1, ANNA, "last words").await;
    replica.delete(note(1), BERT).await.unwrap();
    service.stop().await;
    let (service, replica) = start(&path);
    assert!(replica.get(note(1)).is_none() && replica.grave(note(1)).is_some());
    assert_eq!(replica.remains(note(1)).unwrap().text, "last words");
    assert_eq!(replica.history(note(1)).await.unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_set_aside_database_is_brought_in_and_what_was_deleted_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let [here, aside] = ["here.db", "aside.db"].map(|name| folder.path().join(name));
    let (service, replica) = start(&aside);
    for n in 1..=3 {
        write(&replica, n, ANNA, "both have it").await;
    }
    service.stop().await;
    std::fs::copy(&aside, &here).unwrap();

    let (service, replica) = start(&aside);
    write(&replica, 1, ANNA, "only there").await;
    write(&replica, 2, ANNA, "dead here").await;
    replica.delete(note(3), ANNA).await.unwrap();
    write(&replica, 4, ANNA, "new there").await;
    service.stop().await;

    let (service, replica) = start(&here);
    replica.delete(note(2), BERT).await.unwrap();
    write(&replica, 3, BERT, "dead there").await;
    let other = SqliteStore::open(&aside).unwrap();
    let imported = replica.import(Box::new(other)).await.unwrap();
    assert_eq!((imported.documents, imported.changed, imported.deleted), (3, 2, 1));
    assert_eq!(replica.get(note(1)).unwrap().text, "only there");
    assert_eq!(replica.get(note(4)).unwrap().text, "new there");
    assert!(replica.get(note(2)).is_none() && replica.get(note(3)).is_none());
    let again = replica.import(Box::new(SqliteStore::open(&aside).unwrap())).await.unwrap();
    assert_eq!((again.changed, again.deleted), (0, 0));
    service.stop().await;
}

/// Writes, stops, does something to the database, and starts.
async fn damaged(path: &Path, edits: u32, damage: &str) -> (Service, Replica) {
    let (service, replica) = start(path);
    for n in 0..edits {
        write(&replica, 1, ANNA, &n.to_string()).await;
    }
    write(&replica, 2, ANNA, "whole").await;
    service.stop().await;
    SqliteStore::open(path).unwrap().maintain().unwrap();
    let database = rusqlite::Connection::open(path).unwrap();
    assert!(database.execute(damage, []).unwrap() > 0, "{damage}");
    drop(database);
    start(path)
}

#[tokio::test]
async fn damage_costs_only_what_is_damaged() {
    for (edits, damage) in [
        (10, "UPDATE changes SET bytes = zeroblob(100) WHERE number = 5"),
        (10, "DELETE FROM changes WHERE number = 9"),
        (300, "UPDATE chunks SET bytes = zeroblob(100)"),
        (10, "UPDATE documents SET view = zeroblob(100)"),
        (2_300, "UPDATE bases SET bytes = zeroblob(100)"),
        (2_300, "DELETE FROM chunks WHERE layer = 0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (service, replica) = damaged(&folder.path().join("knot.db"), edits, damage).await;
        let heads = write(&replica, 1, BERT, "goes on").await;
        assert_eq!(replica.get(note(1)).unwrap().text, "goes on", "{damage}");
        assert_eq!(replica.get(note(2)).unwrap().text, "whole", "{damage}");
        assert!(replica.holds(note(1), &heads).await.unwrap(), "{damage}");
        service.stop().await;
        let (service, replica) = start(&folder.path().join("knot.db"));
        assert_eq!(replica.get(note(1)).unwrap().text, "goes on", "{damage}");
        service.stop().await;
    }
}

/// The same kind in a later version.
mod later {
    knot_core::entity! {
        /// A note.
        pub struct Note("note", 2) {
            /// What it says.
            text: Field<String>,
            /// How often it was read: a number that an earlier version showed as any other.
            reads: Field<u64> [LargestWins],
        }
    }
}

#[tokio::test]
async fn old_view() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knot.db");
    let (service, replica) = start(&path);
    write(&replica, 1, ANNA, "as it was").await;
    service.stop().await;
    // What a store tells of a document is of the declaration that it was read by.
    let schemas = || {
        let mut store = SqliteStore::open(&path).unwrap();
        let documents = store.open().unwrap().documents;
        documents.iter().map(|document| document.schema).collect::<Vec<_>>()
    };
    assert_eq!(schemas(), [1]);
    let store = SqliteStore::open(&path).unwrap();
    let schema = Schema::new().with::<later::Note>();
    let (service, replica) = Service::start(ME, schema, Box::new(store)).unwrap();
    let read = replica.get(Id::<later::Note>::from_uuid(note(1).uuid())).unwrap();
    assert_eq!((read.text.as_str(), read.reads), ("as it was", 0));
    service.stop().await;
    assert_eq!(schemas(), [2], "it was read anew, once");
}
