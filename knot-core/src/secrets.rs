//! Secrets in documents: sealed before they enter one, and opened by the servers that belong.
//!
//! A value is sealed with a *data key*; each data key is a document, wrapped once for each server
//! that belonged when it was made or has joined since. Nothing is ever sealed again for a new key's
//! sake: a value takes the newest key at its next edit. So a re-key and an edit on two sides of a
//! partition cannot hurt each other, and what a lost server could open can be listed.
//!
//! Which key is the newest follows from a number in the document and the id: each maker takes a
//! number above all that it knows.

mod removal;
mod sealed;
mod sessions;
mod wrap;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub use removal::{Removal, changes_by, remove_server};
use sealed::PREFIX;
pub use sealed::{NotSealed, Place, Plain, Sealed};
pub use sessions::{SessionKeys, SigningKey};
use uuid::Uuid;
use wrap::Secret;
pub use wrap::{SealingKey, SealingKeyPair, WrapError, Wrapped};
use zeroize::Zeroizing;

use crate::{
    clock::Millis,
    id::{Author, DocId, Id},
    model::{DataKey, Server},
    replica::{Committed, Doc, EditError, Replica, Token},
    schema::{Entity as _, Scalar},
};

/// A secret was not sealed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No data key that this server can open has arrived.
    #[error("this server holds no data key yet: it comes from the server that let it join")]
    NoKey,
    /// The cipher failed: the secret is too long.
    #[error("the secret could not be sealed: it is too long")]
    Cipher,
}

/// A secret could not be opened. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no secret.
    #[error("there is no secret here")]
    Empty,
    /// The data key has not arrived, or was not wrapped for this server.
    #[error(
        "data key {0}, which this was sealed with, has not arrived or is not for this server: it comes \
         with the next link to a server that has it"
    )]
    NoKey(Id<DataKey>),
    /// It was sealed elsewhere, or was changed since.
    #[error("it was damaged, or copied from another document: enter the secret again")]
    Damaged,
}

/// Opens and seals for one server; clones share it. Its `Debug` form shows no secret.
#[derive(Clone)]
pub struct Keyring {
    replica: Replica,
    own: Arc<SealingKeyPair>,
    /// The data keys that have been unwrapped, by id.
    opened: Arc<Mutex<BTreeMap<Id<DataKey>, Secret>>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keyring of the server that owns this replica and this key pair.
    pub fn new(replica: Replica, own: Arc<SealingKeyPair>) -> Self {
        Self { replica, own, opened: Arc::default() }
    }

