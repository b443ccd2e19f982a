//! One replica on a disk, beside a bare SQLite database on the same disk.

use std::{
    path::Path,
    time::{Duration, Instant},
};

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
    usage,
};

/// What is compared takes turns, so that a disk that is slow for a while is slow for both.
const TURNS: usize = 40;
/// How often each is done in its turn, one after the other.
const TURN: usize = 25;
const ROUNDS: usize = 50;
const DOCUMENTS: u128 = 64;
const WRITERS: u128 = 64;

pub(crate) const SERVER: ServerId = ServerId(Uuid::from_u128(1));
const AUTHOR: Author = Author::Server(SERVER);

pub(crate) async fn measure() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut bare = Bare::open(&folder.path().join("bare.db"))?;
    let store = SqliteStore::open(&folder.path().join("knot.db"))?;
    let (service, replica) = Service::start(SERVER, model::schema(), Box::new(store))?;

    println!("One replica, SQLite with synchronous=FULL, beside bare SQLite in turns");
    println!("  a change has {} bytes; the bare row has as many", bare.change.len());
    let (mut inserts, mut edits) = (Times::default(), Times::default());
    let (mut more_inserts, mut creates) = (Times::default(), Times::default());
    let mut processor = Duration::ZERO;
    for turn in 0..TURNS {
        let numbers = turn * TURN..(turn + 1) * TURN;
        for _ in numbers.clone() {
            bare.insert(&mut inserts)?;
        }
        for n in numbers.clone() {
            let began = Instant::now();
            describe(&replica, u128::try_from(n)? % DOCUMENTS, format!("edit {n}")).await?;
            edits.add(began);
        }
        for _ in numbers.clone() {
            bare.insert(&mut more_inserts)?;
        }
        let used = usage::processor()?;
        for n in numbers {
            let began = Instant::now();
            create_space(&replica, n).await?;
            creates.add(began);
        }
        processor += usage::processor()? - used;
    }
    inserts.print("bare insert");
    edits.print("durable edit of one field, one after the other");
    print_ratio("  edit / bare insert, medians", edits.median(), inserts.median());
    creates.print("create of a Space, one after the other");
    print_ratio("  create / bare insert, medians", creates.median(), more_inserts.median());
    println!(
        "{:58} {}",
        "  processor time of a create, all threads",
        shown(processor / u32::try_from(TURNS * TURN)?)
    );
    concurrent(&replica).await?;
    service.stop().await;
    Ok(())
}

/// Many writers at once, and as many edits one after the other, in turns.
async fn concurrent(replica: &Replica) -> Outcome<()> {
    let (mut times, mut alone, mut together) =
        (Times::default(), Times::default(), Times::default());
    for round in 0..ROUNDS {
        let began = Instant::now();
        for writer in 0..WRITERS {
            describe(replica, writer, format!("round {round}, alone")).await?;
        }
        alone.add(began);
        let began = Instant::now();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let replica = replica.clone();
            writers.spawn(async move {
                let began = Instant::now();
                describe(&replica, writer, format!("round {round}, together")).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(began)
            });
        }
        while let Some(done) = writers.join_next().await {
            times.add(done??);
        }
        together.add(began);
    }
    times.print(&format!("durable edit, {WRITERS} writers at once"));
    let each = together.median() / u32::try_from(WRITERS)?;
    println!(
        "{:58} {} an edit, {:.0} edits a second",
        "  together",
        shown(each),
        1.0 / each.as_secs_f64()
    );
    print_ratio(
        "  one after the other / at once, time per edit",
        alone.median(),
        together.median(),
    );
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

pub(crate) async fn create_space(replica: &Replica, n: usize) -> Outcome<()> {
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

    fn insert(&mut self, times: &mut Times) -> Outcome<()> {
        let began = Instant::now();
        self.next += 1;
        self.connection
            .prepare_cached("INSERT INTO rows VALUES (?1, ?2)")?
            .execute(params![self.next, self.change])?;
        times.add(began);
        Ok(())
    }
}
