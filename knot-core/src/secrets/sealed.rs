//! A secret as it stands in a document, and as it is held in memory.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::wrap::Secret;
use crate::{
    id::{DocId, Id},
    model::DataKey,
    schema::{FieldValue, Scalar},
};

/// What a sealed text begins with.
pub(super) const PREFIX: &str = "sealed1.";

/// Where a sealed value stands. It opens there only: copied to another field or document, it does
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The document.
    pub doc: DocId,
    /// The key in the document, such as `value` or `environment/PASSWORD`.
    pub field: &'a str,
}

impl Place<'_> {
    /// Unambiguous: a kind holds no slash and a UUID is as long as the next.
    fn to_bytes(self) -> Vec<u8> {
        format!("{}/{}", self.doc, self.field).into_bytes()
    }
}

/// A secret as text for a document: the data key's id, and ChaCha20-Poly1305 (RFC 8439) under a
/// random nonce. The default is no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    key: Id<DataKey>,
    /// Nonce, text and tag; empty for no secret.
    bytes: Vec<u8>,
}

/// A secret that has been opened: wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain(Zeroizing<Vec<u8>>);

impl Plain {
    /// The secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, if it is UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(…)")
    }
}

/// It was sealed with another key or at another place, or was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl Sealed {
    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The data key that opens it.
    pub fn key(&self) -> Id<DataKey> {
        self.key
    }

    pub(super) fn seal(
        id: Id<DataKey>,
        key: &Secret,
        place: Place<'_>,
        secret: &[u8],
    ) -> Result<Self, Damaged> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = Zeroizing::new(secret.to_vec());
        let aad = Aad::from(place.to_bytes());
        let tag = cipher(key)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .map_err(|_| Damaged)?;
        Ok(Self { key: id, bytes: [&nonce, text.as_slice(), tag.as_ref()].concat() })
    }

    pub(super) fn open(&self, key: &Secret, place: Place<'_>) -> Result<Plain, Damaged> {
        let (nonce, text) = self.bytes.split_first_chunk::<NONCE_LEN>().ok_or(Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let aad = Aad::from(place.to_bytes());
        let length = cipher(key)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text)
            .map_err(|_| Damaged)?
            .len();
        text.truncate(length);
        Ok(Plain(text))
    }
}

fn cipher(key: &Secret) -> Result<LessSafeKey, Damaged> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| Damaged)?;
    Ok(LessSafeKey::new(key))
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, text) = (self.key.uuid().simple(), BASE64_URL_SAFE_NO_PAD.encode(&self.bytes));
        write!(f, "{PREFIX}{key}.{text}")
    }
}

/// The text is no sealed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no sealed value")]
pub struct NotSealed;

impl FromStr for Sealed {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        let (key, text) =
            text.strip_prefix(PREFIX).and_then(|text| text.split_once('.')).ok_or(NotSealed)?;
        let key = Uuid::try_parse(key).map_err(|_| NotSealed)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NotSealed)?;
        Ok(Self { key: Id::from_uuid(key), bytes })
    }
}

impl FieldValue for Sealed {
    fn to_scalar(&self) -> Scalar {
        if self.is_empty() { Scalar::Null } else { Scalar::Text(self.to_string()) }
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Null => Some(Self::default()),
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::Kind;

    fn place(field: &str) -> Place<'_> {
        Place { doc: DocId { kind: Kind::new("thing"), uuid: Uuid::nil() }, field }
    }

    proptest! {
        #[test]
        fn a_secret_opens_at_its_place_with_its_key_and_unchanged_only(
            secret in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
        ) {
            let (key, other) = (Zeroizing::new([1; 32]), Zeroizing::new([2; 32]));
            let id = Id::from_uuid(Uuid::from_u128(5));
            let sealed = Sealed::seal(id, &key, place("a"), &secret).unwrap();
            let read = Sealed::from_scalar(&sealed.to_scalar()).unwrap();
            prop_assert_eq!(&read, &sealed);
            prop_assert_eq!(read.key(), id);
            let opened = read.open(&key, place("a")).unwrap();
            prop_assert_eq!(opened.expose(), secret.as_slice());
            prop_assert_eq!(read.open(&key, place("b")), Err(Damaged));
            prop_assert_eq!(read.open(&other, place("a")), Err(Damaged));
            let mut changed = sealed;
            let at = at.index(changed.bytes.len());
            changed.bytes[at] ^= 1;
            prop_assert_eq!(changed.open(&key, place("a")), Err(Damaged));
        }

        #[test]
        fn any_text_is_read_without_failing(text in ".{0,80}") {
            if let Ok(sealed) = text.parse::<Sealed>() {
                prop_assert!(sealed.open(&Zeroizing::new([0; 32]), place("a")).is_err());
            }
            format!("{PREFIX}{}.{text}", Uuid::nil()).parse::<Sealed>().ok();
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let key = Zeroizing::new([1; 32]);
        let sealed = Sealed::seal(Id::default(), &key, place("a"), b"hunter2").unwrap();
        let plain = sealed.open(&key, place("a")).unwrap();
        assert_eq!(plain.expose_text(), Some("hunter2"));
        assert!(!format!("{plain:?} {sealed:?} {sealed}").contains("hunter2"));
    }
}
