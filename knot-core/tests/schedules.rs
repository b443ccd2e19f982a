//! Schedules that break designs like ours, each by its name.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use automerge::{ActorId, AutoCommit, Change, ExpandedChange, ROOT, transaction::Transactable};
use bytes::Bytes;
use knot_core::{
    doc::Layering,
    entity,
    id::{Author, ChangeHash, Id},
    schema::{Edit, Scalar, Schema},
    sim::{Action, Carriage, Fault, Network, Outcome, World},
    sync::{Answer, DocChanges, Message},
};
use uuid::Uuid;

entity! {
    /// A document with a field of every sort.
    pub struct Thing("thing", 1) {
        /// A register.
        name: Field<String>,
        /// Labels of keys; a removal wins.
        keys: Map<String, String> [RemovalWins],
        /// Notes, each a register.
        notes: Map<String, String>,
        /// Whether it should run.
        running: Field<bool>,
    }
}

/// The same type in a later version.
mod later {
    knot_core::entity! {
        /// The type with one field more.
        pub struct Thing("thing", 2) {
            /// A register.
            name: Field<String>,
            /// A set that the earlier version does not know.
            tags: Set<String>,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn id(n: u64) -> Id<Thing> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

fn world(servers: usize) -> World {
    let schema = Schema::new().with::<Thing>();
    World::new(7, servers, schema, Network::default()).unwrap()
}

fn name(n: u64, name: &str) -> Action {
    let name = name.to_owned();
    Action::put(id(n), move |thing| {
        thing.set(Thing::name, name);
        Ok(())
    })
}

fn note(n: u64, topic: &str, text: &str) -> Action {
    let (topic, text) = (topic.to_owned(), text.to_owned());
    Action::put(id(n), move |thing| {
        thing.put(Thing::notes, &topic, text);
        Ok(())
    })
}

/// Asks, and lets so little time pass that nobody else hears of it.
fn done(world: &mut World, at: usize, action: Action) {
    let ticket = world.ask(at, action);
    while world.outcome(ticket) == Outcome::Waiting {
        world.run(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(world.outcome(ticket), Outcome::Done);
}

fn everywhere(world: &World, check: impl Fn(&Thing)) {
    for at in 0..world.len() {
        let replica = world.replica(at).unwrap();
        check(&replica.get(id(1)).unwrap());
    }
}

fn dead_everywhere(world: &World, n: u64) {
    for at in 0..world.len() {
        let replica = world.replica(at).unwrap();
        assert!(replica.get(id(n)).is_none() && replica.grave(id(n)).is_some(), "at {at}");
    }
}

/// Documents whose layers hold three changes.
fn world_of_short_layers(servers: usize) -> World {
    let schema = Schema::new().with::<Thing>();
    let short = Layering { full: 3, loose: 2 };
    World::with_layering(7, servers, schema, Network::default(), short).unwrap()
}

#[test]
fn two_layers_at_once() {
    let mut world = world_of_short_layers(2);
    done(&mut world, 0, name(1, "it"));
    world.settle().unwrap();
    world.cut(&[&[0], &[1]]);
    for n in 0..20 {
        done(&mut world, 0, note(1, &format!("a{n}"), "kept"));
        done(&mut world, 1, note(1, &format!("b{n}"), "kept"));
        done(&mut world, 0, note(1, "both", &format!("a{n}")));
        done(&mut world, 1, note(1, "both", &format!("b{n}")));
    }
    world.settle().unwrap();
    let topic = |prefix: &str, n: usize| format!("{prefix}{n}");
    everywhere(&world, |thing| {
        let all = (0..20).flat_map(|n| [topic("a", n), topic("b", n)]);
        assert!(all.into_iter().all(|topic| thing.notes.contains_key(&topic)));
    });
    for at in 0..2 {
        let thing = world.replica(at).unwrap().get(id(1)).unwrap();
        let (_, conflict) = thing.conflicts().find(|(key, _)| *key == "notes/both").unwrap();
        let values: Vec<_> = conflict.iter().map(|one| one.value.clone()).collect();
        assert!(values.contains(&Scalar::Text("a19".into())), "{values:?}");
        assert!(values.contains(&Scalar::Text("b19".into())), "{values:?}");
    }
}

#[test]
fn late_lower_layer() {
    let mut world = world_of_short_layers(3);
    done(&mut world, 0, name(1, "first"));
    world.settle().unwrap();
    // Server 1, cut off, edits the lowest layer; 2 goes on to the next and sets the same key.
    world.cut(&[&[0, 2], &[1]]);
    done(&mut world, 1, name(1, "late"));
    let late_by = world.id(1).unwrap();
    for n in 0..8 {
        done(&mut world, 2, name(1, &format!("newer {n}")));
    }
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.name, "newer 7"));
    for at in 0..3 {
        let thing = world.replica(at).unwrap().get(id(1)).unwrap();
        let (_, conflict) = thing.conflicts().find(|(key, _)| *key == "name").unwrap();
        let late = conflict.iter().find(|one| one.value == Scalar::Text("late".into())).unwrap();
        assert_eq!(late.author, Some(Author::Server(late_by)));
        assert!(late.time.0 > 0);
    }
    // A write that has seen both settles it.
    done(&mut world, 1, name(1, "settled"));
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.name, "settled"));
    assert_eq!(world.replica(0).unwrap().get(id(1)).unwrap().conflicts().count(), 0);
}

#[test]
fn old_backup_after_delete() {
    let mut world = world(3);
    done(&mut world, 0, name(1, "it"));
    world.settle().unwrap();
    let backup = world.backup(0).unwrap();
    done(&mut world, 1, Action::delete(id(1)));
    world.settle().unwrap();
    world.cut(&[&[0], &[1, 2]]);
    world.restore(0, backup).unwrap();
    // It lives there until the others are heard.
    done(&mut world, 0, name(1, "again"));
    world.settle().unwrap();
    dead_everywhere(&world, 1);
}

#[test]
fn joiner_mid_delete() {
    let mut world = world(3);
    world.cut(&[&[0, 1]]);
    done(&mut world, 1, name(1, "it"));
    world.run(SECOND).unwrap();
    // Server 2 joins through 1, and is cut off.
    world.cut(&[&[1, 2]]);
    world.run(3 * SECOND).unwrap();
    assert!(world.replica(2).unwrap().get(id(1)).is_some());
    world.cut(&[&[0, 1]]);
    world.run(SECOND).unwrap();
    done(&mut world, 0, Action::delete(id(1)));
    done(&mut world, 2, note(1, "topic", "mine"));
    // It returns through 0.
    world.cut(&[&[0, 2]]);
    world.run(5 * SECOND).unwrap();
    assert!(world.replica(2).unwrap().get(id(1)).is_none());
    world.settle().unwrap();
    dead_everywhere(&world, 1);
}

#[test]
fn month_apart() {
    let mut world = world(4);
    done(&mut world, 0, name(1, "before"));
    world.settle().unwrap();
    world.cut(&[&[0, 1], &[2, 3]]);
    world.run(SECOND).unwrap();
    done(&mut world, 0, note(1, "left", "yes"));
    world.leap(31 * DAY);
    done(&mut world, 2, note(1, "right", "yes"));
    // A clock jumps a year ahead, another one back.
    world.set_clock(1, 365 * 86_400_000);
    world.set_clock(3, -365 * 86_400_000);
    done(&mut world, 1, note(1, "ahead", "yes"));
    done(&mut world, 3, note(1, "back", "yes"));
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.notes.len(), 4));
    // All are off for 31 days.
    (0..4).for_each(|at| world.crash(at));
    world.leap(31 * DAY);
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!((thing.notes.len(), &*thing.name), (4, "before")));
}

