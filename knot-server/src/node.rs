//! A server: its database, its network, its spaces and its HTTP API, put together and taken apart.

mod bridge;
mod left;
mod operator;
mod recover;
mod setup;
pub(crate) mod standing;

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use knot_core::{
    id::{Author, Id},
    model::{self, Server},
    net::{
        self, Net,
        identity::{self, Identity},
    },
    replica::{self, EditError, Replica},
    secrets::SessionKeys,
    store::{self, sqlite::SqliteStore},
};
pub(crate) use left::end_what_is_left;
pub use operator::{renew_key, reset_admin};
pub use recover::{RecoverError, Recovered, recover_alone};
pub use setup::{Founded, InitError, JoinError, init, join_cluster};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    agent_binary,
    api::{self, App, auth},
    config::{self, Config},
    control,
    https::{self, Certificate},
    ports,
    spaces::{
        self, Engines,
        drivers::{self, Archive, Docker, Driver, Local, Manual, Nomad, Owner},
        wishes::HeldWishes,
    },
    ssh,
};

/// The database's name in the data folder.
pub(crate) const DATABASE: &str = "knot.db";
/// How long terminals and requests have to end when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long agents may take to link to another server when this one stops.
const HAND_OVER: Duration = Duration::from_secs(2);

/// A server could not be started, or stopped by failing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no identity in the data folder, or it cannot be read.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The network could not be started.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The HTTP address cannot be listened on.
    #[error("TCP {address} cannot be listened on: {source}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// HTTP cannot be served with the certificate that was given.
    #[error(transparent)]
    Https(#[from] https::Error),
    /// The control socket cannot be made.
    #[error("the control socket in {folder} cannot be made: {source}")]
    Control {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This server's own document could not be written.
    #[error("this server's own document could not be written")]
    Edit(#[from] EditError),
}

/// A running server, as its control socket sees it; clones share it.
#[derive(Clone)]
pub struct Node {
    identity: Arc<Identity>,
    replica: Replica,
    net: Net,
    keys: auth::Keys,
    data: PathBuf,
    trusted: spaces::trust::Trusted,
}

/// Runs the server of a data folder until `stop` is cancelled, then takes it down in order.
///
/// # Errors
/// It could not be started.
pub async fn run(config: &Config, stop: CancellationToken) -> Result<(), Error> {
    let identity = Arc::new(Identity::load(&config.data)?);
    let (replica_service, replica) = open(config, &identity)?;
    let certificate = config.https.clone().map(Certificate::load).transpose()?;
    let acceptor = certificate.as_ref().map(Certificate::acceptor).transpose()?;
    let http = TcpListener::bind(config.http_listen)
        .await
        .map_err(|source| Error::Http { address: config.http_listen, source })?;
    let ports_listener = match config.ports_listen {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|source| Error::Http { address, source })?)
        }
        None => None,
    };
    let socket = net::bind(config.quic_listen)?;
    let net_service = net::Service::start(Arc::clone(&identity), replica.clone(), socket)?;
    let net = net_service.net();
    let noting = standing::keep(&config.data, &net);
    let control = control::bind(&config.data)
        .map_err(|source| Error::Control { folder: config.data.clone(), source })?;
    introduce_itself(config, &identity, &replica).await?;

    let engines = Engines::new(own_drivers(config, &identity, &replica));
    let trusted = spaces::trust::Trusted::new(&config.data);
    let spaces = spaces::Service::start(
        config.spaces,
        &config.data,
        trusted.clone(),
        replica.clone(),
        net.clone(),
        engines.clone(),
    );
    let keys = auth::Keys::new(SessionKeys::new(net.keyring().clone()));
    let node = Node {
        identity: Arc::clone(&identity),
        replica: replica.clone(),
        net: net.clone(),
        keys: keys.clone(),
        data: config.data.clone(),
        trusted,
    };
    let drain = CancellationToken::new();
    let app = App::new(api::Parts {
        replica,
        keys,
        name: config.name.clone(),
        https: config.http_url.starts_with("https://"),
        reach: Arc::new(bridge::Agents { node: node.clone(), answers: spaces.answers() }),
        cluster: Arc::new(bridge::Cluster::new(node.clone(), engines)),
        drain: drain.clone(),
        removed: net.removed(),
    });
    let options = config.ssh.then(|| ssh::Options {
        listen: config.ssh_listen,
        advertise: config.ssh_advertise.clone(),
    });
    let gateway = ssh::Gateway::start(app.clone(), options);
    if config.ports_domain.is_some() || config.ports_url.is_some() {
        app.open_ports(ports::Settings {
            domain: config.ports_domain.clone(),
            url: config.ports_url.clone(),
            main: config.http_url.clone(),
        });
    }
    if let Some(calls) = net.calls() {
        tokio::spawn(ports::between::serve(app.clone(), calls));
    }
    let router = bridge::refuse_writes_once_removed(api::router(app.clone()), &net);
    let router = ports::router(&app, router);
    let serving_ports = ports_listener.map(|listener| {
        tokio::spawn(api::serve_with(listener, acceptor.clone(), ports::apart(&app), drain.clone()))
    });
    let serving = tokio::spawn(api::serve_with(http, acceptor, router, drain.clone()));
    let renewing = certificate.map(|one| {
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(one.keep()).await })
    });
    let controlling = tokio::spawn(control::serve(control, node, drain.clone()));
    tracing::info!(name = config.name, http = %config.http_listen, quic = %config.quic_listen, "server up");

    stop.cancelled().await;
    tracing::info!(name = config.name, "server stopping");
    drain.cancel();
    net.agents().leave();
    tokio::join!(
        app.sessions_ended(DRAIN),
        gateway.ended(DRAIN),
        net.agents().handed_over(HAND_OVER)
    );
    tokio::time::timeout(DRAIN, serving).await.ok();
    if let Some(serving) = serving_ports {
        tokio::time::timeout(DRAIN, serving).await.ok();
    }
    if let Some(renewing) = renewing {
        renewing.await.ok();
    }
    controlling.await.ok();
    spaces.stop().await;
    net_service.stop().await;
    noting.abort();
    replica_service.stop().await;
    Ok(())
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Opens the database of a server.
///
/// # Errors
/// It is in use, or cannot be read.
pub(crate) fn open(
    config: &Config,
    identity: &Identity,
) -> Result<(replica::Service, Replica), store::Error> {
    let store = SqliteStore::open(&config.data.join(DATABASE))?;
    replica::Service::start(identity.server, model::schema(), Box::new(store))
}

