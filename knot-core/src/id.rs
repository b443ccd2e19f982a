//! What documents, servers and authors are called.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A text is not the name of what it should name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct ParseError {
    text: String,
    what: &'static str,
}

impl ParseError {
    pub(crate) fn new(text: &str, what: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what }
    }
}

/// What sort of thing a document describes: 1 to 16 lower-case letters, digits and dashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Kind([u8; Self::MAX]);

impl Kind {
    const MAX: usize = 16;

    /// The kind called `name`, for a name that is written in the program.
    ///
    /// A name that breaks the rules does not compile where the result is a constant.
    #[allow(clippy::indexing_slicing)]
    pub const fn new(name: &str) -> Self {
        match Self::checked(name.as_bytes()) {
            Some(kind) => kind,
            None => Self([b'?'; Self::MAX]),
        }
    }

    #[allow(clippy::indexing_slicing)]
    const fn checked(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > Self::MAX {
            return None;
        }
        let mut kind = [0; Self::MAX];
        let mut at = 0;
        while at < name.len() {
            if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
                return None;
            }
            kind[at] = name[at];
            at += 1;
        }
        Some(Self(kind))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::MAX);
        self.0.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        Self::checked(name.as_bytes()).ok_or_else(|| ParseError::new(name, "document kind"))
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.as_str().to_owned()
    }
}

impl TryFrom<String> for Kind {
    type Error = ParseError;

    fn try_from(name: String) -> Result<Self, ParseError> {
        name.parse()
    }
}

/// The name of one document: its kind and an id that is unique within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocId {
    /// What sort of thing it describes.
    pub kind: Kind,
    /// UUIDv7, or a hash where the thing has a natural key.
    pub uuid: Uuid,
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.uuid)
    }
}

/// Reads what is displayed: `kind/uuid`.
impl FromStr for DocId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "document: KIND/ID is wanted");
        let (kind, uuid) = text.split_once('/').ok_or_else(wrong)?;
        let kind = kind.parse().map_err(|_| wrong())?;
        Ok(Self { kind, uuid: Uuid::parse_str(uuid).map_err(|_| wrong())? })
    }
}

impl fmt::Debug for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of a document whose type is known. `E` is an [`Entity`](crate::schema::Entity).
pub struct Id<E> {
    uuid: Uuid,
    entity: PhantomData<fn() -> E>,
}

impl<E> Id<E> {
    /// The id of this UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, entity: PhantomData }
    }

    /// The id of a thing that has a natural key: the same key is the same document everywhere.
    pub fn of_key(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Self::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// The UUID of this id.
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }
}

/// The nil id, which names nothing.
impl<E> Default for Id<E> {
    fn default() -> Self {
        Self::from_uuid(Uuid::nil())
    }
}

impl<E> Clone for Id<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Id<E> {}

impl<E> PartialEq for Id<E> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<E> Eq for Id<E> {}

impl<E> PartialOrd for Id<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Id<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<E> Hash for Id<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<E> fmt::Display for Id<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}

impl<E> fmt::Debug for Id<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}

impl<E> FromStr for Id<E> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Uuid::parse_str(text).map(Self::from_uuid).map_err(|_| ParseError::new(text, "id"))
    }
}

/// A server of the cluster: the UUID of its `Server` document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub Uuid);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who made a change. Written into every change, so that a document's history is its audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Author {
    /// A user, by the UUID of the user's document.
    User(Uuid),
    /// A server on its own account.
    Server(ServerId),
}

impl Author {
    /// The author as it stands in a change's commit message: 23 characters.
    pub fn to_message(self) -> String {
        let (mark, uuid) = match self {
            Self::User(user) => ('u', user),
            Self::Server(server) => ('s', server.0),
        };
        format!("{mark}{}", BASE64_URL_SAFE_NO_PAD.encode(uuid.as_bytes()))
    }

    /// Reads what [`Author::to_message`] wrote.
    pub fn from_message(message: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(message.get(1..)?).ok()?;
        let uuid = Uuid::from_slice(&bytes).ok()?;
        match message.chars().next()? {
            'u' => Some(Self::User(uuid)),
            's' => Some(Self::Server(ServerId(uuid))),
            _ => None,
        }
    }
}

/// The SHA-256 by which a change is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "serde_bytes_32::Bytes", into = "serde_bytes_32::Bytes")]
pub struct ChangeHash(pub [u8; 32]);

impl ChangeHash {
    /// The hash that no change has. Whoever asks for it of a document asks for its grave.
    pub const DEAD: Self = Self([0; 32]);
}

/// Reads 64 hexadecimal digits.
impl FromStr for ChangeHash {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "change's hash: 64 hexadecimal digits are wanted");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A hash as one CBOR byte string, which is half as long as a list of numbers.
mod serde_bytes_32 {
    use super::ChangeHash;

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    pub(super) struct Bytes(bytes::Bytes);

    impl From<ChangeHash> for Bytes {
        fn from(hash: ChangeHash) -> Self {
            Self(bytes::Bytes::copy_from_slice(&hash.0))
        }
    }

    /// Bytes of another length give a hash that no change has.
    impl From<Bytes> for ChangeHash {
        fn from(bytes: Bytes) -> Self {
            Self(<[u8; 32]>::try_from(bytes.0.as_ref()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_to_their_alphabet() {
        assert_eq!("space".parse::<Kind>().unwrap(), Kind::new("space"));
        assert_eq!(Kind::new("space").as_str(), "space");
        for name in ["", "Space", "a b", "seventeen-letters", "é"] {
            assert!(name.parse::<Kind>().is_err(), "{name}");
        }
    }

    #[test]
    fn documents_are_read_as_they_are_displayed() {
        let doc = DocId { kind: Kind::new("space"), uuid: Uuid::max() };
        assert_eq!(doc.to_string().parse(), Ok(doc));
        for text in ["", "space", "space/", "Space/ffffffff-ffff-ffff-ffff-ffffffffffff", "a/b/c"] {
            assert!(text.parse::<DocId>().is_err(), "{text}");
        }
    }

    #[test]
    fn authors_survive_the_message() {
        for author in [Author::User(Uuid::max()), Author::Server(ServerId(Uuid::now_v7()))] {
            assert_eq!(Author::from_message(&author.to_message()), Some(author));
        }
        for message in ["", "u", "x7777777777777777777777", "é"] {
            assert_eq!(Author::from_message(message), None, "{message}");
        }
    }

    #[test]
    fn natural_keys_do_not_run_into_each_other() {
        let one = Id::<()>::of_key(&[b"ab", b"c"]);
        assert_eq!(one, Id::of_key(&[b"ab", b"c"]));
        assert_ne!(one, Id::of_key(&[b"a", b"bc"]));
    }
}
