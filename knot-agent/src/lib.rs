//! The program that runs inside a space: it dials servers, and runs what they ask it to run.
//!
//! It holds no state worth keeping and trusts only servers whose keys its launch, or a server it
//! trusts, has named. One thread runs everything, so that it stays small beside what people run.
//!
//! - [`links`] decides which servers to be linked to, without a socket or a clock.
//! - [`agent`] does what it decides, and ends in bounded time when told to.
//! - [`sessions`] serves one stream each: a command, which [`process`] starts, to which [`terminal`],
//!   [`modes`] and [`leader`] give a terminal, and of which [`children`] learns how it ended; a connection, to what
//!   [`names`] may have to resolve; a listener; files; datagrams.
//! - [`monitor`] looks at the space and reports: [`checks`] says when to ask and what the answers
//!   mean, [`probe`] asks, [`activity`] knows when the space was last used, [`usage`] what it takes up.
//! - [`script`] runs the startup and the shutdown script.

#![forbid(unsafe_code)]

pub mod account;
pub mod activity;
pub mod agent;
pub mod checks;
pub mod children;
pub mod forwards;
pub mod launch;
pub mod leader;
pub mod link;
pub mod links;
pub mod modes;
pub mod monitor;
pub mod names;
pub mod probe;
pub mod process;
pub mod program;
pub mod script;
pub mod sessions;
pub mod terminal;
pub mod usage;
