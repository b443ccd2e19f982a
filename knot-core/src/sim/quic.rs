//! The second tier: whole servers, with real QUIC between them, under a clock that does not wait.
//!
//! A [`Cluster`] is what a deployment runs, in one thread: the network service with its handshakes,
//! keys and dialling, the replica's loop, and a store in memory or SQLite. Only the socket is not
//! real: its [`Network`] delays, loses, doubles and reorders datagrams, cuts servers off and changes
//! their addresses, all of which follows from a seed. The clock is tokio's paused one: where nobody
//! has anything to do it leaps to the next timer, so that minutes pass in seconds. The same seed
//! gives the same datagrams at the same times; their content differs, because secrets are random.
//!
//! ```
//! use std::time::Duration;
//!
//! use knot_core::{
//!     entity,
//!     id::Id,
//!     schema::Schema,
//!     sim::{
//!         Action,
//!         quic::{self, Cluster, Storage, Weather},
//!     },
//! };
//!
//! entity! {
//!     /// A thing to do.
//!     pub struct Task("task", 1) {
//!         /// What is to be done.
//!         title: Field<String>,
//!     }
//! }
//!
//! let task: Id<Task> = Id::of_key(&[b"the task"]);
//! quic::run(async {
//!     let weather = Weather { loss: 2, ..Weather::default() };
//!     let storages = vec![Storage::Memory; 3];
//!     let schema = Schema::new().with::<Task>();
//!     let mut cluster = Cluster::start(1, weather, schema, storages).await.unwrap();
//!     cluster.network().cut(3, &[&[0], &[1, 2]]);
//!     let edit = Action::put(task, |task| {
//!         task.set(Task::title, "answer".to_owned());
//!         Ok(())
//!     });
//!     cluster.ask(0, edit).await.unwrap();
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     cluster.network().heal();
//!     cluster.settle(Duration::from_secs(20)).await.unwrap();
//!     assert_eq!(cluster.replica(2).unwrap().get(task).unwrap().title, "answer");
//! });
//! ```

mod network;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
pub use network::{Datagram, Network, Trace, Weather};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use uuid::{Builder, Uuid};

use super::{Action, Failure, action::What, disk::Disk};
use crate::{
    agent::ServerAddress,
    clock::Millis,
    id::{Author, Id, ServerId},
    model::Server as ServerDocument,
    net::{self, Authority, KeyPair, Net, Socket, identity::Identity},
    replica::{CoreInput as Input, Driver, EditError, Replica},
    schema::Schema,
    secrets::SealingKeyPair,
    store::{Store, sqlite::SqliteStore},
};

/// The wall clock when a cluster begins.
const BEGIN: i64 = 1_800_000_000_000;
/// How often it is looked whether all are equal.
const LOOK: Duration = Duration::from_millis(50);

/// Where a server keeps its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory, which survives that the server is killed.
    #[default]
    Memory,
    /// In an SQLite database in this folder.
    Folder(PathBuf),
}

/// Runs a simulation: a runtime of one thread, whose clock leaps where nobody has anything to do.
///
/// # Panics
/// The runtime cannot be made.
#[allow(clippy::expect_used, reason = "a simulation that cannot begin has nothing to return")]
pub fn run<F: Future>(simulation: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime with a paused clock").block_on(simulation)
}

/// Whole servers on one [`Network`]; see the [module](self).
#[derive(Debug)]
pub struct Cluster {
    network: Network,
    schema: Schema,
    servers: Vec<Server>,
    rng: StdRng,
    began: Instant,
}

#[derive(Debug)]
struct Server {
    identity: Arc<Identity>,
    address: SocketAddr,
    storage: Storage,
    disk: Disk,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    replica: Replica,
    service: net::Service,
    driver: JoinHandle<()>,
    /// Whether the replica takes turns.
    turns: watch::Sender<bool>,
}

