//! Ports of spaces over HTTP: who is let in, what goes through, and what never does. The programs are
//! real ones on loopback; agents are played, by connecting to them.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, WebSocketUpgrade, ws},
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use knot_core::{
    agent::{Answer as AgentAnswer, Open, Refusal, Target},
    id::Author,
    model,
    wire::{self, MAX_AGENT_FRAME},
};
use knot_server::{
    api::{ReachError, router, serve},
    ports::{self, Settings},
    users,
};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

mod carry;
mod enter;
#[path = "ports/http.rs"]
mod http_rules;
mod names;
mod start;

use crate::world::{Answer, Client, Server, answer, http, until, within, world};

const DOMAIN: &str = "spaces.test";

/// A server with ports, a program, and anna's space `web` whose template names the program's port `app`.
struct World {
    server: std::sync::Arc<Server>,
    /// Where pages, API and ports answer by their host names.
    at: SocketAddr,
    /// Where ports answer by paths.
    apart: SocketAddr,
    /// Where the program listens.
    program: u16,
    root: Client,
    anna: Client,
    bert: Client,
    space: String,
}

impl World {
    async fn start() -> Self {
        let server = std::sync::Arc::new(world().await);
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own, apart, program) = (listen().await, listen().await, listen().await);
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let (at, apart_at, program_at) = (address(&own), address(&apart), address(&program));
        server.app.open_ports(Settings {
            domain: Some(DOMAIN.to_owned()),
            url: Some(format!("http://{apart_at}")),
            main: format!("http://{at}"),
        });
        let all = ports::router(&server.app, router(server.app.clone()));
        tokio::spawn(serve(own, all, server.stop.clone()));
        tokio::spawn(serve(apart, ports::apart(&server.app), server.stop.clone()));
        tokio::spawn(async move { axum::serve(program, routes()).await });
        let agents = server.agents.clone();
        tokio::spawn(async move {
            loop {
                let (_, session) = agents.session_whenever().await;
                tokio::spawn(play(session));
            }
        });
        let root = server.root().await;
        let (anna, bert) = (server.user("anna").await, server.user("bert").await);
        let program = program_at.port();
        let world =
            Self { server, at, apart: apart_at, program, root, anna, bert, space: String::new() };
        world.template("").await;
        let space = world.anna.create("web", "app").await;
        Self { space, ..world }
    }

    async fn template(&self, more: &str) {
        let port = self.program;
        let file = format!(
            "name: app\nplatform: docker\nimage: busybox\nports: {{app: {port}/http, gone: 1/http}}\n{more}"
        );
        self.root.apply(&file).await.ok();
    }

    fn host_of(&self, port: impl std::fmt::Display) -> String {
        format!("{port}--web--anna.{DOMAIN}:{}", self.at.port())
    }

    fn host(&self) -> String {
        self.host_of(self.program)
    }

    fn origin(&self) -> String {
        format!("http://{}", self.host())
    }

    /// A request to a host, whatever its address.
    fn to(&self, host: &str, method: Method, path: &str) -> RequestBuilder {
        http().request(method, format!("http://{}{path}", self.at)).header(header::HOST, host)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.to(&self.host(), Method::GET, path)
    }

    async fn share(&self, access: &str) {
        let path = format!("/spaces/{}/ports/{}", self.space, self.program);
        self.anna.put(&path, json!({ "access": access })).await.ok();
    }

    /// The cookie of a session at knot's own pages.
    async fn session(&self, user: &str) -> String {
        let request = http().post(format!("http://{}/api/v1/sign-in", self.at));
        let body = json!({"user": user, "password": crate::world::PASSWORD});
        let signed_in = answer(request.json(&body)).await;
        assert_eq!(signed_in.status, StatusCode::OK);
        cookies(&signed_in)
    }

    /// Goes from a port's host to knot's pages with a session, and gives what these answer and the
    /// cookie that the port's host gave.
    async fn away(&self, session: &str, path: &str) -> (Answer, String) {
        let sent = answer(page(self.get(path))).await;
        assert_eq!(sent.status, StatusCode::FOUND, "{}", sent.text);
        let (to, state) = (location(&sent), cookies(&sent));
        assert!(to.starts_with(&format!("http://{}/ports/enter?", self.at)), "{to}");
        (answer(page(http().get(to).header(header::COOKIE, session))).await, state)
    }

    /// The cookie with which a browser of a user opens the program's port.
    async fn pass(&self, user: &str) -> String {
        let (back, state) = self.away(&self.session(user).await, "/echo").await;
        let to = location(&back);
        let path = to.strip_prefix(&self.origin()).unwrap();
        let arrived = answer(self.get(path).header(header::COOKIE, state)).await;
        assert_eq!((arrived.status, location(&arrived).as_str()), (StatusCode::FOUND, "/echo"));
        cookies(&arrived)
    }
}

