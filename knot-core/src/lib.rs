//! Replicated state without a leader.

#![forbid(unsafe_code)]

pub mod agent;
pub mod generation;
pub mod net;
pub mod wire;
