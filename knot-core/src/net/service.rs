//! The QUIC endpoint of a server: takes peers, agents and invitees in, and dials peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, Endpoint, Incoming, crypto::rustls::HandshakeData};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    agents::{Agents, Call},
    dial::{Dialler, dial_peers, keep_linked},
    directory::{Directory, Role},
    enrol::{self, Enrolling},
    identity::{self, Identity},
    join::{self, JoinToken},
    keys::PublicKey,
    linking::accept_peer,
    links::Links,
    own::{OwnKeys, Presented},
    peer::{self, CLOSE_REFUSED, CLOSE_STOPPING},
    probe,
    questions::{self, AskError, Asked, Questions},
    socket::Socket,
    swim::{self, Swim},
    tls::{self, Judge},
    udp::udp,
    upkeep::{self, RenewalError},
};
use crate::{
    agent::{self, ServerAddress},
    id::ServerId,
    model::{Server, Space},
    replica::{Changed, Replica},
    schema::Entity as _,
    secrets::Keyring,
};

/// The most handshakes at a time: each costs a few kilobytes for somebody who has proven nothing.
const HANDSHAKES: usize = 256;
/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// The network could not be started. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("UDP {address} cannot be listened on: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The server's certificate could not be made.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// Whether a server belongs to its cluster, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It does.
    #[default]
    Belongs,
    /// It has been removed.
    Removed,
    /// Its join token was used by another server too, which belongs in its place; or its key was
    /// retired.
    Superseded,
}

/// What a handle and all tasks of the network share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) identity: Arc<Identity>,
    pub(super) replica: Replica,
    pub(super) run: u64,
    pub(super) process: Uuid,
    /// Decides how dialling is spread in time.
    pub(super) seed: u64,
    pub(super) endpoint: Endpoint,
    pub(super) own: Arc<OwnKeys>,
    pub(super) keyring: Keyring,
    pub(super) directory: Arc<Directory>,
    pub(super) links: Links,
    pub(super) agents: Agents,
    pub(super) enrolling: Enrolling,
    pub(super) questions: Questions<Asked>,
    pub(super) swim: Swim,
    pub(super) removed: Arc<watch::Sender<bool>>,
    pub(super) standing: Arc<watch::Sender<Standing>>,
    /// The peers that refuse this run, since another run of this server is linked to them.
    pub(super) refused_by: Arc<watch::Sender<BTreeSet<ServerId>>>,
    pub(super) stop: CancellationToken,
}

/// A handle to the network; clones share it.
#[derive(Clone)]
pub struct Net {
    shared: Shared,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("server", &self.shared.identity.server).finish_non_exhaustive()
    }
}

/// The tasks of the network.
#[derive(Debug)]
pub struct Service {
    net: Net,
    tasks: JoinSet<()>,
}

/// Binds the UDP socket that a server will listen on.
///
/// # Errors
/// The address cannot be listened on.
pub fn bind(address: SocketAddr) -> Result<UdpSocket, Error> {
    udp(address).map_err(|source| Error::Listen { address, source })
}

impl Service {
    /// Starts the network of a server on its socket.
    ///
    /// # Errors
    /// The endpoint could not be set up.
    pub fn start(
        identity: Arc<Identity>,
        replica: Replica,
        socket: impl Into<Socket>,
    ) -> Result<Self, Error> {
        let socket = socket.into();
        let directory = Arc::new(Directory::default());
        let own = Arc::new(OwnKeys::new(&identity)?);
        let config = server_config(&directory, own.for_peer(identity.server))?;
        let (seed, endpoint) = (socket.seed(), socket.endpoint(Some(config))?);
        let links = Links::new();
        let (addresses, servers) = watch::channel(Vec::new());
        let agents = Agents::new(replica.clone(), links.clone(), servers);
        let enrolling = Enrolling::new(replica.clone(), links.clone());
        let (swim, events) = Swim::new();
        let keyring = Keyring::new(replica.clone(), Arc::clone(&identity.sealing));
        let shared = Shared {
            run: replica.run(),
            identity,
            replica,
            process: Uuid::new_v4(),
            seed,
            endpoint,
            own,
            keyring,
            directory,
            links,
            agents,
            enrolling,
            questions: Questions::new(),
            swim,
            removed: Arc::new(watch::Sender::new(false)),
            standing: Arc::default(),
            refused_by: Arc::default(),
            stop: CancellationToken::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(shared.clone()));
        tasks.spawn(swim::run(shared.clone(), events));
        tasks.spawn(follow(shared.clone(), addresses));
        tasks.spawn(upkeep::run(shared.clone()));
        tasks.spawn(probe::ask_the_removed(shared.clone()));
        Ok(Self { net: Net { shared }, tasks })
    }

    /// The handle.
    pub fn net(&self) -> Net {
        self.net.clone()
    }

