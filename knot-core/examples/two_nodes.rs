//! Two servers of one cluster in one process, linked over QUIC: the second joins the first, and what
//! is written at one is durable on both.
//!
//! `cargo run -p knot-core --example two_nodes`

use std::{
    error::Error,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use knot_core::{
    entity,
    id::{Author, Id},
    model::{self, Server},
    net::{
        self, Net,
        identity::Identity,
        join::{self, Newcomer},
    },
    replica::{self, Replica},
    store::memory::MemoryStore,
};

entity! {
    /// A message on a board.
    pub struct Post("post", 1) {
        /// What it says.
        text: Field<String>,
    }
}

const BOUND: Duration = Duration::from_secs(20);

/// One server: its database and its network.
struct Node {
    replica: Replica,
    net: Net,
    services: (net::Service, replica::Service),
}

impl Node {
    fn start(identity: Arc<Identity>, socket: UdpSocket) -> Result<Self, Box<dyn Error>> {
        // Who belongs to the cluster is data: its documents are beside our own.
        let schema = model::schema().with::<Post>();
        let store = Box::new(MemoryStore::new());
        let (service, replica) = replica::Service::start(identity.server, schema, store)?;
        let net_service = net::Service::start(identity, replica.clone(), socket)?;
        Ok(Self { replica, net: net_service.net(), services: (net_service, service) })
    }

    fn author(&self) -> Author {
        Author::Server(self.replica.me())
    }

    async fn stop(self) {
        self.services.0.stop().await;
        self.services.1.stop().await;
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));

    // The first server makes the cluster, and its own document in it.
    let identity = Arc::new(Identity::generate()?);
    let socket = net::bind(any_port)?;
    let address = socket.local_addr()?;
    let one = Node::start(Arc::clone(&identity), socket)?;
    let key = identity.key.public();
    let own = Id::<Server>::from_uuid(identity.server.0);
    let describe = one.replica.put(own, one.author(), move |server| {
        server.set(Server::name, "one".to_owned());
        server.set(Server::key, Some(key));
        server.set(Server::quic, address.to_string());
        Ok(())
    });
    describe.await?;

    // The second comes with a token, and introduces itself under the address that it will listen on.
    let token = join::invite(&one.replica, &identity, String::new(), one.author()).await?;
    let socket = net::bind(any_port)?;
    let newcomer = Newcomer {
        name: "two".to_owned(),
        zone: String::new(),
        quic: socket.local_addr()?.to_string(),
        http: String::new(),
    };
    let joined = join::join(address, &token, newcomer).await?;
    let two = Node::start(Arc::new(joined.identity), socket)?;
    two.net.introduce(&joined.host);
    two.replica.wait_until_equal(one.replica.me(), BOUND).await?;
    println!("two has joined and holds all that one does");

    // Written here, and waited for until it is on both.
    let (_, mut changes) = two.replica.watch_all::<Post>();
    let posted = one
        .replica
        .create::<Post, _>(one.author(), |post| {
            post.set(Post::text, "hello from one".to_owned());
            Ok(())
        })
        .await?;
    one.replica.durable_on(&posted, 2, BOUND).await?;
    println!("one's post is on two servers");
    if let replica::Event::Changed(post) = changes.next().await {
        println!("two reads: {}", post.text);
    }

    // A server that cannot be reached keeps nobody from writing; only the promise is not made.
    two.stop().await;
    let edited = one.replica.edit(posted.id, one.author(), |post| {
        post.set(Post::text, "is anybody there?".to_owned());
        Ok(())
    });
    let edited = edited.await?;
    if let Err(why) = one.replica.durable_on(&edited, 2, Duration::from_secs(3)).await {
        println!("one: {why}");
    }
    one.stop().await;
    Ok(())
}
