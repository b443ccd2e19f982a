//! The keys that sessions and tokens are signed with: documents, so that every server takes what any
//! of them signed, and burying one ends all that it signed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Keyring, Place, Plain};
use crate::{
    id::{Author, Id},
    model::SessionKey,
    replica::{Committed, Doc, EditError},
};

/// A key to sign with or to check a signature by.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Which: it stands beside the signature.
    pub id: Id<SessionKey>,
    /// The 32 secret bytes.
    pub secret: Plain,
}

/// The session keys of the cluster, as one server can open them; clones share it.
#[derive(Clone)]
pub struct SessionKeys {
    keyring: Keyring,
    opened: Arc<Mutex<BTreeMap<Id<SessionKey>, Plain>>>,
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys")
    }
}

impl SessionKeys {
    /// The session keys that this keyring opens.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, opened: Arc::default() }
    }

    /// The keyring that opens them.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The key to sign with: the newest, by number and id, that lives and can be opened here. `None`
    /// until one has arrived.
    pub fn newest(&self) -> Option<SigningKey> {
        let mut keys = self.keyring.replica.list::<SessionKey>();
        keys.sort_by_key(|key| std::cmp::Reverse((key.number, key.id())));
        keys.iter().find_map(|key| self.open(key))
    }

    /// A key to check a signature by; `None` if it was retired, or has not arrived.
    pub fn living(&self, id: Id<SessionKey>) -> Option<SigningKey> {
        self.open(&self.keyring.replica.get(id)?)
    }

    fn open(&self, key: &Doc<SessionKey>) -> Option<SigningKey> {
        let id = key.id();
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = opened.get(&id) {
            return Some(SigningKey { id, secret: secret.clone() });
        }
        match self.keyring.open(place(id), &key.key) {
            Ok(secret) => {
                opened.insert(id, secret.clone());
                Some(SigningKey { id, secret })
            }
            Err(error) => {
                tracing::debug!(key = %id, %error, "a session key does not open");
                None
            }
        }
    }

    /// Makes a new session key. What the others signed stays good.
    ///
    /// # Errors
    /// There is no data key to seal it with, or it could not be written.
    pub async fn add(&self, author: Author) -> Result<Committed<SessionKey>, EditError> {
        let replica = &self.keyring.replica;
        let id = Id::<SessionKey>::from_uuid(Uuid::new_v4());
        let secret = Zeroizing::new(rand::random::<[u8; 32]>());
        let sealed = self.keyring.seal(place(id), secret.as_slice());
        let sealed = sealed.map_err(|error| EditError::Refused(error.to_string()))?;
        let keys = replica.list::<SessionKey>();
        let number = keys.iter().map(|key| key.number).max().unwrap_or(0).saturating_add(1);
        replica
            .put(id, author, move |key| {
                key.set(SessionKey::number, number);
                key.set(SessionKey::key, sealed);
                Ok(())
            })
            .await
    }

    /// Makes a new session key and retires all others: everybody signs in again. API tokens stay
    /// good where their documents are.
    ///
    /// # Errors
    /// As [`SessionKeys::add`]; keys that were retired before the error stay so.
    pub async fn replace_all(&self, author: Author) -> Result<usize, EditError> {
        let replica = &self.keyring.replica;
        let fresh = self.add(author).await?.id;
        let mut retired = 0;
        for key in replica.list::<SessionKey>().iter().filter(|key| key.id() != fresh) {
            replica.delete(key.id(), author).await?;
            self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.id());
            retired += 1;
        }
        Ok(retired)
    }
}

fn place(id: Id<SessionKey>) -> Place<'static> {
    Place { doc: id.into(), field: "key" }
}
