use std::path::Path;

use uuid::Uuid;

use super::{memory::MemoryStore, sqlite::SqliteStore, *};
use crate::{doc::Chunk, id::Kind, schema::Scalar};

fn doc(n: u128) -> DocId {
    DocId { kind: Kind::new("thing"), uuid: Uuid::from_u128(n) }
}

fn document(n: u128, name: &str) -> StoredDocument {
    let fields = [("name".to_owned(), Scalar::Text(name.to_owned()))].into();
    let view = View { fields, ..View::default() };
    StoredDocument {
        doc: doc(n),
        heads: vec![ChangeHash([7; 32])],
        view: Some(view.into()),
        schema: 1,
    }
}

fn grave(n: u128) -> Grave {
    Grave { doc: doc(n), by: Author::User(Uuid::nil()), at: Millis(5) }
}

fn record(n: u128, number: u64) -> Record {
    let value = Some(Bytes::from_static(b"x"));
    Record { subject: doc(n), server: ServerId(Uuid::nil()), run: 1, n: number, value }
}

fn change(number: u32, layer: u32, bytes: &'static str) -> StoredChange {
    StoredChange { layer, number, bytes: Bytes::from_static(bytes.as_bytes()) }
}

/// What any store must do; `reopen` stands for a crash.
fn check<S: Store>(mut store: S, reopen: impl Fn(S) -> S) {
    assert_eq!(store.open().unwrap().run, 1);
    let first = Transaction {
        changes: vec![(doc(1), change(0, 0, "a")), (doc(2), change(0, 0, "b"))],
        documents: vec![document(1, "one"), document(2, "two")],
        graves: vec![(grave(3), Millis(1))],
        records: vec![record(1, 1)],
        ..Transaction::default()
    };
    store.commit(&first).unwrap();
    store.maintain().unwrap();
    let second = Transaction {
        changes: vec![(doc(1), change(1, 0, "c"))],
        documents: vec![document(1, "uno")],
        graves: vec![(grave(2), Millis(2))],
        records: vec![record(1, 2)],
        ..Transaction::default()
    };
    store.commit(&second).unwrap();

    let mut store = reopen(store);
    let contents = store.open().unwrap();
    assert_eq!(contents.run, 2);
    assert_eq!(contents.documents, vec![document(1, "uno")]);
    assert_eq!(contents.remains, vec![Remains { document: document(2, "two"), since: Millis(2) }]);
    assert_eq!(contents.records, vec![record(1, 2)]);
    let mut graves = contents.graves;
    graves.sort_by_key(|grave| grave.doc);
    assert_eq!(graves, vec![grave(2), grave(3)]);
    assert!(store.is_buried(doc(2)).unwrap() && !store.is_buried(doc(1)).unwrap());
    let rows = |store: &mut S, n| store.load(doc(n), false).unwrap().changes;
    assert_eq!(rows(&mut store, 1), vec![change(0, 0, "a"), change(1, 0, "c")]);
    assert_eq!(rows(&mut store, 2), vec![change(0, 0, "b")], "it stays readable for a while");
    store.commit(&Transaction { purges: vec![doc(2)], ..Transaction::default() }).unwrap();

    let mut store = reopen(store);
    assert!(rows(&mut store, 2).is_empty());
    let contents = store.open().unwrap();
    assert!(contents.remains.is_empty() && contents.graves.len() == 2);
    layers_can_rest(store, reopen);
}

