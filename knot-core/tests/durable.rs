//! What was said to be on n servers survives the loss of any n - 1 of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use knot_core::{
    doc::Layering,
    entity,
    id::{Author, Id},
    model::Server,
    schema::Schema,
    sim::{Action, Backup, Carriage, Fault, Network, Outcome, Ticket, World},
};
use proptest::prelude::*;
use uuid::Uuid;

entity! {
    /// Something that must not be lost.
    pub struct Deed("deed", 1) {
        /// What is in it.
        text: Field<String>,
        /// Its signatures.
        signed: Set<String>,
    }
}

const SECOND: Duration = Duration::from_secs(1);
const BOUND: Duration = Duration::from_secs(5);

fn id(n: u64) -> Id<Deed> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

fn world(servers: usize) -> World {
    let schema = Schema::new().with::<Deed>().with::<Server>();
    World::new(11, servers, schema, Network::default()).unwrap()
}

/// A world whose servers are linked.
fn linked(servers: usize) -> World {
    let mut world = world(servers);
    world.run(SECOND).unwrap();
    world
}

fn write(n: u64, text: &str) -> Action {
    let text = text.to_owned();
    Action::put(id(n), move |deed| {
        deed.set(Deed::text, text);
        Ok(())
    })
}

fn sign(by: &str) -> Action {
    let by = by.to_owned();
    Action::put(id(1), move |deed| {
        deed.insert(Deed::signed, &by);
        Ok(())
    })
}

fn outcome(world: &mut World, ticket: Ticket) -> Outcome {
    for _ in 0..10_000 {
        if world.outcome(ticket) != Outcome::Waiting {
            break;
        }
        world.run(Duration::from_millis(1)).unwrap();
    }
    world.outcome(ticket)
}

fn kept_here(outcome: &Outcome, what: &str) -> bool {
    matches!(outcome, Outcome::Failed(reason) if reason.starts_with("kept here") && reason.contains(what))
}

fn read(world: &World, at: usize, n: u64) -> Option<String> {
    Some(world.replica(at)?.get(id(n))?.text.clone())
}

#[test]
fn it_is_said_once_the_others_have_committed() {
    let mut world = linked(3);
    let ticket = world.ask_durable(0, write(1, "a"), 3, BOUND);
    assert_eq!(outcome(&mut world, ticket), Outcome::Done);
    for at in 0..3 {
        assert_eq!(read(&world, at, 1).as_deref(), Some("a"));
    }
    assert!(world.now() < SECOND * 2, "one hop and back, not a question repeated");
}

#[test]
fn a_deletion_is_held_once_the_grave_is() {
    let mut world = linked(2);
    let ticket = world.ask_durable(0, write(1, "a"), 2, BOUND);
    assert_eq!(outcome(&mut world, ticket), Outcome::Done);
    world.fill_disk(1);
    let ticket = world.ask_durable(0, Action::delete(id(1)), 2, BOUND);
    assert!(kept_here(&outcome(&mut world, ticket), "not yet on 2"));
    assert!(world.replica(0).unwrap().grave(id(1)).is_some());
    world.crash(1);
    world.start(1).unwrap();
    world.run(SECOND).unwrap();
    let again = world.ask_durable(0, Action::delete(id(1)), 2, BOUND);
    assert_eq!(outcome(&mut world, again), Outcome::Done);
    assert!(world.replica(1).unwrap().grave(id(1)).is_some());
}

#[test]
fn fewer_linked_servers_are_an_error_at_once() {
    let mut world = linked(3);
    world.cut(&[&[0, 1], &[2]]);
    world.run(SECOND).unwrap();
    let before = world.now();
    let ticket = world.ask_durable(0, write(1, "a"), 3, BOUND);
    assert!(kept_here(&outcome(&mut world, ticket), "while 2 are linked"));
    assert!(world.now() < before + SECOND);
    // The edit stands.
    world.settle().unwrap();
    assert_eq!(read(&world, 2, 1).as_deref(), Some("a"));
}

/// Schedule dead-author.
#[test]
fn dead_author() {
    let mut world = linked(3);
    let empty = world.backup(1).unwrap();
    world.cut(&[&[0], &[1, 2]]);
    world.run(SECOND).unwrap();
    let ticket = world.ask_durable(1, write(1, "e"), 2, BOUND);
    assert_eq!(outcome(&mut world, ticket), Outcome::Done);
    world.restore(1, empty).unwrap();
    world.settle().unwrap();
    for at in 0..3 {
        assert_eq!(read(&world, at, 1).as_deref(), Some("e"), "at {at}");
    }
}

