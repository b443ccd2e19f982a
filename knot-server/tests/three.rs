//! Spaces on three real servers that are killed, cut off from each other, and healed.
//!
//! Every server process is reached by its peers through a forwarder of the test, which can be cut; the
//! containers are processes of the `local` platform, and the test counts them itself.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

#[path = "three/access.rs"]
mod access;
#[path = "support/block.rs"]
mod block;
#[path = "three/docker.rs"]
mod docker;
#[path = "support/engine.rs"]
mod engine;
#[path = "drivers/nomad.rs"]
#[allow(dead_code, reason = "the tests of drivers look at more of it")]
mod fake_nomad;
#[path = "three/forward.rs"]
mod forward;
#[path = "support/left.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod left;
#[path = "three/nomad.rs"]
mod nomad;
#[path = "drivers/podman.rs"]
#[allow(dead_code, reason = "the tests of drivers use more of it")]
mod podman;
#[path = "three/random.rs"]
mod random;
#[path = "drivers/registry.rs"]
mod registry;
#[path = "three/registry.rs"]
mod registry_images;
#[path = "three/schedules.rs"]
mod schedules;
#[path = "support/wait.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wait;
#[path = "three/world.rs"]
mod world;
