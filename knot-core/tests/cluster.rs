//! Whole servers in one process: real QUIC on loopback, real SQLite.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use knot_core::{
    agent,
    clock::Millis,
    id::{Author, Id, ServerId},
    membership,
    model::{self, Server, Template},
    net::{
        self, KeyPair, Net, PublicKey,
        identity::Identity,
        join::{self, JoinToken, Newcomer},
        tls::{self, Accept, Verdict},
    },
    replica::{self, Replica, Token},
    store::sqlite::SqliteStore,
    sync::Message,
    wire,
};
use tempfile::TempDir;

/// One running server.
struct Node {
    folder: TempDir,
    identity: Arc<Identity>,
    replica: Replica,
    net: Net,
    address: SocketAddr,
    services: (net::Service, replica::Service),
}

impl Node {
    fn author(&self) -> Author {
        Author::Server(self.identity.server)
    }

    fn id(&self) -> Id<Server> {
        Id::from_uuid(self.identity.server.0)
    }

    async fn stop(self) -> (TempDir, Arc<Identity>, SocketAddr) {
        self.services.0.stop().await;
        self.services.1.stop().await;
        (self.folder, self.identity, self.address)
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn open(path: &Path) -> Box<SqliteStore> {
    Box::new(SqliteStore::open(&path.join("knot.db")).unwrap())
}

async fn start(folder: TempDir, identity: Arc<Identity>, address: SocketAddr) -> Node {
    let (service, replica) =
        replica::Service::start(identity.server, model::schema(), open(folder.path())).unwrap();
    // A stopped endpoint lets go of its socket once its driver has noticed.
    let socket = eventually("the socket is free", || async { net::bind(address).ok() }).await;
    let address = socket.local_addr().unwrap();
    let net_service = net::Service::start(Arc::clone(&identity), replica.clone(), socket).unwrap();
    let net = net_service.net();
    Node { folder, identity, replica, net, address, services: (net_service, service) }
}

/// The first server of a cluster.
async fn found() -> Node {
    let identity = Arc::new(Identity::generate().unwrap());
    let node = start(tempfile::tempdir().unwrap(), identity, any_port()).await;
    let (key, quic) = (node.identity.key.public(), node.address.to_string());
    node.replica
        .put(node.id(), node.author(), move |server: &mut knot_core::schema::Edit<'_, Server>| {
            server.set(Server::name, "one".to_owned());
            server.set(Server::key, Some(key));
            server.set(Server::quic, quic);
            Ok(())
        })
        .await
        .unwrap();
    node
}

async fn invite(host: &Node) -> JoinToken {
    join::invite(&host.replica, &host.identity, String::new(), host.author()).await.unwrap()
}

/// Another server, which joins through `host`.
async fn join_through(host: &Node, name: &str) -> Node {
    let token = invite(host).await;
    eventually("the host accepts the invitation", || async { try_join(host, &token, name).await })
        .await
}

async fn try_join(host: &Node, token: &JoinToken, name: &str) -> Option<Node> {
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
    let joined = join::join(host.address, token, newcomer).await.ok()?;
    let node = start(folder, Arc::new(joined.identity), address).await;
    node.net.introduce(&joined.host);
    node.replica.wait_for(&joined.token, BOUND).await.unwrap();
    Some(node)
}

const BOUND: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something.
async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
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

async fn linked(node: &Node, peer: &Node) {
    let mut reach = node.net.reach().watch();
    let peer = peer.identity.server;
    let up = reach.wait_for(|reach| reach.get(&peer).is_some_and(|one| one.linked));
    tokio::time::timeout(BOUND, up).await.expect("never linked").unwrap();
}

/// Waits until a node counts a peer as up, by membership and not only by their link.
async fn up(node: &Node, peer: ServerId) {
    let mut reach = node.net.reach().watch();
    let up = reach.wait_for(|reach| reach.get(&peer).is_some_and(|one| one.linked && one.up));
    tokio::time::timeout(BOUND, up).await.expect("never up").unwrap();
}

/// Waits until a node counts a peer as not reachable.
async fn lost(node: &Node, peer: ServerId) {
    let mut reach = node.net.reach().watch();
    let lost = reach.wait_for(|reach| reach.get(&peer).is_some_and(|one| !one.is_reachable()));
    tokio::time::timeout(BOUND, lost).await.expect("never lost").unwrap();
}

async fn describe(node: &Node, id: Id<Template>, text: &str) -> Token {
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

fn template() -> Id<Template> {
    Id::from_uuid(uuid::Uuid::from_u128(7))
}

#[tokio::test]
async fn three_servers_join_and_show_each_others_edits() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let three = join_through(&two, "three").await;
    for (node, peer) in [(&one, &two), (&one, &three), (&two, &three)] {
        linked(node, peer).await;
        linked(peer, node).await;
    }
    for (writer, text) in [(&one, "from one"), (&two, "from two"), (&three, "from three")] {
        let token = describe(writer, template(), text).await;
        for reader in [&one, &two, &three] {
            reader.replica.wait_for(&token, BOUND).await.unwrap();
            assert_eq!(reader.replica.get(template()).unwrap().description, text);
        }
    }
}

#[tokio::test]
async fn a_server_that_was_away_catches_up() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let (folder, identity, address) = two.stop().await;
    let mut tokens = Vec::new();
    for n in 0..500 {
        let id = Id::from_uuid(uuid::Uuid::from_u128(n));
        tokens.push(describe(&one, id, "written while two was away").await);
    }
    let two = start(folder, identity, address).await;
    for token in tokens {
        two.replica.wait_for(&token, BOUND).await.unwrap();
    }
    assert_eq!(two.replica.list::<Template>().len(), 500);
}