#[test]
fn delete_against_start() {
    let mut world = world(2);
    done(&mut world, 0, name(1, "it"));
    world.settle().unwrap();
    world.cut(&[&[0], &[1]]);
    done(&mut world, 0, Action::delete(id(1)));
    done(&mut world, 1, name(1, "one"));
    done(&mut world, 1, name(1, "two"));
    done(
        &mut world,
        1,
        Action::edit(id(1), |thing| {
            thing.set(Thing::running, true);
            Ok(())
        }),
    );
    world.settle().unwrap();
    dead_everywhere(&world, 1);
}

#[test]
fn revoke_against_relabel() {
    let label = |label: &'static str| {
        Action::put(id(1), move |thing| {
            thing.put(Thing::keys, &"key".to_owned(), label.to_owned());
            Ok(())
        })
    };
    let revoke = || {
        Action::edit(id(1), |thing| {
            thing.take(Thing::keys, &"key".to_owned());
            Ok(())
        })
    };
    let mut world = world(2);
    done(&mut world, 0, label("laptop"));
    world.settle().unwrap();
    world.cut(&[&[0], &[1]]);
    done(&mut world, 0, revoke());
    done(&mut world, 1, label("old laptop"));
    world.settle().unwrap();
    everywhere(&world, |thing| assert!(thing.keys.is_empty()));
    // The conflict stands below; a second revocation holds against a relabel as well.
    world.cut(&[&[0], &[1]]);
    done(&mut world, 0, revoke());
    done(&mut world, 1, label("older laptop"));
    world.settle().unwrap();
    everywhere(&world, |thing| assert!(thing.keys.is_empty()));
}

