//! Servers on loopback, and agents that dial them.

use std::{
    future::Future,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use knot_core::{
    agent::{
        ALPN, Command as Words, ENROL_ALPN, Enrol, Enrolled, Exit, FromAgent, Hello,
        LAUNCH_VARIABLE, Launch, Open, Report, Run, ServerAddress, ToAgent, Watching, Welcome,
    },
    generation::Generation,
    net::{
        KeyPair, PublicKey,
        tls::{self, Verdict},
    },
    wire::{MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

/// No test waits longer than this for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(BOUND, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until something outside this process is so.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Whether a process is there and not a zombie.
pub(crate) fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
    state.is_some_and(|state| state != 'Z')
}

/// The key of the secret that every agent in these tests is started with.
pub(crate) fn agent_key() -> KeyPair {
    KeyPair::from_seed(&[42; 32]).unwrap()
}

/// A server that welcomes whoever has the agent's key.
pub(crate) struct Server {
    pub(crate) address: ServerAddress,
    /// How many connections were tried, and how many streams were begun.
    pub(crate) tried: Arc<AtomicUsize>,
    pub(crate) streams: Arc<AtomicUsize>,
    /// How often an agent has named a key.
    pub(crate) asked: Arc<AtomicUsize>,
    /// What is answered to it.
    pub(crate) enrolled: Arc<Mutex<Enrolled>>,
    endpoint: Endpoint,
    news: watch::Sender<Welcome>,
    links: mpsc::Receiver<Link>,
}

/// An agent that has said hello and was welcomed.
pub(crate) struct Link {
    pub(crate) hello: Hello,
    pub(crate) connection: Connection,
    /// What the agent last reported.
    pub(crate) reports: watch::Receiver<Report>,
}

impl Link {
    /// Waits for such a report.
    pub(crate) async fn report(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let mut reports = self.reports.clone();
        within(what, reports.wait_for(wanted)).await.unwrap().clone()
    }
}

impl Server {
    pub(crate) fn start(n: u8, zone: &str) -> Self {
        let key = KeyPair::from_seed(&[n; 32]).unwrap();
        let judge = Arc::new(|key: &PublicKey| {
            let is_known = *key == agent_key().public() || NAMED.lock().unwrap().contains(key);
            if is_known { Verdict::Known } else { Verdict::Unknown }
        });
        let chain = vec![key.self_signed("server").unwrap()];
        let config = tls::server_config(&key, chain, judge, &[ALPN, ENROL_ALPN]).unwrap();
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = ServerAddress {
            id: Uuid::from_u128(u128::from(n)),
            zone: zone.to_owned(),
            address: endpoint.local_addr().unwrap(),
            keys: vec![key.public()],
        };
        let first = Welcome { servers: vec![address.clone()], ..Welcome::default() };
        let (news, listed) = watch::channel(first);
        let (sender, links) = mpsc::channel(16);
        let (tried, streams) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let enrolled = Arc::new(Mutex::new(Enrolled::Yes));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, naming) = (Arc::clone(&enrolled), Arc::clone(&asked));
        let (accepting, counts) = (endpoint.clone(), (tried.clone(), streams.clone()));
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let (tried, answer) = (counts.0.clone(), Arc::clone(&answer));
                let naming = Arc::clone(&naming);
                let (listed, sender) = (listed.clone(), sender.clone());
                let streams = counts.1.clone();
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else {
                        tried.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    let data = connection.handshake_data().unwrap();
                    let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
                    if data.protocol.unwrap() == ENROL_ALPN {
                        naming.fetch_add(1, Ordering::SeqCst);
                        return enrol(connection, answer).await;
                    }
                    tried.fetch_add(1, Ordering::SeqCst);
                    let Ok((send, mut receive)) = connection.accept_bi().await else { return };
                    streams.fetch_add(1, Ordering::SeqCst);
                    let hello = read_frame(&mut receive, MAX_AGENT_FRAME).await.unwrap().unwrap();
                    let (reports, reported) = watch::channel(Report::default());
                    let link = Link { hello, connection, reports: reported };
                    let read = async {
                        while let Ok(Some(report)) = read_frame(&mut receive, MAX_AGENT_FRAME).await
                        {
                            reports.send_replace(report);
                        }
                    };
                    tokio::join!(welcome(link, send, listed, sender), read);
                });
            }
        });
        Self { address, tried, streams, asked, enrolled, endpoint, news, links }
    }

    /// What agents are told to be all servers, now and later.
    pub(crate) fn list(&self, servers: &[&ServerAddress]) {
        let servers = servers.iter().map(|server| (*server).clone()).collect();
        self.news.send_modify(|news| news.servers = servers);
    }

    /// What agents are told when this server is about to go.
    pub(crate) fn leave(&self) {
        self.news.send_modify(|news| news.leaving = true);
    }

    /// What agents are told to look at.
    pub(crate) fn watch(&self, watch: Watching) {
        self.news.send_modify(|news| news.watch = watch);
    }

    pub(crate) async fn link(&mut self) -> Link {
        within("a link", self.links.recv()).await.unwrap()
    }

    /// Takes no link any more, and ends those there are.
    pub(crate) fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

/// The keys that agents have named, to any server of these tests.
static NAMED: Mutex<Vec<PublicKey>> = Mutex::new(Vec::new());

