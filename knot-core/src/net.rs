//! The network: keys and TLS, and (with feature `replica`) the links between servers and to agents.

#[cfg(feature = "replica")]
mod agents;
#[cfg(feature = "replica")]
pub mod alone;
#[cfg(feature = "replica")]
mod dial;
#[cfg(feature = "replica")]
mod directory;
#[cfg(feature = "replica")]
pub mod identity;
#[cfg(feature = "replica")]
pub mod join;
pub mod keys;
#[cfg(feature = "replica")]
mod links;
#[cfg(feature = "replica")]
mod own;
#[cfg(feature = "replica")]
mod peer;
#[cfg(feature = "replica")]
pub mod probe;
#[cfg(feature = "replica")]
mod service;
pub mod tls;
#[cfg(feature = "replica")]
mod upkeep;

#[cfg(feature = "replica")]
pub use agents::{AgentPresence, Agents, OpenError};
pub use keys::{Authority, KeyPair, PublicKey};
#[cfg(feature = "replica")]
pub use links::{Links, Reach, SKEW};
#[cfg(feature = "replica")]
pub use service::{Error, Net, Service, Standing, bind, server_addresses};
#[cfg(feature = "replica")]
pub use upkeep::RenewalError;
