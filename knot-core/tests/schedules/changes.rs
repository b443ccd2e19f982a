//! Changes that are bad, too large, in doubt or damaged.

use std::time::Duration;

use automerge::{ActorId, AutoCommit, Change, ExpandedChange, ROOT, transaction::Transactable};
use bytes::Bytes;
use knot_core::{
    sim::{Fault, Outcome},
    sync::Message,
};

use crate::world::{SECOND, Thing, change, done, everywhere, heads, id, name, news, note, world};

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