/// A change by a program that is not this one.
fn change(actor: u8, puts: &[(&str, &str)]) -> Bytes {
    let mut doc = AutoCommit::new().with_actor(ActorId::from([actor; 16]));
    for (key, value) in puts {
        doc.put(ROOT, *key, *value).unwrap();
    }
    doc.commit();
    Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes())
}

fn news(n: u64, changes: Vec<Bytes>) -> Message {
    let changes = vec![DocChanges { doc: id(n).into(), changes }];
    Message::News(Answer { changes, ..Answer::default() })
}

fn heads(world: &World, at: usize, n: u64) -> Vec<ChangeHash> {
    world.replica(at).unwrap().get(id(n)).unwrap().heads().to_vec()
}

#[test]
fn fork() {
    let (one, two) = (change(9, &[("name", "one")]), change(9, &[("name", "two")]));
    let mut world = world(3);
    world.cut(&[&[0], &[1], &[2]]);
    world.inject(2, 0, news(1, vec![one.clone()]));
    world.inject(2, 1, news(1, vec![two.clone()]));
    world.run(SECOND).unwrap();
    done(&mut world, 0, note(1, "by", "0"));
    world.inject(2, 0, news(1, vec![two]));
    world.inject(2, 1, news(1, vec![one]));
    world.run(SECOND).unwrap();
    done(&mut world, 1, note(1, "by", "1"));
    world.settle().unwrap();
    for at in 0..3 {
        let thing = world.replica(at).unwrap().get(id(1)).unwrap();
        assert!(thing.is_behind());
        assert_eq!(heads(&world, at, 1), heads(&world, 0, 1));
    }
    // Life goes on.
    done(&mut world, 2, name(1, "settled"));
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.name, "settled"));
}

#[test]
fn bad_in_batch() {
    let topics: Vec<_> = (0..100).map(|n| format!("notes/{n}")).collect();
    let mut changes: Vec<_> =
        (0..100_u8).map(|n| change(n, &[(&topics[usize::from(n)], "x")])).collect();
    let mut bad = changes[41].to_vec();
    bad[30] ^= 1;
    changes[41] = Bytes::from(bad);
    let mut world = world(2);
    world.run(SECOND).unwrap();
    world.inject(1, 0, news(1, changes));
    world.run(SECOND).unwrap();
    assert!(matches!(world.offenders(), [(0, 1, _)]), "{:?}", world.offenders());
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.notes.len(), 99));
}

/// A change that is well formed, and that automerge fails on: its actor's fifth, without the others.
fn unappliable() -> Bytes {
    let mut doc = AutoCommit::new().with_actor(ActorId::from([77; 16]));
    doc.put(ROOT, "name", "in it").unwrap();
    doc.commit();
    let decoded = doc.get_last_local_change().unwrap().decode();
    let alone = ExpandedChange { seq: 5, ..decoded };
    Bytes::copy_from_slice(Change::from(alone).raw_bytes())
}

#[test]
fn unappliable_is_held_and_passed_on() {
    let mut world = world(3);
    done(&mut world, 0, name(1, "it"));
    world.settle().unwrap();
    world.cut(&[&[0], &[1, 2]]);
    let other = change(5, &[("notes/good", "x")]);
    world.inject(1, 0, news(1, vec![unappliable(), other]));
    world.run(SECOND).unwrap();
    world.settle().unwrap();
    assert!(world.offenders().is_empty());
    for at in 0..3 {
        let thing = world.replica(at).unwrap().get(id(1)).unwrap();
        assert!(thing.is_behind());
        assert_eq!((&*thing.name, thing.notes.len()), ("it", 1));
    }
    done(&mut world, 2, name(1, "on"));
    world.crash(1);
    world.settle().unwrap();
    everywhere(&world, |thing| assert_eq!(thing.name, "on"));
}

