//! Servers in one process, clients for them, and what they are surrounded by.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use knot_core::{
    id::{Author, Id, ServerId},
    model::{self, ServerStatus, Space, SpaceStatus, Template, User},
    net::{KeyPair, Way},
    replica::{Link, Outbox, Replica, Service},
    secrets::{Keyring, SealingKeyPair, SessionKeys},
    store::sqlite::SqliteStore,
    sync::Message,
    wire,
};
use knot_server::{
    api::{
        AgentReader, AgentWriter, App, ClusterControl, JoinTokenError, Parts, Reach, ReachError,
        Reachability, auth::Keys, router, serve,
    },
    spaces::answers::{self, Question},
    users,
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough for anything here; a test that waits for it has failed.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
pub(crate) const PASSWORD: &str = "correct horse";

/// One server: replica, API, and an address to reach it at.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) replica: Replica,
    pub(crate) address: SocketAddr,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<()>,
    _service: Service,
    _folder: tempfile::TempDir,
}

/// A server called alpha with engines for local and docker, and an admin called root.
pub(crate) async fn world() -> Server {
    let server = server("alpha", &["local", "docker"]).await;
    users::ensure_admin(&server.replica, "root", PASSWORD).await.unwrap();
    server
}

pub(crate) async fn server(name: &str, platforms: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("knot.db")).unwrap();
    let me = ServerId(Uuid::now_v7());
    let (service, replica) = Service::start(me, model::schema(), Box::new(store)).unwrap();
    let id = Id::<model::Server>::from_uuid(me.0);
    let named = name.to_owned();
    let key = KeyPair::generate().unwrap().public();
    replica
        .put(id, Author::Server(me), move |edit| {
            edit.set(model::Server::name, named);
            edit.set(model::Server::key, Some(key));
            Ok(())
        })
        .await
        .unwrap();
    let platforms = platforms.iter().map(|&platform| platform.to_owned()).collect();
    replica.observe(id, &ServerStatus { platforms, ..ServerStatus::default() }).await.unwrap();
    let neighbours = Arc::new(Neighbours::default());
    let agents = Arc::new(Agents::default());
    let drain = CancellationToken::new();
    let app = App::new(Parts {
        replica: replica.clone(),
        keys: keys(&replica).await,
        name: name.to_owned(),
        https: false,
        reach: agents.clone(),
        cluster: neighbours.clone(),
        drain,
        removed: watch::Sender::new(false).subscribe(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, router(app.clone()), stop.clone()));
    Server {
        app,
        replica,
        address,
        neighbours,
        agents,
        stop,
        served,
        _service: service,
        _folder: folder,
    }
}

/// A data key and a session key of this server's. Servers of one test share a sealing key, as if each
/// had wrapped its data keys for the others.
async fn keys(replica: &Replica) -> Keys {
    let author = Author::Server(replica.me());
    let sealing = SealingKeyPair::from_base64(&format!("{}E", "A".repeat(42))).unwrap();
    let keyring = Keyring::new(replica.clone(), Arc::new(sealing));
    keyring.add_key(author).await.unwrap();
    let sessions = SessionKeys::new(keyring);
    sessions.add(author).await.unwrap();
    Keys::new(sessions)
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn stranger(&self) -> Client {
        Client { base: self.url(""), http: http(), token: None }
    }

    /// A client with an API token of root's.
    pub(crate) async fn root(&self) -> Client {
        self.signed_in("root").await
    }

    /// A client with an API token of a user's.
    pub(crate) async fn signed_in(&self, name: &str) -> Client {
        let mut client = self.stranger();
        let request = json!({"user": name, "password": PASSWORD, "token_name": "test"});
        let answer = client.post("/sign-in", request).await.ok();
        client.token = answer["token"].as_str().map(str::to_owned);
        client
    }

    /// A client for a new user without rights.
    pub(crate) async fn user(&self, name: &str) -> Client {
        let hash = self.app.passwords.hash(PASSWORD).await.unwrap();
        let named = name.to_owned();
        let author = Author::Server(self.replica.me());
        self.replica
            .create::<User, _>(author, move |edit| {
                edit.set(User::name, named);
                edit.set(User::password, hash);
                Ok(())
            })
            .await
            .unwrap();
        self.signed_in(name).await
    }

    /// What the home of a space writes about it, where this server is the home.
    pub(crate) async fn observe(&self, space: &str, status: SpaceStatus) {
        let id: Id<Space> = space.parse().unwrap();
        self.replica.observe(id, &status).await.unwrap();
    }

    pub(crate) fn template(&self, id: &str) -> Template {
        (*self.replica.get::<Template>(id.parse().unwrap()).unwrap()).clone()
    }

    pub(crate) fn space(&self, id: &str) -> Space {
        (*self.replica.get::<Space>(id.parse().unwrap()).unwrap()).clone()
    }
}

