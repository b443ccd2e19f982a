//! A document that reads its first change as it is, beside one that has automerge read all of it.

#![allow(unreachable_pub)]

use std::num::NonZeroU64;

use automerge::{
    ActorId, Change, ExpandedChange, ScalarValue,
    legacy::{Key, ObjectId, Op, OpId, OpType, SortedVec},
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    clock::Millis,
    doc::{
        AtRest, Document, StoredChange,
        layer::Layer,
        wall::{self, Checked},
    },
    id::{Author, ChangeHash, Kind, ServerId},
    schema::{Scalar, Schema},
};

crate::entity! {
    /// A type for these tests.
    pub struct Thing("thing", 1) {
        /// A register.
        name: Field<String>,
        /// A set where a removal wins.
        shares: Set<String> [RemovalWins],
        /// A counter where the largest wins.
        count: Field<u64> [LargestWins],
    }
}

const AUTHOR: Author = Author::Server(ServerId(uuid::Uuid::nil()));

/// An empty document that has automerge read this layer from the start.
fn by_automerge(layer: u32) -> Document {
    let mut document = Document::default();
    document.layers.insert(layer, Layer::default());
    unfold(&mut document);
    document
}

fn unfold(document: &mut Document) {
    document.layers.values_mut().for_each(Layer::unfold);
}

/// What anybody can tell of a document.
#[derive(Debug, PartialEq)]
struct Told {
    heads: Vec<ChangeHash>,
    view: crate::doc::View,
    changes: Result<Vec<Bytes>, AtRest>,
    sample: Vec<ChangeHash>,
    history: Vec<Past>,
}

/// Of a change: what it is, what it builds on, whether it counts, who made it and when.
type Past = (ChangeHash, Vec<ChangeHash>, bool, Option<Author>, Millis);

fn told(document: &Document) -> Told {
    let schema = Schema::new().with::<Thing>();
    let nodes = document.layers.values().flat_map(|layer| layer.nodes());
    let history = nodes.map(|node| {
        let (author, time) = node.written();
        (node.hash, node.parents.clone(), node.applied, author, time)
    });
    let view = document.view(Kind::new("thing"), &schema);
    let keys = ["", "name", "count", "shares/a", "shares/b", "other"];
    let again = document.refreshed(Kind::new("thing"), &schema, Default::default(), keys);
    assert_eq!(again, view, "what is read key by key");
    Told {
        heads: document.heads(),
        view,
        changes: document.changes_since(&[]),
        sample: document.sample(),
        history: history.collect(),
    }
}

fn puts() -> impl Strategy<Value = Vec<(String, ScalarValue, bool, bool)>> {
    let key = prop::sample::select(vec!["name", "count", "shares/a", "shares/b", "other", ""]);
    let ours = prop_oneof![
        Just(ScalarValue::Null),
        any::<bool>().prop_map(ScalarValue::Boolean),
        any::<i64>().prop_map(ScalarValue::Int),
        ".{0,40}".prop_map(|text| ScalarValue::Str(text.as_str().into())),
    ];
    let value = prop_oneof![
        12 => ours,
        1 => Just(ScalarValue::F64(1.5)),
        1 => Just(ScalarValue::Uint(7)),
        1 => Just(ScalarValue::Bytes(vec![1, 2])),
    ];
    // Few are deletes, or overwrite what is not there.
    let put = (key, value, prop::bool::weighted(0.03), prop::bool::weighted(0.03));
    let put = put.prop_map(|(key, value, deletes, over)| (key.to_owned(), value, deletes, over));
    prop_oneof![
        3 => prop::collection::vec(put.clone(), 1..6).prop_map(|mut puts| {
            puts.sort_by(|one, other| one.0.cmp(&other.0));
            puts.dedup_by(|one, other| one.0 == other.0);
            puts.retain(|one| !one.0.is_empty() || puts_are_odd(&one.1));
            puts
        }),
        1 => prop::collection::vec(put, 0..6),
    ]
}

/// Keeps some changes with an empty key.
fn puts_are_odd(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Boolean(true))
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    odd: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![9 => Just(usual), 1 => odd]
}

prop_compose! {
    /// First changes, of which most are as ours are and the others odd in some way.
    fn first()(
        puts in puts(),
        actor in mostly(vec![1; 16], prop::collection::vec(any::<u8>(), 0..20)),
        seq in mostly(1, 0..4_u64),
        start in mostly(1, 1..9_u64),
        time in any::<i64>(),
        message in prop::sample::select(vec![
            Some(AUTHOR.to_message()), Some(format!("{} 1", AUTHOR.to_message())),
            Some("hello".to_owned()), None,
        ]),
        extra in mostly(Vec::new(), prop::collection::vec(any::<u8>(), 1..9)),
    ) -> Option<Checked> {
        let actor_id = ActorId::from(actor);
        let op = |(key, value, deletes, over): (String, ScalarValue, bool, bool)| Op {
            action: if deletes { OpType::Delete } else { OpType::Put(value) },
            obj: ObjectId::Root,
            key: Key::Map(key.as_str().into()),
            pred: if over { vec![OpId::new(1, &actor_id)].into() } else { SortedVec::new() },
            insert: false,
        };
        let change = ExpandedChange {
            operations: puts.into_iter().map(op).collect(),
            actor_id: actor_id.clone(),
            author: None,
            hash: None,
            seq,
            start_op: NonZeroU64::new(start).unwrap(),
            time,
            message,
            deps: Vec::new(),
            extra_bytes: extra,
        };
        let bytes = Bytes::copy_from_slice(Change::from(change).raw_bytes());
        wall::inspect(&bytes).ok()
    }
}

