//! Causality tokens: what a client has seen, carried from one server to another.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    id::{ChangeHash, DocId},
    wire,
};

/// The most documents of a token: the newest are kept.
pub const MAX_DOCUMENTS: usize = 32;
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
        self.0.push((doc, heads.to_vec()));
        let excess = self.0.len().saturating_sub(MAX_DOCUMENTS);
        self.0.drain(..excess);
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