/// A link between two servers.
pub(crate) struct Linked {
    cut: CancellationToken,
    carriers: Vec<tokio::task::JoinHandle<()>>,
    ends: [(Arc<Neighbours>, ServerId); 2],
}

impl Linked {
    /// Cuts it: neither hears the other from then on.
    pub(crate) async fn cut(self) {
        self.cut.cancel();
        futures_util::future::join_all(self.carriers).await;
        for (neighbours, other) in &self.ends {
            neighbours.hear(*other, false);
        }
    }
}

/// Links two servers, as the network does; each then calls the other linked.
pub(crate) async fn link(a: &Server, b: &Server) -> Linked {
    let (to_b, from_a) = mpsc::channel(1_024);
    let (to_a, from_b) = mpsc::channel(1_024);
    let at_a = a.replica.link(b.replica.me(), Box::new(Wire(to_b))).await.unwrap();
    let at_b = b.replica.link(a.replica.me(), Box::new(Wire(to_a))).await.unwrap();
    let cut = CancellationToken::new();
    let carriers = [(at_a, from_b), (at_b, from_a)]
        .map(|(link, frames)| tokio::spawn(carry(link, frames, cut.clone())));
    a.neighbours.hear(b.replica.me(), true);
    b.neighbours.hear(a.replica.me(), true);
    let ends = [(a.neighbours.clone(), b.replica.me()), (b.neighbours.clone(), a.replica.me())];
    Linked { cut, carriers: carriers.into(), ends }
}

async fn carry(link: Link, mut frames: mpsc::Receiver<Bytes>, cut: CancellationToken) {
    loop {
        let frame = tokio::select! {
            () = cut.cancelled() => return link.close().await,
            frame = frames.recv() => frame,
        };
        let Some(frame) = frame else { return };
        let message: Message = wire::decode(&frame[4..]).unwrap();
        link.receive(message).await.unwrap();
    }
}

/// Waits until two linked servers hold as many documents.
pub(crate) async fn level(one: &Server, other: &Server) {
    let counts = |server: &Server| {
        let replica = &server.replica;
        (
            replica.list::<User>().len(),
            replica.list::<Template>().len(),
            replica.list::<Space>().len(),
            replica.list::<model::Server>().len(),
        )
    };
    let (mut here, mut there) = (one.replica.watch(&[]), other.replica.watch(&[]));
    within(async {
        while counts(one) != counts(other) {
            tokio::select! {
                _ = here.next() => {}
                _ = there.next() => {}
            }
        }
    })
    .await;
}

struct Wire(mpsc::Sender<Bytes>);

impl Outbox for Wire {
    fn send(&mut self, frame: Bytes) -> bool {
        self.0.try_send(frame).is_ok()
    }

    fn close(&mut self, reason: &str) {
        panic!("a link was closed: {reason}");
    }
}

