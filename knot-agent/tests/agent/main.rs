//! The real agent against a real QUIC server: what a server may rely on.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, and what tests share has none"
)]

mod commands;
mod connections;
mod kept;
mod life;
mod links;
mod terminals;
mod watching;
mod world;
