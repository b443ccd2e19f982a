//! Whole servers with real QUIC between them, over a network in memory and under a paused clock.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use knot_core::{
    entity,
    id::Id,
    schema::Schema,
    sim::{
        Action,
        quic::{self, Cluster, Storage, Trace, Weather},
    },
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;
use uuid::Uuid;

entity! {
    /// A document of which each edit can be told apart.
    pub struct Thing("thing", 1) {
        /// What everybody writes.
        name: Field<String>,
        /// What nobody else writes.
        notes: Map<String, String>,
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn lossy() -> Weather {
    Weather { delay: 1..=30, loss: 2, twice: 1 }
}

/// A cluster, and what it has acknowledged.
struct World {
    cluster: Cluster,
    acknowledged: BTreeMap<(u64, String), String>,
    rng: StdRng,
    edits: u64,
    documents: u64,
    /// The length of what an edit writes.
    length: usize,
}

impl World {
    async fn new(seed: u64, storages: Vec<Storage>) -> Self {
        println!("seed {seed}");
        let schema = Schema::new().with::<Thing>();
        let cluster = Cluster::start(seed, lossy(), schema, storages).await.unwrap();
        let (acknowledged, rng) = (BTreeMap::new(), StdRng::seed_from_u64(seed));
        Self { cluster, acknowledged, rng, edits: 0, documents: 10, length: 9 }
    }

    async fn in_memory(seed: u64, servers: usize) -> Self {
        Self::new(seed, vec![Storage::Memory; servers]).await
    }

    /// Edits a document through a server.
    async fn edit(&mut self, at: usize) {
        self.edits += 1;
        let (doc, key, text) = (
            self.rng.random_range(0..self.documents),
            self.edits.to_string(),
            "x".repeat(self.length),
        );
        let (note, value) = (key.clone(), text.clone());
        let edit = Action::put(id(doc), move |thing| {
            thing.set(Thing::name, format!("named by {at}"));
            thing.put(Thing::notes, &note, value);
            Ok(())
        });
        self.cluster.ask(at, edit).await.unwrap();
        self.acknowledged.insert((doc, key), text);
    }

    /// Edits through random ones of these servers, with pauses of up to so long.
    async fn edits(&mut self, count: usize, servers: &[usize], pause: Duration) {
        for _ in 0..count {
            let at = servers[self.rng.random_range(0..servers.len())];
            self.edit(at).await;
            sleep(pause.mul_f64(self.rng.random())).await;
        }
    }

    /// Waits until all are equal; then every acknowledged edit must be at each.
    async fn settle(&self) -> Duration {
        let took = self.cluster.settle(MINUTE).await.unwrap();
        for at in 0..self.cluster.len() {
            let Some(replica) = self.cluster.replica(at) else { continue };
            for ((doc, key), text) in &self.acknowledged {
                let thing = replica.get(id(*doc)).unwrap_or_else(|| panic!("{at} lacks {doc}"));
                assert_eq!(thing.notes.get(key), Some(text), "edit {key} of {doc} at {at}");
            }
        }
        took
    }

    /// Waits until a server counts another as reachable, or as not.
    async fn reaches(&self, at: usize, peer: usize, wanted: bool) {
        let peer = self.cluster.id(peer).unwrap();
        let mut reach = self.cluster.net(at).unwrap().reach().watch();
        let is = reach.wait_for(|reach| {
            reach.get(&peer).is_some_and(|one| (one.linked, one.up) == (wanted, wanted))
        });
        tokio::time::timeout(MINUTE, is).await.unwrap().unwrap();
    }

    /// How long it takes from now until a server counts another as neither linked nor up.
    fn lost(&self, at: usize, peer: usize) -> impl Future<Output = Duration> + use<> {
        let peer = self.cluster.id(peer).unwrap();
        let mut reach = self.cluster.net(at).unwrap().reach().watch();
        let began = tokio::time::Instant::now();
        let known = tokio::spawn(async move {
            reach
                .wait_for(|reach| reach.get(&peer).is_some_and(|one| !one.is_reachable()))
                .await
                .unwrap();
            began.elapsed()
        });
        async move { tokio::time::timeout(MINUTE, known).await.unwrap().unwrap() }
    }

    /// How many of the peers a server is linked to.
    fn links(&self, at: usize) -> usize {
        let net = self.cluster.net(at).unwrap();
        let peers = (0..self.cluster.len()).map(|peer| self.cluster.id(peer).unwrap());
        peers.filter(|peer| net.reach().is_linked(*peer)).count()
    }
}

fn id(n: u64) -> Id<Thing> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

/// Prints how long a simulation took, and how long it was.
fn told<T>(what: &str, simulation: impl AsyncFnOnce() -> (Duration, T)) -> T {
    let began = Instant::now();
    let (virtually, outcome) = quic::run(simulation());
    println!("{what}: {virtually:?} in {:?}", began.elapsed());
    outcome
}

#[test]
fn servers_become_equal_over_a_lossy_network() {
    for servers in [3, 5, 10] {
        told(&format!("{servers} servers"), async || {
            let mut world = World::in_memory(servers as u64, servers).await;
            let all: Vec<_> = (0..servers).collect();
            world.edits(100, &all, SECOND / 2).await;
            let took = world.settle().await;
            println!("equal {took:?} after the last edit");
            (world.cluster.now(), ())
        });
    }
}

#[test]
fn halves_that_were_apart_for_minutes_become_equal() {
    told("apart", async || {
        let mut world = World::in_memory(11, 5).await;
        world.cluster.network().cut(5, &[&[0, 1], &[2, 3, 4]]);
        world.edits(60, &[0, 1], 4 * SECOND).await;
        world.edits(60, &[2, 3, 4], 4 * SECOND).await;
        world.cluster.network().heal();
        let took = world.settle().await;
        println!("equal {took:?} after the heal");
        assert!(took < 15 * SECOND, "{took:?}");
        (world.cluster.now(), ())
    });
}

#[test]
fn a_server_that_vanishes_comes_back_with_what_it_had_written() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let on_disk = folders.iter().map(|one| Storage::Folder(one.path().to_owned())).collect();
    for storages in [vec![Storage::Memory; 3], on_disk] {
        told("vanished", async move || {
            let mut world = World::new(21, storages).await;
            world.edits(20, &[0, 1, 2], SECOND).await;
            world.cluster.network().cut(3, &[&[0, 1], &[2]]);
            // What only it knows, it says when it is back.
            world.edits(5, &[2], SECOND / 10).await;
            world.cluster.kill(2).await;
            world.cluster.network().heal();
            sleep(10 * SECOND).await;
            assert_eq!(world.links(0), 1);
            world.edits(40, &[0, 1], 3 * SECOND).await;
            world.cluster.start_again(2).unwrap();
            world.settle().await;
            let linked = async {
                while world.links(2) < 2 {
                    sleep(SECOND / 10).await;
                }
            };
            tokio::time::timeout(5 * SECOND, linked).await.unwrap();
            (world.cluster.now(), ())
        });
    }
}

#[test]
fn a_peer_that_reads_nothing_keeps_nobody_else_waiting() {
    told("unread", async || {
        let mut world = World::in_memory(31, 3).await;
        (world.documents, world.length) = (500, 2_000);
        world.cluster.let_work(2, false);
        // More than a queue, a stream and a link hold between them.
        for n in 0..2_500 {
            world.edit(n % 2).await;
            sleep(SECOND / 100).await;
        }
        let others = async |world: &World| {
            let held = |at: usize| {
                let replica = world.cluster.replica(at).unwrap();
                replica.list::<Thing>().iter().map(|thing| thing.notes.len()).sum::<usize>()
            };
            for _ in 0..200 {
                if (held(0), held(1)) == (2_500, 2_500) {
                    return;
                }
                sleep(SECOND / 10).await;
            }
            panic!("{} and {} of 2500", held(0), held(1));
        };
        others(&world).await;
        // Its connections live: only it stands still.
        sleep(10 * SECOND).await;
        assert_eq!(world.links(0), 2);
        world.cluster.let_work(2, true);
        world.settle().await;
        (world.cluster.now(), ())
    });
}

#[test]
fn a_server_whose_address_changes_is_found_again() {
    told("moved", async || {
        let mut world = World::in_memory(41, 4).await;
        world.cluster.rebind(3, 1);
        world.edits(20, &[0, 1, 2, 3], SECOND).await;
        world.cluster.announce(3, 3).await.unwrap();
        world.edits(20, &[0, 1, 2, 3], SECOND).await;
        world.settle().await;
        assert_eq!(world.links(3), 3);
        (world.cluster.now(), ())
    });
}

#[test]
fn a_server_that_stops_is_known_to_be_lost_at_once_and_a_killed_one_within_seconds() {
    told("lost", async || {
        let mut world = World::in_memory(71, 3).await;
        world.reaches(0, 2, true).await;
        let stopped = world.lost(0, 2);
        let ((), took) = tokio::join!(world.cluster.stop(2), stopped);
        assert!(took < SECOND, "{took:?}");
        world.cluster.start_again(2).unwrap();
        for at in [0, 1] {
            world.reaches(at, 2, true).await;
        }
        let known = [world.lost(0, 2), world.lost(1, 2)];
        world.cluster.kill(2).await;
        for known in known {
            let took = known.await;
            assert!(took > SECOND, "it was closed, not killed: {took:?}");
            assert!(took < 4 * SECOND, "{took:?}");
        }
        (world.cluster.now(), ())
    });
}

fn trace(seed: u64) -> Trace {
    quic::run(async {
        let mut world = World::in_memory(seed, 5).await;
        world.edits(30, &[0, 1, 2, 3, 4], SECOND).await;
        world.cluster.network().cut(5, &[&[0, 1], &[2, 3, 4]]);
        world.edits(20, &[1, 4], SECOND).await;
        world.cluster.kill(2).await;
        world.cluster.network().heal();
        world.edits(20, &[0, 4], SECOND).await;
        world.cluster.start_again(2).unwrap();
        world.cluster.rebind(1, 1);
        world.settle().await;
        world.cluster.network().trace()
    })
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let mut digests = BTreeSet::new();
    for seed in 50..54 {
        let (first, second) = (trace(seed), trace(seed));
        let differs = first.datagrams.iter().zip(&second.datagrams).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((first.count, first.digest()), (second.count, second.digest()), "seed {seed}");
        println!("{} datagrams, {:02x?}", first.count, first.digest());
        digests.insert(first.digest());
    }
    assert_eq!(digests.len(), 4);
}