/// Whom a server hears.
pub(crate) struct Neighbours {
    heard: Mutex<BTreeMap<ServerId, bool>>,
    pub(crate) skew: Mutex<Option<i64>>,
    changes: watch::Sender<u64>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { heard: Mutex::default(), skew: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Neighbours {
    pub(crate) fn hear(&self, server: ServerId, heard: bool) {
        self.heard.lock().unwrap().insert(server, heard);
        self.changes.send_modify(|number| *number += 1);
    }
}

impl ClusterControl for Neighbours {
    fn reachability(&self, server: ServerId) -> Reachability {
        match self.heard.lock().unwrap().get(&server) {
            Some(true) => Reachability::Linked,
            _ => Reachability::Lost { since: None },
        }
    }

    fn skew(&self, _: ServerId) -> Option<i64> {
        *self.skew.lock().unwrap()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn join_token(&self, name: String, _: Author) -> BoxFuture<'_, Result<String, JoinTokenError>> {
        async move { Ok(format!("token-for-{name}")) }.boxed()
    }
}

/// Agents of spaces: each session that is opened comes out at the other end.
pub(crate) struct Agents {
    refusal: Mutex<Option<ReachError>>,
    /// The ways to agents; none to all others.
    pub(crate) ways: Mutex<HashMap<Id<Space>, Way>>,
    /// What every home answers, and the text behind it.
    answer: Mutex<(answers::Answer, String)>,
    /// The other ends of answers that go on.
    following: Mutex<Option<Vec<DuplexStream>>>,
    /// What homes were asked.
    pub(crate) asked: Mutex<Vec<(ServerId, Question)>>,
    opened: mpsc::Sender<(Id<Space>, DuplexStream)>,
    sessions: tokio::sync::Mutex<mpsc::Receiver<(Id<Space>, DuplexStream)>>,
}

impl Default for Agents {
    fn default() -> Self {
        let (opened, sessions) = mpsc::channel(8);
        let answer =
            Mutex::new((answers::Answer::Missing("nothing yet".to_owned()), String::new()));
        Self {
            refusal: Mutex::default(),
            ways: Mutex::default(),
            answer,
            following: Mutex::default(),
            asked: Mutex::default(),
            opened,
            sessions: sessions.into(),
        }
    }
}

impl Agents {
    pub(crate) fn answer(&self, answer: answers::Answer, text: &str) {
        *self.answer.lock().unwrap() = (answer, text.to_owned());
    }

    /// From now on answers have no end.
    pub(crate) fn go_on(&self) {
        *self.following.lock().unwrap() = Some(Vec::new());
    }

    pub(crate) fn refuse(&self, error: ReachError) {
        *self.refusal.lock().unwrap() = Some(error);
    }

    /// Sessions are opened again.
    pub(crate) fn relent(&self) {
        *self.refusal.lock().unwrap() = None;
    }

    /// The agent's end of the next session, however long it takes to come.
    pub(crate) async fn session_whenever(&self) -> (Id<Space>, DuplexStream) {
        self.sessions.lock().await.recv().await.unwrap()
    }

    /// The agent's end of the next session.
    pub(crate) async fn session(&self) -> (Id<Space>, DuplexStream) {
        within(async { self.sessions.lock().await.recv().await }).await.unwrap()
    }
}

impl Reach for Agents {
    fn open(
        &self,
        space: Id<Space>,
    ) -> BoxFuture<'_, Result<(AgentReader, AgentWriter), ReachError>> {
        async move {
            if let Some(error) = self.refusal.lock().unwrap().clone() {
                return Err(error);
            }
            let (ours, theirs) = tokio::io::duplex(16 << 10);
            self.opened.send((space, theirs)).await.unwrap();
            let (reader, writer) = tokio::io::split(ours);
            Ok((Box::new(reader) as AgentReader, Box::new(writer) as AgentWriter))
        }
        .boxed()
    }

    fn way(&self, space: Id<Space>) -> Way {
        self.ways.lock().unwrap().get(&space).cloned().unwrap_or(Way::None)
    }

    fn ask(
        &self,
        home: ServerId,
        question: Question,
    ) -> BoxFuture<'_, Result<AgentReader, ReachError>> {
        async move {
            if let Some(error) = self.refusal.lock().unwrap().clone() {
                return Err(error);
            }
            self.asked.lock().unwrap().push((home, question));
            let (answer, text) = self.answer.lock().unwrap().clone();
            let mut bytes = wire::encode_frame(&answer, wire::MAX_PEER_FRAME).unwrap();
            bytes.extend_from_slice(text.as_bytes());
            let begins = std::io::Cursor::new(bytes);
            if let Some(following) = &mut *self.following.lock().unwrap() {
                let (ours, theirs) = tokio::io::duplex(1_024);
                following.push(theirs);
                return Ok(Box::new(begins.chain(ours)) as AgentReader);
            }
            Ok(Box::new(begins) as AgentReader)
        }
        .boxed()
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(BOUND, future).await.expect("it did not happen in time")
}

/// Waits until a condition holds, looking again at each change of the replica.
pub(crate) async fn until(replica: &Replica, mut holds: impl FnMut() -> bool) {
    let mut watch = replica.watch(&[]);
    within(async {
        while !holds() {
            watch.next().await;
        }
    })
    .await;
}

/// An HTTP client that follows no redirect.
pub(crate) fn http() -> reqwest::Client {
    // An error means that another test was first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder().redirect(none).tls_certs_only([]).build().unwrap()
}

/// A program that uses the API.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    pub(crate) token: Option<String>,
}

/// An answer, read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The JSON of a request that worked.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self.json()
    }

    /// Checks that the request failed with this code, and gives the problem.
    #[track_caller]
    pub(crate) fn problem(self, code: &str) -> Value {
        let problem = self.json();
        assert_eq!(problem["code"], code, "{}: {}", self.status, self.text);
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(!problem["detail"].as_str().unwrap_or_default().is_empty());
        problem
    }

    pub(crate) fn causality(&self) -> String {
        self.headers.get("knot-token").map_or("", |value| value.to_str().unwrap()).to_owned()
    }
}

impl Client {
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        answer(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn apply(&self, file: &str) -> Answer {
        let request = self.request(Method::PUT, "/templates");
        answer(request.header(header::CONTENT_TYPE, "application/yaml").body(file.to_owned())).await
    }

    /// Makes a template for docker, and gives its id.
    pub(crate) async fn template(&self, name: &str) -> String {
        let applied =
            self.apply(&format!("name: {name}\nplatform: docker\nimage: busybox\n")).await.ok();
        applied["template"]["id"].as_str().unwrap().to_owned()
    }

    /// Makes a space, and gives its id.
    pub(crate) async fn create(&self, name: &str, template: &str) -> String {
        let wanted = json!({"name": name, "template": template});
        self.post("/spaces", wanted).await.ok()["id"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = within(request.send()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}