fn own_drivers(config: &Config, identity: &Identity, replica: &Replica) -> Vec<Arc<dyn Driver>> {
    let owner = Owner { cluster: identity.cluster, home: identity.server.0 };
    let agent = agent_binary::bytes();
    let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();
    if config.local {
        drivers.push(Arc::new(Local::new(owner, config.data.clone(), agent)));
    }
    if config.docker {
        drivers.push(Arc::new(Docker::new(owner, config.docker_host.clone(), agent)));
    }
    if config.podman {
        drivers.push(Arc::new(Docker::podman(owner, config.podman_host.clone(), agent)));
    }
    if config.manual {
        drivers.push(Arc::new(Manual::new(owner, &config.data)));
    }
    if let Some(nomad) = &config.nomad {
        match nomad_driver(owner, nomad, replica) {
            Ok(driver) => drivers.push(Arc::new(driver)),
            Err(error) => tracing::error!(%error, "Nomad cannot be used"),
        }
    }
    drivers
}

fn nomad_driver(
    owner: Owner,
    config: &config::nomad::Nomad,
    replica: &Replica,
) -> Result<Nomad, drivers::Error> {
    let archive = Archive::own().cloned().ok_or_else(|| drivers::Error::Unknown {
        platform: drivers::Platform::Nomad,
        action: "pack the agent",
        cause: "there is too little memory".to_owned(),
    })?;
    let wishes = Arc::new(HeldWishes(replica.clone()));
    // An error means that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Nomad::new(owner, config.settings(), archive, wishes)
}

/// Writes name, zone and addresses into this server's own document, where they have changed.
async fn introduce_itself(
    config: &Config,
    identity: &Identity,
    replica: &Replica,
) -> Result<(), EditError> {
    let own = Id::<Server>::from_uuid(identity.server.0);
    if replica.get(own).is_none() {
        // Removed, or the document is still on its way: there is nothing to write to.
        return Ok(());
    }
    let Config { name, zone, quic_advertise, http_url, ssh, .. } = config.clone();
    let edit = replica.edit(own, Author::Server(identity.server), move |server| {
        server.set(Server::name, name);
        server.set(Server::zone, zone);
        server.set(Server::quic, quic_advertise);
        server.set(Server::http, http_url);
        if !ssh {
            server.set(Server::ssh, String::new());
        }
        Ok(())
    });
    edit.await.map(drop)
}
