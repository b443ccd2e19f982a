//! A viewer of a terminal, as a page has it: it connects again, through any server, and says what it has.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use uuid::Uuid;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a connection may take, and its silence when an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long all may take that was typed, once all servers are up.
const BOUND: Duration = Duration::from_secs(300);
/// How far ahead of what was taken it types.
const AHEAD: usize = 128 << 10;
/// What the command says first.
const READY: &[u8] = b"ready\n";
/// What the last thing typed is.
const END: &[u8] = b"end\n";

#[derive(Clone)]
pub(crate) struct Servers {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) token: String,
    pub(crate) space: String,
}

impl Servers {
    pub(crate) fn path(&self) -> String {
        format!("/spaces/{}/terminals", self.space)
    }

    pub(crate) async fn connect(&self, n: usize, terminal: Uuid) -> Option<Socket> {
        let address = self.addresses[n];
        let url = format!("ws://{address}/api/v1{}/{terminal}", self.path());
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let opened = async {
            let stream = TcpStream::connect(address).await.ok()?;
            Some(client_async(request, MaybeTlsStream::Plain(stream)).await.ok()?.0)
        };
        timeout(PATIENCE, opened).await.ok().flatten()
    }
}

pub(crate) struct Viewer {
    servers: Servers,
    terminal: Uuid,
    make: Option<Value>,
    id: Uuid,
    random: StdRng,
    socket: Option<Socket>,
    /// Shown on this connection.
    shown: u64,
    drawing: u64,
    taken: usize,
    /// All that was typed, and how much of it on this connection.
    pub(crate) typed: Vec<u8>,
    sent: usize,
    /// All output from the byte number `first` on.
    pub(crate) first: u64,
    begun: bool,
    pub(crate) seen: Vec<u8>,
    pub(crate) connections: usize,
}

impl Viewer {
    pub(crate) fn new(servers: Servers, terminal: Uuid, make: Option<Value>, seed: u64) -> Self {
        Self {
            servers,
            terminal,
            make,
            id: Uuid::new_v4(),
            random: StdRng::seed_from_u64(seed),
            socket: None,
            shown: 0,
            drawing: 0,
            taken: 0,
            typed: Vec::new(),
            sent: 0,
            first: 0,
            begun: false,
            seen: Vec::new(),
            connections: 0,
        }
    }

    /// Waits until the command is there: what is typed before it has set its terminal comes back by the
    /// terminal's own doing.
    pub(crate) async fn ready(mut self) -> Self {
        let ready = async {
            while self.seen != READY {
                self.step(true).await;
            }
        };
        timeout(BOUND, ready).await.expect("the command is there");
        self
    }

    /// Looks until the last thing typed has been seen.
    pub(crate) async fn watch(mut self, bound: Duration) -> Self {
        let all = async {
            while !self.seen.ends_with(END) {
                self.step(false).await;
            }
        };
        timeout(bound, all).await.expect("who only looks sees all");
        self.socket = None;
        self
    }

    /// Connects if need be, sends what was not sent, and takes what comes within a moment.
    async fn step(&mut self, awaited: bool) {
        if self.socket.is_none() {
            self.connect().await;
        }
        // Networks break without any server's doing, too.
        let breaks = self.begun && self.random.random_ratio(1, 150);
        if breaks || self.exchange(awaited).await.is_none() {
            self.socket = None;
            tokio::time::sleep(Duration::from_millis(self.random.random_range(5..200))).await;
        }
    }

    async fn connect(&mut self) {
        let n = self.random.random_range(0..self.servers.addresses.len());
        self.socket = self.servers.connect(n, self.terminal).await;
        let Some(socket) = &mut self.socket else { return };
        let from = self.begun.then_some(self.first + self.seen.len() as u64);
        let view = json!({
            "make": self.make, "viewer": self.id, "size": {"columns": 80, "rows": 24},
            "from": from, "sent": self.taken,
        });
        socket.send(Message::text(view.to_string())).await.ok();
        (self.shown, self.sent, self.drawing) = (0, usize::MAX, 0);
    }

    async fn exchange(&mut self, awaited: bool) -> Option<()> {
        let socket = self.socket.as_mut()?;
        // No more than may be sent ahead of what was taken.
        let end = self.typed.len().min(self.taken + AHEAD);
        if self.sent < end {
            let bytes = self.typed[self.sent..end].to_vec();
            self.sent = end;
            timeout(PATIENCE, socket.send(Message::binary(bytes))).await.ok()?.ok()?;
        }
        let patience = if awaited { PATIENCE } else { Duration::from_millis(20) };
        let Ok(message) = timeout(patience, socket.next()).await else {
            // Where something is awaited, silence is a dead connection.
            return (!awaited).then_some(());
        };
        match message?.ok()? {
            Message::Binary(bytes) => self.output(&bytes).await,
            Message::Text(text) => self.hear(&serde_json::from_str(&text).unwrap()),
            Message::Close(_) => None,
            _ => Some(()),
        }
    }

    async fn output(&mut self, bytes: &[u8]) -> Option<()> {
        let length = bytes.len() as u64;
        if self.drawing > 0 {
            self.drawing -= length;
            self.begun = self.drawing == 0;
        } else {
            self.seen.extend_from_slice(bytes);
        }
        self.shown += length;
        let shown = json!({"shown": self.shown}).to_string();
        self.socket.as_mut()?.send(Message::text(shown)).await.ok()
    }

    fn hear(&mut self, message: &Value) -> Option<()> {
        if let Some(attached) = message.get("attached") {
            self.connections += 1;
            self.make = None;
            if let Some(from) = attached["from"].as_u64() {
                assert!(from == self.first + self.seen.len() as u64, "{attached}");
                self.begun = true;
            } else {
                assert!(!self.begun, "nothing fell out of the log");
            }
            self.taken = usize::try_from(attached["taken"].as_u64().unwrap()).unwrap();
            assert!(self.taken <= self.typed.len(), "{attached}");
            self.sent = self.taken;
        } else if let Some(snapshot) = message.get("snapshot") {
            assert!(!self.begun, "nothing fell out of the log");
            self.first = snapshot["at"].as_u64().unwrap();
            self.drawing = snapshot["length"].as_u64().unwrap();
        } else if let Some(taken) = message["taken"].as_u64() {
            self.taken = usize::try_from(taken).unwrap();
        } else if let Some(over) = message.get("over") {
            let reason = over["reason"].as_str().unwrap();
            assert!(["server_going", "unreachable"].contains(&reason), "{over}");
            return None;
        }
        Some(())
    }
}

/// Types one number after the other for as long as it is to, then the end, and looks until all has come back.
pub(crate) async fn type_numbers(mut viewer: Viewer, typing: Arc<AtomicBool>) -> Viewer {
    let mut next = 0_u64;
    while typing.load(Ordering::SeqCst) {
        let count = viewer.random.random_range(1..40);
        for _ in 0..count {
            viewer.typed.extend_from_slice(format!("{next}\n").as_bytes());
            next += 1;
        }
        viewer.step(false).await;
    }
    viewer.typed.extend_from_slice(END);
    let all = async {
        while viewer.seen.len() < viewer.typed.len() + READY.len() {
            viewer.step(true).await;
        }
    };
    timeout(BOUND, all).await.expect("all that was typed comes back");
    viewer.socket = None;
    viewer
}
