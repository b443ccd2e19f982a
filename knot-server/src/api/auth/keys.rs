//! Texts that only a server of this cluster can have written.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 256;
/// The length of a signature, in bytes.
const SIGNATURE: usize = 32;

/// What a text is for. Each has its own space of signatures: a text for one is none for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Session,
    Token,
    Link,
}

impl Purpose {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Session => b"knot session 1\0",
            Self::Token => b"knot token 1\0",
            Self::Link => b"knot link 1\0",
        }
    }
}

/// The cluster's signing key.
#[derive(Clone)]
pub struct Keys(Hmac<Sha256>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Signs and reads with this key, the same on every server of the cluster.
    pub fn new(key: &[u8; 32]) -> Self {
        // HMAC fills a shorter key up with zeros.
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        Self(Hmac::new(&block.into()))
    }

    /// The payload and its signature, as text for a header or an address.
    pub(super) fn seal(&self, purpose: Purpose, payload: &[u8]) -> String {
        let mac = self.0.clone().chain_update(purpose.tag()).chain_update(payload);
        let signature = mac.finalize().into_bytes();
        BASE64_URL_SAFE_NO_PAD.encode([payload, signature.as_slice()].concat())
    }

    /// The payload, if the text was sealed with this key for this purpose.
    pub(super) fn open(&self, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let signature = bytes.split_off(bytes.len().checked_sub(SIGNATURE)?);
        let mac = self.0.clone().chain_update(purpose.tag()).chain_update(&bytes);
        mac.verify_slice(&signature).ok()?;
        Some(bytes)
    }
}
