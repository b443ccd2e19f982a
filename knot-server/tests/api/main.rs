//! The HTTP API as a specification: real replicas, the real router on a real socket, and a client.
//! What lies beyond the API, other servers' links and agents, is played by the tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod command;
mod description;
mod events;
mod exec;
mod groups;
mod insight;
mod keys;
mod last_valid;
mod pages;
mod parameters;
mod ports;
mod revisions;
mod servers;
mod sessions;
mod sharing;
mod spaces;
mod templates;
mod terminals;
mod variables;
mod volumes;
mod world;
