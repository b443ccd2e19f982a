//! The network: keys and TLS, and (with feature `replica`) the links between servers and to agents.

pub mod keys;
pub mod tls;

pub use keys::{Authority, KeyPair, PublicKey};
