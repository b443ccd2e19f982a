//! What simulated clients ask of servers.

use std::fmt;

use bytes::Bytes;
use proptest::strategy::BoxedStrategy;
use serde::Serialize;

use crate::{
    id::{DocId, Id},
    replica::{EditError, EditFn, Replica, edit_fn},
    schema::{Edit, Entity, Schema},
    wire,
};

/// An embedder's operations: what a schedule has servers do with the embedder's documents, and what
/// must hold of these.
///
/// ```
/// use knot_core::{entity, id::Id, replica::Replica, schema::Schema, sim};
/// use proptest::prelude::*;
///
/// entity! {
///     /// A flight of stairs that is only ever climbed.
///     pub struct Stairs("stairs", 1) {
///         /// The highest step that somebody stood on: of several, the largest counts.
///         step: Field<u64> [LargestWins],
///         /// Whether anybody has been there.
///         used: Field<bool>,
///     }
/// }
///
/// #[derive(Clone, Debug)]
/// struct Climb;
///
/// fn stairs() -> Id<Stairs> {
///     Id::of_key(&[b"the stairs"])
/// }
///
/// impl sim::Operation for Climb {
///     fn schema() -> Schema {
///         Schema::new().with::<Stairs>()
///     }
///     fn strategy() -> BoxedStrategy<Self> {
///         Just(Climb).boxed()
///     }
///     fn action(&self) -> sim::Action {
///         sim::Action::put(stairs(), |stairs| {
///             stairs.set(Stairs::step, stairs.step + 1);
///             stairs.set(Stairs::used, true);
///             Ok(())
///         })
///     }
///     fn always(replica: &Replica) -> Result<(), String> {
///         match replica.get(stairs()) {
///             Some(stairs) if stairs.step > 0 && !stairs.used => Err("half an edit".to_owned()),
///             _ => Ok(()),
///         }
///     }
///     fn settled(replicas: &[Replica]) -> Result<(), String> {
///         let steps = replicas.iter().map(|one| one.get(stairs()).map_or(0, |one| one.step));
///         let (least, most) = (steps.clone().min(), steps.max());
///         if least == most { Ok(()) } else { Err(format!("{least:?} and {most:?}")) }
///     }
/// }
///
/// sim::check::<Climb>(10).unwrap();
/// ```
pub trait Operation: Clone + fmt::Debug + 'static {
    /// The document types that the operations use.
    fn schema() -> Schema;
    /// Any one operation. Few documents and few values make the most conflicts.
    fn strategy() -> BoxedStrategy<Self>;
    /// What the operation asks of the server that it comes to.
    fn action(&self) -> Action;

    /// What must hold of a server's replica at any time: it is asked after whatever a server does,
    /// often, and so must be quick. An error says what does not hold, and ends the schedule.
    fn always(replica: &Replica) -> Result<(), String> {
        let _ = replica;
        Ok(())
    }

    /// What must hold of all servers' replicas once all faults have ended and they are equal. That
    /// they are equal, show what was written, and lost nothing has been seen to already.
    fn settled(replicas: &[Replica]) -> Result<(), String> {
        let _ = replicas;
        Ok(())
    }
}

/// One thing asked of one server.
pub struct Action(pub(super) What);

pub(super) enum What {
    Edit { doc: DocId, must_exist: bool, edit: EditFn },
    Delete(DocId),
    Observe(DocId, Option<Bytes>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Edit { doc, must_exist: true, .. } => write!(f, "edit {doc}"),
            What::Edit { doc, must_exist: false, .. } => write!(f, "put {doc}"),
            What::Delete(doc) => write!(f, "delete {doc}"),
            What::Observe(subject, _) => write!(f, "observe {subject}"),
        }
    }
}

impl Action {
    /// Edits a document, and makes it where it does not exist: [`put`](crate::replica::Replica::put).
    pub fn put<E, F>(id: Id<E>, edit: F) -> Self
    where
        E: Entity + Default,
        F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
    {
        Self(What::Edit { doc: id.into(), must_exist: false, edit: edit_fn(edit) })
    }

    /// Edits a document that exists: [`edit`](crate::replica::Replica::edit).
    pub fn edit<E, F>(id: Id<E>, edit: F) -> Self
    where
        E: Entity + Default,
        F: FnOnce(&mut Edit<'_, E>) -> Result<(), EditError> + Send + 'static,
    {
        Self(What::Edit { doc: id.into(), must_exist: true, edit: edit_fn(edit) })
    }

    /// Deletes a document: [`delete`](crate::replica::Replica::delete).
    pub fn delete<E: Entity>(id: Id<E>) -> Self {
        Self(What::Delete(id.into()))
    }

    /// Writes the server's record about a subject: [`observe`](crate::replica::Replica::observe).
    /// A value that cannot be encoded is recorded as withdrawn.
    pub fn observe<T: Serialize>(subject: impl Into<DocId>, value: &T) -> Self {
        Self(What::Observe(subject.into(), wire::encode(value).ok().map(Bytes::from)))
    }
}