    /// The replica that the keys are in.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Seals a secret for a place, with the newest data key that this server can open.
    ///
    /// # Errors
    /// There is no such key yet.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Sealed, SealError> {
        let (id, key) = self.newest().ok_or(SealError::NoKey)?;
        Sealed::seal(id, &key, place, secret).map_err(|_| SealError::Cipher)
    }

    /// Opens the secret of a place.
    ///
    /// # Errors
    /// Its data key is not here, or it was not sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Plain, OpenError> {
        if sealed.is_empty() {
            return Err(OpenError::Empty);
        }
        let no_key = OpenError::NoKey(sealed.key());
        let document = self.replica.get(sealed.key()).ok_or(no_key)?;
        let key = self.unwrap(&document).ok_or(no_key)?;
        sealed.open(&key, place).map_err(|_| OpenError::Damaged)
    }

    /// The newest data key that this server can open.
    pub fn newest_key(&self) -> Option<Id<DataKey>> {
        self.newest().map(|(id, _)| id)
    }

    fn newest(&self) -> Option<(Id<DataKey>, Secret)> {
        let mut keys = self.replica.list::<DataKey>();
        keys.sort_by_key(|key| std::cmp::Reverse((key.number, key.id())));
        keys.iter().find_map(|key| Some((key.id(), self.unwrap(key)?)))
    }

    fn unwrap(&self, key: &Doc<DataKey>) -> Option<Secret> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = opened.get(&key.id()) {
            return Some(secret.clone());
        }
        let wrapped = key.wrapped.get(&self.own.public())?;
        match self.own.unwrap(wrapped, &purpose(key.id())) {
            Ok(secret) => {
                opened.insert(key.id(), secret.clone());
                Some(secret)
            }
            Err(error) => {
                tracing::warn!(key = %key.id(), %error, "a data key for this server does not open");
                None
            }
        }
    }

    /// Makes a new data key, wrapped for every server that belongs. What is sealed from now on
    /// where this is known takes it; what is sealed already stays as it is.
    ///
    /// # Errors
    /// It could not be made or written.
    pub async fn add_key(&self, author: Author) -> Result<Committed<DataKey>, EditError> {
        let id = Id::<DataKey>::from_uuid(Uuid::new_v4());
        let secret: Secret = Zeroizing::new(rand::random());
        let keys = self.replica.list::<DataKey>();
        let number = keys.iter().map(|key| key.number).max().unwrap_or(0).saturating_add(1);
        let wrapped = wrap(id, &secret, self.receivers())?;
        self.replica
            .put(id, author, move |key| {
                key.set(DataKey::number, number);
                key.set(DataKey::made, Millis::now());
                for (receiver, wrapped) in wrapped {
                    key.put(DataKey::wrapped, &receiver, wrapped);
                }
                Ok(())
            })
            .await
    }

    /// Wraps every data key that this server can open for every server that belongs and has none
    /// yet: one that has joined, or one that the key's maker had not heard of. Returns what to wait
    /// for; empty where nothing was missing.
    ///
    /// # Errors
    /// A key could not be wrapped or written; those before it were.
    pub async fn share(&self, author: Author) -> Result<Token, EditError> {
        let mut token = Token::new();
        for key in self.replica.list::<DataKey>() {
            let mut missing = self.receivers();
            missing.retain(|receiver| !key.wrapped.contains_key(receiver));
            let Some(secret) = self.unwrap(&key).filter(|_| !missing.is_empty()) else { continue };
            let wrapped = wrap(key.id(), &secret, missing)?;
            let edit = self.replica.edit(key.id(), author, move |key| {
                for (receiver, wrapped) in wrapped {
                    if !key.wrapped.contains_key(&receiver) {
                        key.put(DataKey::wrapped, &receiver, wrapped);
                    }
                }
                Ok(())
            });
            token.extend(&edit.await?.token());
        }
        Ok(token)
    }

    /// Who may open a new data key: the servers that belong, and this one unless it was removed.
    fn receivers(&self) -> BTreeSet<SealingKey> {
        let servers = self.replica.list::<Server>();
        let mut receivers: BTreeSet<_> =
            servers.iter().filter_map(|server| server.sealing_key()).collect();
        if self.replica.grave(Id::<Server>::from_uuid(self.replica.me().0)).is_none() {
            receivers.insert(self.own.public());
        }
        receivers
    }

    /// The data keys that a server could open, by its id: it may have been removed.
    pub fn openable_by(&self, server: Id<Server>) -> BTreeSet<Id<DataKey>> {
        let document = self.replica.get(server).or_else(|| self.replica.remains(server));
        let held: BTreeSet<_> =
            document.iter().flat_map(|server| server.sealing.values().copied()).collect();
        let keys = self.replica.list::<DataKey>();
        let openable = keys.iter().filter(|key| key.wrapped.keys().any(|one| held.contains(one)));
        openable.map(Doc::id).collect()
    }

    /// The values in living documents that one of these keys opens, and their fields: what is to be
    /// changed by its owner when such a key is lost. Session keys are left out: they are retired,
    /// not changed.
    pub fn sealed_with(&self, keys: &BTreeSet<Id<DataKey>>) -> Vec<(DocId, String)> {
        let mut found = Vec::new();
        self.replica.each_document(|doc, fields| {
            if doc.kind == crate::model::SessionKey::KIND {
                return;
            }
            for (field, value) in fields {
                let Scalar::Text(text) = value else { continue };
                if text.starts_with(PREFIX)
                    && text.parse::<Sealed>().is_ok_and(|sealed| keys.contains(&sealed.key()))
                {
                    found.push((doc, field.clone()));
                }
            }
        });
        found
    }
}

fn wrap(
    id: Id<DataKey>,
    secret: &Secret,
    receivers: BTreeSet<SealingKey>,
) -> Result<Vec<(SealingKey, Wrapped)>, EditError> {
    let wrapped = receivers.into_iter().map(|receiver| {
        let wrapped = Wrapped::wrap(secret, receiver, &purpose(id));
        wrapped.map(|wrapped| (receiver, wrapped))
    });
    let wrapped: Result<Vec<_>, _> = wrapped.collect();
    wrapped.map_err(|error| EditError::Refused(error.to_string()))
}

/// A wrapped key opens as the data key it was made for, and no other.
fn purpose(id: Id<DataKey>) -> [u8; 16] {
    *id.uuid().as_bytes()
}
