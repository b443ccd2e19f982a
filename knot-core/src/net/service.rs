//! The QUIC endpoint of a server: takes peers, agents and invitees in, and dials peers.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, Endpoint, Incoming, crypto::rustls::HandshakeData};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    agents::Agents,
    dial::{Dialler, dial_peers, keep_linked},
    directory::{Directory, Role},
    identity::{self, Identity},
    join,
    keys::PublicKey,
    links::{Link, Links, Refused},
    peer::{self, CLOSE_DUPLICATE, CLOSE_REFUSED, CLOSE_STOPPING, Hello},
    socket::Socket,
    swim::{self, Swim},
    tls::{self, Judge},
};
use crate::{
    agent::{self, ServerAddress},
    id::{DocId, Id, ServerId},
    model::{Server, Space},
    replica::{Changed, Replica},
    schema::Entity as _,
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
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) directory: Arc<Directory>,
    pub(super) links: Links,
    pub(super) agents: Agents,
    pub(super) swim: Swim,
    pub(super) removed: Arc<watch::Sender<bool>>,
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
    UdpSocket::bind(address).map_err(|source| Error::Listen { address, source })
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
        let judge: Judge = {
            let directory = Arc::clone(&directory);
            Arc::new(move |key| directory.verdict(key))
        };
        let chain = identity.chain()?;
        let protocols = [peer::ALPN, agent::ALPN, join::ALPN];
        let config = tls::server_config(&identity.key, chain.clone(), judge, &protocols)?;
        let (seed, endpoint) = (socket.seed(), socket.endpoint(Some(config))?);
        let links = Links::new();
        let (addresses, servers) = watch::channel(Vec::new());
        let agents = Agents::new(replica.clone(), links.clone(), servers);
        let (swim, events) = Swim::new();
        let shared = Shared {
            run: replica.run(),
            identity,
            replica,
            process: Uuid::new_v4(),
            seed,
            endpoint,
            chain,
            directory,
            links,
            agents,
            swim,
            removed: Arc::new(watch::Sender::new(false)),
            stop: CancellationToken::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(shared.clone()));
        tasks.spawn(swim::run(shared.clone(), events));
        tasks.spawn(follow(shared.clone(), addresses));
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

    /// Becomes true once another server holds this one to be removed from the cluster.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.shared.removed.subscribe()
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
        Role::Invitee(id) if protocol == join::ALPN => join::admit(shared, &connection, id).await,
        _ => connection.close(CLOSE_REFUSED, b"this key does not open this door"),
    }
}

fn key_of(connection: &Connection) -> Option<PublicKey> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PublicKey::of_certificate(chain.first()?).ok()
}

pub(super) fn hello(shared: &Shared) -> Hello {
    Hello { server: shared.identity.server, run: shared.run, process: shared.process }
}

async fn accept_peer(shared: &Shared, connection: Connection, id: ServerId) {
    let judge = |hello: &Hello| {
        if hello.server == id { Ok(()) } else { Err(peer::Error::Name(hello.server)) }
    };
    match peer::be_greeted(&connection, hello(shared), judge).await {
        Ok(greeted) => run_link(shared, connection, greeted, id).await,
        Err(error) => {
            tracing::info!(peer = %id, %error, "a peer's handshake failed");
            connection.close(CLOSE_REFUSED, error.to_string().as_bytes());
        }
    }
}

pub(super) async fn run_link(
    shared: &Shared,
    connection: Connection,
    greeted: peer::Greeted,
    dialler: ServerId,
) {
    let id = greeted.hello.server;
    let link = Link { hello: greeted.hello, connection: connection.clone(), dialler };
    match shared.links.put(link) {
        Ok(()) => {}
        Err(Refused::Duplicate) => {
            return connection.close(CLOSE_DUPLICATE, b"another link is there");
        }
        Err(Refused::SecondRun) => {
            tracing::error!(peer = %id, "a second server with this identity tried to link and was \
                refused: was its data folder copied?");
            return connection.close(CLOSE_REFUSED, b"another run of this server is linked");
        }
    }
    tracing::info!(peer = %id, "peer linked");
    let run = greeted.hello.run;
    shared.swim.linked(id, run).await;
    let ended = peer::run(connection.clone(), greeted, shared).await;
    let stops = peer::says_it_stops(&connection);
    connection.close(CLOSE_REFUSED, b"the link has ended");
    if shared.links.remove(id, &connection) {
        shared.swim.lost(id, run, stops).await;
    }
    if let Err(error) = ended {
        tracing::info!(peer = %id, %error, "peer link ended");
    }
}

/// Follows the documents and records that say who belongs: accepts keys, dials peers, and closes
/// the connections of keys that have lost their role.
async fn follow(shared: Shared, addresses: watch::Sender<Vec<ServerAddress>>) {
    let mut changes = shared.replica.watch(&[Server::KIND, Space::KIND]);
    let mut diallers: BTreeMap<ServerId, Dialler> = BTreeMap::new();
    for space in shared.replica.list::<Space>() {
        shared.directory.follow(&shared.replica, space.id().into());
    }
    for server in shared.replica.list::<Server>() {
        shared.directory.follow(&shared.replica, server.id().into());
    }
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
        let Some(key) = server.key else { continue };
        let Ok(mut resolved) = tokio::net::lookup_host(&server.quic).await else {
            tracing::warn!(server = %server.name, address = %server.quic, "an address does not resolve");
            continue;
        };
        if let Some(address) = resolved.next() {
            let (id, zone) = (server.id().uuid(), server.zone.clone());
            servers.push(ServerAddress { id, zone, address, keys: vec![key] });
        }
    }
    servers
}

/// The document of a server.
pub(super) fn document(server: ServerId) -> DocId {
    Id::<Server>::from_uuid(server.0).into()
}
