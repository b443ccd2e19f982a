//! The cluster's one host key: whoever has seen one server knows all of them.

use knot_core::{
    id::Author,
    model::HostKey,
    replica::EditError,
    secrets::{Keyring, Place},
};
use russh::keys::{
    PrivateKey,
    ssh_key::private::{Ed25519Keypair, KeypairData},
};

/// The key, as this server can open it.
pub(crate) fn open(keyring: &Keyring) -> Option<PrivateKey> {
    let document = keyring.replica().get(HostKey::id())?;
    match keyring.open(place(), &document.seed) {
        Ok(seed) => from_seed(seed.expose().try_into().ok()?),
        Err(error) => {
            tracing::debug!(%error, "the SSH host key does not open");
            None
        }
    }
}

/// Makes the key where there is none. Where another half of the cluster makes one too, the register's
/// winner is the key of both once they meet.
pub(crate) async fn create(keyring: &Keyring, author: Author) -> Result<(), EditError> {
    let replica = keyring.replica();
    if replica.get(HostKey::id()).is_some() {
        return Ok(());
    }
    renew(keyring, author).await
}

/// Makes another key, in the place of the one there is: for where somebody else may know it.
pub(crate) async fn renew(keyring: &Keyring, author: Author) -> Result<(), EditError> {
    let seed: [u8; 32] = rand::random();
    let sealed = keyring.seal(place(), &seed);
    let sealed = sealed.map_err(|error| EditError::Refused(error.to_string()))?;
    let made = keyring.replica().put::<HostKey, _>(HostKey::id(), author, move |key| {
        key.set(HostKey::seed, sealed);
        Ok(())
    });
    made.await.map(drop)
}

/// The key, made where there is none.
pub(super) async fn ensure(keyring: &Keyring, author: Author) -> Result<PrivateKey, EditError> {
    create(keyring, author).await?;
    let unopened = || EditError::Refused("what it is sealed with has not arrived here".to_owned());
    open(keyring).ok_or_else(unopened)
}

fn from_seed(seed: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(seed)), "knot").ok()
}

fn place() -> Place<'static> {
    Place { doc: HostKey::id().into(), field: "seed" }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use knot_core::{
        id::ServerId,
        model,
        replica::Service,
        secrets::SealingKeyPair,
        store::{memory::MemoryStore, sqlite::SqliteStore},
    };
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn it_is_made_once_and_is_the_same_each_time_it_is_opened() {
        let me = ServerId(Uuid::now_v7());
        let store = Box::new(MemoryStore::new());
        let (_service, replica) = Service::start(me, model::schema(), store).unwrap();
        let keyring = Keyring::new(replica, Arc::new(SealingKeyPair::generate()));
        let author = Author::Server(me);
        assert!(ensure(&keyring, author).await.is_err(), "there is no data key");
        keyring.add_key(author).await.unwrap();
        let made = ensure(&keyring, author).await.unwrap();
        let again = ensure(&keyring, author).await.unwrap();
        assert_eq!(made.public_key(), again.public_key());
        let document = keyring.replica().get(HostKey::id()).unwrap();
        assert!(!format!("{document:?}").contains("PRIVATE"));
    }

    /// A database that is opened, changed and closed again.
    async fn at<T>(
        file: &Path,
        sealing: &Arc<SealingKeyPair>,
        work: impl AsyncFnOnce(&Keyring, Author) -> T,
    ) -> T {
        let me = ServerId(Uuid::now_v7());
        let store = Box::new(SqliteStore::open(file).unwrap());
        let (service, replica) = Service::start(me, model::schema(), store).unwrap();
        let keyring = Keyring::new(replica, Arc::clone(sealing));
        let done = work(&keyring, Author::Server(me)).await;
        service.stop().await;
        done
    }

    async fn bring(keyring: &Keyring, from: &Path) {
        keyring.replica().import(Box::new(SqliteStore::open(from).unwrap())).await.unwrap();
    }

    /// However many parts of a cluster make a key before they meet, and in whatever order they meet, one of these
    /// is the key of all.
    #[tokio::test]
    async fn of_keys_that_are_made_apart_every_server_picks_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let sealing = Arc::new(SealingKeyPair::generate());
        let file = |name: &str| folder.path().join(name);
        let first = file("first");
        at(&first, &sealing, async |keyring, author| {
            keyring.add_key(author).await.unwrap();
        })
        .await;
        for round in 0..8 {
            let parts: Vec<_> = (0..3).map(|n| file(&format!("part-{round}-{n}"))).collect();
            let mut made = Vec::new();
            for part in &parts {
                let key = at(part, &sealing, async |keyring, author| {
                    bring(keyring, &first).await;
                    ensure(keyring, author).await.unwrap()
                });
                made.push(key.await.public_key().clone());
            }
            let mut met = Vec::new();
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                let whole = file(&format!("whole-{round}-{}", order[0]));
                let key = at(&whole, &sealing, async |keyring, author| {
                    for part in order {
                        bring(keyring, &parts[part]).await;
                    }
                    // One that starts then makes no other.
                    ensure(keyring, author).await.unwrap()
                });
                met.push(key.await.public_key().clone());
            }
            assert!(met.iter().all(|key| *key == met[0]), "round {round}: {met:?}");
            assert!(made.contains(&met[0]), "round {round}: it is none of those that were made");
        }
    }
}