impl Cluster {
    /// Starts a server for each storage, all of one cluster, and waits until they know each other.
    /// Must be called within [`run`].
    ///
    /// # Errors
    /// One could not be started, or they did not find each other.
    pub async fn start(
        seed: u64,
        weather: Weather,
        schema: Schema,
        storages: Vec<Storage>,
    ) -> Result<Self, Failure> {
        let mut rng = StdRng::seed_from_u64(seed);
        let network = Network::new(rng.next_u64(), weather);
        let secret = random(&mut rng);
        let authority = || KeyPair::from_seed(&secret).and_then(Authority::of_key);
        let cluster = uuid(&mut rng);
        let mut servers = Vec::new();
        for (at, storage) in storages.into_iter().enumerate() {
            let identity = Identity {
                cluster,
                server: ServerId(uuid(&mut rng)),
                key: KeyPair::from_seed(&random(&mut rng)).map_err(failed)?.into(),
                next: None,
                sealing: sealing(random(&mut rng))?,
                authority: authority().map_err(failed)?,
            };
            let (identity, disk) = (Arc::new(identity), Disk::default());
            let address = address(at, 0);
            servers.push(Server { identity, address, storage, disk, running: None });
        }
        let schema = schema.with::<ServerDocument>();
        let mut cluster = Self { network, schema, servers, rng, began: Instant::now() };
        for at in 0..cluster.servers.len() {
            cluster.start_again(at)?;
        }
        cluster.introduce().await?;
        Ok(cluster)
    }

    /// The first server writes down who belongs, and the others are told of the first.
    async fn introduce(&mut self) -> Result<(), Failure> {
        for at in 0..self.servers.len() {
            self.announce(0, at).await?;
        }
        let Some(first) = self.servers.first() else { return Ok(()) };
        let introduction = ServerAddress {
            id: first.identity.server.0,
            zone: String::new(),
            address: first.address,
            keys: vec![first.identity.key.public()],
        };
        for server in self.servers.iter().skip(1) {
            if let Some(running) = &server.running {
                running.service.net().introduce(&introduction);
            }
        }
        self.settle(Duration::from_secs(60)).await.map(drop)
    }

    /// Has one server write down the name, key and present address of another.
    ///
    /// # Errors
    /// The edit failed.
    pub async fn announce(&mut self, at: usize, whom: usize) -> Result<(), Failure> {
        let Some(server) = self.servers.get(whom) else { return Ok(()) };
        let id: Id<ServerDocument> = Id::from_uuid(server.identity.server.0);
        let (key, quic) = (server.identity.key.public(), server.address.to_string());
        let edit = Action::put(id, move |server| {
            server.set(ServerDocument::name, format!("server {whom}"));
            server.set(ServerDocument::key, Some(key));
            server.set(ServerDocument::quic, quic);
            Ok(())
        });
        self.ask(at, edit).await.map_err(failed)
    }

    /// The network between the servers.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is no server.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The id of a server.
    pub fn id(&self, at: usize) -> Option<ServerId> {
        self.servers.get(at).map(|server| server.identity.server)
    }

    /// A server's address on the network.
    pub fn address(&self, at: usize) -> Option<SocketAddr> {
        self.servers.get(at).map(|server| server.address)
    }

    /// The virtual time since the cluster began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A running server's replica. Writing through it takes times from the wall clock, and so does
    /// not play the same twice: [`Cluster::ask`] does.
    pub fn replica(&self, at: usize) -> Option<&Replica> {
        Some(&self.servers.get(at)?.running.as_ref()?.replica)
    }

    /// A running server's network.
    pub fn net(&self, at: usize) -> Option<Net> {
        Some(self.servers.get(at)?.running.as_ref()?.service.net())
    }

    /// Asks something of a server, and returns once it is durable there.
    ///
    /// # Errors
    /// The server does not run, refused, or failed.
    pub async fn ask(&self, at: usize, action: Action) -> Result<(), EditError> {
        let not_running = || EditError::Refused(format!("server {at} does not run"));
        let replica = self.replica(at).ok_or_else(not_running)?;
        let author = Author::Server(replica.me());
        let since = i64::try_from(self.now().as_millis()).unwrap_or(i64::MAX);
        let time = Millis(BEGIN.saturating_add(since));
        let input = |reply| match action.0 {
            What::Edit { doc, must_exist, edit } => {
                Input::Edit { doc, must_exist, author, time, edit, reply }
            }
            What::Delete(doc) => Input::Delete { doc, author, time, reply },
            What::Observe(subject, value) => Input::Observe { subject, value, reply },
        };
        replica.ask(input).await.map(drop)
    }

