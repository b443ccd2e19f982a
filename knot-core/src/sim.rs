//! A virtual clock, network and disk to test convergence with.
//!
//! A [`World`] runs the very replicas that servers run, without a socket, a disk or a task: links are
//! cut, break and delay, servers are killed and restored from old copies, commits fail. Its judge, a
//! plain model that knows nothing of how replicas merge, says at the end whether all are equal and
//! no acknowledged edit was lost. Everything follows from a seed, so a failure can be played again.
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
mod judge;
mod network;
mod schedule;
mod world;

use std::{cell::Cell, env, fmt, time::Duration};

pub use action::{Action, Operation};
pub use disk::Fault;
pub use network::{Carriage, Network, Traffic};
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};
pub use schedule::{Report, Schedule, Step, run, schedule};
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

/// A schedule that failed, made as small as could be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("KNOT_SIM_SEED={seed} plays this again: {reason}\n{schedule}")]
pub struct Counterexample {
    /// What to set `KNOT_SIM_SEED` to.
    pub seed: u64,
    /// What happened.
    pub reason: String,
    /// The schedule, as text.
    pub schedule: String,
}

/// What [`check`] has played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// How many schedules.
    pub schedules: u64,
    /// The longest that replicas took to become equal once all faults had ended.
    pub slowest: Duration,
}

/// Plays schedules number 0 to `cases`, or as many as the environment variable `KNOT_SIM_CASES`
/// says; or only the one of the number `KNOT_SIM_SEED`.
///
/// # Errors
/// The first that failed, shrunk.
pub fn check<O: Operation>(cases: u64) -> Result<Played, Box<Counterexample>> {
    let variable = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match variable("KNOT_SIM_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..variable("KNOT_SIM_CASES").unwrap_or(cases),
    };
    let mut played = Played::default();
    for seed in seeds {
        played.slowest = played.slowest.max(check_one::<O>(seed)?);
        played.schedules += 1;
    }
    Ok(played)
}

fn check_one<O: Operation>(seed: u64) -> Result<Duration, Box<Counterexample>> {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
    let config = Config {
        cases: 1,
        failure_persistence: None::<Box<FileFailurePersistence>>.map(|one| one as _),
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let settled = Cell::new(Duration::ZERO);
    let played = TestRunner::new_with_rng(config, rng).run(&schedule::<O>(), |schedule| {
        match run(&schedule) {
            Ok(report) => settled.set(report.settled),
            Err(failure) => return Err(TestCaseError::fail(failure.to_string())),
        }
        Ok(())
    });
    let text = |schedule: &Schedule<O>| {
        let Schedule { seed, servers, direct, network, steps } = schedule;
        let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
        format!(
            "{servers} servers, direct to {direct}, seed {seed}, {network:?}\n{}",
            steps.join("\n")
        )
    };
    played.map(|()| settled.get()).map_err(|error| {
        let (reason, schedule) = match error {
            TestError::Fail(reason, schedule) => (reason.to_string(), text(&schedule)),
            TestError::Abort(reason) => (reason.to_string(), String::new()),
        };
        Box::new(Counterexample { seed, reason, schedule })
    })
}
