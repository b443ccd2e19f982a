//! The program that runs inside a space: it dials servers, and runs what they ask it to run.
//!
//! It holds no state worth keeping and trusts only servers whose keys its launch, or a server it
//! trusts, has named. One thread runs everything, so that it stays small beside what people run.
//!
//! - [`links`] decides which servers to be linked to, without a socket or a clock.
//! - [`agent`] does what it decides, and ends in bounded time when told to.
//! - [`session`] runs one command for one stream; [`process`] starts it, [`terminal`] and [`leader`]
//!   give it a terminal, [`children`] learns how it ended.

#![forbid(unsafe_code)]

pub mod account;
pub mod agent;
pub mod children;
pub mod launch;
pub mod leader;
pub mod link;
pub mod links;
pub mod process;
pub mod program;
pub mod session;
pub mod terminal;
