//! What is deleted or taken away stays so.

use knot_core::sim::Action;

use crate::world::{SECOND, Thing, dead_everywhere, done, everywhere, id, name, note, world};

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
