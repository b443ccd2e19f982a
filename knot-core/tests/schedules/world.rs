//! A world of small documents, and what is done and asked in it.

use std::time::Duration;

use automerge::{ActorId, AutoCommit, ROOT, transaction::Transactable};
use bytes::Bytes;
use knot_core::{
    doc::Layering,
    entity,
    id::{ChangeHash, Id},
    schema::Schema,
    sim::{Action, Network, Outcome, World},
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
pub(crate) mod later {
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

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn id(n: u64) -> Id<Thing> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

pub(crate) fn world(servers: usize) -> World {
    let schema = Schema::new().with::<Thing>();
    World::new(7, servers, schema, Network::default()).unwrap()
}

/// Documents whose layers hold three changes.
pub(crate) fn world_of_short_layers(servers: usize) -> World {
    let schema = Schema::new().with::<Thing>();
    let short = Layering { full: 3, loose: 2 };
    World::with_layering(7, servers, schema, Network::default(), short).unwrap()
}

pub(crate) fn name(n: u64, name: &str) -> Action {
    let name = name.to_owned();
    Action::put(id(n), move |thing| {
        thing.set(Thing::name, name);
        Ok(())
    })
}

pub(crate) fn note(n: u64, topic: &str, text: &str) -> Action {
    let (topic, text) = (topic.to_owned(), text.to_owned());
    Action::put(id(n), move |thing| {
        thing.put(Thing::notes, &topic, text);
        Ok(())
    })
}

/// Asks, and lets so little time pass that nobody else hears of it.
pub(crate) fn done(world: &mut World, at: usize, action: Action) {
    let ticket = world.ask(at, action);
    while world.outcome(ticket) == Outcome::Waiting {
        world.run(Duration::from_millis(1)).unwrap();
    }
    assert_eq!(world.outcome(ticket), Outcome::Done);
}

pub(crate) fn everywhere(world: &World, check: impl Fn(&Thing)) {
    for at in 0..world.len() {
        let replica = world.replica(at).unwrap();
        check(&replica.get(id(1)).unwrap());
    }
}

pub(crate) fn dead_everywhere(world: &World, n: u64) {
    for at in 0..world.len() {
        let replica = world.replica(at).unwrap();
        assert!(replica.get(id(n)).is_none() && replica.grave(id(n)).is_some(), "at {at}");
    }
}

/// A change by a program that is not this one.
pub(crate) fn change(actor: u8, puts: &[(&str, &str)]) -> Bytes {
    let mut doc = AutoCommit::new().with_actor(ActorId::from([actor; 16]));
    for (key, value) in puts {
        doc.put(ROOT, *key, *value).unwrap();
    }
    doc.commit();
    Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes())
}

pub(crate) fn news(n: u64, changes: Vec<Bytes>) -> Message {
    let changes = vec![DocChanges { doc: id(n).into(), changes }];
    Message::News(Answer { changes, ..Answer::default() })
}

pub(crate) fn heads(world: &World, at: usize, n: u64) -> Vec<ChangeHash> {
    world.replica(at).unwrap().get(id(n)).unwrap().heads().to_vec()
}
