//! Waiting until an edit is on more servers than this one.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Committed, Input, Replica};
use crate::{schema::Entity, sync::Heads};

/// An edit is not known to be on as many servers as were asked for. **The edit stands**: it is
/// durable on this server, and travels on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// Fewer servers are linked than were asked for, this one counted. Nothing was waited for.
    #[error("kept here; {wanted} servers cannot hold it while {linked} are linked")]
    TooFew {
        /// How many were asked for.
        wanted: usize,
        /// How many could hold it now.
        linked: usize,
    },
    /// The time is over. Others may hold it and not have said so.
    #[error("kept here, not yet on {wanted}: {held} servers are known to hold it")]
    NotYet {
        /// How many were asked for.
        wanted: usize,
        /// How many are known to hold it, this one counted.
        held: usize,
    },
    /// As many edits are waited for as may be. Nothing was waited for.
    #[error("kept here; too many edits are waited for to wait for this one")]
    Busy,
    /// The replica was stopped meanwhile.
    #[error("kept here; this server is stopping")]
    Stopped,
}

impl Replica {
    /// Waits until `servers` servers hold an edit, this one counted: each has said so after its own
    /// commit, holds all that the edit depends on (or knows the document to be dead), is linked and
    /// has not been removed from the cluster. A deletion is held once its grave is.
    ///
    /// An answer counts until it is noticed that the link it came by is gone: what its sender loses
    /// after it has answered, nobody can know.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use knot_core::{id::{Author, Id}, model::Template, replica::{DurableError, EditError, Replica}};
    /// # async fn rename(replica: &Replica, id: Id<Template>, author: Author) -> Result<(), EditError> {
    /// let edit = replica.edit(id, author, |template| {
    ///     template.set(Template::description, "for tests".to_owned());
    ///     Ok(())
    /// });
    /// let committed = edit.await?;
    /// match replica.durable_on(&committed, 2, Duration::from_secs(5)).await {
    ///     Ok(()) => println!("the loss of this server would not lose it"),
    ///     Err(not_yet) => println!("{not_yet}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Fewer servers are linked, or the time is over, or too many edits are waited for. The edit
    /// stands in each case.
    pub async fn durable_on<E: Entity>(
        &self,
        committed: &Committed<E>,
        servers: usize,
        bound: Duration,
    ) -> Result<(), DurableError> {
        let (reply, answer) = oneshot::channel();
        let input = Input::DurableOn {
            edit: Heads { doc: committed.id.into(), heads: committed.heads.clone() },
            servers,
            bound,
            reply: Box::new(move |outcome| {
                reply.send(outcome).ok();
            }),
        };
        self.send(input).await.map_err(|_| DurableError::Stopped)?;
        answer.await.map_err(|_| DurableError::Stopped)?
    }
}
