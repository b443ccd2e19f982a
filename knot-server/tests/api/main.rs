//! The HTTP API as a specification: real replicas, the real router on a real socket, and a client.
//! What lies beyond the API, other servers' links and agents, is played by the tests.

mod description;
mod events;
mod exec;
mod pages;
mod servers;
mod sessions;
mod spaces;
mod templates;
mod world;
