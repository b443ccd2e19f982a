//! Terminals that never drop: three real servers, killed and started at random, and a terminal through them in which
//! every byte arrives once and in order, both ways.
//!
//! `KNOT_ROUNDS` says how often a server is killed or started; `KNOT_SEED` plays a run's choices again.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]
#![allow(dead_code, reason = "the world has more than this test needs")]

#[path = "support/block.rs"]
mod block;
#[path = "terminals/command.rs"]
mod command;
#[path = "support/engine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod engine;
#[path = "three/forward.rs"]
mod forward;
#[path = "support/left.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod left;
#[path = "support/person.rs"]
mod person;
#[path = "support/screen.rs"]
mod screen;
#[path = "terminals/stuck.rs"]
mod stuck;
#[path = "terminals/viewer.rs"]
mod viewer;
#[path = "support/wait.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wait;
#[path = "three/world.rs"]
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use uuid::Uuid;

use self::{
    viewer::{Servers, Viewer, type_numbers},
    wait::eventually,
    world::World,
};

const TEMPLATE: &str = "name: shell\nplatform: local\n";
/// Rounds of a run where nobody says how many: about 40 s.
const ROUNDS: usize = 30;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

#[test]
fn a_viewer_that_reads_nothing_costs_another_nothing() {
    let world = World::start();
    world.apply(0, TEMPLATE);
    let space = world.running("dev", 2);
    (0..2).for_each(|n| world.until_known(n, &space));
    let servers =
        Servers { addresses: (0..3).map(|n| world.http(n)).collect(), token: world.token(), space };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(stuck::one_stuck(&servers));
}

#[test]
fn every_byte_arrives_once_while_servers_are_killed_and_started() {
    let seed = number("KNOT_SEED").unwrap_or_else(|| rand::rng().random());
    println!("KNOT_SEED={seed}");
    let rounds = number("KNOT_ROUNDS").and_then(|rounds| usize::try_from(rounds).ok());
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start();
    world.apply(0, TEMPLATE);
    let space = world.running("dev", 2);
    (0..2).for_each(|n| world.until_known(n, &space));
    let servers =
        Servers { addresses: (0..3).map(|n| world.http(n)).collect(), token: world.token(), space };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let terminal = Uuid::new_v4();
    let script = "stty raw -echo; printf 'ready\\n'; exec cat";
    let make = json!({"name": "proof", "command": ["sh", "-c", script]});
    let typing = Arc::new(AtomicBool::new(true));

    let (typist, watcher) = runtime.block_on(async {
        let (seed, other) = (random.random(), random.random());
        let typist = Viewer::new(servers.clone(), terminal, Some(make), seed).ready().await;
        let typist = tokio::spawn(type_numbers(typist, Arc::clone(&typing)));
        (typist, Viewer::new(servers.clone(), terminal, None, other))
    });
    eventually("the terminal is in the list", || {
        let list = world.try_ask(0, reqwest::Method::GET, &servers.path(), None)?;
        list.body["terminals"].as_array().filter(|list| list.len() == 1).map(drop)
    });
    let rounds = rounds.unwrap_or(ROUNDS);
    let bound = Duration::from_secs(600) + Duration::from_secs(10) * u32::try_from(rounds).unwrap();
    let watching = runtime.spawn(watcher.watch(bound));

    let (mut kills, mut starts) = (0, 0);
    for _ in 0..rounds {
        let n = random.random_range(0..3);
        let down = (0..3).filter(|n| !world.servers[*n].is_up()).count();
        if world.servers[n].is_up() && down < 2 {
            world.kill(n);
            kills += 1;
        } else if !world.servers[n].is_up() {
            world.run(n);
            starts += 1;
        }
        let pause = Duration::from_millis(random.random_range(100..1_800));
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }
    for n in 0..3 {
        if !world.servers[n].is_up() {
            world.run(n);
        }
    }
    typing.store(false, Ordering::SeqCst);
    let typist = runtime.block_on(typist).unwrap();
    let watcher = runtime.block_on(watching).unwrap();

    let wanted = [b"ready\n", typist.typed.as_slice()].concat();
    assert_eq!(typist.first, 0, "who made it has all of it");
    let differs = typist.seen.iter().zip(&wanted).position(|(seen, wanted)| seen != wanted);
    assert_eq!((differs, typist.seen.len()), (None, wanted.len()), "typed and seen");
    let from = usize::try_from(watcher.first).unwrap();
    assert!(watcher.seen == wanted[from..], "who only looked has seen the same");
    assert!(typist.connections > 1 && kills > 0);
    println!(
        "{} bytes each way, {} kills, {starts} starts, {} and {} connections",
        typist.typed.len(),
        kills,
        typist.connections,
        watcher.connections
    );
}
