//! The datagram between two servers: a version, the sender's root, and a packet of membership.

use bytes::{Buf, BufMut, Bytes};

use super::packet::{MAX_PACKET, Malformed};
use crate::sync::{Fingerprint, Message};

/// The version of datagrams that this one reads and writes.
pub const VERSION: u8 = 1;

const PREFIX: usize = 1 + 8 + 32;

/// The longest datagram, in bytes. A fresh QUIC connection takes 1,162.
pub const MAX_DATAGRAM: usize = PREFIX + MAX_PACKET;

/// Everything that a server holds, as one fingerprint: it travels with every probe, so that servers
/// which hold the same need say nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// Number of items.
    pub count: u64,
    /// The sum of their hashes.
    pub sum: [u64; 4],
}

impl From<Fingerprint> for Root {
    fn from(root: Fingerprint) -> Self {
        Self { count: root.count, sum: root.sum() }
    }
}

impl From<Root> for Message {
    fn from(root: Root) -> Self {
        Self::Root { count: root.count, sum: root.sum }
    }
}

/// Writes a datagram.
pub fn encode(root: Root, packet: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(PREFIX + packet.len());
    bytes.put_u8(VERSION);
    bytes.put_u64(root.count);
    root.sum.iter().for_each(|word| bytes.put_u64(*word));
    bytes.put_slice(packet);
    bytes.into()
}

/// Reads a datagram: its root, and the packet, which is looked at by
/// [`Membership::receive`](super::Membership::receive).
///
/// # Errors
/// It is too short or too long, or of another version.
pub fn decode(mut bytes: Bytes) -> Result<(Root, Bytes), Malformed> {
    match bytes.first() {
        Some(&VERSION) => {}
        Some(other) => return Err(Malformed::Unknown(*other)),
        None => return Err(Malformed::Short),
    }
    if bytes.len() < PREFIX {
        return Err(Malformed::Short);
    }
    if bytes.len() > MAX_DATAGRAM {
        return Err(Malformed::Long);
    }
    bytes.advance(1);
    let count = bytes.get_u64();
    let sum = std::array::from_fn(|_| bytes.get_u64());
    Ok((Root { count, sum }, bytes))
}
