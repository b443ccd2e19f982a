//! Servers that could not hear each other, were off, or are of another version.

use knot_core::{
    id::Id,
    schema::Schema,
    sim::{Action, World},
};

use crate::world::{DAY, SECOND, Thing, done, everywhere, id, later, name, note, world};

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
