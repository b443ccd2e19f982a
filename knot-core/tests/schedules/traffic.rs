//! What reconciliation costs, and that it ends.

use std::time::Duration;

use knot_core::{
    schema::Schema,
    sim::{Carriage, Network, World},
};

use crate::world::{SECOND, Thing, done, everywhere, id, name, note, world};

#[test]
fn a_stream_of_edits_does_not_keep_a_replica_behind() {
    // Each edit takes a tenth of a second; which messages are lost is the seed's.
    const OLD: u64 = 300;
    for seed in 1..=8 {
        let carriage = Carriage::Loose { loss: 10, twice: 0 };
        let network = Network { delay: 1..=20, carriage };
        let mut world = World::new(seed, 2, Schema::new().with::<Thing>(), network).unwrap();
        for n in 0..400 {
            world.ask(0, name(n, "x"));
            world.run(Duration::from_millis(100)).unwrap();
            let peer = world.replica(1).unwrap();
            let lost = (0..n.saturating_sub(OLD)).filter(|n| peer.get(id(*n)).is_none()).count();
            assert_eq!(lost, 0, "seed {seed}, edit {n}: edits older than 30 seconds have not come");
        }
    }
}

#[test]
fn two_full_disks_do_not_make_two_servers_talk_without_end() {
    let mut world = world(2);
    done(&mut world, 0, name(1, "it"));
    world.settle().unwrap();
    world.cut(&[&[0], &[1]]);
    done(&mut world, 0, note(1, "left", "x"));
    done(&mut world, 1, note(1, "right", "x"));
    world.fill_disk(0);
    world.fill_disk(1);
    world.heal();
    let before = world.traffic().messages("Pull");
    world.run(20 * SECOND).unwrap();
    let pulls = world.traffic().messages("Pull") - before;
    assert!(pulls <= 100, "{pulls} pulls in 20 seconds");
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.notes.len(), 2));
}

/// Two servers with the same 10,000 documents, cut.
fn ten_thousand() -> World {
    let mut world = world(2);
    world.cut(&[&[0], &[1]]);
    for n in 0..10_000 {
        world.ask(0, name(n, "document"));
        if n % 32 == 31 {
            world.run(Duration::from_millis(50)).unwrap();
        }
    }
    world.run(SECOND).unwrap();
    let backup = world.backup(0).unwrap();
    world.restore(1, backup).unwrap();
    world.run(SECOND).unwrap();
    assert!(world.are_equal(0, 1));
    world
}

#[test]
fn reconciliation_costs_what_differs() {
    let mut world = ten_thousand();
    // Equal: nothing but roots, and that nobody is present.
    world.heal();
    let before = world.traffic().clone();
    world.run(10 * SECOND).unwrap();
    let after = world.traffic();
    let others = |name: &&str| !["Root", "Presence"].contains(name);
    assert_eq!(after.by_message.keys().filter(|name| others(name)).count(), 0, "{after:?}");
    println!("equal, 10 s: {} bytes", after.bytes() - before.bytes());
    // Ten differ.
    world.cut(&[&[0], &[1]]);
    world.run(SECOND).unwrap();
    for n in 0..10 {
        done(&mut world, n % 2, name(u64::try_from(n).unwrap() * 997, "edited"));
    }
    let before = world.traffic().clone();
    let began = world.now();
    world.heal();
    while !world.are_equal(0, 1) {
        world.run(Duration::from_millis(10)).unwrap();
        assert!(world.now() < began + 20 * SECOND);
    }
    let took = world.now() - began;
    world.run(3 * SECOND).unwrap();
    let after = world.traffic();
    let count = |name: &str| {
        let (messages, bytes) = after.by_message.get(name).copied().unwrap_or_default();
        let (messages_before, bytes_before) =
            before.by_message.get(name).copied().unwrap_or_default();
        (messages - messages_before, bytes - bytes_before)
    };
    let beyond: u64 =
        after.by_message.keys().filter(|name| **name != "News").map(|name| count(name).1).sum();
    println!("10 of 10,000 differ: equal after {took:?}, {beyond} bytes beyond the changes");
    for name in after.by_message.keys() {
        println!("  {name}: {:?}", count(name));
    }
    assert!(beyond <= 16 << 10, "{beyond} bytes");
    assert_eq!(count("News").0, 2, "no change is sent twice");
}

#[test]
fn unknown_heads() {
    let mut world = ten_thousand();
    let edited = 2_000;
    for n in 0..edited {
        for at in 0..2 {
            world.ask(at, note(n * 5, &at.to_string(), "edited"));
        }
        if n % 16 == 15 {
            world.run(Duration::from_millis(50)).unwrap();
        }
    }
    world.run(SECOND).unwrap();
    let before = world.traffic().bytes();
    let took = world.settle().unwrap();
    let bytes = (world.traffic().bytes() - before) / (2 * edited);
    println!("2,000 of 10,000 edited on both sides: {bytes} bytes a change, {took:?}");
    assert!(bytes <= 700, "{bytes} bytes for each change");
    let thing = |at: usize| world.replica(at).unwrap().get(id(5)).unwrap();
    assert_eq!((thing(0).notes.len(), thing(1).notes.len()), (2, 2));
}