#[test]
fn failed_commit() {
    for fault in [Fault::Fails, Fault::InDoubt] {
        let mut world = world(2);
        done(&mut world, 0, name(1, "first"));
        world.settle().unwrap();
        world.fail_next_commit(0, fault);
        let ticket = world.ask(0, name(1, "e"));
        // B asks for the document in the very batch that fails.
        let pull = knot_core::sync::Want {
            key: knot_core::sync::ItemKey::document(id(1).into()),
            have: Vec::new(),
        };
        world.inject(1, 0, Message::Pull { number: 1, wants: vec![pull] });
        world.run(Duration::from_millis(45)).unwrap();
        assert!(matches!(world.outcome(ticket), Outcome::Failed(_)));
        if fault == Fault::Fails {
            everywhere(&world, |thing| assert_eq!(thing.name, "first"));
        }
        done(&mut world, 0, note(1, "after", "x"));
        world.settle().unwrap();
        let wanted = if fault == Fault::Fails { "first" } else { "e" };
        everywhere(&world, |thing| assert_eq!(thing.name, wanted));
        assert!(!world.replica(0).unwrap().get(id(1)).unwrap().is_behind());
    }
}

#[test]
fn same_natural_key() {
    let mut world = world(2);
    world.cut(&[&[0], &[1]]);
    done(&mut world, 0, name(1, "person"));
    done(&mut world, 1, name(1, "person"));
    done(&mut world, 0, note(1, "left", "x"));
    done(&mut world, 1, note(1, "right", "x"));
    world.settle().unwrap();
    for at in 0..2 {
        let things = world.replica(at).unwrap().list::<Thing>();
        assert_eq!(things.len(), 1);
        assert_eq!((&*things[0].name, things[0].notes.len()), ("person", 2));
        assert_eq!(things[0].conflicts().count(), 0);
    }
}

fn observed(world: &World, by: usize) -> Vec<Option<u32>> {
    let server = world.id(by).unwrap();
    (0..world.len()).map(|at| world.replica(at).unwrap().observed(id(1), server)).collect()
}

#[test]
fn run_restart() {
    let mut world = world(3);
    for value in 1..=3_u32 {
        done(&mut world, 0, Action::observe(id(1), &value));
    }
    world.settle().unwrap();
    world.crash(0);
    world.start(0).unwrap();
    done(&mut world, 0, Action::observe(id(1), &10_u32));
    world.settle().unwrap();
    assert_eq!(observed(&world, 0), vec![Some(10); 3]);
}

#[test]
fn records_of_an_earlier_life() {
    let mut world = world(3);
    done(&mut world, 0, Action::observe(id(1), &1_u32));
    world.settle().unwrap();
    let backup = world.backup(0).unwrap();
    world.crash(0);
    world.start(0).unwrap();
    done(&mut world, 0, Action::observe(id(1), &2_u32));
    world.settle().unwrap();
    // The same run and number, from a copy that does not know of it, and another value.
    world.cut(&[&[1, 2]]);
    world.restore(0, backup).unwrap();
    done(&mut world, 0, Action::observe(id(1), &3_u32));
    world.settle().unwrap();
    assert_eq!(observed(&world, 0), vec![Some(3); 3]);
}

#[test]
fn too_large() {
    let mut world = world(2);
    let ticket = world.ask(0, name(1, &"x".repeat(2 << 20)));
    world.run(SECOND).unwrap();
    assert!(matches!(world.outcome(ticket), Outcome::Failed(reason) if reason.contains("large")));
    assert!(world.replica(0).unwrap().get(id(1)).is_none());
    done(&mut world, 0, name(1, &"x".repeat(knot_core::doc::MAX_EDIT - 4)));
    world.settle().unwrap();
    assert!(world.offenders().is_empty());
}

