//! Agents: whom a key lets in, how an agent comes by its own, and which way leads to it.

use std::sync::Arc;

use knot_core::{
    agent::{self, Answer, Enrol, Enrolled, Hello, Open, Target, Welcome},
    generation::Generation,
    id::Id,
    model::{Observed, Placement, Space, SpaceStatus},
    net::{
        KeyPair, Way,
        tls::{self, Accept, Verdict},
    },
    schema::Edit,
    wire::{self, MAX_AGENT_FRAME, MAX_STRANGER_FRAME},
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use uuid::Uuid;

use crate::world::{Node, any_port, cluster, eventually, lost};

/// A space that a node is the home of, with a generation that has begun.
struct World {
    space: Id<Space>,
    secret: KeyPair,
    generation: Generation,
}

impl World {
    async fn at(home: &Node) -> Self {
        let space = Id::from_uuid(Uuid::now_v7());
        let placement = Placement { term: 1, server: home.identity.server };
        let place = move |space: &mut Edit<'_, Space>| {
            space.set(Space::placement, placement);
            Ok(())
        };
        home.replica.put(space, home.author(), place).await.unwrap();
        let mut world =
            Self { space, secret: KeyPair::generate().unwrap(), generation: Generation::default() };
        world.begin(home, 1).await;
        world
    }

    /// Another generation begins.
    async fn begin(&mut self, home: &Node, n: u64) {
        self.secret = KeyPair::generate().unwrap();
        self.generation = Generation { term: 1, n };
        let status = SpaceStatus {
            state: Observed::Starting,
            generation: self.generation,
            agent: Some(self.secret.public()),
            ..SpaceStatus::default()
        };
        home.replica.observe(self.space, &status).await.unwrap();
    }

    /// Names a key at a node, as soon as that has heard of the generation.
    async fn enrol(&self, node: &Node, key: &KeyPair) -> Enrolled {
        let wanted = Enrol { generation: self.generation, key: key.public() };
        eventually("an answer", || async {
            let connection = dial(&self.secret, node, agent::ENROL_ALPN).await.ok()?;
            let (mut send, mut receive) = connection.open_bi().await.ok()?;
            wire::write_frame(&mut send, &wanted, MAX_STRANGER_FRAME).await.ok()?;
            wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await.ok()?
        })
        .await
    }

    fn hello(&self) -> Hello {
        let version = "test".to_owned();
        Hello { space: self.space.uuid(), generation: self.generation, version }
    }

    /// Links as the agent with this key, once the node has heard of it.
    async fn link(&self, node: &Node, key: &KeyPair) -> Link {
        let hello = self.hello();
        let link = || greet(key, node, hello.clone());
        eventually("a link", || async { link().await.ok() }).await
    }
}

/// An agent's link. It ends with the value.
struct Link {
    connection: Connection,
    control: (SendStream, RecvStream),
    welcome: Welcome,
}

impl Link {
    /// The next news.
    async fn news(&mut self) -> Welcome {
        wire::read_frame(&mut self.control.1, MAX_AGENT_FRAME).await.unwrap().unwrap()
    }
}

async fn dial(key: &KeyPair, node: &Node, protocol: &[u8]) -> Result<Connection, ConnectionError> {
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let accept = Accept::Known(Arc::new(|_| Verdict::Known));
    let chain = vec![key.self_signed("agent").unwrap()];
    let config = tls::client_config(key, chain, accept, protocol).unwrap();
    endpoint.connect_with(config, node.address, "knot").unwrap().await
}

/// Says hello, and why nothing came back.
async fn greet(key: &KeyPair, node: &Node, hello: Hello) -> Result<Link, ConnectionError> {
    let connection = dial(key, node, agent::ALPN).await?;
    let welcomed = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        wire::write_frame(&mut send, &hello, MAX_AGENT_FRAME).await.ok()?;
        let welcome: Option<Welcome> =
            wire::read_frame(&mut receive, MAX_AGENT_FRAME).await.ok()?;
        Some((welcome?, (send, receive)))
    };
    match welcomed.await {
        Some((welcome, control)) => Ok(Link { connection, control, welcome }),
        None => Err(connection.closed().await),
    }
}

/// Waits until a node sees this way to the agent.
async fn way(node: &Node, world: &World, wanted: Way) {
    let agents = node.net.agents();
    eventually(&format!("{wanted:?}"), || async {
        (agents.way(world.space) == wanted).then_some(())
    })
    .await;
}

