//! Texts that only a server of this cluster can have written.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use knot_core::{
    id::Id,
    model::SessionKey,
    secrets::{Keyring, SessionKeys, SigningKey},
};
use sha2::Sha256;
use uuid::Uuid;

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 256;
/// The length of a signature, in bytes.
const SIGNATURE: usize = 32;
/// The length of a session key's id, in bytes.
const KEY: usize = 16;

/// What a text is for. Each has its own space of signatures: a text for one is none for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Session,
    Token,
    Link,
    PortTicket,
    PortPass,
}

impl Purpose {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Session => b"knot session 1\0",
            Self::Token => b"knot token 1\0",
            Self::Link => b"knot link 1\0",
            Self::PortTicket => b"knot port ticket 1\0",
            Self::PortPass => b"knot port pass 1\0",
        }
    }
}

/// Nothing can be signed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this server has not received the cluster's session keys yet: try again in a moment, or through \
     another server"
)]
pub struct NoKey;

/// The cluster's signing keys: the newest signs, any that lives is taken.
#[derive(Clone, Debug)]
pub struct Keys(SessionKeys);

/// A text taken apart, its signature not looked at.
pub(super) struct Signed {
    pub(super) payload: Vec<u8>,
    key: Id<SessionKey>,
    signature: [u8; SIGNATURE],
}

impl Keys {
    /// Signs and reads with the session keys of this cluster.
    pub fn new(sessions: SessionKeys) -> Self {
        Self(sessions)
    }

    /// The session keys.
    pub fn sessions(&self) -> &SessionKeys {
        &self.0
    }

    /// What this server opens and seals secrets with.
    pub fn keyring(&self) -> &Keyring {
        self.0.keyring()
    }

    /// The payload, the id of the newest key, and its signature, as text for a header or an address.
    pub(super) fn seal(&self, purpose: Purpose, payload: &[u8]) -> Result<String, NoKey> {
        let key = self.0.newest().ok_or(NoKey)?;
        let signature = mac(&key, purpose, payload).finalize().into_bytes();
        let id = key.id.uuid();
        Ok(BASE64_URL_SAFE_NO_PAD.encode([payload, id.as_bytes(), &signature].concat()))
    }

    /// The payload, if the text was sealed for this purpose with a key that lives.
    pub(super) fn open(&self, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        let signed = Signed::decode(text)?;
        self.is_right(purpose, &signed).then_some(signed.payload)
    }

    /// Whether a key that lives has signed this.
    pub(super) fn is_right(&self, purpose: Purpose, signed: &Signed) -> bool {
        let Some(key) = self.0.living(signed.key) else { return false };
        mac(&key, purpose, &signed.payload).verify_slice(&signed.signature).is_ok()
    }
}

impl Signed {
    pub(super) fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut payload = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let signature = payload.split_off(payload.len().checked_sub(SIGNATURE)?);
        let key = payload.split_off(payload.len().checked_sub(KEY)?);
        let key = Id::from_uuid(Uuid::from_slice(&key).ok()?);
        Some(Self { payload, key, signature: signature.try_into().ok()? })
    }
}

fn mac(key: &SigningKey, purpose: Purpose, payload: &[u8]) -> Hmac<Sha256> {
    // HMAC fills a shorter key up with zeros.
    let mut block = [0; 64];
    block.iter_mut().zip(key.secret.expose()).for_each(|(to, from)| *to = *from);
    Hmac::new(&block.into()).chain_update(purpose.tag()).chain_update(payload)
}