fn layers_can_rest<S: Store>(mut store: S, reopen: impl Fn(S) -> S) {
    let chunk = |layer, bytes: &'static str, replaces| Chunk {
        layer,
        bytes: Bytes::from_static(bytes.as_bytes()),
        replaces,
    };
    let rest = Compaction {
        chunks: vec![chunk(0, "aced", vec![0, 1, 3])],
        base: Some((1, Bytes::from_static(b"base"))),
    };
    let transaction = Transaction {
        changes: vec![
            (doc(1), change(2, 0, "not in the chunk")),
            (doc(1), change(3, 0, "d")),
            (doc(1), change(4, 1, "e")),
        ],
        compactions: vec![(doc(1), rest)],
        ..Transaction::default()
    };
    store.commit(&transaction).unwrap();
    let last = Transaction { changes: vec![(doc(1), change(5, 1, "f"))], ..Transaction::default() };
    store.commit(&last).unwrap();
    let mut store = reopen(store);
    let above = Stored {
        first: 1,
        base: Some(Bytes::from_static(b"base")),
        changes: vec![change(4, 1, "e"), change(5, 1, "f")],
        ..Stored::default()
    };
    assert_eq!(store.load(doc(1), false).unwrap(), above);
    let whole = store.load(doc(1), true).unwrap();
    assert_eq!((whole.first, whole.base), (1, None));
    assert_eq!(whole.chunks, [(0, Bytes::from_static(b"aced"))].into());
    let numbers: Vec<_> = whole.changes.iter().map(|change| change.number).collect();
    assert_eq!(numbers, [2, 4, 5]);
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(&path.join("knot.db")).unwrap()
}

#[test]
fn memory_keeps_what_was_committed() {
    check(MemoryStore::new(), |store| store);
}

#[test]
fn sqlite_keeps_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    check(open(folder.path()), |store| {
        drop(store);
        open(folder.path())
    });
}

#[test]
fn a_database_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _held = open(folder.path());
    let refused = SqliteStore::open(&folder.path().join("knot.db"));
    assert!(matches!(refused, Err(Error::InUse(_))), "{refused:?}");
}

#[test]
fn a_damaged_row_is_set_aside_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let documents = vec![document(1, "one"), document(2, "two")];
    let transaction = Transaction {
        documents,
        records: vec![record(1, 1), record(2, 1)],
        ..Transaction::default()
    };
    store.commit(&transaction).unwrap();
    store.maintain().unwrap();
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("knot.db")).unwrap();
    for table in ["documents", "records"] {
        let column = if table == "documents" { "view" } else { "body" };
        let damage = format!("UPDATE {table} SET {column} = zeroblob(40) WHERE uuid = ?1");
        assert_eq!(database.execute(&damage, [doc(1).uuid.as_bytes()]).unwrap(), 1);
    }
    drop(database);
    let contents = open(folder.path()).open().unwrap();
    assert_eq!(contents.records, vec![record(2, 1)]);
    let views: Vec<_> =
        contents.documents.iter().map(|one| (one.doc, one.view.is_some())).collect();
    assert_eq!(views, vec![(doc(1), false), (doc(2), true)]);
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let database = rusqlite::Connection::open(folder.path().join("knot.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let refused = SqliteStore::open(&folder.path().join("knot.db"));
    assert!(matches!(refused, Err(Error::TooNew { found: 99, known: FORMAT })));
}

const FORMAT: i64 = 2;

#[test]
fn a_database_of_format_1_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knot.db");
    let mut store = open(folder.path());
    let transaction = Transaction {
        changes: vec![(doc(1), change(0, 0, "a"))],
        documents: vec![document(1, "one")],
        ..Transaction::default()
    };
    store.commit(&transaction).unwrap();
    store.maintain().unwrap();
    drop(store);
    let database = rusqlite::Connection::open(&path).unwrap();
    let back = "
        DROP TABLE tail; DROP TABLE chunks; DROP TABLE bases; DROP TABLE recent;
        ALTER TABLE documents DROP COLUMN dead; ALTER TABLE changes DROP COLUMN layer;
        PRAGMA user_version = 1;";
    database.execute_batch(back).unwrap();
    drop(database);
    check_again(open(folder.path()));
    // And once more, as a database of this format.
    check_again(open(folder.path()));
}

fn check_again(mut store: SqliteStore) {
    assert_eq!(store.open().unwrap().documents, vec![document(1, "one")]);
    assert_eq!(store.load(doc(1), false).unwrap().changes, vec![change(0, 0, "a")]);
}