#[tokio::test]
async fn a_removed_server_is_cut_off_and_refused() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    linked(&one, &two).await;
    linked(&two, &one).await;
    one.replica.delete(two.id(), one.author()).await.unwrap();
    let mut removed = two.net.removed();
    tokio::time::timeout(BOUND, removed.wait_for(|removed| *removed)).await.unwrap().unwrap();
    let server = two.identity.server;
    eventually("one has no link to two", || async {
        (!one.net.reach().is_linked(server)).then_some(())
    })
    .await;
    // What two goes on writing reaches nobody, and two goes on hearing nothing.
    let lost = Id::from_uuid(uuid::Uuid::from_u128(8));
    describe(&two, lost, "after the removal").await;
    let token = describe(&one, template(), "after the removal").await;
    let (folder, identity, address) = two.stop().await;
    let two = start(folder, identity, address).await;
    assert!(two.replica.wait_for(&token, Duration::from_secs(2)).await.is_err());
    assert!(one.replica.get::<Template>(lost).is_none());
    assert!(!one.net.reach().is_linked(server));
}

#[tokio::test]
async fn a_token_is_good_for_one_server() {
    let one = found().await;
    let token = invite(&one).await;
    let first = eventually("the first use", || try_join(&one, &token, "two")).await;
    let newcomer = Newcomer {
        name: "three".to_owned(),
        zone: String::new(),
        quic: "127.0.0.1:9".to_owned(),
        http: String::new(),
    };
    linked(&one, &first).await;
    let second = join::join(one.address, &token, newcomer).await;
    assert!(matches!(second, Err(join::Error::NotAccepted { .. })), "{second:?}");
}

#[tokio::test]
async fn a_token_of_another_cluster_is_refused_by_both_sides() {
    let (one, other) = (found().await, found().await);
    let token = invite(&other).await;
    let newcomer = Newcomer {
        name: "two".to_owned(),
        zone: String::new(),
        quic: "127.0.0.1:9".to_owned(),
        http: String::new(),
    };
    let refused = join::join(one.address, &token, newcomer).await;
    assert!(matches!(refused, Err(join::Error::NotAccepted { .. })), "{refused:?}");
    assert_eq!(ServerId(one.id().uuid()), one.identity.server);
}

