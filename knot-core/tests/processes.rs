//! The third tier: servers that are processes, with SQLite on a disk and QUIC over loopback, killed
//! with SIGKILL at any moment. What one of them has acknowledged is at all of them in the end.
//!
//! This program starts itself again as each server; a server's clients are lines on its standard
//! input, and it ends when that does, so that none outlives the test. `KNOT_PROCESSES_SEED` decides
//! what is asked and who is killed when (not what the machine makes of it), and
//! `KNOT_PROCESSES_SECONDS` for how long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Write as _,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Stdio, exit},
    sync::{Arc, Mutex},
    time::Duration,
};

use knot_core::{
    entity,
    id::{Author, Id, ServerId},
    model::{self, Server as ServerDocument},
    net::{self, Authority, KeyPair, identity::Identity},
    replica::{self, Replica},
    schema::{Edit, Schema},
    secrets::SealingKeyPair,
    store::sqlite::SqliteStore,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

entity! {
    /// A document of which each edit can be told apart.
    pub struct Thing("thing", 1) {
        /// What everybody writes.
        name: Field<String>,
        /// What nobody else writes.
        notes: Map<String, String>,
    }
}

/// Names the data folder of a process that is to be a server.
const FOLDER: &str = "KNOT_PROCESSES_FOLDER";
const SERVERS: usize = 4;
const DOCUMENTS: u64 = 300;
/// How long a server may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn schema() -> Schema {
    model::schema().with::<Thing>()
}

fn id(n: u64) -> Id<Thing> {
    Id::from_uuid(Uuid::from_u128(n.into()))
}

// What a server does.

/// Not a test but a server, where the environment says so.
#[test]
fn a_server() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    runtime.unwrap().block_on(serve(&PathBuf::from(folder)));
    exit(0);
}

