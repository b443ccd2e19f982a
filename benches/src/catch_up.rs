//! An empty replica takes many documents from a peer, both on SQLite: what reconciliation brings a second, durable.
//!
//! The two are linked in this process by queues of encoded frames with the bounds that a real link has; both share this
//! machine's processors and its disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, Template},
    replica::{Link, Outbox, Replica, Service},
    schema::Edit,
    store::sqlite::SqliteStore,
    sync::Message,
    wire,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::Outcome;

/// Frames that wait for one peer, as in a real link.
const QUEUE: usize = 1_024;

struct Wire {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicU64>,
}

impl Outbox for Wire {
    fn send(&mut self, frame: Bytes) -> bool {
        self.bytes.fetch_add(u64::try_from(frame.len()).unwrap_or_default(), Ordering::Relaxed);
        self.frames.try_send(frame).is_ok()
    }

    fn close(&mut self, reason: &str) {
        eprintln!("a link was closed: {reason}");
    }
}

pub(crate) async fn measure() -> Outcome<()> {
    println!(
        "\nAn empty replica takes documents of twelve fields from a peer, both on SQLite on one disk"
    );
    for count in [10_000, 100_000] {
        take(count).await?;
    }
    Ok(())
}

async fn take(count: u32) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let start = |name: &str, id: u128| -> Outcome<(Service, Replica)> {
        let store = SqliteStore::open(&folder.path().join(name))?;
        Ok(Service::start(ServerId(Uuid::from_u128(id)), model::schema(), Box::new(store))?)
    };
    let (from_service, from) = start("from.db", 1)?;
    let mut edits = tokio::task::JoinSet::new();
    let began = Instant::now();
    for n in 0..count {
        let from = from.clone();
        edits.spawn(async move {
            let id: Id<Template> = Id::from_uuid(Uuid::from_u128(u128::from(n)));
            let author = Author::Server(ServerId(Uuid::from_u128(1)));
            let edit = from.put(id, author, move |template: &mut Edit<'_, Template>| {
                template.set(Template::name, format!("template-{n}"));
                template.set(Template::description, format!("what template {n} is for"));
                for field in 0..10 {
                    let (key, value) = (format!("KEY_{field}"), format!("value {n} of {field}"));
                    template.put(Template::environment, &key, value);
                }
                Ok(())
            });
            edit.await.map(drop)
        });
        if edits.len() >= 256
            && let Some(done) = edits.join_next().await
        {
            done??;
        }
    }
    while let Some(done) = edits.join_next().await {
        done??;
    }
    println!("  {count} documents made in {:.1} s", began.elapsed().as_secs_f64());
    // Again from the disk, so that nothing of them is in memory.
    from_service.stop().await;
    drop(from);
    let (from_service, from) = start("from.db", 1)?;
    let (to_service, to) = start("to.db", 2)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let ((to_to, from_from), (to_from, from_to)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
    let wire = |frames| Box::new(Wire { frames, bytes: Arc::clone(&bytes) });
    let at_from = from.link(to.me(), wire(to_to)).await?;
    let at_to = to.link(from.me(), wire(to_from)).await?;
    let links = [tokio::spawn(carry(at_from, from_to)), tokio::spawn(carry(at_to, from_from))];
    let all = usize::try_from(count)?;
    while to.list::<Template>().len() < all {
        if began.elapsed() > Duration::from_secs(300) {
            return Err("the replicas did not become equal in 5 minutes".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "  {count} taken in {took:.2} s: {:.0} a second, {} bytes each on the wire",
        f64::from(count) / took,
        bytes.load(Ordering::Relaxed) / u64::from(count)
    );
    links.iter().for_each(tokio::task::JoinHandle::abort);
    from_service.stop().await;
    to_service.stop().await;
    Ok(())
}

async fn carry(link: Link, mut frames: mpsc::Receiver<Bytes>) -> Outcome<()> {
    while let Some(frame) = frames.recv().await {
        let message: Message = wire::decode(frame.get(4..).unwrap_or_default())?;
        link.receive(message).await?;
    }
    Ok(())
}
