//! `knot-server recover --alone`: the server that an operator picks goes on when no other is left.

use std::{io, sync::Arc};

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

use super::{open, standing};
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
    /// The server goes on alone, and the note that it was removed is still there.
    #[error("this server goes on alone; delete expelled.json in its data folder: {0}")]
    Note(#[source] io::Error),
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
    standing::forget(&config.data).map_err(RecoverError::Note)?;
    let others = others.into_iter().map(|server| server.name).collect();
    Ok(Recovered { before, now: new.server, others, spaces })
}

#[cfg(test)]
mod tests {
    use knot_core::{
        id::Author,
        model,
        net::KeyPair,
        replica,
        secrets::{Keyring, SessionKeys},
        store::memory::MemoryStore,
    };

    use super::*;
    use crate::{config::Flags, node, users};

    async fn founded(folder: &std::path::Path) -> Config {
        let flags = Flags {
            data: Some(folder.join("data")),
            name: Some("one".to_owned()),
            quic: Some("127.0.0.1:0".parse().unwrap()),
            quic_advertise: Some("127.0.0.1:9".to_owned()),
            ..Flags::default()
        };
        let config = Config { docker: false, ..Config::load(&flags).unwrap() };
        node::init(&config).await.unwrap();
        config
    }

    /// Another server that answers at its address, with its document in the database of the first.
    async fn another(config: &Config) -> (net::Service, replica::Service) {
        let identity = Arc::new(Identity::generate().unwrap());
        let store = Box::new(MemoryStore::new());
        let (service, replica) =
            replica::Service::start(identity.server, model::schema(), store).unwrap();
        let socket = net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (id, key) = (Id::from_uuid(identity.server.0), identity.key.public());
        let network = net::Service::start(identity, replica, socket).unwrap();
        let own = Identity::load(&config.data).unwrap();
        let (database, here) = open(config, &own).unwrap();
        for (id, name, quic) in [
            (id, "two", address),
            (Id::from_uuid(uuid::Uuid::now_v7()), "three", "127.0.0.1:9".to_owned()),
        ] {
            let key = if name == "two" { key } else { KeyPair::generate().unwrap().public() };
            let put = here.put::<Server, _>(id, Author::Server(own.server), move |server| {
                server.set(Server::name, name.to_owned());
                server.set(Server::key, Some(key));
                server.set(Server::quic, quic);
                Ok(())
            });
            put.await.unwrap();
        }
        database.stop().await;
        (network, service)
    }

    #[tokio::test]
    async fn a_server_goes_on_alone_unless_another_answers() {
        let folder = tempfile::tempdir().unwrap();
        let config = founded(folder.path()).await;
        let before = Identity::load(&config.data).unwrap();
        let (network, service) = another(&config).await;
        let refused = recover_alone(&config, false).await;
        let named = |names: &[String]| names == ["two"];
        assert!(
            matches!(&refused, Err(RecoverError::OthersAnswer(names)) if named(names)),
            "{refused:?}"
        );
        assert_eq!(Identity::load(&config.data).unwrap().server, before.server);
        network.stop().await;
        service.stop().await;

        std::fs::write(config.data.join("expelled.json"), "\"removed\"").unwrap();
        let done = recover_alone(&config, false).await.unwrap();
        assert_eq!(done.before, before.server);
        let mut others = done.others;
        others.sort();
        assert_eq!(others, ["three", "two"]);
        assert!(!config.data.join("expelled.json").exists());
        let now = Identity::load(&config.data).unwrap();
        assert_eq!((now.cluster, now.server), (before.cluster, done.now));
        let (database, replica) = open(&config, &now).unwrap();
        assert!(replica.grave(Id::<Server>::from_uuid(before.server.0)).is_some());
        let own = replica.get(Id::<Server>::from_uuid(done.now.0)).unwrap();
        assert_eq!((own.name.as_str(), own.key), ("one", Some(now.key.public())));
        assert!(users::find(&replica, "admin").is_some());
        let keyring = Keyring::new(replica, now.sealing);
        assert!(SessionKeys::new(keyring).newest().is_some());
        database.stop().await;
    }
}
