//! Servers that can be cut off, restarted, killed, copied and healed.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, Server, Template},
    net::{
        self, Net, Standing,
        identity::Identity,
        join::{self, JoinToken, Newcomer},
    },
    replica::{self, Replica, Token},
    secrets::{Keyring, SessionKeys},
    store::sqlite::SqliteStore,
};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

/// Long enough for anything here; a test that waits for it has failed.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

knot_core::entity! {
    /// Something with a secret in it.
    pub struct Vault("vault", 1) {
        /// The secret.
        secret: Field<knot_core::secrets::Sealed>,
        /// What people may read.
        note: Field<String>,
    }
}

/// A running server.
pub(crate) struct Node {
    pub(crate) identity: Arc<Identity>,
    pub(crate) replica: Replica,
    pub(crate) net: Net,
    pub(crate) address: SocketAddr,
    pub(crate) folder: TempDir,
    network: net::Service,
    service: replica::Service,
}

/// What a killed server leaves.
pub(crate) struct Remains {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
}

/// A server that hears nobody; its replica goes on.
pub(crate) struct CutOff {
    pub(crate) identity: Arc<Identity>,
    pub(crate) replica: Replica,
    address: SocketAddr,
    folder: TempDir,
    service: replica::Service,
}

impl Node {
    pub(crate) fn author(&self) -> Author {
        Author::Server(self.identity.server)
    }

    pub(crate) fn id(&self) -> Id<Server> {
        Id::from_uuid(self.identity.server.0)
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        self.net.keyring()
    }

    pub(crate) fn sessions(&self) -> SessionKeys {
        SessionKeys::new(self.keyring().clone())
    }

    pub(crate) fn standing(&self) -> Standing {
        *self.net.standing().borrow()
    }

    /// Stops the whole server; its folder and address are what is left.
    pub(crate) async fn stop(self) -> (TempDir, SocketAddr) {
        self.network.stop().await;
        self.service.stop().await;
        (self.folder, self.address)
    }

    /// Ends the runtime that the node runs in: no task of it runs again, so nothing is closed.
    pub(crate) fn kill(self, process: Runtime) -> Remains {
        process.shutdown_background();
        Remains { folder: self.folder, address: self.address }
    }

    /// A copy of its folder, as it is now.
    pub(crate) fn copy_of_folder(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Stops it and starts it again from its folder.
    pub(crate) async fn restart(self) -> Self {
        let (folder, address) = self.stop().await;
        start(folder, address).await
    }

    pub(crate) async fn cut_off(self) -> CutOff {
        let Self { identity, replica, address, folder, service, network, .. } = self;
        network.stop().await;
        CutOff { identity, replica, address, folder, service }
    }

    pub(crate) async fn has_heard_of(&self, note: &'static str) {
        let heard = || async { self.notes().contains(&note.to_owned()).then_some(()) };
        eventually(&format!("{} hears of `{note}`", self.address), heard).await;
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.replica.list::<Vault>().iter().map(|vault| vault.note.clone()).collect()
    }

    pub(crate) async fn is_told(&self, standing: Standing) {
        let mut told = self.net.standing();
        let heard = told.wait_for(|now| *now == standing);
        tokio::time::timeout(BOUND, heard).await.expect("was never told").unwrap();
    }
}

impl CutOff {
    pub(crate) fn id(&self) -> Id<Server> {
        Id::from_uuid(self.identity.server.0)
    }

    pub(crate) fn author(&self) -> Author {
        Author::Server(self.identity.server)
    }