async fn serve(folder: &Path) {
    let identity = Arc::new(Identity::load(folder).unwrap());
    let me = identity.server;
    let store = Box::new(SqliteStore::open(&folder.join("knot.db")).unwrap());
    let (_service, replica) = replica::Service::start(me, schema(), store).unwrap();
    let address = replica.get::<ServerDocument>(Id::from_uuid(me.0)).unwrap().quic.parse().unwrap();
    let socket = bind(address).await;
    let _net = net::Service::start(identity, replica.clone(), socket).unwrap();
    say("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut puts = JoinSet::new();
    while let Some(command) = next_command(&mut lines).await {
        match command.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["put", doc, number] => {
                puts.spawn(put(replica.clone(), doc.parse().unwrap(), (*number).to_owned()));
            }
            // Of what was asked before, all is said by then.
            ["digest"] => {
                while puts.join_next().await.is_some() {}
                say(&format!("digest {}", digest(&replica)));
            }
            ["notes"] => {
                for thing in replica.list::<Thing>() {
                    thing.notes.keys().for_each(|number| say(&format!("note {number}")));
                }
                say("end");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The server's own address: another process that asked for any port may have it for a moment.
async fn bind(address: SocketAddr) -> UdpSocket {
    let began = Instant::now();
    loop {
        match net::bind(address) {
            Ok(socket) => return socket,
            Err(error) => assert!(began.elapsed() < PATIENCE / 2, "{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn next_command(lines: &mut Lines<BufReader<Stdin>>) -> Option<Vec<String>> {
    let line = lines.next_line().await.ok()??;
    Some(line.split(' ').map(str::to_owned).collect())
}

async fn put(replica: Replica, doc: u64, number: String) {
    let (author, note) = (Author::Server(replica.me()), number.clone());
    let edit = move |thing: &mut Edit<'_, Thing>| {
        thing.set(Thing::name, format!("named by {note}"));
        thing.put(Thing::notes, &note, String::new());
        Ok(())
    };
    replica.put(id(doc), author, edit).await.unwrap();
    say(&format!("done {number}"));
}

/// What is held and shown, in short.
fn digest(replica: &Replica) -> String {
    let mut digest = Sha256::new();
    for thing in replica.list::<Thing>() {
        digest.update(format!("{:?} {:?} {:?}", thing.id(), thing.heads(), *thing));
        thing.conflicts().for_each(|conflict| digest.update(format!("{conflict:?}")));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line that is whole ends with a full stop: a killed server may have said half of one.
fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "knot {what}.").and_then(|()| out.flush()).ok();
}

// What the test does.

/// A server's process, and what it says.
struct Process {
    child: Child,
    input: ChildStdin,
    said: mpsc::Receiver<Vec<String>>,
}

struct World {
    folders: Vec<tempfile::TempDir>,
    processes: BTreeMap<usize, Process>,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    rng: StdRng,
    asked: u64,
    kills: usize,
}

impl World {
    /// Folders of servers that know each other; none runs yet.
    async fn new(seed: u64) -> Self {
        let folders: Vec<_> = (0..SERVERS).map(|_| tempfile::tempdir().unwrap()).collect();
        let (secret, cluster) = (rand::random(), Uuid::now_v7());
        let identities: Vec<_> = (0..SERVERS)
            .map(|_| Identity {
                cluster,
                server: ServerId(Uuid::now_v7()),
                key: KeyPair::generate().unwrap().into(),
                next: None,
                sealing: SealingKeyPair::generate().into(),
                authority: Authority::of_key(KeyPair::from_seed(&secret).unwrap()).unwrap(),
            })
            .collect();
        let sockets: Vec<_> =
            identities.iter().map(|_| net::bind(([127, 0, 0, 1], 0).into()).unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        for (folder, identity) in folders.iter().zip(&identities) {
            identity.save(folder.path()).unwrap();
            introduce(folder.path(), identity, &identities, &addresses).await;
        }
        Self {
            folders,
            processes: BTreeMap::new(),
            acknowledged: Arc::default(),
            rng: StdRng::seed_from_u64(seed),
            asked: 0,
            kills: 0,
        }
    }

    async fn start(&mut self, at: usize) {
        let mut process = self.spawn(at);
        assert_eq!(process.answer().await, ["ready"], "server {at}");
        self.processes.insert(at, process);
    }

    /// Starts a server, and kills it before it can be ready, or about then.
    async fn start_and_kill(&mut self, at: usize) {
        let process = self.spawn(at);
        self.processes.insert(at, process);
        sleep(Duration::from_micros(self.rng.random_range(0..150_000))).await;
        self.kill(at).await;
    }

    fn spawn(&self, at: usize) -> Process {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_server", "--nocapture"])
            .env(FOLDER, self.folders[at].path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (saying, said) = mpsc::channel(1_024);
        tokio::spawn(listen(output, Arc::clone(&self.acknowledged), saying));
        Process { child, input, said }
    }

    /// Asks for a burst of edits, and does not wait for what becomes of them.
    async fn ask(&mut self, at: usize) {
        let mut burst = String::new();
        for _ in 0..self.rng.random_range(1..30) {
            self.asked += 1;
            let doc = self.rng.random_range(0..DOCUMENTS);
            burst.push_str(&format!("put {doc} {}\n", self.asked));
        }
        let process = self.processes.get_mut(&at).unwrap();
        process.input.write_all(burst.as_bytes()).await.unwrap();
    }

    async fn kill(&mut self, at: usize) {
        let Some(mut process) = self.processes.remove(&at) else { return };
        process.child.kill().await.unwrap();
        // What it had said before is heard to its end.
        while process.said.recv().await.is_some() {}
        self.kills += 1;
    }

    /// Edits, kills and starts, until the time is over.
    async fn torment(&mut self, time: Duration) {
        let over = Instant::now() + time;
        while Instant::now() < over {
            let running: Vec<_> = self.processes.keys().copied().collect();
            if let Some(at) = running.choose(&mut self.rng).copied() {
                self.ask(at).await;
                // A commit takes a millisecond or some: this is before, within or after it.
                let pause = Duration::from_micros(self.rng.random_range(0..40_000));
                sleep(pause).await;
                if self.rng.random_range(0..10) < 3 {
                    self.kill(at).await;
                }
            }
            let dead: Vec<_> = (0..SERVERS).filter(|at| !self.processes.contains_key(at)).collect();
            for at in dead {
                if self.rng.random_range(0..10) == 0 {
                    self.start_and_kill(at).await;
                } else if self.rng.random_range(0..10) < 3 || self.processes.is_empty() {
                    self.start(at).await;
                }
            }
        }
    }

    /// All run, and come to the same.
    async fn settle(&mut self) -> Duration {
        let began = Instant::now();
        for at in 0..SERVERS {
            if !self.processes.contains_key(&at) {
                self.start(at).await;
            }
        }
        loop {
            let mut digests = BTreeSet::new();
            for process in self.processes.values_mut() {
                digests.insert(process.ask("digest").await);
            }
            if digests.len() == 1 {
                return began.elapsed();
            }
            assert!(began.elapsed() < 3 * PATIENCE, "the servers do not become equal");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Process {
    async fn ask(&mut self, what: &str) -> Vec<String> {
        self.input.write_all(format!("{what}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Vec<String> {
        let said = timeout(PATIENCE, self.said.recv()).await;
        said.expect("a server does not answer").expect("a server ended by itself")
    }
}

/// Writes into a folder's database who belongs.
async fn introduce(folder: &Path, me: &Identity, all: &[Identity], addresses: &[SocketAddr]) {
    let store = Box::new(SqliteStore::open(&folder.join("knot.db")).unwrap());
    let (service, replica) = replica::Service::start(me.server, schema(), store).unwrap();
    for (identity, address) in all.iter().zip(addresses) {
        let (key, quic) = (identity.key.public(), address.to_string());
        let edit = move |server: &mut Edit<'_, ServerDocument>| {
            server.set(ServerDocument::key, Some(key));
            server.set(ServerDocument::quic, quic);
            Ok(())
        };
        let id = Id::<ServerDocument>::from_uuid(identity.server.0);
        replica.put(id, Author::Server(me.server), edit).await.unwrap();
    }
    service.stop().await;
}

/// Takes what a server says: acknowledgements into their set, all else to who asked.
async fn listen(
    output: ChildStdout,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    saying: mpsc::Sender<Vec<String>>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The test harness has its own to say, on the same line even.
        let Some(whole) = line.split("knot ").nth(1).and_then(|said| said.strip_suffix('.')) else {
            continue;
        };
        let words: Vec<_> = whole.split(' ').map(str::to_owned).collect();
        match words.as_slice() {
            [done, number] if done == "done" => {
                acknowledged.lock().unwrap().insert(number.parse().unwrap());
            }
            _ => saying.send(words).await.unwrap_or_default(),
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_servers_lose_nothing_that_they_acknowledged() {
    let seed = from_environment("KNOT_PROCESSES_SEED").unwrap_or_else(rand::random);
    let seconds = from_environment("KNOT_PROCESSES_SECONDS").unwrap_or(20);
    println!("KNOT_PROCESSES_SEED={seed}");
    let mut world = World::new(seed).await;
    world.torment(Duration::from_secs(seconds)).await;
    let took = world.settle().await;
    let acknowledged = world.acknowledged.lock().unwrap().clone();
    println!(
        "{} kills; {} of {} edits acknowledged; equal {took:?} after the last start",
        world.kills,
        acknowledged.len(),
        world.asked,
    );
    for (at, process) in &mut world.processes {
        let mut notes = BTreeSet::new();
        let mut said = process.ask("notes").await;
        while let [word, number] = said.as_slice() {
            assert_eq!(word, "note");
            notes.insert(number.parse::<u64>().unwrap());
            said = process.answer().await;
        }
        let lost: Vec<_> = acknowledged.difference(&notes).collect();
        assert!(lost.is_empty(), "server {at} lost {lost:?}, which were acknowledged");
    }
    for at in 0..SERVERS {
        world.kill(at).await;
    }
    assert!(world.kills > SERVERS && !acknowledged.is_empty());
}