/// Schedule dead-author, whole: while B and C are cut off with e, A opens the next layer without it.
#[test]
fn dead_author_while_a_layer_is_opened() {
    let schema = Schema::new().with::<Deed>().with::<Server>();
    let short = Layering { full: 3, loose: 2 };
    let mut world = World::with_layering(11, 3, schema, Network::default(), short).unwrap();
    let first = world.ask(0, write(1, "before"));
    assert_eq!(outcome(&mut world, first), Outcome::Done);
    world.settle().unwrap();
    let layers = |world: &World, at: usize| world.history(at, id(1)).unwrap().unwrap().layers();
    let before = world.backup(1).unwrap();
    world.cut(&[&[0], &[1, 2]]);
    world.run(SECOND).unwrap();
    let e = world.ask_durable(1, sign("e"), 2, BOUND);
    assert_eq!(outcome(&mut world, e), Outcome::Done);
    for n in 0..6 {
        let edit = world.ask(0, sign(&format!("a{n}")));
        assert_eq!(outcome(&mut world, edit), Outcome::Done);
    }
    assert!(layers(&world, 0) > 1, "a has opened a layer");
    assert_eq!((layers(&world, 1), layers(&world, 2)), (1, 1), "e lies in the lowest");
    let author = Author::Server(world.id(1).unwrap());
    // B burns, and comes back from before e.
    world.restore(1, before).unwrap();
    world.settle().unwrap();
    for at in 0..3 {
        let deed = world.replica(at).unwrap().get(id(1)).unwrap();
        assert_eq!(deed.signed.len(), 7, "at {at}: {:?}", deed.signed);
        assert!(deed.signed.contains("e") && !deed.is_behind(), "at {at}");
        let history = world.history(at, id(1)).unwrap().unwrap();
        let changes = history.page(None, usize::MAX).unwrap();
        let by_b: Vec<_> = changes.iter().filter(|one| one.author == Some(author)).collect();
        assert!(matches!(by_b[..], [e] if e.applied && e.fields[0].0 == "signed/e"), "at {at}");
    }
}

/// Schedule false-durable: the peer's commit fails.
#[test]
fn false_durable_commit_fails() {
    for fault in [Fault::Fails, Fault::InDoubt] {
        let mut world = linked(2);
        world.fail_next_commit(1, fault);
        let ticket = world.ask_durable(0, write(1, "a"), 2, BOUND);
        // It holds it after a second try, or says nothing: the judge looks at its disk.
        outcome(&mut world, ticket);
        world.settle().unwrap();
    }
    let mut world = linked(2);
    world.fill_disk(1);
    let ticket = world.ask_durable(0, write(1, "a"), 2, BOUND);
    assert!(kept_here(&outcome(&mut world, ticket), "not yet on 2: 1 servers"));
    world.settle().unwrap();
    assert_eq!(read(&world, 1, 1).as_deref(), Some("a"));
}

/// Schedule false-durable: the peer has the edit and waits for what it depends on.
#[test]
fn false_durable_peer_buffers() {
    let mut world = linked(2);
    world.cut(&[&[0], &[1]]);
    world.run(SECOND).unwrap();
    let first = world.ask(0, write(1, "first"));
    assert_eq!(outcome(&mut world, first), Outcome::Done);
    world.heal();
    // As soon as they are linked, before they have compared anything.
    let ticket = loop {
        world.run(Duration::from_millis(1)).unwrap();
        let ticket = world.ask_durable(0, write(1, "second"), 2, BOUND);
        match outcome(&mut world, ticket) {
            outcome if kept_here(&outcome, "are linked") => {}
            _ => break ticket,
        }
    };
    assert_eq!(world.outcome(ticket), Outcome::Done);
    assert_eq!(read(&world, 1, 1).as_deref(), Some("second"));
}

/// Schedule false-durable: the peer was removed and is still linked.
#[test]
fn false_durable_peer_was_removed() {
    let mut world = linked(3);
    let removed = Id::<Server>::from_uuid(world.id(2).unwrap().0);
    let named = world.ask_durable(
        0,
        Action::put(removed, |server| {
            server.set(Server::name, "two".to_owned());
            Ok(())
        }),
        3,
        BOUND,
    );
    assert_eq!(outcome(&mut world, named), Outcome::Done);
    // It is removed while its answer is awaited, and answers once its disk is well.
    world.fill_disk(2);
    let waiting = world.ask_durable(0, write(1, "a"), 3, BOUND);
    world.run(SECOND / 2).unwrap();
    let deleted = world.ask(0, Action::delete(removed));
    assert_eq!(outcome(&mut world, deleted), Outcome::Done);
    world.crash(2);
    world.start(2).unwrap();
    assert!(kept_here(&outcome(&mut world, waiting), "not yet on 3: 2 servers"));
    assert_eq!(read(&world, 2, 1).as_deref(), Some("a"));
    // And it is not counted among those that could.
    let ticket = world.ask_durable(0, write(2, "b"), 3, BOUND);
    assert!(kept_here(&outcome(&mut world, ticket), "while 2 are linked"));
    // Nor does it count itself.
    let ticket = world.ask_durable(2, write(3, "c"), 3, BOUND);
    assert!(kept_here(&outcome(&mut world, ticket), "while 2 are linked"));
}

