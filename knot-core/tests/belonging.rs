//! Who belongs, with which keys, and who can open what: whole servers in one process, over real
//! QUIC. The names are those of the schedules that a cluster without a leader must survive.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

#[path = "belonging/keys.rs"]
mod keys;
#[path = "belonging/removal.rs"]
mod removal;
#[path = "belonging/secrets.rs"]
mod secrets;
#[path = "belonging/world.rs"]
mod world;