#[tokio::test]
async fn a_joiner_can_wait_until_it_holds_all() {
    let one = found().await;
    for n in 0..300 {
        describe(&one, Id::from_uuid(uuid::Uuid::from_u128(n)), "before the join").await;
    }
    let two = join_through(&one, "two").await;
    two.replica.wait_until_equal(one.identity.server, BOUND).await.unwrap();
    assert_eq!(two.replica.list::<Template>().len(), 300);
}

#[tokio::test]
async fn a_stranger_gets_no_byte() {
    let one = found().await;
    let key = KeyPair::generate().unwrap();
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    for protocol in [&b"knot-peer/1"[..], agent::ALPN, join::ALPN] {
        let chain = vec![key.self_signed("stranger").unwrap()];
        let accept = Accept::Known(Arc::new(|_| Verdict::Known));
        let config = tls::client_config(&key, chain, accept, protocol).unwrap();
        let connecting = endpoint.connect_with(config, one.address, "knot").unwrap();
        // In TLS 1.3 the dialling end is done before the other has judged it.
        let Ok(connection) = connecting.await else { continue };
        let heard = async {
            let (mut send, mut receive) = connection.open_bi().await.ok()?;
            send.write_all(&[0; 64]).await.ok()?;
            receive.read_chunk(1, true).await.ok()?
        };
        assert!(heard.await.is_none(), "a stranger was answered");
        let reason = connection.closed().await;
        assert!(matches!(reason, quinn::ConnectionError::ConnectionClosed(_)), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_known_to_be_lost_and_is_up_when_it_returns() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let three = join_through(&one, "three").await;
    let server = two.identity.server;
    // It runs again, in a runtime of its own that can be ended without a word to anybody.
    let (folder, identity, address) = two.stop().await;
    let mut process = tokio::runtime::Builder::new_multi_thread();
    let process = process.worker_threads(1).enable_all().build().unwrap();
    let two = process.spawn(start(folder, identity, address)).await.unwrap();
    for node in [&one, &three] {
        up(node, server).await;
        up(&two, node.identity.server).await;
    }
    let Remains { folder, identity, address } = kill(process, two);
    let killed = std::time::Instant::now();
    tokio::join!(lost(&one, server), lost(&three, server));
    let took = killed.elapsed();
    println!("two servers knew after {took:?} that the third was lost");
    assert!(took > Duration::from_secs(1), "it was closed, not killed");
    assert!(took < Duration::from_secs(4), "{took:?}");
    // It still belongs, and the others have not lost each other.
    assert!(one.replica.get(Id::<Server>::from_uuid(server.0)).is_some());
    assert!(one.net.reach().is_reachable(three.identity.server));

    let two = start(folder, identity, address).await;
    for node in [&one, &three] {
        up(node, server).await;
        up(&two, node.identity.server).await;
    }
}

/// What a killed server leaves.
struct Remains {
    folder: TempDir,
    identity: Arc<Identity>,
    address: SocketAddr,
}

/// Ends a runtime with the node in it: no task of it runs again, so nothing is closed.
fn kill(process: tokio::runtime::Runtime, node: Node) -> Remains {
    process.shutdown_background();
    let Node { folder, identity, address, .. } = node;
    Remains { folder, identity, address }
}

#[tokio::test]
async fn a_server_that_stops_is_known_to_be_lost_at_once() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let server = two.identity.server;
    up(&one, server).await;
    let stopping = std::time::Instant::now();
    let known = async {
        lost(&one, server).await;
        stopping.elapsed()
    };
    let (_, took) = tokio::join!(two.stop(), known);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let reach = *one.net.reach().watch().borrow().get(&server).unwrap();
    assert!(!reach.linked && !reach.up, "{reach:?}");
}

/// The first frame of a peer, as docs/src/protocol.md has it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Hello {
    server: ServerId,
    run: u64,
    process: uuid::Uuid,
    accepts: Vec<PublicKey>,
    now: Millis,
}

