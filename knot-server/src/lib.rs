//! A knot server and its command-line client, as modules that the two programs wire together.

#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod pages;
pub mod spaces;
pub mod users;
