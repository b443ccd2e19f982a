//! A peer that stops reading costs its own link only: what does not fit into its outbox is left out,
//! the others hear everything meanwhile, and reconciliation brings it once it reads again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use knot_core::{
    entity,
    id::{Author, Id, ServerId},
    replica::{Link, Outbox, Replica, Service},
    schema::{Edit, Entity as _, Schema},
    store::memory::MemoryStore,
    sync::Message,
    wire,
};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

entity! {
    /// A document with one field.
    pub struct Thing("thing", 1) {
        /// A register.
        name: Field<String>,
    }
}

/// Fewer frames than the edits make, as in a link whose 1,024 are full.
const OUTBOX: usize = 64;
const EDITS: u64 = 1_000;
const BOUND: Duration = Duration::from_secs(60);

struct Wire {
    frames: mpsc::Sender<Bytes>,
    left_out: Arc<AtomicUsize>,
}

impl Outbox for Wire {
    fn send(&mut self, frame: Bytes) -> bool {
        let taken = self.frames.try_send(frame).is_ok();
        self.left_out.fetch_add(usize::from(!taken), Ordering::Relaxed);
        taken
    }

    fn close(&mut self, reason: &str) {
        panic!("a link was closed: {reason}");
    }
}

fn start(id: u128) -> (Service, Replica) {
    let schema = Schema::new().with::<Thing>();
    let store = MemoryStore::default();
    Service::start(ServerId(Uuid::from_u128(id)), schema, Box::new(store)).unwrap()
}

/// Links `a` to `b`; what `a` sends is for the caller to bring.
async fn link(a: &Replica, b: &Replica) -> (Link, mpsc::Receiver<Bytes>, Arc<AtomicUsize>) {
    let (frames, queue) = mpsc::channel(OUTBOX);
    let left_out = Arc::new(AtomicUsize::new(0));
    let wire = Wire { frames, left_out: Arc::clone(&left_out) };
    (a.link(b.me(), Box::new(wire)).await.unwrap(), queue, left_out)
}

async fn carry(mut frames: mpsc::Receiver<Bytes>, to: Link) {
    while let Some(frame) = frames.recv().await {
        let message: Message = wire::decode(&frame[4..]).unwrap();
        to.receive(message).await.unwrap();
    }
}

async fn holds_all(replica: &Replica) {
    let mut watch = replica.watch(&[Thing::KIND]);
    timeout(BOUND, async {
        while replica.list::<Thing>().len() < usize::try_from(EDITS).unwrap() {
            watch.next().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_reading_costs_the_others_nothing() {
    let [(_one, writer), (_two, reader), (_three, deaf)] = [1, 2, 3].map(start);
    let (at_writer, to_reader, left_out) = link(&writer, &reader).await;
    let (at_reader, from_reader, _) = link(&reader, &writer).await;
    tokio::spawn(carry(to_reader, at_reader));
    tokio::spawn(carry(from_reader, at_writer));
    let (at_writer, to_deaf, left_out_deaf) = link(&writer, &deaf).await;
    let (at_deaf, from_deaf, _) = link(&deaf, &writer).await;
    tokio::spawn(carry(from_deaf, at_writer));

    for n in 0..EDITS {
        let id: Id<Thing> = Id::from_uuid(Uuid::from_u128(n.into()));
        let author = Author::Server(writer.me());
        let edit = writer.put(id, author, move |thing: &mut Edit<'_, Thing>| {
            thing.set(Thing::name, n.to_string());
            Ok(())
        });
        let written = timeout(BOUND, edit).await.unwrap().unwrap();
        // Who reads has the time to: its machine may give it less than the writer.
        if n % 16 == 0 {
            reader.wait_for(&written.token(), BOUND).await.unwrap();
        }
    }
    holds_all(&reader).await;
    assert_eq!(left_out.load(Ordering::Relaxed), 0, "nothing was left out for who reads");
    let missed = left_out_deaf.load(Ordering::Relaxed);
    assert!(missed >= usize::try_from(EDITS).unwrap() - OUTBOX, "{missed} frames were left out");
    assert!(to_deaf.len() <= OUTBOX);
    assert!(deaf.list::<Thing>().is_empty());

    tokio::spawn(carry(to_deaf, at_deaf));
    holds_all(&deaf).await;
}

/// Of many subjects a peer that comes is told in frames that it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_presence_is_told_in_frames_that_fit() {
    const SUBJECTS: u64 = 2_000;
    let [(_one, here), (_two, there)] = [1, 2].map(start);
    let seen = "x".repeat(4 << 10);
    assert!(seen.len() * usize::try_from(SUBJECTS).unwrap() > wire::MAX_PEER_FRAME);
    let subject = |n: u64| Id::<Thing>::from_uuid(Uuid::from_u128(n.into()));
    for n in 0..SUBJECTS {
        here.present(subject(n), Some(&seen)).await.unwrap();
    }
    let (at_here, to_there, _) = link(&here, &there).await;
    let (at_there, to_here, _) = link(&there, &here).await;
    tokio::spawn(carry(to_there, at_there));
    tokio::spawn(carry(to_here, at_here));
    let mut watch = there.watch(&[Thing::KIND]);
    timeout(BOUND, async {
        while (0..SUBJECTS).any(|n| there.presence::<String>(subject(n)).is_empty()) {
            watch.next().await;
        }
    })
    .await
    .unwrap();
}
