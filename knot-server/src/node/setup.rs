//! How a data folder becomes a server's: the first of a new cluster, or one more of another.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use knot_core::{
    id::{Author, Id, ServerId},
    model::{Server, Template},
    net::{
        self,
        identity::{self, Identity},
        join::{self, JoinToken, Newcomer},
    },
    replica::{EditError, Replica},
    secrets::{Keyring, SessionKeys},
    store,
};

use tokio::time::{sleep, timeout};

use super::{DATABASE, make_private, open, operator::new_password};
use crate::{
    agent_binary,
    config::{self, Config},
    spaces::drivers::{Docker, Driver as _, Owner, Platform},
    ssh::host_key,
    users,
};

/// How long a new server may take to hold its own document.
const ARRIVAL: Duration = Duration::from_secs(20);
/// How long a container engine may take to say that it is there.
const PROBE: Duration = Duration::from_secs(3);
/// How long the endpoint may take to let go of its address, and how often it is looked whether it has.
const RELEASE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(20));

/// A cluster could not be founded. What was made in the folder has been left there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The folder cannot be made.
    #[error("the data folder {folder} cannot be made: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Peers and containers that dial the advertised address would reach themselves.
    #[error(
        "quic.advertise is {0}, which this machine takes for {1}: nobody else reaches it there; give \
         its address with --quic-advertise HOST:PORT"
    )]
    Loopback(String, SocketAddr),
    /// The folder has a database already.
    #[error("{0} already holds a database: use another folder")]
    Taken(PathBuf),
    /// The configuration could not be written beside the data.
    #[error("{0} cannot be written: {1}")]
    Config(PathBuf, #[source] io::Error),
    /// The identity could not be made or written.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The database could not be made.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The first documents could not be written.
    #[error("the first documents could not be written")]
    Edit(#[from] EditError),
    /// The admin could not be made.
    #[error(transparent)]
    Admin(#[from] users::Error),
}

/// A cluster could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The folder could not be prepared.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The cluster did not take this server in.
    #[error(transparent)]
    Join(#[from] join::Error),
    /// The network could not be started.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The cluster took this server in, and what it needs did not arrive.
    #[error(
        "{host} took this server in and then did not answer: `knot-server run` will go on from here"
    )]
    NoArrival {
        /// The server that was asked.
        host: SocketAddr,
    },
}

/// What founding a cluster gave.
#[derive(Debug)]
pub struct Founded {
    /// The password of the account `admin`.
    pub password: String,
}

/// Makes a data folder the first server of a new cluster, with an `admin` account and sample
/// templates for the engines that answer.
///
/// # Errors
/// See [`InitError`].
pub async fn init(config: &Config) -> Result<Founded, InitError> {
    prepare(config).await?;
    let identity = Identity::generate()?;
    let (service, replica) = open(config, &identity)?;
    let password = new_password();
    found(config, &identity, &replica, &password).await?;
    service.stop().await;
    // Last: a folder with an identity is a server's.
    identity.save(&config.data)?;
    Ok(Founded { password })
}

async fn found(
    config: &Config,
    identity: &Identity,
    replica: &Replica,
    password: &str,
) -> Result<(), InitError> {
    let author = Author::Server(identity.server);
    let (key, sealing) = (identity.key.public(), identity.sealing.public());
    let Config { name, zone, quic_advertise, http_url, .. } = config.clone();
    let own = Id::<Server>::from_uuid(identity.server.0);
    let put = replica.put(own, author, move |server| {
        server.set(Server::name, name);
        server.set(Server::zone, zone);
        server.set(Server::key, Some(key));
        server.put(Server::sealing, &key, sealing);
        server.set(Server::quic, quic_advertise);
        server.set(Server::http, http_url);
        Ok(())
    });
    put.await?;
    let keyring = Keyring::new(replica.clone(), Arc::clone(&identity.sealing));
    keyring.add_key(author).await?;
    host_key::create(&keyring, author).await?;
    SessionKeys::new(keyring).add(author).await?;
    let shell = "A shell on the server's own machine";
    sample(replica, author, "shell", shell, Platform::Local, "").await?;
    if config.docker && docker_answers(config, identity).await {
        let debian = "Debian in a container";
        sample(replica, author, "debian", debian, Platform::Docker, "debian:bookworm-slim").await?;
    }
    users::ensure_admin(replica, "admin", password).await?;
    Ok(())
}