    /// Closes every connection and ends the tasks.
    pub async fn stop(mut self) {
        let shared = &self.net.shared;
        shared.stop.cancel();
        shared.endpoint.close(CLOSE_STOPPING, b"this server is stopping");
        timeout(Duration::from_secs(2), shared.endpoint.wait_idle()).await.ok();
        self.tasks.shutdown().await;
    }
}

impl Net {
    /// Which servers can be reached, and which are linked; changes can be waited for.
    pub fn reach(&self) -> &Links {
        &self.shared.links
    }

    /// The agents that can be reached from here.
    pub fn agents(&self) -> &Agents {
        &self.shared.agents
    }

    /// Opens a stream to the program on top of another server, which gets it as [`Asked`].
    ///
    /// # Errors
    /// The server is not linked to this one, or the stream could not be opened.
    pub async fn ask(
        &self,
        server: ServerId,
    ) -> Result<(quinn::SendStream, quinn::RecvStream), AskError> {
        questions::ask(&self.shared.links, server).await
    }

    /// The streams that other servers open for the program on top; `None` once they were taken.
    pub fn asked(&self) -> Option<tokio::sync::mpsc::Receiver<Asked>> {
        self.shared.questions.take()
    }

    /// The streams that agents linked to this server open; `None` once they were taken.
    pub fn calls(&self) -> Option<tokio::sync::mpsc::Receiver<Call>> {
        self.shared.agents.calls()
    }

    /// What this server opens and seals secrets with.
    pub fn keyring(&self) -> &Keyring {
        &self.shared.keyring
    }

    /// Takes up a renewal that [`Identity::renew`] has written into the data folder of this server:
    /// announces the new key, and presents it to each peer that has shown that it knows it.
    ///
    /// # Errors
    /// The folder could not be read, or this server's document not be written: it is tried again.
    pub async fn renew(&self, folder: &Path) -> Result<(), RenewalError> {
        upkeep::take_up(&self.shared, &Identity::load(folder)?).await
    }

    /// Ends a renewal, once every server has shown that it knows the new key, or where
    /// `whoever_knows`, in any case: the old key is dropped from the folder and opens no door any
    /// more. Returns the new key.
    ///
    /// # Errors
    /// None is under way, or a server has not shown yet that it knows the new key.
    pub async fn finish_renewal(
        &self,
        folder: &Path,
        whoever_knows: bool,
    ) -> Result<PublicKey, RenewalError> {
        upkeep::finish(&self.shared, folder, whoever_knows).await
    }

    /// Whether this server belongs, as far as it knows; and why not.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Takes it as said, from an earlier run, that this server does not belong any more.
    pub fn remember(&self, standing: Standing) {
        if standing != Standing::Belongs {
            self.shared.expelled(standing);
        }
    }

    /// Becomes true once this server is known not to belong to the cluster any more.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.shared.removed.subscribe()
    }

    /// The peers that refuse this run of the server, since another run of it is linked to them and
    /// answers: its folder was copied, and both run. Not empty, it wants an operator: for programs on
    /// top to show. It is logged once, too.
    pub fn refused_by(&self) -> watch::Receiver<BTreeSet<ServerId>> {
        self.shared.refused_by.subscribe()
    }

    /// Lets the holder of an invitation in from now on. Documents are followed a moment later, and whoever is given the
    /// token may use it at once.
    pub fn expect(&self, token: &JoinToken) {
        self.shared.directory.follow(&self.shared.replica, token.server().into());
    }

    /// Dials a peer whose document has not come yet, and keeps the link: the first peer of a server
    /// that has just joined.
    pub fn introduce(&self, peer: &ServerAddress) {
        self.shared.directory.introduce(ServerId(peer.id), &peer.keys);
        let (shared, stop) = (self.shared.clone(), self.shared.stop.clone());
        let (id, address) = (ServerId(peer.id), peer.address.to_string());
        tokio::spawn(async move { keep_linked(&shared, id, &address, &stop).await });
    }
}

/// Presents to whoever dials the key that all peers know.
pub(super) fn present(shared: &Shared) {
    let Some(presented) = shared.own.switch(&upkeep::peers(shared)) else { return };
    match server_config(&shared.directory, presented) {
        Ok(config) => shared.endpoint.set_server_config(Some(config)),
        Err(error) => tracing::error!(%error, "this server's new key cannot be presented"),
    }
}

fn server_config(
    directory: &Arc<Directory>,
    presented: Presented,
) -> Result<quinn::ServerConfig, tls::Error> {
    let directory = Arc::clone(directory);
    let judge: Judge = Arc::new(move |key| directory.verdict(key));
    let protocols = [peer::ALPN, agent::ALPN, agent::ENROL_ALPN, join::ALPN];
    tls::server_config(&presented.key, presented.chain, judge, &protocols)
}

