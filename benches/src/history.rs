//! One document that is edited a hundred thousand times: what it takes at rest, and what a change costs that comes then.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use knot_core::{
    clock::Millis,
    doc::{Document, Layering, wall},
    id::{Author, Id, ServerId},
    model::{self, Template},
    replica::{Replica, Service},
    schema::{Edit, Scalar},
    store::{Store as _, sqlite::SqliteStore},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    Outcome,
    figures::{Times, shown},
};

const EDITS: usize = 100_000;
/// Writers at once, so that their commits are shared.
const WRITERS: usize = 64;
const RECEIVED: usize = 500;

const SERVER: ServerId = ServerId(Uuid::from_u128(1));
const AUTHOR: Author = Author::Server(SERVER);
const ID: Id<Template> = Id::from_uuid(Uuid::from_u128(1));

pub(crate) async fn measure() -> Outcome<()> {
    println!("One document, edited {EDITS} times");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("knot.db");
    let (service, replica) =
        Service::start(SERVER, model::schema(), Box::new(SqliteStore::open(&path)?))?;
    let began = Instant::now();
    edit_often(&replica).await?;
    println!("{:58} {:.0} edits a second", "  edits, 64 at once, durable", rate(began.elapsed()));
    let began = Instant::now();
    let history = replica.history(ID).await?;
    println!(
        "{:58} {:.2} s for {} changes",
        "  its whole history, read",
        began.elapsed().as_secs_f64(),
        history.len()
    );
    drop(history);
    service.stop().await;

    let mut store = SqliteStore::open(&path)?;
    store.maintain()?;
    let (rest, whole) = (store.load(ID.into(), false)?, store.load(ID.into(), true)?);
    let size = |stored: &knot_core::doc::Stored| {
        let changes: usize = stored.changes.iter().map(|change| change.bytes.len()).sum();
        let chunks: usize = stored.chunks.values().map(bytes::Bytes::len).sum();
        changes + chunks + stored.base.as_ref().map_or(0, bytes::Bytes::len)
    };
    println!("{:58} {} bytes", "  at rest, without its archive", size(&rest));
    println!("{:58} {} bytes", "  its archive", size(&whole) - size(&rest));
    receive(&rest)?;
    Ok(())
}

fn rate(time: Duration) -> f64 {
    EDITS as f64 / time.as_secs_f64()
}

async fn edit_often(replica: &Replica) -> Outcome<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let replica = replica.clone();
        writers.spawn(async move {
            for n in (writer..EDITS).step_by(WRITERS) {
                let edit = move |template: &mut Edit<'_, Template>| {
                    template.set(Template::description, format!("edit {n}"));
                    template.set(Template::image, format!("image:{n}"));
                    Ok(())
                };
                replica.put(ID, AUTHOR, edit).await?;
            }
            Ok::<_, knot_core::replica::EditError>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// Loading it, and receiving one change after the other from another server that has loaded it too.
fn receive(stored: &knot_core::doc::Stored) -> Outcome<()> {
    let schema = model::schema();
    let (mut loads, mut receives) = (Times::default(), Times::default());
    for _ in 0..20 {
        let began = Instant::now();
        let (document, _) = Document::load(stored, Layering::default());
        loads.add(began);
        drop(document);
    }
    let (mut here, _) = Document::load(stored, Layering::default());
    let (mut there, _) = Document::load(stored, Layering::default());
    for n in 0..RECEIVED {
        let puts = BTreeMap::from([("description".to_owned(), Scalar::Text(format!("there {n}")))]);
        let held = there.edit(puts, AUTHOR, Millis::now(), || [9; 16])?.ok_or("no change")?;
        let began = Instant::now();
        here.receive(vec![wall::inspect(&held.bytes)?]);
        drop(here.view(knot_core::id::Kind::new("template"), &schema));
        receives.add(began);
    }
    loads.print("  loaded from what is at rest");
    receives.print("  one change received, and the document read");
    println!("{:58} {}", "  the longest", shown(receives.percentile(100)));
    Ok(())
}
