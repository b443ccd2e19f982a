//! A server: its database, its network, its spaces and its HTTP API, put together and taken apart.

mod bridge;
mod left;
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
    clock::Millis,
    id::{Author, DocId, Id, ServerId},
    model::{self, DataKey, Server, Token},
    net::{
        self, Net,
        identity::{self, Identity},
        join,
    },
    replica::{self, Doc, EditError, Replica},
    secrets::{Removal, SessionKeys, remove_server},
    store::{self, sqlite::SqliteStore},
};
pub(crate) use left::end_what_is_left;
use rand::distr::{Alphanumeric, SampleString as _};
pub use recover::{RecoverError, Recovered, recover_alone};
pub use setup::{Founded, InitError, JoinError, init, join_cluster};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    agent_binary,
    api::{self, App, auth},
    config::{self, Config},
    control::{self, Reply, Request, Status},
    data,
    https::{self, Certificate},
    ports,
    spaces::{
        self, Engines,
        drivers::{self, Archive, Docker, Driver, Local, Manual, Nomad, Owner},
        wishes::HeldWishes,
    },
    ssh, users,
};

/// The database's name in the data folder.
pub(crate) const DATABASE: &str = "knot.db";
/// How long terminals and requests have to end when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long agents may take to link to another server when this one stops.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long a sign-in link that an operator asked for is good.
const LINK: Duration = Duration::from_secs(12 * 60 * 60);

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

impl Node {
    /// Answers a request from this machine; the error is for people.
    pub(crate) async fn control(&self, request: Request) -> Result<Reply, String> {
        match request {
            Request::Status => Ok(Reply::Status(self.status())),
            Request::JoinToken => self.join_token("", self.author()).await.map(Reply::JoinToken),
            Request::Remove { server, stolen } => self.remove(&server, stolen).await,
            Request::RenewKey => self.renew_key().await.map(Reply::KeyRenewed),
            Request::DropOldKey { whoever_knows } => {
                let finished = self.net.finish_renewal(&self.data, whoever_knows).await;
                finished
                    .map(|key| Reply::KeyRenewed(key.to_string()))
                    .map_err(|error| error.to_string())
            }
            Request::Rekey => self.rekey().await,
            Request::Alone => {
                let confirmed = self.trusted.confirm();
                confirmed.map(|()| Reply::Alone).map_err(|error| error.to_string())
            }
            Request::Admin(name) => admin(&self.replica, &name).await.map(Reply::Admin),
            Request::SignIn(name) => self.sign_in(&name).await,
            Request::Data(request) => {
                let done = data::answer(request, &self.identity, &self.replica, &self.data).await;
                done.map(Reply::Data)
            }
        }
    }

    fn author(&self) -> Author {
        Author::Server(self.identity.server)
    }

    fn status(&self) -> Status {
        let reach = self.net.reach().watch();
        let linked =
            reach.borrow().iter().filter(|(_, reach)| reach.linked).map(|(id, _)| *id).collect();
        let own = Id::<Server>::from_uuid(self.identity.server.0);
        let record = self.replica.observed::<model::ServerStatus>(own, self.identity.server);
        Status {
            pid: std::process::id(),
            linked,
            server: self.identity.server,
            platforms: record.map(|record| record.platforms).unwrap_or_default(),
        }
    }

    async fn join_token(&self, name: &str, by: Author) -> Result<String, String> {
        let token = join::invite(&self.replica, &self.identity, name.to_owned(), by).await;
        token.map(|token| token.to_string()).map_err(|error| error.to_string())
    }

    async fn remove(&self, name: &str, stolen: bool) -> Result<Reply, String> {
        let servers = self.replica.list::<Server>();
        let mut named =
            servers.iter().filter(|server| server.name == name || server.id().to_string() == name);
        let (Some(server), None) = (named.next(), named.next()) else {
            let known: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
            return Err(format!(
                "no one server is called `{name}`: the cluster has {}; where two share a name, give the id",
                known.join(", ")
            ));
        };
        if server.id().uuid() == self.identity.server.0 {
            return Err(format!(
                "`{name}` is this server: remove it through another server of the cluster"
            ));
        }
        let id = ServerId(server.id().uuid());
        let removed = remove_server(self.keys.sessions(), server.id(), stolen, self.author()).await;
        let Removal { exposed, sessions_retired } = removed.map_err(|error| error.to_string())?;
        tracing::warn!(server = %id, name, stolen, "server removed");
        Ok(Reply::Removed { server: id, exposed: values(&exposed), sessions_retired })
    }

