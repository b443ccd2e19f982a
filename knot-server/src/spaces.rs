//! Running spaces: the home of a space closes the difference between what is wanted and what is.
//!
//! [`plan`] says what to do next, purely; a worker for each space does it on a driver and writes
//! down what came of it in this server's record. Any server writes what is wanted; only the home
//! acts.

pub mod answers;
pub(crate) mod current;
pub mod drivers;
pub(crate) mod engines;
pub(crate) mod fill;
pub mod logs;
pub mod plan;
pub mod policy;
pub(crate) mod render;
pub(crate) mod rendezvous;
pub mod restart;
pub mod schedule;
mod service;
pub mod stand_in;
pub mod trust;
pub mod usage;
pub(crate) mod validity;
mod volumes;
pub(crate) mod wishes;
mod worker;

use std::time::Duration;

pub use engines::Engines;
pub use service::Service;
pub(crate) use volumes::engine_id;

/// How a server runs its spaces.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a container may take to come up, its image's download included.
    pub start_deadline: Duration,
    /// How long a container has to end by itself before it is killed.
    pub stop_grace: Duration,
    /// How long the volumes of a deleted space are kept.
    pub volume_grace: Duration,
    /// Whether spaces are stopped when the server stops. What is wanted of them does not change: a
    /// space that should run is started again with the server.
    pub stop_on_exit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start_deadline: Duration::from_secs(15 * 60),
            stop_grace: Duration::from_secs(10),
            volume_grace: Duration::from_secs(24 * 60 * 60),
            stop_on_exit: false,
        }
    }
}
