//! What a public key is known by: a name that documents carry, whatever links servers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::ParseError;

/// What a public key is known by: the SHA-256 of its SubjectPublicKeyInfo (RFC 5280).
///
/// The default, all zeros, is the hash of no known key.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey([u8; 32]);

#[cfg(feature = "net")]
impl PublicKey {
    /// The key of this hash.
    pub(super) const fn of_hash(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl FromStr for PublicKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, "key: 64 hexadecimal digits are wanted");
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or_else(error)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(key))
    }
}
