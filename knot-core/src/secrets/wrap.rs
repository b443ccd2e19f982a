//! Data keys sealed for one server each: HPKE (RFC 9180) in base mode, with X25519, HKDF-SHA256 and
//! ChaCha20-Poly1305.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _,
    kem::X25519HkdfSha256 as Kem,
};
use zeroize::Zeroizing;

use crate::schema::{FieldValue, Key, Scalar};

type Kdf = hpke::kdf::HkdfSha256;
type Cipher = hpke::aead::ChaCha20Poly1305;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;
type EncappedKey = <Kem as hpke::Kem>::EncappedKey;

/// What HPKE binds everything here to.
const INFO: &[u8] = b"knot data key 1";
/// The length of an X25519 key and of an encapsulated one, in bytes.
const KEY: usize = 32;

/// 32 secret bytes; wiped when dropped.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// A key could not be made, read, or used. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrapError {
    /// The text or bytes are no X25519 key.
    #[error("this is no sealing key: base64 of 32 bytes is wanted")]
    Key,
    /// It was not sealed for this key, or was changed since.
    #[error("it was sealed for another server, or has been damaged")]
    NotOurs,
    /// The cipher failed.
    #[error("it could not be sealed")]
    Cipher,
}

/// The public half of a server's sealing key: what is sealed for it, it alone can open.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealingKey([u8; KEY]);

impl fmt::Display for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({self})")
    }
}

impl FromStr for SealingKey {
    type Err = WrapError;

    fn from_str(text: &str) -> Result<Self, WrapError> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| WrapError::Key)?;
        bytes.try_into().map(Self).map_err(|_| WrapError::Key)
    }
}

impl From<SealingKey> for String {
    fn from(key: SealingKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for SealingKey {
    type Error = WrapError;

    fn try_from(text: String) -> Result<Self, WrapError> {
        text.parse()
    }
}

impl serde::Serialize for SealingKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for SealingKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Key for SealingKey {
    fn to_key(&self) -> String {
        self.to_string()
    }

    fn from_key(key: &str) -> Option<Self> {
        key.parse().ok()
    }
}

impl FieldValue for SealingKey {
    fn to_scalar(&self) -> Scalar {
        Scalar::Text(self.to_string())
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// A server's X25519 key pair. Its `Debug` form shows the public half only.
pub struct SealingKeyPair {
    private: PrivateKey,
    public: SealingKey,
}

impl SealingKeyPair {
    /// A new random key pair.
    pub fn generate() -> Self {
        Self::new(Kem::gen_keypair_with_rng(&mut rand::rng()).0)
    }

    /// Reads what [`SealingKeyPair::to_base64`] wrote.
    ///
    /// # Errors
    /// The text is no key.
    pub fn from_base64(text: &str) -> Result<Self, WrapError> {
        let bytes =
            Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| WrapError::Key)?);
        PrivateKey::from_bytes(&bytes).map(Self::new).map_err(|_| WrapError::Key)
    }

    fn new(private: PrivateKey) -> Self {
        let public = SealingKey(Kem::sk_to_pk(&private).to_bytes().into());
        Self { private, public }
    }

    /// The private key as text. A secret.
    pub fn to_base64(&self) -> Zeroizing<String> {
        let bytes: Zeroizing<[u8; KEY]> = Zeroizing::new(self.private.to_bytes().into());
        Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes))
    }

    /// The public half.
    pub fn public(&self) -> SealingKey {
        self.public
    }

    /// Opens what [`Wrapped::wrap`] sealed for this key and this purpose.
    pub(super) fn unwrap(&self, wrapped: &Wrapped, purpose: &[u8]) -> Result<Secret, WrapError> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&wrapped.0).map_err(|_| WrapError::NotOurs)?;
        let (encapped, text) = bytes.split_at_checked(KEY).ok_or(WrapError::NotOurs)?;
        let encapped = EncappedKey::from_bytes(encapped).map_err(|_| WrapError::NotOurs)?;
        let opened = hpke::single_shot_open::<Cipher, Kdf, Kem>(
            &OpModeR::Base,
            &self.private,
            &encapped,
            INFO,
            text,
            purpose,
        );
        let opened = Zeroizing::new(opened.map_err(|_| WrapError::NotOurs)?);
        opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| WrapError::NotOurs)
    }
}

impl fmt::Debug for SealingKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeyPair({})", self.public)
    }
}

/// A data key as one server may open it: base64 of the encapsulated key and the sealed text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wrapped(String);

impl Wrapped {
    /// Seals a secret so that the holder of `receiver` opens it, for this purpose only.
    pub(super) fn wrap(
        secret: &Secret,
        receiver: SealingKey,
        purpose: &[u8],
    ) -> Result<Self, WrapError> {
        let receiver =
            <Kem as hpke::Kem>::PublicKey::from_bytes(&receiver.0).map_err(|_| WrapError::Key)?;
        let (encapped, text) = hpke::single_shot_seal_with_rng::<Cipher, Kdf, Kem>(
            &OpModeS::Base,
            &receiver,
            INFO,
            secret.as_slice(),
            purpose,
            &mut rand::rng(),
        )
        .map_err(|_| WrapError::Cipher)?;
        let bytes = [encapped.to_bytes().as_slice(), &text].concat();
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }
}

impl FieldValue for Wrapped {
    fn to_scalar(&self) -> Scalar {
        Scalar::Text(self.0.clone())
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(Self(text.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_for_one_server_and_purpose_is_opened_by_no_other() {
        let (one, other) = (SealingKeyPair::generate(), SealingKeyPair::generate());
        let secret = Zeroizing::new([7; 32]);
        let wrapped = Wrapped::wrap(&secret, one.public(), b"a").unwrap();
        assert_eq!(one.unwrap(&wrapped, b"a"), Ok(secret));
        assert_eq!(one.unwrap(&wrapped, b"b"), Err(WrapError::NotOurs));
        assert_eq!(other.unwrap(&wrapped, b"a"), Err(WrapError::NotOurs));
        for text in ["", "AAAA", &wrapped.0[..wrapped.0.len() - 4]] {
            assert_eq!(one.unwrap(&Wrapped(text.to_owned()), b"a"), Err(WrapError::NotOurs));
        }
    }

    #[test]
    fn a_key_pair_survives_being_written_and_shows_no_secret() {
        let key = SealingKeyPair::generate();
        let back = SealingKeyPair::from_base64(&key.to_base64()).unwrap();
        assert_eq!(back.public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!(!format!("{key:?}").contains(key.to_base64().as_str()));
    }
}
