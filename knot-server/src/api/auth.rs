//! Who somebody is: passwords, sessions, API tokens and sign-in links.
//!
//! Sessions, tokens and links are signed with a key of the cluster, so every server takes them at
//! once, without having heard of them. What ends one early is data: the user's grave or session
//! counter, the token's grave, or that of the key. A token outlives its key: once its document has
//! arrived, that says what the token's text must be.

mod keys;
mod limit;
mod password;
pub(crate) mod ports;

use std::time::Duration;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use knot_core::{
    clock::Millis,
    id::{Author, Id},
    model,
    replica::{EditError, Replica},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use keys::{Keys, NoKey};
use keys::{Purpose, Signed};
pub(crate) use limit::Limiter;
pub use password::{PasswordError, Passwords};

/// How long a session lives at most, cut off from everything.
pub const SESSION: Duration = Duration::from_secs(12 * 60 * 60);
/// By how much the clocks of two servers may differ before one calls the other's sessions over too
/// early. Nothing else follows from a clock: "sign out everywhere" counts, and graves bury.
const LEEWAY: Duration = Duration::from_secs(5 * 60);
/// How many sessions of a user that were signed out of are remembered until they are over.
const ENDED: usize = 200;
/// What an API token begins with, so that people and scanners know one.
pub(crate) const TOKEN_PREFIX: &str = "knot_";

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
    /// An SSH key that has signed, or the authority of a certificate that has.
    Key {
        /// Whose.
        user: Id<model::User>,
        /// The key's SHA-256.
        key: [u8; 32],
    },
}

/// By which users' documents know the key of a SHA-256.
pub(crate) fn fingerprint(key: &[u8; 32]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(key))
}

/// The SHA-256 that a fingerprint is of.
pub(crate) fn read_fingerprint(text: &str) -> Option<[u8; 32]> {
    let hash = BASE64_STANDARD_NO_PAD.decode(text.strip_prefix("SHA256:")?).ok()?;
    hash.try_into().ok()
}

impl Credential {
    /// Whose it is.
    pub fn user(&self) -> Id<model::User> {
        match self {
            Self::Session { user, .. } | Self::Token { user, .. } | Self::Key { user, .. } => *user,
        }
    }

    /// What a session stands as where it was signed out of. Two of a user that began in the same
    /// millisecond end together.
    fn ended_key(&self) -> Option<String> {
        let Self::Session { epoch, until, .. } = self else { return None };
        let said = [epoch.to_be_bytes(), until.0.to_be_bytes()].concat();
        let hash = Sha256::digest(said);
        Some(BASE64_URL_SAFE_NO_PAD.encode(hash.get(..12).unwrap_or_default()))
    }

    /// Whether it still holds, by what this server knows now.
    pub fn holds(&self, replica: &Replica, now: Millis) -> bool {
        let Some(user) = replica.get(self.user()) else { return false };
        match self {
            Self::Session { epoch, until, .. } => {
                let ended = self.ended_key().is_some_and(|key| user.ended.contains_key(&key));
                now <= until.plus(LEEWAY) && *epoch >= user.epoch && !ended
            }
            // A token's document may still be on its way here: the signature is enough until then.
            Self::Token { token, .. } => replica.grave(*token).is_none(),
            Self::Key { key, .. } => user.keys.contains_key(&fingerprint(key)),
        }
    }
}

/// Ends one session, on every server as each hears of it: the cookie, and all that was had by it.
///
/// # Errors
/// It could not be written.
pub async fn end_session(
    replica: &Replica,
    session: Credential,
    now: Millis,
) -> Result<(), EditError> {
    let Credential::Session { user, until, .. } = session else { return Ok(()) };
    let Some(key) = session.ended_key() else { return Ok(()) };
    let edit = replica.edit(user, Author::User(user.uuid()), move |edit| {
        let over = |until: &Millis| now > until.plus(LEEWAY);
        let old: Vec<_> = edit
            .ended
            .iter()
            .filter(|(_, until)| over(until))
            .map(|(key, _)| key.clone())
            .collect();
        if edit.ended.len() - old.len() >= ENDED {
            // What is remembered has a bound: then all of the user's sessions end.
            let epoch = edit.epoch.saturating_add(1);
            edit.set(model::User::epoch, epoch);
        } else {
            edit.put(model::User::ended, &key, until);
        }
        for key in old {
            edit.take(model::User::ended, &key);
        }
        Ok(())
    });
    edit.await.map(drop)
}

