//! Who somebody is: passwords, sessions, API tokens and sign-in links.
//!
//! Sessions, tokens and links are signed with the cluster's key, so every server takes them at once,
//! without having heard of them. What ends one early is data: the user's grave or session counter, or
//! the token's grave.

mod keys;
mod limit;
mod password;

use std::time::Duration;

use knot_core::{clock::Millis, id::Id, model, replica::Replica};
use uuid::Uuid;

pub use keys::Keys;
use keys::Purpose;
pub(crate) use limit::Limiter;
pub use password::{PasswordError, Passwords};

/// How long a session lives at most, cut off from everything.
pub const SESSION: Duration = Duration::from_secs(12 * 60 * 60);
/// By how much the clocks of two servers may differ.
const LEEWAY: Duration = Duration::from_secs(60);
/// What an API token begins with, so that people and scanners know one.
const TOKEN_PREFIX: &str = "knot_";

/// What a request shows to say who makes it, its signature checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A session, from a cookie.
    Session {
        /// Whose.
        user: Id<model::User>,
        /// The user's session counter when it began.
        epoch: u64,
        /// When it ends.
        until: Millis,
    },
    /// An API token.
    Token {
        /// Whose.
        user: Id<model::User>,
        /// Its document, for revoking it.
        token: Id<model::Token>,
    },
}

impl Credential {
    /// Whose it is.
    pub fn user(&self) -> Id<model::User> {
        match self {
            Self::Session { user, .. } | Self::Token { user, .. } => *user,
        }
    }

    /// Whether it still holds, by what this server knows now.
    pub fn holds(&self, replica: &Replica, now: Millis) -> bool {
        let Some(user) = replica.get(self.user()) else { return false };
        match self {
            Self::Session { epoch, until, .. } => now <= until.plus(LEEWAY) && *epoch >= user.epoch,
            // A token's document may still be on its way here: the signature is enough until then.
            Self::Token { token, .. } => replica.grave(*token).is_none(),
        }
    }
}

/// Begins a session: the value of its cookie.
pub fn session(keys: &Keys, user: Id<model::User>, epoch: u64, now: Millis) -> String {
    let mut payload = user.uuid().as_bytes().to_vec();
    payload.extend(epoch.to_be_bytes());
    payload.extend(now.plus(SESSION).0.to_be_bytes());
    keys.seal(Purpose::Session, &payload)
}

/// Reads a session cookie's value.
pub fn read_session(keys: &Keys, text: &str) -> Option<Credential> {
    let payload: [u8; 32] = keys.open(Purpose::Session, text)?.try_into().ok()?;
    let mut fields = Fields(&payload);
    let user = Id::from_uuid(Uuid::from_bytes(fields.take()?));
    let epoch = u64::from_be_bytes(fields.take()?);
    let until = Millis(i64::from_be_bytes(fields.take()?));
    Some(Credential::Session { user, epoch, until })
}

/// The text of an API token.
pub fn api_token(keys: &Keys, token: Id<model::Token>, user: Id<model::User>) -> String {
    let payload = [*token.uuid().as_bytes(), *user.uuid().as_bytes()].concat();
    format!("{TOKEN_PREFIX}{}", keys.seal(Purpose::Token, &payload))
}

/// Reads the text of an API token.
pub fn read_api_token(keys: &Keys, text: &str) -> Option<Credential> {
    let payload: [u8; 32] =
        keys.open(Purpose::Token, text.strip_prefix(TOKEN_PREFIX)?)?.try_into().ok()?;
    let mut fields = Fields(&payload);
    let token = Id::from_uuid(Uuid::from_bytes(fields.take()?));
    let user = Id::from_uuid(Uuid::from_bytes(fields.take()?));
    Some(Credential::Token { user, token })
}

/// The path of a page that signs a user in, for as long as `valid_for`: for whoever stands at a
/// server's own machine, and for a user who has no password.
pub fn sign_in_link(keys: &Keys, user: Id<model::User>, epoch: u64, valid_for: Duration) -> String {
    let mut payload = user.uuid().as_bytes().to_vec();
    payload.extend(epoch.to_be_bytes());
    payload.extend(Millis::now().plus(valid_for).0.to_be_bytes());
    format!("/sign-in/link?code={}", keys.seal(Purpose::Link, &payload))
}

/// Reads the code of a sign-in link: whose it is, if it is not over.
pub(crate) fn read_link(keys: &Keys, replica: &Replica, code: &str) -> Option<Id<model::User>> {
    let payload: [u8; 32] = keys.open(Purpose::Link, code)?.try_into().ok()?;
    let mut fields = Fields(&payload);
    let user = Id::from_uuid(Uuid::from_bytes(fields.take()?));
    let epoch = u64::from_be_bytes(fields.take()?);
    let until = Millis(i64::from_be_bytes(fields.take()?));
    // A link is a session that has not begun.
    let link = Credential::Session { user, epoch, until };
    link.holds(replica, Millis::now()).then_some(user)
}

/// Cuts fields of fixed length from the front of a payload.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_key_signed_for_one_purpose_is_nothing_else() {
        let keys = Keys::new(&[7; 32]);
        let user = Id::from_uuid(Uuid::now_v7());
        let token = Id::from_uuid(Uuid::now_v7());
        let text = api_token(&keys, token, user);
        assert_eq!(read_api_token(&keys, &text), Some(Credential::Token { user, token }));
        assert_eq!(read_api_token(&Keys::new(&[8; 32]), &text), None);
        assert_eq!(read_session(&keys, text.strip_prefix(TOKEN_PREFIX).unwrap()), None);

        let now = Millis(1_000);
        let text = session(&keys, user, 3, now);
        let until = now.plus(SESSION);
        assert_eq!(read_session(&keys, &text), Some(Credential::Session { user, epoch: 3, until }));
        assert_eq!(read_api_token(&keys, &format!("{TOKEN_PREFIX}{text}")), None);
    }

    #[test]
    fn a_text_with_any_character_changed_is_refused() {
        let keys = Keys::new(&[7; 32]);
        let text = session(&keys, Id::default(), 0, Millis(0));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(read_session(&keys, &String::from_utf8(changed).unwrap()), None, "{at}");
        }
        for text in ["", "knot_", "é", &text[1..]] {
            assert_eq!(read_session(&keys, text), None, "{text}");
        }
    }
}