/// Schedule false-durable: an answer counts for as long as the link lives.
#[test]
fn false_durable_link_went() {
    let mut world = linked(3);
    world.fill_disk(2);
    let ticket = world.ask_durable(0, write(1, "a"), 3, BOUND);
    world.run(SECOND / 2).unwrap();
    assert_eq!(read(&world, 1, 1).as_deref(), Some("a"));
    world.cut(&[&[0, 2], &[1]]);
    world.run(SECOND).unwrap();
    world.crash(2);
    world.start(2).unwrap();
    assert!(kept_here(&outcome(&mut world, ticket), "not yet on 3: 2 servers"));
    world.settle().unwrap();
}

/// Schedule false-durable: what was said before the link went is not counted after it has come again.
#[test]
fn false_durable_peer_lost_its_disk() {
    let mut world = linked(3);
    let empty = world.backup(1).unwrap();
    world.fill_disk(2);
    let ticket = world.ask_durable(0, write(1, "a"), 3, BOUND * 2);
    world.run(SECOND / 2).unwrap();
    assert_eq!(read(&world, 1, 1).as_deref(), Some("a"));
    world.restore(1, empty).unwrap();
    world.fill_disk(1);
    // The others learn that its link went.
    world.run(SECOND * 2).unwrap();
    assert_eq!(world.outcome(ticket), Outcome::Waiting);
    world.crash(2);
    world.start(2).unwrap();
    let said = outcome(&mut world, ticket);
    assert!(kept_here(&said, "not yet on 3: 2 servers"), "{said:?}");
    assert_eq!((read(&world, 1, 1), read(&world, 2, 1).as_deref()), (None, Some("a")));
    world.settle().unwrap();
}

#[test]
fn a_question_that_overtook_its_edit_is_answered_with_the_commit() {
    let schema = Schema::new().with::<Deed>().with::<Server>();
    let network = Network { delay: 1..=100, carriage: Carriage::Loose { loss: 0, twice: 0 } };
    let mut world = World::new(5, 2, schema, network).unwrap();
    world.run(SECOND).unwrap();
    for n in 0..50 {
        let before = world.now();
        let ticket = world.ask_durable(0, write(n, "a"), 2, BOUND);
        assert_eq!(outcome(&mut world, ticket), Outcome::Done);
        let took = world.now() - before;
        assert!(took < Duration::from_millis(400), "{took:?}: it was asked again");
    }
}

#[test]
fn a_link_that_comes_in_time_counts() {
    let mut world = linked(3);
    world.fill_disk(2);
    let ticket = world.ask_durable(0, write(1, "a"), 3, BOUND);
    world.run(SECOND / 2).unwrap();
    world.crash(2);
    world.run(SECOND).unwrap();
    world.start(2).unwrap();
    assert_eq!(outcome(&mut world, ticket), Outcome::Done);
}

fn burn(world: &mut World, empty: &[Backup], which: &[usize]) {
    for at in which {
        world.restore(*at, empty[*at].clone()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever is lost after it was said, the others have it.
    #[test]
    fn any_others_may_burn(
        seed in any::<u64>(),
        servers in 2_usize..=5,
        wanted in 2_usize..=5,
        loss in 0_u8..=30,
        faults in prop::collection::vec((0_usize..5, 0_u8..4), 0..8),
        order in Just(vec![0_usize, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let wanted = wanted.min(servers);
        let schema = Schema::new().with::<Deed>().with::<Server>();
        let network = Network { delay: 1..=60, carriage: Carriage::Loose { loss, twice: 10 } };
        let mut world = World::new(seed, servers, schema, network).unwrap();
        world.run(SECOND).unwrap();
        let empty: Vec<_> = (0..servers).map(|at| world.backup(at).unwrap()).collect();
        for (n, (at, fault)) in faults.iter().enumerate() {
            let at = at % servers;
            match fault {
                0 => world.fail_next_commit(at, Fault::InDoubt),
                1 => world.break_link(at, (at + 1) % servers),
                2 => world.fail_next_commit(at, Fault::Fails),
                _ => { world.ask(at, write(1, &format!("other {n}"))); }
            }
        }
        let ticket = world.ask_durable(0, sign("anna"), wanted, BOUND);
        if outcome(&mut world, ticket) == Outcome::Done {
            let lost: Vec<_> = order.into_iter().filter(|at| *at < servers).take(wanted - 1).collect();
            burn(&mut world, &empty, &lost);
            world.settle().unwrap();
            for at in 0..servers {
                let deed = world.replica(at).unwrap().get(id(1)).unwrap();
                prop_assert!(deed.signed.contains("anna"), "lost at {at}");
            }
        }
    }
}