/// Begins a session: the value of its cookie.
///
/// # Errors
/// No session key has arrived here yet.
pub fn session(
    keys: &Keys,
    user: Id<model::User>,
    epoch: u64,
    now: Millis,
) -> Result<String, NoKey> {
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

/// A new API token's text, and the hash of it for its document.
///
/// # Errors
/// No session key has arrived here yet.
pub fn api_token(
    keys: &Keys,
    token: Id<model::Token>,
    user: Id<model::User>,
) -> Result<(String, String), NoKey> {
    // The random part is what a server that is removed later cannot make up: it is in no document.
    let random: [u8; 16] = rand::random();
    let payload = [*token.uuid().as_bytes(), *user.uuid().as_bytes(), random].concat();
    let text = format!("{TOKEN_PREFIX}{}", keys.seal(Purpose::Token, &payload)?);
    let hash = hash_of(&text);
    Ok((text, hash))
}

/// Reads the text of an API token: by its document where that has arrived, by its signature before.
pub fn read_api_token(keys: &Keys, replica: &Replica, text: &str) -> Option<Credential> {
    let signed = Signed::decode(text.strip_prefix(TOKEN_PREFIX)?)?;
    let payload: [u8; 48] = signed.payload.clone().try_into().ok()?;
    let mut fields = Fields(&payload);
    let token = Id::from_uuid(Uuid::from_bytes(fields.take()?));
    let user = Id::from_uuid(Uuid::from_bytes(fields.take()?));
    let good = match replica.get::<model::Token>(token) {
        Some(document) => document.user == user && document.hash == hash_of(text),
        None => keys.is_right(Purpose::Token, &signed),
    };
    good.then_some(Credential::Token { user, token })
}

fn hash_of(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

/// The path of a page that signs a user in, for as long as `valid_for`: for whoever stands at a
/// server's own machine, and for a user who has no password.
///
/// # Errors
/// No session key has arrived here yet.
pub fn sign_in_link(
    keys: &Keys,
    user: Id<model::User>,
    epoch: u64,
    valid_for: Duration,
) -> Result<String, NoKey> {
    let mut payload = user.uuid().as_bytes().to_vec();
    payload.extend(epoch.to_be_bytes());
    payload.extend(Millis::now().plus(valid_for).0.to_be_bytes());
    Ok(format!("/sign-in/link?code={}", keys.seal(Purpose::Link, &payload)?))
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
    use std::sync::Arc;

    use knot_core::{
        id::{Author, ServerId},
        replica::Service,
        secrets::{Keyring, SealingKeyPair, SessionKeys},
        store::memory::MemoryStore,
    };

    use super::*;

    /// The keys of a cluster with one server.
    async fn cluster() -> (Service, Replica, Keys) {
        let me = ServerId(Uuid::now_v7());
        let store = Box::new(MemoryStore::new());
        let (service, replica) = Service::start(me, model::schema(), store).unwrap();
        let keyring = Keyring::new(replica.clone(), Arc::new(SealingKeyPair::generate()));
        keyring.add_key(Author::Server(me)).await.unwrap();
        let sessions = SessionKeys::new(keyring);
        sessions.add(Author::Server(me)).await.unwrap();
        (service, replica, Keys::new(sessions))
    }

    #[tokio::test]
    async fn what_one_key_signed_for_one_purpose_is_nothing_else() {
        let ((_one, replica, keys), (_other, _, strangers)) = (cluster().await, cluster().await);
        let user = Id::from_uuid(Uuid::now_v7());
        let token = Id::from_uuid(Uuid::now_v7());
        let (text, _) = api_token(&keys, token, user).unwrap();
        let read = read_api_token(&keys, &replica, &text);
        assert_eq!(read, Some(Credential::Token { user, token }));
        assert_eq!(read_api_token(&strangers, &replica, &text), None);
        assert_eq!(read_session(&keys, text.strip_prefix(TOKEN_PREFIX).unwrap()), None);

        let now = Millis(1_000);
        let text = session(&keys, user, 3, now).unwrap();
        let until = now.plus(SESSION);
        assert_eq!(read_session(&keys, &text), Some(Credential::Session { user, epoch: 3, until }));
        assert_eq!(read_api_token(&keys, &replica, &format!("{TOKEN_PREFIX}{text}")), None);
    }

    #[tokio::test]
    async fn a_text_with_any_character_changed_is_refused() {
        let (_service, _, keys) = cluster().await;
        let text = session(&keys, Id::default(), 0, Millis(0)).unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(read_session(&keys, &String::from_utf8(changed).unwrap()), None, "{at}");
        }
        for text in ["", "knot_", "é", &text[1..]] {
            assert_eq!(read_session(&keys, text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn retired_keys_end_sessions_and_leave_tokens_whose_documents_are_here() {
        let (_service, replica, keys) = cluster().await;
        let author = Author::Server(replica.me());
        let (user, now) = (Id::from_uuid(Uuid::now_v7()), Millis::now());
        let (known, unknown) = (Id::from_uuid(Uuid::now_v7()), Id::from_uuid(Uuid::now_v7()));
        let (text, hash) = api_token(&keys, known, user).unwrap();
        let put = replica.put::<model::Token, _>(known, author, move |token| {
            token.set(model::Token::user, user);
            token.set(model::Token::hash, hash);
            Ok(())
        });
        put.await.unwrap();
        let (elsewhere, _) = api_token(&keys, unknown, user).unwrap();
        // Whoever has the key and reads the documents can sign this, and it is good for nothing.
        let (forged, _) = api_token(&keys, known, user).unwrap();
        let before = session(&keys, user, 0, now).unwrap();
        assert!(read_session(&keys, &before).is_some());
        assert!(read_api_token(&keys, &replica, &elsewhere).is_some());

        assert_eq!(keys.sessions().replace_all(author).await.unwrap(), 1);
        assert_eq!(read_session(&keys, &before), None);
        assert_eq!(read_api_token(&keys, &replica, &elsewhere), None);
        assert_eq!(read_api_token(&keys, &replica, &forged), None);
        assert!(read_api_token(&keys, &replica, &text).is_some());
        assert!(read_session(&keys, &session(&keys, user, 0, now).unwrap()).is_some());
    }
}
