//! `knot-server recover --alone`: the server that an operator picks goes on when no other is left.

use std::sync::Arc;

use knot_core::{
    id::{Id, ServerId},
    model::{Server, Space},
    net::{
        self, alone,
        identity::{self, Identity},
        join::Newcomer,
        probe,
    },
    store,
};

use super::open;
use crate::config::Config;

/// The server does not go on alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The identity cannot be read or written.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The database cannot be opened; a running server holds it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The other servers could not be asked.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// There is another server.
    #[error(
        "{} still {}: nothing was changed. If this server has been removed, join again through \
         another with a new token and an empty folder; to go on alone all the same, stop the others \
         for good and add --yes-others-are-gone",
        .0.join(", "), if .0.len() == 1 { "answers" } else { "answer" }
    )]
    OthersAnswer(Vec<String>),
    /// The documents could not be written.
    #[error(transparent)]
    Alone(#[from] alone::Error),
}

/// What going on alone did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What the server was until now; buried.
    pub before: ServerId,
    /// What it is from now on.
    pub now: ServerId,
    /// The names of the servers that have not been removed.
    pub others: Vec<String>,
    /// How many spaces had this server as their home.
    pub spaces: usize,
}

/// Makes the stopped server of a data folder one of its cluster again, under a new id, with its
/// database and everything in it.
///
/// # Errors
/// Another server answers and it was not said that they are gone, or the folder cannot be read or
/// written. Before the documents are written nothing is changed.
pub async fn recover_alone(
    config: &Config,
    others_are_gone: bool,
) -> Result<Recovered, RecoverError> {
    let old = Identity::load(&config.data)?;
    let before = old.server;
    let new =
        Arc::new(alone::successor(Identity::load(&config.data)?).map_err(RecoverError::from)?);
    let (service, replica) = open(config, &new)?;
    let own = Id::<Server>::from_uuid(before.0);
    let others: Vec<Server> = replica
        .list::<Server>()
        .into_iter()
        .filter(|server| server.id() != own && server.key.is_some())
        .map(|server| (*server).clone())
        .collect();
    let done = async {
        if !others_are_gone {
            let answer = probe::who_answers(&old, &others).await?;
            if !answer.is_empty() {
                return Err(RecoverError::OthersAnswer(answer));
            }
        }
        let introduction = Newcomer {
            name: config.name.clone(),
            zone: config.zone.clone(),
            quic: config.quic_advertise.clone(),
            http: config.http_url.clone(),
        };
        alone::take_over(&replica, &new, before, introduction).await?;
        let homed = replica.list::<Space>();
        Ok(homed.iter().filter(|space| space.placement.server == before).count())
    };
    let done = done.await;
    service.stop().await;
    let spaces = done?;
    // Last: until then the folder is that of the server it was, and this can be asked again.
    new.replace(&config.data)?;
    let others = others.into_iter().map(|server| server.name).collect();
    Ok(Recovered { before, now: new.server, others, spaces })
}