    pub(crate) async fn heal(self) -> Node {
        let Self { identity, replica, address, folder, service } = self;
        let (network, net, address) = network(&identity, &replica, address).await;
        Node { identity, replica, net, address, folder, network, service }
    }
}

pub(crate) async fn note(replica: &Replica, author: Author, note: &'static str) -> Id<Vault> {
    let create = replica.create::<Vault, _>(author, move |vault| {
        vault.set(Vault::note, note.to_owned());
        Ok(())
    });
    create.await.unwrap().id
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The store of a folder, once whoever had it open has let go of it.
async fn open(path: &Path) -> Box<SqliteStore> {
    let database = path.join("knot.db");
    let opened = || async { SqliteStore::open(&database).ok() };
    Box::new(eventually("the database can be opened", opened).await)
}

async fn network(
    identity: &Arc<Identity>,
    replica: &Replica,
    address: SocketAddr,
) -> (net::Service, Net, SocketAddr) {
    // A stopped endpoint lets go of its socket once its driver has noticed.
    let socket = eventually("the socket is free", || async { net::bind(address).ok() }).await;
    let address = socket.local_addr().unwrap();
    let service = net::Service::start(Arc::clone(identity), replica.clone(), socket).unwrap();
    let net = service.net();
    (service, net, address)
}

/// Starts the server of a folder.
pub(crate) async fn start(folder: TempDir, address: SocketAddr) -> Node {
    let identity = Arc::new(Identity::load(folder.path()).unwrap());
    let schema = model::schema().with::<Vault>();
    let (service, replica) =
        replica::Service::start(identity.server, schema, open(folder.path()).await).unwrap();
    let (network, net, address) = network(&identity, &replica, address).await;
    Node { identity, replica, net, address, folder, network, service }
}

/// Starts the server of a folder in a runtime of its own, that can be ended without a word to anybody.
pub(crate) async fn start_to_be_killed(folder: TempDir, address: SocketAddr) -> (Runtime, Node) {
    let mut process = runtime::Builder::new_multi_thread();
    let process = process.worker_threads(1).enable_all().build().unwrap();
    let node = process.spawn(start(folder, address)).await.unwrap();
    (process, node)
}

/// The first server of a cluster, with a data key and a session key.
pub(crate) async fn found() -> Node {
    let folder = tempfile::tempdir().unwrap();
    Identity::generate().unwrap().save(folder.path()).unwrap();
    let node = start(folder, any_port()).await;
    let (key, quic) = (node.identity.key.public(), node.address.to_string());
    let sealing = node.identity.sealing.public();
    node.replica
        .put(node.id(), node.author(), move |server: &mut knot_core::schema::Edit<'_, Server>| {
            server.set(Server::name, "one".to_owned());
            server.set(Server::key, Some(key));
            server.put(Server::sealing, &key, sealing);
            server.set(Server::quic, quic);
            Ok(())
        })
        .await
        .unwrap();
    node.keyring().add_key(node.author()).await.unwrap();
    node.sessions().add(node.author()).await.unwrap();
    node
}

pub(crate) async fn invite(host: &Node) -> JoinToken {
    join::invite(&host.replica, &host.identity, String::new(), host.author()).await.unwrap()
}

/// A cluster of this many servers, all linked.
pub(crate) async fn cluster<const N: usize>() -> [Node; N] {
    let mut nodes = vec![found().await];
    while nodes.len() < N {
        let name = format!("server {}", nodes.len() + 1);
        nodes.push(join_through(&nodes[0], &name).await);
    }
    for node in &nodes {
        for peer in nodes.iter().filter(|peer| peer.address != node.address) {
            linked(node, peer).await;
        }
    }
    nodes.try_into().unwrap_or_else(|_| panic!("not as many as were asked for"))
}

/// Another server, which joins through `host`. One whose answer was lost on the way has used its token up: it is
/// removed, and invited anew, as its operator would do.
pub(crate) async fn join_through(host: &Node, name: &str) -> Node {
    let joined = async {
        let mut token = invite(host).await;
        loop {
            match try_join(host, &token, name).await {
                Ok(node) => return node,
                Err(error) => println!("{name} is not let in: {error}"),
            }
            let servers = host.replica.list::<Server>();
            let lost = servers.iter().find(|one| one.name == name && one.key.is_some());
            if let Some(lost) = lost {
                host.replica.delete(lost.id(), host.author()).await.unwrap();
                token = invite(host).await;
            }
        }
    };
    tokio::time::timeout(2 * BOUND, joined).await.expect("it never joins")
}

/// Another server, which joins through `host` once that accepts the token.
pub(crate) async fn join_with(host: &Node, token: &JoinToken, name: &str) -> Node {
    let accepted = || async {
        let joined = try_join(host, token, name).await;
        joined.inspect_err(|error| println!("{name} is not let in: {error}")).ok()
    };
    eventually("the host accepts the token", accepted).await
}

pub(crate) async fn try_join(
    host: &Node,
    token: &JoinToken,
    name: &str,
) -> Result<Node, join::Error> {
    let folder = tempfile::tempdir().unwrap();
    // The socket is bound first: the address has to be in the request.
    let socket = net::bind(any_port()).unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let newcomer = Newcomer {
        name: name.to_owned(),
        zone: String::new(),
        quic: address.to_string(),
        http: String::new(),
    };
    let joined = join::join(host.address, token, newcomer).await?;
    joined.identity.save(folder.path()).unwrap();
    let node = start(folder, address).await;
    node.net.introduce(&joined.host);
    node.replica.wait_for(&joined.token, BOUND).await.unwrap();
    node.replica.wait_until_equal(host.identity.server, BOUND).await.unwrap();
    Ok(node)
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let poll = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, poll).await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub(crate) async fn linked(node: &Node, peer: &Node) {
    let mut reach = node.net.reach().watch();
    let peer = peer.identity.server;
    let up = reach.wait_for(|reach| reach.get(&peer).is_some_and(|one| one.linked));
    tokio::time::timeout(BOUND, up).await.expect("never linked").unwrap();
}

/// Waits until a node counts a peer as up, by membership and not only by their link.
pub(crate) async fn up(node: &Node, peer: ServerId) {
    let mut reach = node.net.reach().watch();
    let up = reach.wait_for(|reach| reach.get(&peer).is_some_and(|one| one.linked && one.up));
    tokio::time::timeout(BOUND, up).await.expect("never up").unwrap();
}

/// Waits until a node counts a peer as not reachable.
pub(crate) async fn lost(node: &Node, peer: ServerId) {
    let mut reach = node.net.reach().watch();
    let lost = reach.wait_for(|reach| reach.get(&peer).is_some_and(|one| !one.is_reachable()));
    tokio::time::timeout(BOUND, lost).await.expect("never lost").unwrap();
}

pub(crate) async fn describe(node: &Node, id: Id<Template>, text: &str) -> Token {
    let text = text.to_owned();
    let edit = node.replica.put(
        id,
        node.author(),
        move |template: &mut knot_core::schema::Edit<'_, Template>| {
            template.set(Template::description, text);
            Ok(())
        },
    );
    edit.await.unwrap().token()
}

pub(crate) fn template() -> Id<Template> {
    Id::from_uuid(uuid::Uuid::from_u128(7))
}
