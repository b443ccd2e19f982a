//! Going on alone: a server whose cluster is gone, or has removed it while it removed the rest,
//! becomes the first of what is left.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    identity::{self, Identity},
    join::Newcomer,
    keys::KeyPair,
};
use crate::{
    id::{Author, Id, ServerId},
    model::Server,
    replica::{EditError, Replica},
    secrets::Keyring,
};

/// The server does not go on alone. What was written before the error stays, and asking again
/// begins anew with another id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key could not be made.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] super::keys::Error),
    /// A document could not be written.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// The identity that a server goes on with: another id and key, the same cluster, authority and
/// sealing key, so that all its secrets stay open to it. Nothing is written yet.
///
/// # Errors
/// A key could not be made.
pub fn successor(old: Identity) -> Result<Identity, Error> {
    Ok(Identity {
        server: ServerId(Uuid::now_v7()),
        key: Arc::new(KeyPair::generate()?),
        next: None,
        ..old
    })
}

/// Makes the server that `replica` was opened for with its [`successor`] identity one of the
/// cluster, buries the one that it was, and makes a data key that no lost server has. Servers that
/// have not been removed stay as they are: the operator removes them, or they return.
///
/// # Errors
/// A document could not be written.
pub async fn take_over(
    replica: &Replica,
    new: &Identity,
    old: ServerId,
    introduction: Newcomer,
) -> Result<(), Error> {
    let author = Author::Server(new.server);
    let (key, sealing) = (new.key.public(), new.sealing.public());
    let own = replica.put(Id::<Server>::from_uuid(new.server.0), author, move |server| {
        server.set(Server::name, introduction.name);
        server.set(Server::zone, introduction.zone);
        server.set(Server::key, Some(key));
        server.put(Server::sealing, &key, sealing);
        server.set(Server::quic, introduction.quic);
        server.set(Server::http, introduction.http);
        Ok(())
    });
    own.await?;
    let before = Id::<Server>::from_uuid(old.0);
    if replica.get(before).is_some() {
        replica.delete(before, author).await?;
    }
    Keyring::new(replica.clone(), Arc::clone(&new.sealing)).add_key(author).await?;
    Ok(())
}