/// A template to begin with.
async fn sample(
    replica: &Replica,
    author: Author,
    name: &'static str,
    description: &'static str,
    platform: Platform,
    image: &'static str,
) -> Result<(), EditError> {
    let create = replica.create::<Template, _>(author, move |template| {
        template.set(Template::name, name.to_owned());
        template.set(Template::description, description.to_owned());
        template.set(Template::platform, platform.to_string());
        template.set(Template::image, image.to_owned());
        template.set(Template::any_port, true);
        Ok(())
    });
    create.await.map(drop)
}

async fn docker_answers(config: &Config, identity: &Identity) -> bool {
    let owner = Owner { cluster: identity.cluster, home: identity.server.0 };
    let docker = Docker::new(owner, config.docker_host.clone(), agent_binary::bytes());
    timeout(PROBE, docker.probe()).await.is_ok_and(|answer| answer.is_ok())
}

/// Makes a data folder one more server of a token's cluster, through the server at `host`. Returns
/// once this server and that one both hold its document.
///
/// # Errors
/// See [`JoinError`].
pub async fn join_cluster(
    config: &Config,
    host: SocketAddr,
    token: &JoinToken,
) -> Result<(), JoinError> {
    prepare(config).await?;
    // Before the cluster is asked: an address that cannot be listened on should cost no token.
    let socket = net::bind(config.quic_listen)?;
    let newcomer = Newcomer {
        name: config.name.clone(),
        zone: config.zone.clone(),
        quic: config.quic_advertise.clone(),
        http: config.http_url.clone(),
    };
    let joined = join::join(host, token, newcomer).await?;
    joined.identity.save(&config.data).map_err(InitError::from)?;
    let identity = Arc::new(joined.identity);
    let (service, replica) = open(config, &identity).map_err(InitError::from)?;
    let net_service = net::Service::start(identity, replica.clone(), socket)?;
    net_service.net().introduce(&joined.host);
    let arrived = replica.wait_for(&joined.token, ARRIVAL).await;
    // What the cluster knows comes along: a server that begins without it would, say, make an
    // account anew that there is already.
    let first = ServerId(joined.host.id);
    if arrived.is_ok() && replica.wait_until_equal(first, ARRIVAL).await.is_err() {
        tracing::warn!("this server does not hold all yet: the rest comes while it runs");
    }
    net_service.stop().await;
    service.stop().await;
    until_free(config.quic_listen).await;
    arrived.map_err(|_| JoinError::NoArrival { host })
}

/// Waits until an address can be listened on again, by a server that this process starts next: an endpoint's driver
/// drops its socket a moment after all else has ended.
async fn until_free(address: SocketAddr) {
    let (bound, pause) = RELEASE;
    let freed = async {
        while net::bind(address).is_err() {
            sleep(pause).await;
        }
    };
    if timeout(bound, freed).await.is_err() {
        tracing::warn!(%address, "the address is still in use");
    }
}

/// Makes the folder, with the configuration in it; refuses one that is a server's, or has documents.
async fn prepare(config: &Config) -> Result<(), InitError> {
    check_advertised(config).await?;
    let folder = config.data.clone();
    make_private(&folder).map_err(|source| InitError::Folder { folder: folder.clone(), source })?;
    if Identity::exists(&folder) {
        return Err(identity::Error::Exists(folder).into());
    }
    if folder.join(DATABASE).exists() {
        return Err(InitError::Taken(folder));
    }
    config.keep().map_err(|source| InitError::Config(folder.join(config::FILE), source))?;
    Ok(())
}

/// Refuses to advertise loopback for a server that listens on more: stock Debian has a host's own
/// name stand for 127.0.1.1.
async fn check_advertised(config: &Config) -> Result<(), InitError> {
    if config.quic_listen.ip().is_loopback() {
        return Ok(());
    }
    // One that does not resolve here may resolve elsewhere.
    let resolved = tokio::net::lookup_host(&config.quic_advertise).await.ok();
    match resolved.and_then(|mut addresses| addresses.next()) {
        Some(address) if address.ip().is_loopback() => {
            Err(InitError::Loopback(config.quic_advertise.clone(), address))
        }
        _ => Ok(()),
    }
}