    /// Writes a new key into the data folder, and takes it up.
    async fn renew_key(&self) -> Result<String, String> {
        let key = Identity::renew(&self.data).map_err(|error| error.to_string())?;
        self.net.renew(&self.data).await.map_err(|error| error.to_string())?;
        tracing::info!(%key, "this server has a new key");
        Ok(key.to_string())
    }

    /// Makes a new data key; what the others opened is left as it is, and listed.
    async fn rekey(&self) -> Result<Reply, String> {
        let keyring = self.keys.keyring();
        let before = self.replica.list::<DataKey>().iter().map(Doc::id).collect();
        let sealed = keyring.sealed_with(&before);
        let key = keyring.add_key(self.author()).await.map_err(|error| error.to_string())?.id;
        tracing::info!(%key, "there is a new data key");
        Ok(Reply::Rekeyed { key: key.to_string(), sealed: values(&sealed) })
    }

    async fn sign_in(&self, name: &str) -> Result<Reply, String> {
        let user = users::find(&self.replica, name)
            .ok_or_else(|| format!("no user is called `{name}`"))?;
        let no_key = |error: auth::NoKey| error.to_string();
        let path = auth::sign_in_link(&self.keys, user.id(), user.epoch, LINK).map_err(no_key)?;
        let (of, now, id) = (user.id(), Millis::now(), Id::from_uuid(Uuid::now_v7()));
        let (text, hash) = auth::api_token(&self.keys, id, of).map_err(no_key)?;
        let created = self.replica.put::<Token, _>(id, self.author(), move |token| {
            token.set(Token::name, "knot-server dev".to_owned());
            token.set(Token::user, of);
            token.set(Token::hash, hash);
            token.set(Token::created, now);
            Ok(())
        });
        created.await.map_err(|error| error.to_string())?;
        Ok(Reply::SignIn { path, token: text })
    }
}

/// Makes sure that an admin of this name exists, and gives it a new password, which is returned.
async fn admin(replica: &Replica, name: &str) -> Result<String, String> {
    let password = new_password();
    let user =
        users::ensure_admin(replica, name, &password).await.map_err(|error| error.to_string())?;
    let author = Author::Server(replica.me());
    users::set_password(replica, user, &password, author)
        .await
        .map_err(|error| error.to_string())?;
    Ok(password)
}

/// Gives the server of a data folder a new key: through the server that runs on it or, where none
/// runs, in the folder, for when it starts. Returns the key.
///
/// # Errors
/// An earlier renewal is not over, or the folder cannot be written.
pub async fn renew_key(config: &Config) -> Result<String, String> {
    match control::ask(&config.data, &Request::RenewKey).await {
        Ok(Reply::KeyRenewed(key)) => Ok(key),
        Ok(_) => Err("the server gave another answer: is it of another version?".to_owned()),
        Err(control::Error::NotRunning(_)) => Identity::renew(&config.data)
            .map(|key| key.to_string())
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Values of documents, for people: `kind/id field`.
fn values(found: &[(DocId, String)]) -> Vec<String> {
    found.iter().map(|(doc, field)| format!("{doc} {field}")).collect()
}

/// Makes sure that an admin exists on a data folder, through the server that runs on it or, where
/// none runs, in its database; returns the new password.
///
/// # Errors
/// The database cannot be opened, or the admin cannot be written.
pub async fn reset_admin(config: &Config, name: &str) -> Result<String, String> {
    match control::ask(&config.data, &Request::Admin(name.to_owned())).await {
        Ok(Reply::Admin(password)) => return Ok(password),
        Ok(_) => return Err("the server gave another answer: is it of another version?".to_owned()),
        Err(control::Error::NotRunning(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    let identity = Identity::load(&config.data).map_err(|error| error.to_string())?;
    let (service, replica) = open(config, &identity).map_err(|error| error.to_string())?;
    let password = admin(&replica, name).await;
    service.stop().await;
    password
}

/// 24 letters and digits: 142 bits.
fn new_password() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 24)
}