/// Opens a session through a node, and answers it at the agent's end of a link.
async fn session_through(node: &Node, world: &World, link: &Link) {
    let open = Open::Connect(Target::Unix("/x".to_owned()));
    let theirs = async {
        let (mut send, mut receive) = node.net.agents().open(world.space.uuid()).await.unwrap();
        wire::write_frame(&mut send, &open, MAX_AGENT_FRAME).await.unwrap();
        let answer: Option<Answer> = wire::read_frame(&mut receive, MAX_AGENT_FRAME).await.unwrap();
        assert_eq!(answer, Some(Answer::Ready));
    };
    let ours = async {
        let (mut send, mut receive) = link.connection.accept_bi().await.unwrap();
        let asked: Option<Open> = wire::read_frame(&mut receive, MAX_AGENT_FRAME).await.unwrap();
        assert_eq!(asked.as_ref(), Some(&open));
        wire::write_frame(&mut send, &Answer::Ready, MAX_AGENT_FRAME).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.ok();
    };
    tokio::time::timeout(crate::world::BOUND, async { tokio::join!(theirs, ours) }).await.unwrap();
}

#[tokio::test]
async fn an_agent_names_its_key_through_any_server_and_links_with_it() {
    let [home, other, third] = cluster().await;
    let world = World::at(&home).await;
    let key = KeyPair::generate().unwrap();
    assert_eq!(world.enrol(&other, &key).await, Enrolled::Yes);
    assert_eq!(world.enrol(&home, &key).await, Enrolled::Yes, "an answer that was lost");
    let link = world.link(&other, &key).await;
    assert_eq!(link.welcome.servers.len(), 3);
    way(&other, &world, Way::Direct).await;
    for node in [&home, &third] {
        way(node, &world, Way::Relayed(vec![other.identity.server])).await;
        session_through(node, &world, &link).await;
    }
    session_through(&other, &world, &link).await;
}

#[tokio::test]
async fn a_copied_secret_or_another_spaces_key_gets_nothing() {
    let [home, other] = cluster().await;
    let mut world = World::at(&home).await;
    let key = KeyPair::generate().unwrap();
    assert_eq!(world.enrol(&home, &key).await, Enrolled::Yes);
    for node in [&home, &other] {
        let thief = KeyPair::generate().unwrap();
        assert_eq!(world.enrol(node, &thief).await, Enrolled::Spent);
        assert!(greet(&thief, node, world.hello()).await.is_err(), "a key that nobody took");
        assert!(greet(&world.secret, node, world.hello()).await.is_err(), "the secret itself");
    }
    let neighbour = World::at(&home).await;
    let theirs = KeyPair::generate().unwrap();
    assert_eq!(neighbour.enrol(&home, &theirs).await, Enrolled::Yes);
    neighbour.link(&home, &theirs).await;
    assert!(greet(&theirs, &home, world.hello()).await.is_err(), "another space's key");
    let link = world.link(&home, &key).await;
    let before = KeyPair::from_base64(&world.secret.to_base64()).unwrap();
    world.begin(&home, 2).await;
    link.connection.closed().await;
    assert!(greet(&key, &home, world.hello()).await.is_err(), "the key of an older generation");
    let late = World { secret: before, generation: Generation { term: 1, n: 1 }, ..world };
    let connection = dial(&late.secret, &home, agent::ENROL_ALPN).await.unwrap();
    assert!(matches!(connection.closed().await, ConnectionError::ConnectionClosed(_)));
}

#[tokio::test]
async fn a_key_is_not_taken_while_the_home_cannot_be_asked() {
    let [home, other] = cluster().await;
    let world = World::at(&home).await;
    let heard =
        || async { other.replica.observed::<SpaceStatus>(world.space, home.identity.server) };
    eventually("the other to hear of it", heard).await;
    let id = home.identity.server;
    let home = home.cut_off().await;
    lost(&other, id).await;
    let key = KeyPair::generate().unwrap();
    assert_eq!(world.enrol(&other, &key).await, Enrolled::NoHome);
    let _home = home.heal().await;
    eventually("the home to answer", || async {
        (world.enrol(&other, &key).await == Enrolled::Yes).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_leaves_says_so_and_others_take_another_way() {
    let [home, other, third] = cluster().await;
    let world = World::at(&home).await;
    let key = KeyPair::generate().unwrap();
    assert_eq!(world.enrol(&home, &key).await, Enrolled::Yes);
    let (mut first, second) = (world.link(&home, &key).await, world.link(&other, &key).await);
    let ids = [&home, &other].map(|node| node.identity.server);
    eventually("both ways", || async {
        matches!(third.net.agents().way(world.space), Way::Relayed(by) if by.len() == 2)
            .then_some(())
    })
    .await;
    home.net.agents().leave();
    while !first.news().await.leaving {}
    // What it presents from now on says so, too: with its next report.
    let report = agent::Report::default();
    wire::write_frame(&mut first.control.0, &report, MAX_AGENT_FRAME).await.unwrap();
    way(&third, &world, Way::Relayed(vec![ids[1], ids[0]])).await;
    session_through(&third, &world, &second).await;
}
