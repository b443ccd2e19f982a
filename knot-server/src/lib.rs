//! A knot server and its command-line client, as modules that the two programs wire together.

#![forbid(unsafe_code)]

mod access;
pub mod agent_binary;
pub mod api;
pub mod causes;
pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod dev;
pub mod https;
pub mod node;
pub mod pages;
pub mod ports;
pub mod spaces;
mod ssh;
pub mod users;
