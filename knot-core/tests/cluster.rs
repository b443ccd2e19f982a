//! Whole servers in one process, with real QUIC on loopback and real SQLite: their links, who belongs,
//! with which keys, and who can open what. The names are those of the schedules that a cluster without
//! a leader must survive.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

#[path = "cluster/agents.rs"]
mod agents;
#[path = "cluster/clone.rs"]
mod clone;
#[path = "cluster/joining.rs"]
mod joining;
#[path = "cluster/keys.rs"]
mod keys;
#[path = "cluster/links.rs"]
mod links;
#[path = "cluster/removal.rs"]
mod removal;
#[path = "cluster/secrets.rs"]
mod secrets;
#[path = "cluster/strangers.rs"]
mod strangers;
#[path = "cluster/world.rs"]
mod world;