/// A link to a node by one who has a server's key, and is no server.
struct Impersonator {
    connection: quinn::Connection,
    _send: quinn::SendStream,
    receive: quinn::RecvStream,
}

async fn impersonate(identity: &Identity, node: &Node) -> Impersonator {
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let accept = Accept::Known(Arc::new(|_| Verdict::Known));
    let chain = identity.chain(&identity.key).unwrap();
    let config = tls::client_config(&identity.key, chain, accept, b"knot-peer/1").unwrap();
    let connection = endpoint.connect_with(config, node.address, "knot").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let hello = Hello {
        server: identity.server,
        run: u64::MAX,
        process: uuid::Uuid::new_v4(),
        accepts: Vec::new(),
        now: Millis::now(),
    };
    wire::write_frame(&mut send, &hello, wire::MAX_STRANGER_FRAME).await.unwrap();
    let _: Option<Hello> = wire::read_frame(&mut receive, wire::MAX_STRANGER_FRAME).await.unwrap();
    eventually("the link is there", || async {
        node.net.reach().is_linked(identity.server).then_some(())
    })
    .await;
    Impersonator { connection, _send: send, receive }
}

#[tokio::test]
async fn a_peer_that_missed_news_is_told_of_it_at_once() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    let (_folder, identity, _) = two.stop().await;
    lost(&one, identity.server).await;
    let mut peer = impersonate(&identity, &one).await;
    // It reads nothing: what it has not got room for waits, and after 16 MiB is left out.
    let edits = 90;
    for n in 0..edits {
        let text = format!("{n}").repeat(250 << 10);
        describe(&one, template(), &text[..200 << 10]).await;
    }
    let (mut news, mut root) = (0, None);
    let told = async {
        while root != Some(one.replica.root().sum()) {
            match wire::read_frame(&mut peer.receive, wire::MAX_PEER_FRAME).await.unwrap().unwrap()
            {
                Message::News(_) => news += 1,
                Message::Root { sum, .. } => root = Some(sum),
                _ => {}
            }
        }
    };
    tokio::time::timeout(BOUND, told).await.expect("never told");
    assert!(news < edits, "nothing was left out");
}

#[tokio::test]
async fn datagrams_that_nobody_meant_change_nothing() {
    let one = found().await;
    let two = join_through(&one, "two").await;
    up(&one, two.identity.server).await;
    let (_folder, identity, _) = two.stop().await;
    lost(&one, identity.server).await;

    let peer = impersonate(&identity, &one).await;
    let connection = &peer.connection;
    let announced = connection.read_datagram().await.unwrap();
    assert!(membership::decode(announced.clone()).is_ok());
    for n in 0..2_000_u32 {
        let mut junk = match n % 3 {
            0 => vec![n as u8; n as usize % 1_100],
            1 => [&announced[..41], &vec![n as u8; n as usize % 1_000]].concat(),
            _ => announced.to_vec(),
        };
        let at = n as usize % junk.len().max(1);
        if let Some(byte) = junk.get_mut(at) {
            *byte ^= 1 << (n % 8);
        }
        connection.send_datagram_wait(junk.into()).await.unwrap();
    }
    // What was asked after all of it is answered, the link is there, and nobody is up.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    wire::write_frame(&mut send, &"Echo", wire::MAX_STRANGER_FRAME).await.unwrap();
    let answer: Option<bool> =
        wire::read_frame(&mut receive, wire::MAX_STRANGER_FRAME).await.unwrap();
    assert_eq!(answer, Some(true));
    let reach = *one.net.reach().watch().borrow().get(&identity.server).unwrap();
    assert!(reach.linked && !reach.up, "{reach:?}");
    describe(&one, template(), "and it goes on").await;
}
