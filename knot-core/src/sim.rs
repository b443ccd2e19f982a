//! A virtual clock, network and disk to test convergence with.
//!
//! A [`World`] runs the very replicas that servers run, without a socket, a disk or a task: links are
//! cut, break and delay, servers are killed and restored from old copies, commits fail. Its judge, a
//! plain model that knows nothing of how replicas merge, says at the end whether all are equal and
//! no acknowledged edit was lost. Everything follows from a seed, so a failure can be played again.
//! That is the first tier; [`quic`] is the second: whole servers with real QUIC between them.
//!
//! An embedder tests its own document types by declaring [`Operation`]s on them:
//!
//! ```
//! use knot_core::{entity, id::Id, schema::Schema, sim};
//! use proptest::prelude::*;
//!
//! entity! {
//!     /// A thing to do.
//!     pub struct Task("task", 1) {
//!         /// What is to be done.
//!         title: Field<String>,
//!     }
//! }
//!
//! #[derive(Clone, Debug)]
//! struct Rename(String);
//!
//! impl sim::Operation for Rename {
//!     fn schema() -> Schema {
//!         Schema::new().with::<Task>()
//!     }
//!     fn strategy() -> BoxedStrategy<Self> {
//!         "[a-c]".prop_map(Rename).boxed()
//!     }
//!     fn action(&self) -> sim::Action {
//!         let title = self.0.clone();
//!         let the_task: Id<Task> = Id::of_key(&[b"the task"]);
//!         sim::Action::put(the_task, move |task| {
//!             task.set(Task::title, title);
//!             Ok(())
//!         })
//!     }
//! }
//!
//! sim::check::<Rename>(3).unwrap();
//! ```

mod action;
mod disk;
mod invariants;
mod joiner;
mod judge;
mod network;
pub mod quic;
mod schedule;
mod search;
mod world;

use std::{fmt, time::Duration};

pub use action::{Action, Operation};
pub use disk::Fault;
pub use network::{Carriage, Network, Traffic};
pub use schedule::{Report, Schedule, Step, run, schedule};
pub use search::{Counterexample, Played, Search, check};
pub use world::{Backup, Outcome, Ticket, World};

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    what: String,
    at: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "after {at:?}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Failure {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: None }
    }

    fn at(mut self, at: Duration) -> Self {
        self.at.get_or_insert(at);
        self
    }
}