    /// Starts a server that does not run, on what it has stored.
    ///
    /// # Errors
    /// Its store cannot be opened, or its network not be started.
    pub fn start_again(&mut self, at: usize) -> Result<(), Failure> {
        let (seed, net_seed) = (random(&mut self.rng), random(&mut self.rng));
        let Some(server) = self.servers.get_mut(at).filter(|server| server.running.is_none())
        else {
            return Ok(());
        };
        let store: Box<dyn Store> = match &server.storage {
            Storage::Memory => Box::new(server.disk.clone()),
            Storage::Folder(folder) => {
                Box::new(SqliteStore::open(&folder.join("knot.db")).map_err(failed)?)
            }
        };
        let id = server.identity.server;
        let (driver, replica) =
            Driver::open(id, self.schema.clone(), store, seed).map_err(failed)?;
        let (turns, allowed) = watch::channel(true);
        let driver = tokio::spawn(drive(driver, allowed));
        let socket = self.network.socket(at, server.address);
        let socket = Socket::Other { socket, seed: net_seed };
        let service = net::Service::start(Arc::clone(&server.identity), replica.clone(), socket)
            .map_err(failed)?;
        server.running = Some(Running { replica, service, driver, turns });
        Ok(())
    }

    /// Kills a server: it says nothing to anybody, and what it has not committed is gone.
    pub async fn kill(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let Some(running) = server.running.take() else { return };
        self.network.unplug(server.address);
        running.driver.abort();
        running.driver.await.ok();
        running.service.stop().await;
    }

    /// Stops a server, which tells its peers.
    pub async fn stop(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let Some(running) = server.running.take() else { return };
        running.service.stop().await;
        running.driver.abort();
        running.driver.await.ok();
        self.network.unplug(server.address);
    }

    /// Whether a server's replica works on. One that does not, as where its disk hangs, reads
    /// nothing more from its peers, while its connections live on.
    pub fn let_work(&self, at: usize, works: bool) {
        if let Some(running) = self.servers.get(at).and_then(|server| server.running.as_ref()) {
            running.turns.send_replace(works);
        }
    }

    /// Gives a server another address, of which nobody is told: its peers know the old one until
    /// somebody [announces](Cluster::announce) the new one.
    pub fn rebind(&mut self, at: usize, number: u8) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let new = address(at, number);
        self.network.rebind(server.address, new);
        server.address = new;
    }

    /// Waits until all running servers hold and show the same. Returns how long it took.
    ///
    /// # Errors
    /// They did not within `bound`, or hold the same and show it differently.
    pub async fn settle(&self, bound: Duration) -> Result<Duration, Failure> {
        let began = Instant::now();
        loop {
            let replicas: Vec<_> =
                (0..self.len()).filter_map(|at| Some((at, self.replica(at)?))).collect();
            let mut held = replicas.iter().map(|(_, replica)| replica.held());
            let first = held.next();
            if held.all(|one| Some(one) == first) {
                same_views(&replicas)?;
                return Ok(began.elapsed());
            }
            if began.elapsed() > bound {
                let counts: Vec<_> =
                    replicas.iter().map(|(at, replica)| (at, replica.held().0.len())).collect();
                let what = format!("the servers did not become equal; documents: {counts:?}");
                return Err(Failure::new(what).at(self.now()));
            }
            sleep(LOOK).await;
        }
    }
}

async fn drive(mut driver: Driver, mut allowed: watch::Receiver<bool>) {
    while allowed.wait_for(|works| *works).await.is_ok() && driver.turn().await {}
}

fn same_views(replicas: &[(usize, &Replica)]) -> Result<(), Failure> {
    let Some(((_, first), others)) = replicas.split_first() else { return Ok(()) };
    let first = first.views();
    for (at, replica) in others {
        let views = replica.views();
        if views != first {
            return Err(Failure::new(format!("server {at} shows {views:#?}, others {first:#?}")));
        }
    }
    Ok(())
}

fn address(at: usize, number: u8) -> SocketAddr {
    let [high, low] = u16::try_from(at).unwrap_or(u16::MAX).to_be_bytes();
    SocketAddr::from(([10, number, high, low], 7_000))
}

fn random(rng: &mut StdRng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn uuid(rng: &mut StdRng) -> Uuid {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid()
}

fn sealing(secret: [u8; 32]) -> Result<Arc<SealingKeyPair>, Failure> {
    let text = BASE64_URL_SAFE_NO_PAD.encode(secret);
    SealingKeyPair::from_base64(&text).map(Arc::new).map_err(failed)
}

fn failed(error: impl std::error::Error) -> Failure {
    let mut what = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        what.push_str(&format!(": {error}"));
        source = error.source();
    }
    Failure::new(what)
}
