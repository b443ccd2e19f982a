//! A home with the real agent on the local platform, in this process: what it does of its own accord.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/left.rs"]
mod left;
mod life;
mod old_data;
mod schedule;
mod volumes;
mod world;
