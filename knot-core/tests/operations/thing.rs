//! The operations that schedules are made of, on a document with a field of every sort.

use knot_core::{
    entity,
    id::Id,
    schema::Schema,
    sim::{Action, Operation},
};
use proptest::prelude::*;
use uuid::Uuid;

entity! {
    /// A document with a field of every sort.
    pub struct Thing("thing", 1) {
        /// A register.
        name: Field<String>,
        /// Another one.
        on: Field<bool>,
        /// A set where a removal wins.
        keys: Set<String> [RemovalWins],
        /// Labels, of which a removal wins.
        labels: Map<String, String> [RemovalWins],
        /// A map of registers.
        notes: Map<String, String>,
        /// A counter.
        count: Field<u64> [LargestWins],
    }
}

/// What servers are asked to do. Few documents and few words make the most conflicts.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Name(u8, String),
    Both(u8, String, bool),
    Insert(u8, String),
    Remove(u8, String),
    Label(u8, String, String),
    Unlabel(u8, String),
    Note(u8, String, String),
    Unnote(u8, String),
    Raise(u8, u64),
    Count(u8, u64),
    Touch(u8),
    Delete(u8),
    Observe(u8, u8),
}

fn id(doc: u8) -> Id<Thing> {
    Id::from_uuid(Uuid::from_u128(u128::from(doc)))
}

impl Operation for Op {
    fn schema() -> Schema {
        Schema::new().with::<Thing>()
    }

    fn strategy() -> BoxedStrategy<Self> {
        let doc = || prop_oneof![6 => Just(0_u8), 3 => 1_u8..3, 1 => 3_u8..12];
        let word = || "[ab]";
        prop_oneof![
            4 => (doc(), word()).prop_map(|(doc, name)| Self::Name(doc, name)),
            2 => (doc(), word(), any::<bool>()).prop_map(|(doc, a, b)| Self::Both(doc, a, b)),
            3 => (doc(), word()).prop_map(|(doc, key)| Self::Insert(doc, key)),
            3 => (doc(), word()).prop_map(|(doc, key)| Self::Remove(doc, key)),
            3 => (doc(), word(), "[a-d]").prop_map(|(doc, key, v)| Self::Label(doc, key, v)),
            3 => (doc(), word()).prop_map(|(doc, key)| Self::Unlabel(doc, key)),
            3 => (doc(), word(), word()).prop_map(|(doc, key, v)| Self::Note(doc, key, v)),
            2 => (doc(), word()).prop_map(|(doc, key)| Self::Unnote(doc, key)),
            3 => (doc(), 1_u64..4).prop_map(|(doc, by)| Self::Raise(doc, by)),
            1 => (doc(), 0_u64..4).prop_map(|(doc, to)| Self::Count(doc, to)),
            1 => doc().prop_map(Self::Touch),
            1 => doc().prop_map(Self::Delete),
            2 => (doc(), any::<u8>()).prop_map(|(doc, value)| Self::Observe(doc, value)),
        ]
        .boxed()
    }

    fn action(&self) -> Action {
        match self.clone() {
            Self::Name(doc, name) => Action::put(id(doc), move |thing| {
                thing.set(Thing::name, name);
                Ok(())
            }),
            Self::Both(doc, name, on) => Action::put(id(doc), move |thing| {
                thing.set(Thing::name, name);
                thing.set(Thing::on, on);
                Ok(())
            }),
            Self::Insert(doc, key) => Action::put(id(doc), move |thing| {
                thing.insert(Thing::keys, &key);
                Ok(())
            }),
            Self::Remove(doc, key) => Action::edit(id(doc), move |thing| {
                thing.remove(Thing::keys, &key);
                Ok(())
            }),
            Self::Label(doc, key, value) => Action::put(id(doc), move |thing| {
                thing.put(Thing::labels, &key, value);
                Ok(())
            }),
            Self::Unlabel(doc, key) => Action::edit(id(doc), move |thing| {
                thing.take(Thing::labels, &key);
                Ok(())
            }),
            Self::Note(doc, key, value) => Action::put(id(doc), move |thing| {
                thing.put(Thing::notes, &key, value);
                Ok(())
            }),
            Self::Unnote(doc, key) => Action::edit(id(doc), move |thing| {
                thing.take(Thing::notes, &key);
                Ok(())
            }),
            Self::Raise(doc, by) => Action::put(id(doc), move |thing| {
                thing.set(Thing::count, thing.count + by);
                Ok(())
            }),
            Self::Count(doc, to) => Action::edit(id(doc), move |thing| {
                thing.set(Thing::count, to);
                Ok(())
            }),
            Self::Touch(doc) => Action::put(id(doc), |thing| {
                let name = thing.name.clone();
                thing.set(Thing::name, name);
                Ok(())
            }),
            Self::Delete(doc) => Action::delete(id(doc)),
            Self::Observe(doc, value) => Action::observe(id(doc), &value),
        }
    }
}
