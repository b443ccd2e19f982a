//! The network: keys and TLS, and (with feature `replica`) the links between servers and to agents.

#[cfg(feature = "replica")]
mod agents;
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
mod peer;
#[cfg(feature = "replica")]
mod service;
#[cfg(feature = "replica")]
mod socket;
#[cfg(feature = "replica")]
mod swim;
pub mod tls;

#[cfg(feature = "replica")]
pub use agents::{AgentPresence, Agents, OpenError};
pub use keys::{Authority, KeyPair, PublicKey};
#[cfg(feature = "replica")]
pub use links::{Links, Reach};
#[cfg(feature = "replica")]
pub use service::{Error, Net, Service, bind, server_addresses};
#[cfg(feature = "replica")]
pub use socket::Socket;
