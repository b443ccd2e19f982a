//! The SSH gateway, with OpenSSH's own client against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/block.rs"]
mod block;
#[path = "ssh/client.rs"]
mod client;
#[path = "ssh/commands.rs"]
mod commands;
#[path = "support/engine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod engine;
#[path = "ssh/files.rs"]
mod files;
#[path = "ssh/forwards.rs"]
mod forwards;
#[path = "ssh/host_key.rs"]
mod host_key;
#[path = "support/left.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod left;
#[path = "ssh/over.rs"]
mod over;
#[path = "ssh/people.rs"]
mod people;
#[path = "support/person.rs"]
mod person;
#[path = "support/screen.rs"]
mod screen;
#[path = "ssh/security_keys.rs"]
mod security_keys;
#[path = "ssh/several.rs"]
mod several;
#[path = "ssh/shared.rs"]
mod shared;
#[path = "ssh/sharing.rs"]
mod sharing;
#[path = "ssh/sign_in.rs"]
mod sign_in;
#[path = "ssh/terminal.rs"]
mod terminal;
#[path = "ssh/token.rs"]
mod token;
#[path = "support/wait.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wait;
#[path = "e2e/world.rs"]
#[allow(dead_code, reason = "the e2e tests use the rest")]
mod world;
