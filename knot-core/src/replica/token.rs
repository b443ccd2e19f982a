//! Causality tokens: what a client has seen, carried from one server to another.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    id::{ChangeHash, DocId},
    wire,
};

/// The most documents of a token: the newest are kept.
pub const MAX_DOCUMENTS: usize = 32;
/// The most heads of all its documents: a document has one or two, unless many write to it at once.
const MAX_HEADS: usize = 256;
/// The longest text form that is read, in bytes.
const MAX_TEXT: usize = 16 << 10;

/// Documents and the heads that a client has seen of them. A replica that holds all of it, or knows
/// the document to be dead, answers as one that the client wrote to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(Vec<(DocId, Vec<ChangeHash>)>);

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the causality token cannot be read: leave it out, or send the last one unchanged")]
pub struct Unreadable;

impl Token {
    /// A token that asks for nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the token asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was seen of a document; it replaces what the token said of it before.
    pub fn add(&mut self, doc: DocId, heads: &[ChangeHash]) {
        self.0.retain(|(other, _)| *other != doc);
        self.0.push((doc, heads.iter().take(MAX_HEADS).copied().collect()));
        let excess = self.0.len().saturating_sub(MAX_DOCUMENTS);
        self.0.drain(..excess);
        let mut count: usize = self.0.iter().map(|(_, heads)| heads.len()).sum();
        while count > MAX_HEADS && self.0.len() > 1 {
            count -= self.0.remove(0).1.len();
        }
    }

    /// Adds all of another token, which is the newer.
    pub fn extend(&mut self, newer: &Self) {
        newer.0.iter().for_each(|(doc, heads)| self.add(*doc, heads));
    }

    /// What the token asks for.
    pub fn entries(&self) -> impl Iterator<Item = (DocId, &[ChangeHash])> {
        self.0.iter().map(|(doc, heads)| (*doc, heads.as_slice()))
    }

    /// The token as text for a header or a cookie.
    pub fn to_text(&self) -> String {
        wire::encode(self).map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes)).unwrap_or_default()
    }

    /// Reads what [`Token::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, Unreadable> {
        if text.len() > MAX_TEXT {
            return Err(Unreadable);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Unreadable)?;
        let token: Self = wire::decode(&bytes).map_err(|_| Unreadable)?;
        if token.0.len() > MAX_DOCUMENTS { Err(Unreadable) } else { Ok(token) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;

    fn doc(n: u128) -> DocId {
        DocId { kind: Kind::new("sixteen-letters-"), uuid: uuid::Uuid::from_u128(n) }
    }

    fn heads(count: u8) -> Vec<ChangeHash> {
        (0..count).map(|n| ChangeHash([n + 1; 32])).collect()
    }

    #[test]
    fn the_newest_documents_are_kept() {
        let mut token = Token::new();
        (0..40).for_each(|n| token.add(doc(n), &heads(1)));
        token.add(doc(10), &heads(2));
        let docs: Vec<_> = token.entries().map(|(doc, _)| doc.uuid.as_u128()).collect();
        let kept = (8..40).filter(|n| *n != 10).chain([10]);
        assert_eq!(docs, kept.collect::<Vec<_>>());
    }

    #[test]
    fn a_token_can_be_read_however_many_wrote_at_once() {
        let mut token = Token::new();
        (0..32).for_each(|n| token.add(doc(n), &heads(200)));
        assert_eq!(token.entries().count(), 1);
        let mut full = Token::new();
        (0..32).for_each(|n| full.add(doc(n), &heads(8)));
        assert_eq!(full.entries().count(), 32);
        for token in [token, full] {
            assert_eq!(Token::from_text(&token.to_text()), Ok(token));
        }
    }
}
