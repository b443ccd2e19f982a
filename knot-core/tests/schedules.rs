//! Schedules that break designs like ours, each by its name.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "schedules/apart.rs"]
mod apart;
#[path = "schedules/changes.rs"]
mod changes;
#[path = "schedules/deletion.rs"]
mod deletion;
#[path = "schedules/layers.rs"]
mod layers;
#[path = "schedules/traffic.rs"]
mod traffic;
#[path = "schedules/world.rs"]
mod world;