#[test]
fn same_hash() {
    let mut world = world(2);
    let tickets = [world.ask(0, name(1, "same")), world.ask(0, name(2, "same"))];
    world.run(SECOND).unwrap();
    assert!(tickets.iter().all(|ticket| world.outcome(*ticket) == Outcome::Done));
    world.settle().unwrap();
    for at in 0..2 {
        assert_eq!(world.replica(at).unwrap().list::<Thing>().len(), 2);
        assert_ne!(heads(&world, at, 1), heads(&world, at, 2));
    }
}

#[test]
fn new_field_at_once() {
    let mut world = world(3);
    done(&mut world, 0, name(1, "old"));
    world.settle().unwrap();
    for at in [1, 2] {
        world.upgrade(at, Schema::new().with::<later::Thing>()).unwrap();
    }
    world.cut(&[&[0], &[1], &[2]]);
    let later: Id<later::Thing> = Id::from_uuid(id(1).uuid());
    for (at, tag) in [(1, "one"), (2, "two")] {
        let tag = tag.to_owned();
        let action = Action::edit(later, move |thing| {
            thing.insert(later::Thing::tags, &tag);
            Ok(())
        });
        done(&mut world, at, action);
    }
    world.settle().unwrap();
    world.crash(0);
    world.settle().unwrap();
    done(&mut world, 0, name(1, "edited by the older one"));
    world.settle().unwrap();
    for at in [1, 2] {
        let thing = world.replica(at).unwrap().get(later).unwrap();
        assert_eq!((&*thing.name, thing.tags.len()), ("edited by the older one", 2));
    }
}

#[test]
fn damage_below_and_at_the_top_is_mended_by_peers() {
    let mut world = world_of_short_layers(2);
    for n in 0..20 {
        done(&mut world, 0, note(1, &n.to_string(), "kept"));
    }
    world.settle().unwrap();
    for layer in [0, 2, 6] {
        world.damage_chunk(1, id(1), layer).unwrap();
        done(&mut world, 1, name(1, &format!("after damage to {layer}")));
        // Within this time each document is looked at once, also where nobody touches it.
        world.run(5 * SECOND).unwrap();
        world.settle().unwrap();
        everywhere(&world, |thing| {
            assert_eq!(thing.notes.len(), 20);
            assert_eq!(thing.name, format!("after damage to {layer}"));
        });
    }
    world.cut(&[]);
    world.crash(1);
    world.start(1).unwrap();
    done(
        &mut world,
        1,
        Action::edit(id(1), |thing: &mut Edit<'_, Thing>| {
            assert_eq!(thing.notes.len(), 20, "all of it is on the mended disk");
            Ok(())
        }),
    );
}

#[test]
fn a_damaged_change_is_fetched_again_and_costs_nothing_else() {
    for number in [0, 1, 4] {
        let mut world = world(2);
        world.cut(&[&[0], &[1]]);
        for n in 0..3 {
            done(&mut world, 0, note(1, "left", &n.to_string()));
            done(&mut world, 1, note(1, "right", &n.to_string()));
        }
        world.settle().unwrap();
        world.cut(&[&[0], &[1]]);
        world.damage(0, id(1), number).unwrap();
        // An edit on top of what is left, and one more life before the peer is heard.
        done(&mut world, 0, name(1, "after"));
        world.crash(0);
        world.start(0).unwrap();
        done(&mut world, 0, note(1, "again", "x"));
        world.settle().unwrap();
        everywhere(&world, |thing| {
            assert_eq!((&*thing.name, thing.notes.len()), ("after", 3));
            assert_eq!((&*thing.notes["left"], &*thing.notes["right"]), ("2", "2"));
        });
    }
}

#[test]
fn a_stream_of_edits_does_not_keep_a_replica_behind() {
    let schema = Schema::new().with::<Thing>();
    let carriage = Carriage::Loose { loss: 10, twice: 0 };
    let network = Network { delay: 1..=20, carriage };
    let mut world = World::new(1, 2, schema, network).unwrap();
    let mut lost = 0;
    for n in 0..400 {
        world.ask(0, name(n, "x"));
        world.run(Duration::from_millis(100)).unwrap();
        lost = (0..n.saturating_sub(200))
            .filter(|n| world.replica(1).unwrap().get(id(*n)).is_none())
            .count();
    }
    assert_eq!(lost, 0, "edits older than 20 seconds have not come");
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
