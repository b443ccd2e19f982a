//! Ports through a server that no agent of the space is linked to, and through servers that are killed meanwhile.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, WebSocketUpgrade, ws},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::{Method, RequestBuilder, header};
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Runtime, sync::Semaphore};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    ports::{ask, forward, program},
    wait::{BOUND, eventually},
    world::{World, describe},
};

/// How long between two requests while a server is killed.
const PAUSE: Duration = Duration::from_millis(50);
/// A request that took so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Three servers, a space, and a program in it.
struct Three {
    world: World,
    runtime: Runtime,
    http: reqwest::Client,
    /// The program's port.
    port: u16,
    /// The server that no agent is linked to.
    relay: usize,
    /// How many events the program may send.
    events: Arc<Semaphore>,
}

impl Three {
    fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let world = World::start(3);
        world.json(1, &["space", "create", "dev", "--template", "shell", "--start"]);
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let events = Arc::new(Semaphore::new(0));
        let routes = routes(Arc::clone(&events));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        let builder = reqwest::Client::builder().tls_certs_only([]);
        let http = builder.timeout(PATIENCE).build().unwrap();
        let relay = eventually("the agent has both of its links", || {
            let all =
                [1, 2, 3].map(|n| world.json(n, &["space", "show", "dev"])["reached"].clone());
            let direct = all.iter().filter(|reached| reached["directly"] == true).count();
            let relay = all.iter().position(|reached| reached["directly"] == false);
            let relay = relay.filter(|_| direct == 2)?;
            all[relay]["through"][0].as_str().map(|_| relay + 1)
        });
        Self { world, runtime, http, port, relay, events }
    }

    /// The server that the relaying one goes through first.
    fn through(&self) -> usize {
        let shown = self.world.json(self.relay, &["space", "show", "dev"]);
        (1..=3).find(|n| shown["reached"]["through"][0] == self.world.name(*n)).unwrap()
    }

    fn host(&self, n: usize) -> (String, String) {
        let at = self.world.url(n).rsplit_once(':').unwrap().1.to_owned();
        (format!("127.0.0.1:{at}"), format!("{}--dev--admin.localhost:{at}", self.port))
    }

    /// A request to the program, through a server.
    fn request(&self, n: usize, method: Method, path: &str) -> RequestBuilder {
        let (at, host) = self.host(n);
        let request = self.http.request(method, format!("http://{at}{path}"));
        request.header(header::HOST, host).bearer_auth(self.world.token())
    }
}

fn routes(permits: Arc<Semaphore>) -> Router {
    Router::new()
        .route("/", get(async || "here"))
        .route("/events", get(async move |request| events(permits, request).await))
        .route("/upload", post(upload))
        .route("/socket", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk)))
}

