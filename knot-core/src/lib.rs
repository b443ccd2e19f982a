//! Replicated state without a leader.

#![forbid(unsafe_code)]

pub mod agent;
pub mod clock;
#[cfg(feature = "replica")]
pub mod doc;
pub mod generation;
pub mod id;
#[cfg(feature = "replica")]
pub mod model;
pub mod net;
#[cfg(feature = "replica")]
pub mod replica;
#[cfg(feature = "replica")]
pub mod schema;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "replica")]
pub mod store;
#[cfg(feature = "replica")]
pub mod sync;
pub mod wire;