async fn enrol(connection: Connection, answer: Arc<Mutex<Enrolled>>) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let wanted: Enrol = read_frame(&mut receive, MAX_AGENT_FRAME).await.unwrap().unwrap();
    let answer = *answer.lock().unwrap();
    if answer == Enrolled::Yes {
        NAMED.lock().unwrap().push(wanted.key);
    }
    write_frame(&mut send, &answer, MAX_AGENT_FRAME).await.unwrap();
    connection.closed().await;
}

async fn welcome(
    link: Link,
    mut send: SendStream,
    mut listed: watch::Receiver<Welcome>,
    links: mpsc::Sender<Link>,
) {
    let connection = link.connection.clone();
    let mut link = Some(link);
    loop {
        let news = listed.borrow_and_update().clone();
        if write_frame(&mut send, &news, MAX_AGENT_FRAME).await.is_err() {
            return;
        }
        if let Some(link) = link.take() {
            let _ = links.send(link).await;
        }
        tokio::select! {
            changed = listed.changed() => if changed.is_err() { return },
            _ = connection.closed() => return,
        }
    }
}

/// An agent as a process. It is killed with the test.
pub(crate) struct Agent(pub(crate) Child);

impl Agent {
    pub(crate) fn start(servers: &[&Server]) -> Self {
        Self::with(servers.iter().map(|server| server.address.clone()).collect(), &[])
    }

    pub(crate) fn with(servers: Vec<ServerAddress>, environment: &[(&str, &str)]) -> Self {
        Self::launched(Launch { servers, ..Launch::default() }, environment)
    }

    /// One with these servers and scripts.
    pub(crate) fn launched(launch: Launch, environment: &[(&str, &str)]) -> Self {
        Self::logging(launch, environment, Stdio::inherit())
    }

    /// One whose log goes there.
    pub(crate) fn logging(
        launch: Launch,
        environment: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> Self {
        let launch = Launch {
            space: Uuid::from_u128(99),
            name: "calm-otter".to_owned(),
            generation: Generation { term: 3, n: 8 },
            key: agent_key().to_base64(),
            ..launch
        };
        let child = Command::new(env!("CARGO_BIN_EXE_knot-agent"))
            .env(LAUNCH_VARIABLE, serde_json::to_string(&launch).unwrap())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.0.id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// The memory it takes up, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let id = self.0.id().unwrap();
        let status =
            std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status"));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// One server, one agent, and the link between them.
pub(crate) async fn world() -> (Server, Agent, Link) {
    let mut server = Server::start(1, "a");
    let agent = Agent::start(&[&server]);
    let link = server.link().await;
    (server, agent, link)
}

pub(crate) fn command(words: &[&str]) -> Run {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Run { command: Words::Program(words), ..Run::default() }
}

pub(crate) fn shell(script: &str) -> Run {
    command(&["sh", "-c", script])
}

/// The server's end of a session.
pub(crate) struct Session {
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

/// All that a session has sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) output: Vec<u8>,
    pub(crate) error_output: Vec<u8>,
    pub(crate) exit: Option<Exit>,
    pub(crate) failed: Option<String>,
}

impl Session {
    pub(crate) async fn open(connection: &Connection, run: &Run) -> Self {
        let (send, receive) = open(connection, &Open::Run(run.clone())).await;
        Self { send, receive }
    }

    pub(crate) async fn tell(&mut self, frame: ToAgent) {
        within("a frame to leave", write_frame(&mut self.send, &frame, MAX_AGENT_FRAME))
            .await
            .unwrap();
    }

    pub(crate) async fn input(&mut self, bytes: impl Into<Bytes>) {
        self.tell(ToAgent::Input(bytes.into())).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<FromAgent> {
        within("a frame", read_frame(&mut self.receive, MAX_AGENT_FRAME)).await.unwrap()
    }

    /// Output up to and with `end`.
    pub(crate) async fn output_up_to(&mut self, end: &str) -> String {
        let mut output = Vec::new();
        while !output.ends_with(end.as_bytes()) {
            match self.next().await {
                Some(FromAgent::Output(bytes)) => output.extend_from_slice(&bytes),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&output)),
            }
        }
        String::from_utf8(output).unwrap()
    }

    /// Everything to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Told {
        let mut told = Told::default();
        while let Some(frame) = self.next().await {
            assert!(told.exit.is_none() && told.failed.is_none(), "{frame:?} after the last frame");
            match frame {
                FromAgent::Output(bytes) => told.output.extend_from_slice(&bytes),
                FromAgent::ErrorOutput(bytes) => told.error_output.extend_from_slice(&bytes),
                FromAgent::Exit(exit) => told.exit = Some(exit),
                FromAgent::Failed(reason) => told.failed = Some(reason),
            }
        }
        told
    }
}

/// A new stream for this.
pub(crate) async fn open(connection: &Connection, open: &Open) -> (SendStream, RecvStream) {
    let (mut send, receive) = within("a stream", connection.open_bi()).await.unwrap();
    write_frame(&mut send, open, MAX_AGENT_FRAME).await.unwrap();
    (send, receive)
}

/// Runs a command without input to its end.
pub(crate) async fn run(link: &Link, run: &Run) -> Told {
    let mut session = Session::open(&link.connection, run).await;
    session.tell(ToAgent::EndOfInput).await;
    session.rest().await
}
