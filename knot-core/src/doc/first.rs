//! First changes that are read as they are, without automerge.
//!
//! Most documents are made in one change and then stay as they are, and an automerge document costs
//! ten times what reading that change does. So a layer's automerge document is made when something
//! else is to be held in it than one plain change.
//!
//! What is plain follows from a change's bytes alone, and every server must take it: held and applied
//! are one for it. automerge 0.12 refuses a change of an empty document only for an operation that it
//! cannot place, for a number or a counter that goes on from nothing, and for an actor that it cannot
//! name; a plain change has none of these, nor anything that reading would have to choose between.

use std::{
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
};

use automerge::{
    ActorId, Change, ExpandedChange,
    legacy::{Key, ObjectId, Op, OpType, SortedVec},
};

use super::{view::to_automerge, wall::Operation};
use crate::{clock::Millis, schema::Scalar};

/// The length of an actor's id, in bytes.
const ACTOR: usize = 16;

/// Whether a change is plain: the first of an actor, with nothing before it, that puts scalars of
/// ours at keys in ascending order, and says nothing else.
pub(super) fn is_plain(change: &Change, operations: &[Operation]) -> bool {
    let first = change.seq() == 1 && change.start_op() == NonZeroU64::MIN;
    let alone = change.deps().is_empty()
        && change.other_actor_ids().is_empty()
        && change.actor_id().to_bytes().len() == ACTOR;
    let puts =
        |one: &Operation| one.value.is_some() && one.overwrites.is_empty() && !one.key.is_empty();
    first
        && alone
        && change.extra_bytes().is_empty()
        && !operations.is_empty()
        && operations.iter().all(puts)
        && operations.is_sorted_by(|one, next| one.key < next.key)
}

/// The plain change that automerge would make of these keys, in ascending order; `None` where that
/// would not be one.
pub(super) fn write(
    puts: &[(String, Scalar)],
    message: &str,
    time: Millis,
    actor: &ActorId,
) -> Option<Change> {
    if puts.is_empty() || puts.iter().any(|(key, _)| key.is_empty()) {
        return None;
    }
    let put = |(key, value): &(String, Scalar)| Op {
        action: OpType::Put(to_automerge(value.clone())),
        obj: ObjectId::Root,
        key: Key::Map(key.as_str().into()),
        pred: SortedVec::new(),
        insert: false,
    };
    let change = ExpandedChange {
        operations: puts.iter().map(put).collect(),
        actor_id: actor.clone(),
        author: None,
        hash: None,
        seq: 1,
        start_op: NonZeroU64::MIN,
        time: time.0,
        message: Some(message.to_owned()),
        deps: Vec::new(),
        extra_bytes: Vec::new(),
    };
    catch_unwind(AssertUnwindSafe(|| Change::from(change))).ok()
}

#[cfg(test)]
mod tests;
