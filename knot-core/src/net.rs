//! The network, with feature `net`: keys and TLS, and (with feature `replica` too) the links between
//! servers and to agents. Without it there is only [`PublicKey`], which documents carry.

#[cfg(all(feature = "net", feature = "replica"))]
mod agents;
#[cfg(all(feature = "net", feature = "replica"))]
pub mod alone;
#[cfg(all(feature = "net", feature = "replica"))]
mod dial;
#[cfg(all(feature = "net", feature = "replica"))]
mod directory;
#[cfg(all(feature = "net", feature = "replica"))]
mod enrol;
#[cfg(all(feature = "net", feature = "replica"))]
pub mod identity;
#[cfg(all(feature = "net", feature = "replica"))]
pub mod join;
#[cfg(feature = "net")]
pub mod keys;
#[cfg(all(feature = "net", feature = "replica"))]
mod linking;
#[cfg(all(feature = "net", feature = "replica"))]
mod links;
#[cfg(all(feature = "net", feature = "replica"))]
mod own;
#[cfg(all(feature = "net", feature = "replica"))]
mod peer;
#[cfg(all(feature = "net", feature = "replica"))]
pub mod probe;
mod public_key;
#[cfg(all(feature = "net", feature = "replica"))]
mod questions;
#[cfg(all(feature = "net", feature = "replica"))]
mod service;
#[cfg(all(feature = "net", feature = "replica"))]
mod socket;
#[cfg(all(feature = "net", feature = "replica"))]
mod swim;
#[cfg(feature = "net")]
pub mod tls;
#[cfg(feature = "net")]
mod udp;
#[cfg(all(feature = "net", feature = "replica"))]
mod upkeep;

#[cfg(all(feature = "net", feature = "replica"))]
pub use agents::{AgentPresence, Agents, Call, OpenError, Way};
#[cfg(feature = "net")]
pub use keys::{Authority, KeyPair};
#[cfg(all(feature = "net", feature = "replica"))]
pub use links::{Links, Reach, SKEW, Traffic};
pub use public_key::PublicKey;
#[cfg(all(feature = "net", feature = "replica"))]
pub use questions::{AskError, Asked};
#[cfg(all(feature = "net", feature = "replica"))]
pub use service::{Error, Net, Service, Standing, bind, server_addresses};
#[cfg(all(feature = "net", feature = "replica"))]
pub use socket::Socket;
#[cfg(feature = "net")]
pub use udp::udp;
#[cfg(all(feature = "net", feature = "replica"))]
pub use upkeep::RenewalError;
