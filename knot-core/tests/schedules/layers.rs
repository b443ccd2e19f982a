//! Documents in several layers.

use knot_core::{
    id::Author,
    schema::{Edit, Scalar},
    sim::Action,
};

use crate::world::{SECOND, Thing, done, everywhere, id, name, note, world_of_short_layers};

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