/// What comes after a first change.
#[derive(Clone, Debug)]
enum Next {
    /// An edit here.
    Edit(Vec<(&'static str, Option<i64>)>),
    /// A change of another that had seen all that is here.
    Later(&'static str, i64),
    /// Another first change.
    Beside(Box<Option<Checked>>),
    /// All is put together.
    Compact,
}

fn next() -> impl Strategy<Value = Next> {
    let key = || prop::sample::select(vec!["name", "count", "shares/a", "shares/b"]);
    let edit = prop::collection::vec((key(), any::<Option<i64>>()), 1..3);
    prop_oneof![
        edit.prop_map(Next::Edit),
        (key(), any::<i64>()).prop_map(|(key, value)| Next::Later(key, value)),
        first().prop_map(|change| Next::Beside(Box::new(change))),
        Just(Next::Compact),
    ]
}

fn edit(document: &mut Document, puts: &[(&str, Option<i64>)], actor: u8) -> Option<Bytes> {
    let scalar = |value: Option<i64>| value.map_or(Scalar::Null, Scalar::Int);
    let puts = puts.iter().map(|(key, value)| ((*key).to_owned(), scalar(*value))).collect();
    Some(document.edit(puts, AUTHOR, Millis(9), || [actor; 16]).unwrap()?.bytes)
}

/// Has a document go on; returns what it makes.
fn go_on(document: &mut Document, next: &Next) -> Vec<Bytes> {
    match next {
        Next::Edit(puts) => edit(document, puts, 5).into_iter().collect(),
        Next::Later(key, value) => {
            let mut other = document.clone();
            let made = edit(&mut other, &[(key, Some(*value))], 6);
            let made: Vec<_> = made.iter().map(|bytes| wall::inspect(bytes).unwrap()).collect();
            document.receive(made).held.into_iter().map(|held| held.bytes).collect()
        }
        Next::Beside(change) => {
            let changes: Vec<_> = (**change).clone().into_iter().collect();
            if !document.can_receive(&changes) {
                return Vec::new();
            }
            let held = document.receive(changes).held;
            held.into_iter().map(|held| held.bytes).collect()
        }
        Next::Compact => {
            document.layering.loose = 1;
            let chunks = document.compact().chunks;
            chunks.into_iter().map(|chunk| chunk.bytes).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn a_first_change_is_read_as_automerge_reads_it(
        change in first(),
        then in prop::collection::vec(next(), 0..4),
    ) {
        let Some(change) = change else { return Ok(()) };
        let (mut plain, mut reference) = (Document::default(), by_automerge(change.layer));
        plain.receive(vec![change.clone()]);
        reference.receive(vec![change.clone()]);
        let read_as_it_is = plain.layers.values().any(|layer| layer.plain().is_some());
        prop_assert_eq!(read_as_it_is, change.plain && change.layer == 0);
        prop_assert!(!read_as_it_is || reference.unapplied() == 0, "automerge takes it");
        prop_assert_eq!(told(&plain), told(&reference));
        for next in then {
            let (made, expected) = (go_on(&mut plain, &next), go_on(&mut reference, &next));
            prop_assert_eq!(made, expected);
            unfold(&mut reference);
            prop_assert_eq!(told(&plain), told(&reference));
        }
    }

    #[test]
    fn a_first_edit_is_the_change_that_automerge_makes(
        puts in prop::collection::btree_map("[a-c/]{1,3}", ".{0,200}", 1..20),
        time in any::<i64>(),
    ) {
        let made = |mut document: Document| {
            let puts = puts.iter().map(|(key, value)| (key.clone(), Scalar::Text(value.clone())));
            let held = document.edit(puts.collect(), AUTHOR, Millis(time), || [1; 16]).unwrap();
            (held.map(|held| held.bytes), told_but_keys(&document))
        };
        prop_assert_eq!(made(Document::default()), made(by_automerge(0)));
    }
}

fn told_but_keys(document: &Document) -> (Vec<ChangeHash>, crate::doc::View) {
    let schema = Schema::new().with::<Thing>();
    (document.heads(), document.view(Kind::new("thing"), &schema))
}

#[test]
fn automerge_is_asked_once_there_is_a_second_change() {
    let mut document = Document::default();
    let first = edit(&mut document, &[("count", Some(1))], 1).unwrap();
    let is_plain = |document: &Document| document.layers[&0].plain().is_some();
    assert!(is_plain(&document));
    let row = StoredChange { layer: 0, number: 0, bytes: first };
    let stored = crate::doc::Stored { changes: vec![row], ..Default::default() };
    let (mut loaded, damaged) = Document::load(&stored, document.layering);
    assert!(is_plain(&loaded) && !damaged);
    edit(&mut loaded, &[("count", Some(2))], 2);
    assert!(!is_plain(&loaded));
    assert_eq!(told_but_keys(&loaded).1.fields["count"], Scalar::Int(2));
}