impl Shared {
    /// This server has heard that it does not belong any more.
    pub(super) fn expelled(&self, why: Standing) {
        self.standing.send_replace(why);
        if !self.removed.send_replace(true) {
            match why {
                Standing::Superseded => tracing::error!(
                    server = %self.identity.server, key = %self.own.current(),
                    "another server joined with the token that this one joined with, and belongs in \
                     its place: join again with a new token and an empty folder"
                ),
                _ => tracing::error!(
                    removed_here = ?probe::removed_here(self),
                    "this server has been removed from its cluster. The servers that were removed \
                     here may not be so for the others: nobody listens to this one any more. Where \
                     they are to be removed, remove them again at a server that belongs, or `import` \
                     this one's folder there"
                ),
            }
        }
    }
}

async fn accept(shared: Shared) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let shared = shared.clone();
        // Ends with its connection, which ends with the endpoint.
        tokio::spawn(async move {
            let known = timeout(HANDSHAKE, identify(&shared, incoming)).await;
            drop(permit);
            if let Ok(Some((connection, role, protocol))) = known {
                serve(&shared, connection, role, &protocol).await;
            }
        });
    }
}

async fn identify(shared: &Shared, incoming: Incoming) -> Option<(Connection, Role, Vec<u8>)> {
    let from = incoming.remote_address();
    match incoming.await {
        Ok(connection) => {
            let role = shared.directory.role(&key_of(&connection)?)?;
            let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
            Some((connection, role, data.protocol?))
        }
        Err(error) => {
            tracing::info!(%from, %error, "a connection was refused");
            None
        }
    }
}

/// A key opens the door of its role and no other.
async fn serve(shared: &Shared, connection: Connection, role: Role, protocol: &[u8]) {
    match role {
        Role::Peer(id) if protocol == peer::ALPN => accept_peer(shared, connection, id).await,
        Role::Agent { space, generation } if protocol == agent::ALPN => {
            shared.agents.run(connection, space, generation).await;
        }
        Role::Newcomer(space) if protocol == agent::ENROL_ALPN => {
            if let Some(first) = key_of(&connection) {
                shared.enrolling.serve(connection, space, first).await;
            }
        }
        Role::Invitee(id) if protocol == join::ALPN => join::admit(shared, &connection, id).await,
        _ => connection.close(CLOSE_REFUSED, b"this key does not open this door"),
    }
}

fn key_of(connection: &Connection) -> Option<PublicKey> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PublicKey::of_certificate(chain.first()?).ok()
}

/// Follows the documents and records that say who belongs: accepts keys, dials peers, and closes
/// the connections of keys that have lost their role.
async fn follow(shared: Shared, addresses: watch::Sender<Vec<ServerAddress>>) {
    let mut changes = shared.replica.watch(&[Server::KIND, Space::KIND, enrol::KIND]);
    let mut diallers: BTreeMap<ServerId, Dialler> = BTreeMap::new();
    shared.directory.follow_all(&shared.replica);
    shared.swim.belong(dial_peers(&shared, &mut diallers)).await;
    tell_addresses(&shared, &addresses).await;
    loop {
        let (Changed::Document(subject) | Changed::Record(subject)) = changes.next().await;
        if shared.directory.follow(&shared.replica, subject) {
            close_without_role(&shared);
        }
        if subject.kind == Server::KIND {
            shared.swim.belong(dial_peers(&shared, &mut diallers)).await;
            tell_addresses(&shared, &addresses).await;
        }
    }
}

/// Closes the connections of peers and agents whose key opens no door any more.
fn close_without_role(shared: &Shared) {
    for connection in shared.links.connections().into_iter().chain(shared.agents.connections()) {
        let role = key_of(&connection).and_then(|key| shared.directory.role(&key));
        if role.is_none() {
            connection.close(CLOSE_REFUSED, b"this key is no longer accepted");
        }
    }
}

/// Tells agents where the servers are.
async fn tell_addresses(shared: &Shared, addresses: &watch::Sender<Vec<ServerAddress>>) {
    let servers = server_addresses(&shared.replica).await;
    addresses.send_if_modified(|known| {
        let changed = *known != servers;
        *known = servers;
        changed
    });
}

/// Every live server of the cluster that has joined and whose address resolves.
pub async fn server_addresses(replica: &Replica) -> Vec<ServerAddress> {
    let mut servers = Vec::new();
    for server in replica.list::<Server>() {
        let keys: Vec<_> = server.accepted().into_iter().collect();
        if keys.is_empty() {
            continue;
        }
        let Ok(mut resolved) = tokio::net::lookup_host(&server.quic).await else {
            tracing::warn!(server = %server.name, address = %server.quic, "an address does not resolve");
            continue;
        };
        if let Some(address) = resolved.next() {
            let (id, zone) = (server.id().uuid(), server.zone.clone());
            servers.push(ServerAddress { id, zone, address, keys });
        }
    }
    servers
}
