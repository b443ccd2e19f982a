//! One replica on a disk, beside a bare SQLite database on the same disk.

use std::{path::Path, time::Instant};

use knot_core::{
    clock::Millis,
    doc::Document,
    id::{Author, Id, ServerId},
    model::{self, Desired, Placement, Space, Template},
    replica::{Replica, Service},
    schema::Edit,
    store::sqlite::SqliteStore,
};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::{
    Outcome,
    figures::{Times, print_ratio, shown},
};

/// Bare inserts and edits take turns, so that a disk that is slow for a while is slow for both.
const ROUNDS: usize = 10;
const PER_ROUND: usize = 100;
const DOCUMENTS: u128 = 64;
const WRITERS: u128 = 64;
const PER_WRITER: usize = 25;

const SERVER: ServerId = ServerId(Uuid::from_u128(1));
const AUTHOR: Author = Author::Server(SERVER);

pub(crate) async fn measure() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut bare = Bare::open(&folder.path().join("bare.db"))?;
    let store = SqliteStore::open(&folder.path().join("knot.db"))?;
    let (service, replica) = Service::start(SERVER, model::schema(), Box::new(store))?;

    let (mut inserts, mut edits) = (Times::default(), Times::default());
    for round in 0..ROUNDS {
        for n in 0..PER_ROUND {
            let began = Instant::now();
            bare.insert()?;
            inserts.add(began);
            let text = format!("round {round}, edit {n}");
            let began = Instant::now();
            describe(&replica, u128::try_from(n)? % DOCUMENTS, text).await?;
            edits.add(began);
        }
    }
    println!("One replica, SQLite with synchronous=FULL");
    inserts
        .print(&format!("bare SQLite, insert of {} bytes, one after the other", bare.change.len()));
    edits.print("replica, durable edit of one field, one after the other");
    print_ratio("  replica / bare, medians", edits.median(), inserts.median());

    let mut creates = Times::default();
    for n in 0..ROUNDS * PER_ROUND / 2 {
        let began = Instant::now();
        create_space(&replica, n).await?;
        creates.add(began);
    }
    creates.print("replica, create of a Space, one after the other");
    print_ratio("  create / bare, medians", creates.median(), inserts.median());

    concurrent(&replica, &edits).await?;
    service.stop().await;
    Ok(())
}

async fn concurrent(replica: &Replica, alone: &Times) -> Outcome<()> {
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let replica = replica.clone();
        writers.spawn(async move {
            let mut times = Times::default();
            for n in 0..PER_WRITER {
                let began = Instant::now();
                describe(&replica, writer, format!("writer {writer}, edit {n}")).await?;
                times.add(began);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times)
        });
    }
    let mut times = Times::default();
    while let Some(done) = writers.join_next().await {
        times.extend(done??);
    }
    let each = began.elapsed() / u32::try_from(WRITERS * u128::try_from(PER_WRITER)?)?;
    times.print(&format!("replica, durable edit, {WRITERS} writers at once"));
    println!(
        "{:58} {} an edit, {:.0} edits a second",
        "  together",
        shown(each),
        1.0 / each.as_secs_f64()
    );
    print_ratio("  one alone / 64 at once, time per edit", alone.median(), each);
    Ok(())
}

async fn describe(replica: &Replica, document: u128, text: String) -> Outcome<()> {
    let id = Id::<Template>::from_uuid(Uuid::from_u128(document));
    let edit = replica.put(id, AUTHOR, move |template: &mut Edit<'_, Template>| {
        template.set(Template::description, text);
        Ok(())
    });
    edit.await?;
    Ok(())
}

async fn create_space(replica: &Replica, n: usize) -> Outcome<()> {
    let created = replica.create::<Space, _>(AUTHOR, move |space| {
        space.set(Space::name, format!("space-{n}"));
        space.set(Space::owner, Id::from_uuid(Uuid::from_u128(2)));
        space.set(Space::template, Id::from_uuid(Uuid::from_u128(3)));
        space.set(Space::placement, Placement { term: 1, server: SERVER });
        space.set(Space::desired, Desired::Running);
        space.set(Space::created, Millis::now());
        Ok(())
    });
    created.await?;
    Ok(())
}

/// What the least database would do: one row, of the size of the change that an edit makes.
struct Bare {
    connection: Connection,
    change: Vec<u8>,
    next: i64,
}

impl Bare {
    fn open(path: &Path) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE rows (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL);",
        )?;
        let text = knot_core::schema::Scalar::Text("round 5, edit 50".to_owned());
        let puts = [("description".to_owned(), text)].into();
        let change = Document::default().edit(puts, AUTHOR, Millis::now(), || [7; 16])?;
        let change = change.map(|held| held.bytes.to_vec()).unwrap_or_default();
        Ok(Self { connection, change, next: 0 })
    }

    fn insert(&mut self) -> Outcome<()> {
        self.next += 1;
        self.connection
            .prepare_cached("INSERT INTO rows VALUES (?1, ?2)")?
            .execute(params![self.next, self.change])?;
        Ok(())
    }
}