/// As many events as the query says, each once it may be sent.
async fn events(permits: Arc<Semaphore>, request: Request) -> Response {
    let asked: u64 = request.uri().query().unwrap().parse().unwrap();
    let events = stream::iter(0..asked).then(move |n| {
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.unwrap().forget();
            Ok::<_, std::io::Error>(format!("data: {n}\n\n"))
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

async fn upload(request: Request) -> String {
    let mut body = request.into_body().into_data_stream();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        length += chunk.unwrap().len();
    }
    length.to_string()
}

async fn talk(mut socket: ws::WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Servers of a world and agents of its spaces, and how much memory each had at most since it was last asked.
fn peaks(world: &World) -> Vec<(String, u64)> {
    let folder = world.folder.path().to_str().unwrap();
    let mut peaks = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let Ok(line) = fs::read(path.join("cmdline")) else { continue };
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let [line, environment] =
            [line, environment].map(|text| String::from_utf8_lossy(&text).into_owned());
        let name =
            line.split('\0').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let is_agent = environment.contains("KNOT_RUN=") && name.contains("agent");
        let is_ours = line.contains(folder) || is_agent && environment.contains(folder);
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(peak) = peak.filter(|_| is_ours && (is_agent || name == "knot-server")) else {
            continue;
        };
        let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        // From now on it is counted anew.
        fs::write(path.join("clear_refs"), "5").ok();
        peaks.push((format!("{name} {}", process.file_name().display()), kilobytes >> 10));
    }
    peaks.sort();
    peaks
}

/// Four gigabytes, for whoever has the minutes: `KNOT_PORT_BYTES=4294967296`.
#[test]
fn a_large_upload_through_a_relay_takes_no_memory() {
    let three = Three::start();
    let bytes: usize =
        std::env::var("KNOT_PORT_BYTES").map_or(64 << 20, |text| text.parse().unwrap());
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let before = peaks(&three.world);
    let began = Instant::now();
    let sent = stream::iter(std::iter::repeat_n(chunk, bytes >> 16))
        .map(|chunk| Ok::<_, std::io::Error>(Frame::data(chunk)));
    let request =
        three.request(three.relay, Method::POST, "/upload").timeout(Duration::from_secs(3_600));
    let request = request.body(reqwest::Body::wrap(StreamBody::new(sent)));
    let taken =
        three.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
    assert_eq!(taken, (bytes >> 16 << 16).to_string());
    let took = began.elapsed();
    let after = peaks(&three.world);
    println!(
        "{} MiB in {took:?}; the most memory, MiB, before {before:?}, while {after:?}",
        bytes >> 20
    );
    assert!(before.len() >= 4, "{before:?}");
    for (name, before) in &before {
        let (_, after) = after.iter().find(|(other, _)| other == name).unwrap();
        // Less than half of what went through, however much that was.
        assert!(after.saturating_sub(*before) < 32, "{name}: {before} MiB, then {after} MiB");
    }
}

#[test]
fn events_and_websockets_go_through_a_relay_as_they_come() {
    let three = Three::start();
    three.runtime.block_on(async {
        let request = three.request(three.relay, Method::GET, "/events?4");
        let mut events = request.send().await.unwrap();
        for n in 0..4 {
            // The next one is sent when this has come: whoever collects them waits for ever.
            three.events.add_permits(1);
            let (wanted, mut came) = (format!("data: {n}\n\n"), Vec::new());
            while came.len() < wanted.len() {
                came.extend_from_slice(&events.chunk().await.unwrap().unwrap());
            }
            assert_eq!(came, wanted.as_bytes());
        }
        assert_eq!(events.chunk().await.unwrap(), None);

        let (at, host) = three.host(three.relay);
        let mut request = format!("ws://{host}/socket").into_client_request().unwrap();
        let bearer = format!("Bearer {}", three.world.token());
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut socket, _) = client_async(request, stream).await.unwrap();
        for message in
            [Message::text("one"), Message::binary(vec![3; 300_000]), Message::text("two")]
        {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
    });
}

#[test]
fn requests_go_on_when_the_server_that_they_go_through_is_killed() {
    let three = Three::start();
    let works = || {
        let request = three.request(three.relay, Method::GET, "/");
        three.runtime.block_on(async {
            let answer = request.send().await.ok()?;
            (answer.status().is_success()).then_some(())
        })
    };
    for _ in 0..10 {
        eventually("it works", works);
    }
    let through = three.through();
    let killed = Instant::now();
    three.world.kill(through);
    let (mut last, mut gap, mut failed, mut in_a_row) = (killed, Duration::ZERO, 0, 0);
    // All is well when nothing has failed for a while.
    while in_a_row < 60 {
        assert!(
            killed.elapsed() < BOUND,
            "{failed} requests failed, the last {:?} after the kill",
            killed.elapsed()
        );
        if works().is_some() {
            gap = gap.max(last.elapsed());
            (last, in_a_row) = (Instant::now(), in_a_row + 1);
        } else {
            (failed, in_a_row) = (failed + 1, 0);
        }
        std::thread::park_timeout(PAUSE);
    }
    println!("{failed} requests failed; the longest time without an answer was {gap:?}");
}

#[test]
fn a_port_forward_goes_on_through_another_server() {
    let world = World::start(3);
    world.json(
        1,
        &["space", "create", "dev", "--template", "shell", "--start", "--server", world.name(2)],
    );
    let pair = format!("0:{}", program());
    let (_forward, at) = forward(&world, 1, &["dev", &pair]);
    assert_eq!(ask(at, b"before"), b"BEFORE");
    world.kill(1);
    let killed = Instant::now();
    // Nobody does anything about it: the next connection goes another way, and so do those after it.
    assert_eq!(ask(at, b"after"), b"AFTER");
    println!("the first connection after the kill took {:?}", killed.elapsed());
    for _ in 0..5 {
        assert_eq!(ask(at, b"again"), b"AGAIN");
    }
    // So do other commands of whoever has used this cluster before.
    let shown = world.client(1).args(["space", "show", "dev", "--json"]).output().unwrap();
    let space: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    assert_eq!(space["name"], "dev", "{}", describe(&shown));
}