fn page(request: RequestBuilder) -> RequestBuilder {
    request.header(header::ACCEPT, "text/html,*/*")
}

fn token(request: RequestBuilder, client: &Client) -> RequestBuilder {
    request.bearer_auth(client.token.as_ref().unwrap())
}

fn location(answer: &Answer) -> String {
    answer.headers[header::LOCATION].to_str().unwrap().to_owned()
}

/// What a browser keeps of an answer's cookies.
fn cookies(answer: &Answer) -> String {
    let set = answer.headers.get_all(header::SET_COOKIE).iter();
    let pairs = set.map(|value| value.to_str().unwrap().split(';').next().unwrap().to_owned());
    pairs.filter(|pair| !pair.ends_with('=')).collect::<Vec<_>>().join("; ")
}

/// Plays an agent for one session: a connection to what listens on this machine.
async fn play(mut session: DuplexStream) {
    let open = wire::read_frame::<_, Open>(&mut session, MAX_AGENT_FRAME).await;
    let Ok(Some(Open::Connect(Target::Tcp { port, .. }))) = open else { return };
    match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(mut program) => {
            wire::write_frame(&mut session, &AgentAnswer::Ready, MAX_AGENT_FRAME).await.unwrap();
            tokio::io::copy_bidirectional(&mut session, &mut program).await.ok();
        }
        Err(error) => {
            let (refusal, why) = (Refusal::NotListening, error.to_string());
            let refused = AgentAnswer::Refused { refusal, why };
            wire::write_frame(&mut session, &refused, MAX_AGENT_FRAME).await.ok();
        }
    }
}

/// The program in the space.
fn routes() -> Router {
    Router::new()
        .route("/echo", any(echo))
        .route("/api/v1/me", any(echo))
        .route("/upload", post(upload))
        .route("/events", get(events))
        .route("/cookies", get(set_cookies))
        .route("/away", get(async || [(header::LOCATION, "/echo")].into_response()))
        .route("/socket", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(talk)))
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let headers = headers.iter().map(|(name, value)| {
        (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    let headers: serde_json::Map<_, _> = headers.collect();
    Json(json!({
        "method": method.as_str(), "path": uri.to_string(), "headers": headers, "length": body.len(),
    }))
}

async fn upload(request: Request) -> String {
    let mut body = request.into_body().into_data_stream();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        length += chunk.unwrap().len();
    }
    length.to_string()
}

/// Something each twentieth of a second, without end.
async fn events() -> Response {
    let ticks = stream::unfold(0_u64, async |n| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(format!("data: {n}\n\n")), n + 1))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(ticks)).into_response()
}

async fn set_cookies() -> Response {
    let mut response = "set".into_response();
    for cookie in
        ["own=1; Path=/; Domain=spaces.test", "knot_session=evil; Path=/", "=knot_session=x"]
    {
        response.headers_mut().append(header::SET_COOKIE, cookie.parse().unwrap());
    }
    response
}

async fn talk(mut socket: ws::WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
