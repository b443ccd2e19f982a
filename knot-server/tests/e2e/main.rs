//! What a user does, end to end: real processes, real QUIC and SQLite, the real `knot` client, a real
//! browser, and real containers where an engine answers.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

mod bad_input;
#[path = "../support/block.rs"]
mod block;
mod browser;
#[path = "../support/engine.rs"]
mod engine;
mod files;
mod https;
#[path = "../support/left.rs"]
mod left;
mod life;
mod nodes;
mod ports;
mod relayed;
mod stopped;
mod terminal;
#[path = "../support/wait.rs"]
mod wait;
mod world;
