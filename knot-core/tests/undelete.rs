//! What a replica promises to those who call it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/wires.rs"]
mod wires;

use std::time::Duration;

use knot_core::{
    entity,
    id::{Author, ChangeHash, Id, ServerId},
    replica::{DurableError, MAX_DOCUMENTS, Replica, Service, UndeleteError},
    schema::{Edit, Schema},
    store::{Store, memory::MemoryStore, sqlite::SqliteStore},
};
use uuid::Uuid;
use wires::Wires;

entity! {
    /// A note.
    pub struct Note("note", 1) {
        /// What it says.
        text: Field<String>,
        /// Further pages.
        pages: Map<String, String>,
    }
}

entity! {
    /// Something that changes more often.
    pub struct Mark("mark", 1) {
        /// What it says.
        text: Field<String>,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn start(store: Box<dyn Store>) -> (Service, Replica) {
    let schema = Schema::new().with::<Note>().with::<Mark>();
    Service::start(ServerId(Uuid::now_v7()), schema, store).unwrap()
}

fn author() -> Author {
    Author::User(Uuid::from_u128(7))
}

async fn note(replica: &Replica, text: &str) -> Id<Note> {
    let text = text.to_owned();
    let create = move |note: &mut Edit<'_, Note>| {
        note.set(Note::text, text);
        Ok(())
    };
    replica.create(author(), create).await.unwrap().id
}

#[tokio::test]
async fn one_server_counts_itself_and_no_more() {
    let (service, replica) = start(Box::new(MemoryStore::new()));
    let id = note(&replica, "a").await;
    let edit = |note: &mut Edit<'_, Note>| {
        note.set(Note::text, "b".to_owned());
        Ok(())
    };
    let committed = replica.edit(id, author(), edit).await.unwrap();
    replica.durable_on(&committed, 1, MINUTE).await.unwrap();
    let refused = replica.durable_on(&committed, 2, MINUTE).await.unwrap_err();
    assert_eq!(refused, DurableError::TooFew { wanted: 2, linked: 1 });
    let deleted = replica.delete(id, author()).await.unwrap();
    replica.durable_on(&deleted, 1, MINUTE).await.unwrap();
    service.stop().await;
    let stopped = replica.durable_on(&deleted, 1, MINUTE).await.unwrap_err();
    assert_eq!(stopped, DurableError::Stopped);
}

#[tokio::test]
async fn a_list_has_a_token_for_what_changed_lately() {
    let (service, replica) = start(Box::new(MemoryStore::new()));
    let (kept, deleted, other) =
        (note(&replica, "kept").await, note(&replica, "deleted").await, note(&replica, "o").await);
    replica.delete(deleted, author()).await.unwrap();
    // Another kind that changes much pushes nothing out.
    for _ in 0..2 * MAX_DOCUMENTS {
        let create = |mark: &mut Edit<'_, Mark>| {
            mark.set(Mark::text, "m".to_owned());
            Ok(())
        };
        replica.create::<Mark, _>(author(), create).await.unwrap();
    }
    let token = replica.recent::<Note>(MINUTE, |id| id != other);
    let heads = replica.get(kept).unwrap().heads().to_vec();
    let expected = [(kept.into(), heads), (deleted.into(), vec![ChangeHash::DEAD])];
    let entries: Vec<_> = token.entries().map(|(doc, heads)| (doc, heads.to_vec())).collect();
    assert_eq!(entries, expected);
    assert_eq!(replica.recent::<Mark>(MINUTE, |_| true).entries().count(), MAX_DOCUMENTS);
    assert!(replica.recent::<Note>(Duration::ZERO, |_| true).is_empty());
    service.stop().await;
}

#[tokio::test]
async fn a_list_after_a_restart_covers_what_changed_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Box::new(SqliteStore::open(&folder.path().join("knot.db")).unwrap());
    let (service, replica) = start(open());
    let mut ids = Vec::new();
    for n in 0..400 {
        ids.push(note(&replica, &n.to_string()).await);
    }
    let dead = ids[390];
    replica.delete(dead, author()).await.unwrap();
    let before = replica.recent::<Note>(MINUTE, |_| true);
    service.stop().await;
    drop(replica);

    let (service, replica) = start(open());
    assert_eq!(replica.recent::<Note>(MINUTE, |_| true), before);
    assert!(before.entries().any(|(doc, heads)| doc == dead.into() && heads == [ChangeHash::DEAD]));
    service.stop().await;
}

#[tokio::test]
async fn undeleting_makes_a_new_document() {
    let (service, replica) = start(Box::new(MemoryStore::new()));
    let id = note(&replica, "lost").await;
    let alive = replica.undelete(id, author()).await.unwrap_err();
    assert!(matches!(alive, UndeleteError::NotDeleted(_)), "{alive}");
    replica.delete(id, author()).await.unwrap();

    let made = replica.undelete(id, author()).await.unwrap();
    assert_ne!(made.id, id);
    let read = replica.get(made.id).unwrap();
    assert_eq!((read.text.as_str(), read.heads()), ("lost", &made.heads[..]));
    assert!(replica.get(id).is_none() && replica.grave(id).is_some());
    service.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_one_edit_is_undeleted_in_several() {
    let (service, replica) = start(Box::new(MemoryStore::new()));
    let id = note(&replica, "long").await;
    for page in 0..8 {
        let edit = move |note: &mut Edit<'_, Note>| {
            note.put(Note::pages, &page.to_string(), "p".repeat(100_000));
            Ok(())
        };
        replica.edit(id, author(), edit).await.unwrap();
    }
    let before = replica.get(id).unwrap();
    replica.delete(id, author()).await.unwrap();
    let (new, _) = replica.undelete_document(id.into(), author()).await.unwrap();
    let after = replica.get::<Note>(Id::from_uuid(new.uuid)).unwrap();
    assert_eq!(*after, *before);
    service.stop().await;
}

#[tokio::test]
async fn nothing_is_undeleted_where_nothing_is_left() {
    let (one_service, one) = start(Box::new(MemoryStore::new()));
    let (two_service, two) = start(Box::new(MemoryStore::new()));
    let id = note(&one, "gone").await;
    let deleted = one.delete(id, author()).await.unwrap();
    // The other hears of the grave only.
    let wires = Wires::connect(&one, &two).await;
    two.wait_for(&deleted.token(), MINUTE).await.unwrap();
    one.durable_on(&deleted, 2, MINUTE).await.unwrap();
    let refused = two.undelete(id, author()).await.unwrap_err();
    assert!(matches!(refused, UndeleteError::NothingLeft(_)), "{refused}");
    wires.cut().await;
    one_service.stop().await;
    two_service.stop().await;
}
