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

#[path = "ports/http.rs"]
mod http_rules;
#[path = "ports/start.rs"]
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

#[tokio::test]
async fn a_port_is_its_spaces_users_own() {
    let world = World::start().await;
    let opened = answer(token(world.get("/echo?a=%20b"), &world.anna)).await.ok();
    assert_eq!((&opened["method"], &opened["path"]), (&json!("GET"), &json!("/echo?a=%20b")));
    assert_eq!(opened["headers"]["host"], world.host());
    assert_eq!(opened["headers"]["x-forwarded-host"], world.host());
    assert!(opened["headers"].get("authorization").is_none(), "{opened}");
    // By the name of the port, and by the space's id.
    let by_name = world.host_of("app");
    answer(token(world.to(&by_name, Method::GET, "/echo"), &world.anna)).await.ok();
    let id = world.space.replace('-', "");
    let by_id = format!("{}--{id}.{DOMAIN}:{}", world.program, world.at.port());
    answer(token(world.to(&by_id, Method::GET, "/echo"), &world.anna)).await.ok();

    answer(token(world.get("/echo"), &world.bert)).await.problem("not_found");
    answer(world.get("/echo")).await.problem("not_signed_in");
    // What is not there is no different.
    let nowhere = world.host().replace("web", "nothing");
    answer(token(world.to(&nowhere, Method::GET, "/"), &world.bert)).await.problem("not_found");
    answer(world.to(&nowhere, Method::GET, "/")).await.problem("not_signed_in");

    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    answer(token(world.get("/echo"), &world.bert)).await.ok();
}

#[tokio::test]
async fn a_port_is_shared_with_all_who_are_signed_in_or_with_everybody() {
    let world = World::start().await;
    world.share("signed-in").await;
    answer(token(world.get("/echo"), &world.bert)).await.ok();
    answer(world.get("/echo")).await.problem("not_signed_in");
    world.share("public").await;
    answer(world.get("/echo")).await.ok();
    // A page elsewhere may use what is open to everybody.
    answer(world.get("/echo").header("sec-fetch-site", "cross-site")).await.ok();

    let listed = world.anna.get("/spaces/web/ports").await.ok();
    let url = format!("{}/", world.origin());
    assert_eq!(
        listed["ports"][1],
        json!({"number": world.program, "name": "app", "protocol": "http", "access": "public", "url": url})
    );
    assert_eq!((&listed["any_port"], &listed["any_url"]), (&json!(false), &json!(null)));
    world.template("any_port: true\n").await;
    let listed = world.anna.get("/spaces/web/ports").await.ok();
    assert_eq!(listed["any_url"], format!("http://{}/", world.host_of("PORT")));
    let path = format!("/spaces/web/ports/{}", world.program);
    world.bert.put(&path, json!({"access": "public"})).await.problem("not_found");
    world.anna.delete(&path).await.ok();
    answer(world.get("/echo")).await.problem("not_signed_in");
}

#[tokio::test]
async fn only_what_the_template_opens_is_open() {
    let world = World::start().await;
    let other = world.host_of(4);
    answer(token(world.to(&other, Method::GET, "/"), &world.anna)).await.problem("port_closed");
    answer(token(world.to(&other, Method::GET, "/"), &world.bert)).await.problem("not_found");
    let path = format!("/spaces/{}/ports/4", world.space);
    world.anna.put(&path, json!({"access": "public"})).await.problem("port_closed");
    world.template("any_port: true\n").await;
    let open = async || answer(token(world.to(&other, Method::GET, "/"), &world.anna)).await;
    open().await.problem("not_listening");
    world.template("features: {ports: false}\n").await;
    let said = answer(token(world.get("/echo"), &world.anna)).await.problem("port_closed");
    assert!(said["detail"].as_str().unwrap().contains("turns ports off"), "{said}");
}

#[tokio::test]
async fn a_browser_is_let_in_by_way_of_knots_own_pages() {
    let world = World::start().await;
    let pass = world.pass("anna").await;
    assert!(pass.starts_with("knot-port="), "{pass}");
    let cookie = format!("own=1; {pass}; knot_session=x");
    let opened = answer(world.get("/echo").header(header::COOKIE, &cookie)).await.ok();
    assert_eq!(opened["headers"]["cookie"], "own=1");
    // A pass is for one port.
    let other = world.to(&world.host_of(1), Method::GET, "/").header(header::COOKIE, &cookie);
    answer(other).await.problem("not_signed_in");

    // Whoever is not signed in there signs in first, and comes back.
    let (refused, _) = world.away("", "/echo").await;
    assert_eq!(refused.status, StatusCode::FOUND);
    assert!(location(&refused).starts_with("/sign-in?next=/ports/enter%3Fto%3D"));
    // Whoever may not open it is told no more than that nothing is there.
    let (refused, _) = world.away(&world.session("bert").await, "/echo").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(refused.text.contains("Nothing is here"));

    // A ticket is good for the browser that was sent, once.
    let session = world.session("anna").await;
    let (back, state) = world.away(&session, "/echo").await;
    let path = location(&back).strip_prefix(&world.origin()).unwrap().to_owned();
    let (_, other_state) = world.away(&session, "/echo").await;
    for cookie in ["", &other_state] {
        let stolen = answer(page(world.get(&path)).header(header::COOKIE, cookie)).await;
        assert_eq!(stolen.status, StatusCode::UNAUTHORIZED, "{cookie}");
        assert!(stolen.headers.get(header::SET_COOKIE).is_none());
    }
    let arrived = answer(world.get(&path).header(header::COOKIE, state)).await;
    let set: Vec<_> = arrived.headers.get_all(header::SET_COOKIE).iter().collect();
    assert!(set[0].to_str().unwrap().contains("; HttpOnly; SameSite=Lax"));
    assert!(set[1].to_str().unwrap().starts_with("knot-port-state=; Max-Age=0"));
}

#[tokio::test]
async fn knots_pages_send_a_ticket_to_ports_only() {
    let world = World::start().await;
    let session = world.session("anna").await;
    let ties = "0".repeat(32);
    for to in [
        "http://evil.example/".to_owned(),
        format!("http://{}--web--anna.evil.example/", world.program),
        format!("https://{}/echo", world.host()),
        format!("http://{}--web--anna.{DOMAIN}:1/", world.program),
        format!("http://{}@evil.example/", world.host()),
        "//evil.example".to_owned(),
        "javascript:alert(1)".to_owned(),
    ] {
        let request = http().get(format!("http://{}/ports/enter", world.at));
        let request = request.query(&[("to", &to), ("ties", &ties)]);
        let refused = answer(request.header(header::COOKIE, &session)).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{to}");
    }
}

#[tokio::test]
async fn whoever_signs_out_or_loses_the_share_is_out_at_once() {
    let world = World::start().await;
    let open = async |pass: &str| answer(world.get("/echo").header(header::COOKIE, pass)).await;
    let user = |name| users::find(&world.server.replica, name).unwrap().id();
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();

    let (session, other) = (world.session("bert").await, world.pass("bert").await);
    let (back, state) = world.away(&session, "/echo").await;
    let path = location(&back).strip_prefix(&world.origin()).unwrap().to_owned();
    let pass = cookies(&answer(world.get(&path).header(header::COOKIE, state)).await);
    open(&pass).await.ok();
    // Signing out ends what was had by that session, and no other.
    let out = http().post(format!("http://{}/api/v1/sign-out", world.at));
    let out = out.header(header::COOKIE, &session).header("sec-fetch-site", "same-origin");
    assert_eq!(answer(out).await.status, StatusCode::NO_CONTENT);
    open(&pass).await.problem("not_signed_in");
    open(&other).await.ok();
    let me = http().get(format!("http://{}/api/v1/me", world.at));
    answer(me.header(header::COOKIE, session)).await.problem("not_signed_in");

    let unshare = format!("/spaces/{}/unshare", world.space);
    world.anna.post(&unshare, json!({"user": "bert"})).await.ok();
    open(&other).await.problem("not_found");
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    open(&other).await.ok();
    let author = Author::Server(world.server.replica.me());
    users::sign_out_everywhere(&world.server.replica, user("bert"), author).await.unwrap();
    open(&other).await.problem("not_signed_in");
}

#[tokio::test]
async fn pages_of_others_may_not_use_a_visitors_pass() {
    let world = World::start().await;
    let pass = world.pass("anna").await;
    world.bert.create("evil", "app").await;
    world.anna.create("api", "app").await;
    let origin = |space: &str, owner: &str| {
        format!("http://{}--{space}--{owner}.{DOMAIN}:{}", world.program, world.at.port())
    };
    let asked = async |headers: &[(&'static str, String)]| {
        let mut request =
            world.to(&world.host(), Method::POST, "/echo").header(header::COOKIE, &pass);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        answer(request).await
    };
    let site = |value: &str| ("sec-fetch-site", value.to_owned());
    asked(&[]).await.ok();
    asked(&[site("same-origin"), ("origin", world.origin())]).await.ok();
    asked(&[("origin", world.origin())]).await.ok();
    asked(&[site("same-site"), ("origin", origin("api", "anna"))]).await.ok();
    for headers in [
        vec![site("same-site"), ("origin", origin("evil", "bert"))],
        vec![site("cross-site"), ("origin", "https://evil.example".to_owned())],
        vec![("origin", origin("evil", "bert"))],
        vec![("origin", "null".to_owned())],
        vec![site("same-site")],
        // A form that is sent is more than a link that is followed.
        vec![
            site("same-site"),
            ("sec-fetch-mode", "navigate".to_owned()),
            ("sec-fetch-dest", "document".to_owned()),
        ],
    ] {
        asked(&headers).await.problem("cross_origin");
    }
    let link =
        world.get("/echo").header(header::COOKIE, &pass).header("sec-fetch-site", "cross-site");
    answer(link.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document"))
        .await
        .ok();
}

#[tokio::test]
async fn a_spaces_host_is_never_knots_own() {
    let world = World::start().await;
    world.share("public").await;
    // The API's paths are the space's there.
    let me = answer(token(world.get("/api/v1/me"), &world.anna)).await.ok();
    assert_eq!(me["path"], "/api/v1/me");
    for host in ["x", "a.b", "8080", "8080--a--b--c", "xn--a--b", ""] {
        let host = format!("{host}.{DOMAIN}:{}", world.at.port());
        let refused = answer(token(world.to(&host, Method::GET, "/api/v1/me"), &world.anna)).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{host}");
        assert_eq!(refused.json()["code"], "not_found");
    }
    let apart = http().get(format!("http://{}/api/v1/me", world.apart));
    answer(token(apart, &world.anna)).await.problem("not_found");
    let own = world.to(&world.at.to_string(), Method::GET, "/api/v1/me");
    assert_eq!(answer(token(own, &world.anna)).await.ok()["name"], "anna");

    let set = answer(world.get("/cookies")).await;
    let set: Vec<_> = set.headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(set, ["own=1; Path=/"]);
}

#[tokio::test]
async fn what_a_program_does_not_answer_is_said() {
    let world = World::start().await;
    let gone = world.host_of(1);
    let open = || token(world.to(&gone, Method::GET, "/"), &world.anna);
    answer(open()).await.problem("not_listening");
    let shown = answer(page(open())).await;
    assert_eq!(shown.status, StatusCode::BAD_GATEWAY);
    assert!(shown.text.contains("Nothing listens at port 1"), "{}", shown.text);
    assert!(shown.text.contains("http-equiv=\"refresh\""));
    assert!(
        shown.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );

    world.server.agents.refuse(ReachError::NotRunning);
    let stopped = answer(page(token(world.get("/"), &world.anna))).await;
    assert_eq!(stopped.status, StatusCode::CONFLICT);
    assert!(stopped.text.contains("web is stopped"), "{}", stopped.text);
    assert!(stopped.text.contains(&format!("http://{}/spaces/{}", world.at, world.space)));
    assert!(!stopped.text.contains("http-equiv"));
    world.anna.post(&format!("/spaces/{}/start", world.space), json!(null)).await.ok();
    let starting = answer(page(token(world.get("/"), &world.anna))).await;
    assert!(starting.text.contains("web is starting"), "{}", starting.text);
    assert!(starting.text.contains("http-equiv=\"refresh\""));
    let said = answer(token(world.get("/"), &world.anna)).await;
    assert_eq!(said.headers[header::RETRY_AFTER], "2");
    said.problem("starting");
}

/// A body that is sent as it comes.
fn streamed<S>(chunks: S) -> reqwest::Body
where
    S: futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
{
    reqwest::Body::wrap(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
}

#[tokio::test]
async fn bodies_are_carried_as_they_come() {
    let world = World::start().await;
    // More than anything on the way could hold.
    const CHUNKS: usize = 2_048;
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let sent = stream::iter(std::iter::repeat_n(chunk, CHUNKS).map(Ok));
    let request = token(world.to(&world.host(), Method::POST, "/upload"), &world.anna);
    let taken = answer(request.body(streamed(sent))).await;
    assert_eq!((taken.status, taken.text), (StatusCode::OK, (CHUNKS * (64 << 10)).to_string()));

    let mut events = within(token(world.get("/events"), &world.anna).send()).await.unwrap();
    for n in 0..3 {
        let chunk = within(events.chunk()).await.unwrap().unwrap();
        assert_eq!(chunk, format!("data: {n}\n\n"));
    }
    // The stream breaks off when the space is hers no more.
    let to_bert = json!({"user": "bert"});
    world.anna.post(&format!("/spaces/{}/transfer", world.space), to_bert).await;
    within(async { while let Ok(Some(_)) = events.chunk().await {} }).await;
}

#[tokio::test]
async fn an_upload_that_is_not_read_waits() {
    let world = World::start().await;
    let (counted, mut count) = mpsc::channel(100_000);
    let endless = stream::unfold(counted, async |counted| {
        counted.send(()).await.ok()?;
        Some((Ok(Bytes::from(vec![0; 64 << 10])), counted))
    });
    // A program that never reads.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = deaf.local_addr().unwrap().port();
    world.template("any_port: true\n").await;
    let request = token(world.to(&world.host_of(port), Method::POST, "/"), &world.anna);
    let upload = tokio::spawn(request.body(streamed(endless)).send());
    let _deaf = within(deaf.accept()).await.unwrap();
    // What is on its way is in sockets and pipes, and comes to an end.
    let mut sent = 0;
    while let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(1), count.recv()).await {
        sent += 1;
        assert!(sent < 1_000, "more than 62 MiB are on their way to a program that reads nothing");
    }
    upload.abort();
}

async fn socket(
    world: &World,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, u16> {
    let mut request = format!("ws://{}/socket", world.host()).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(world.at).await.unwrap();
    match within(client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_websocket_goes_through_and_ends_with_the_right_to_it() {
    let world = World::start().await;
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    let pass = world.pass("bert").await;
    assert_eq!(socket(&world, &[]).await.err(), Some(401));
    let evil = [("cookie", pass.as_str()), ("origin", "https://evil.example")];
    assert_eq!(socket(&world, &evil).await.err(), Some(403));
    let own = world.origin();
    let mut socket = socket(&world, &[("cookie", &pass), ("origin", &own)]).await.unwrap();
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text(text));
    }
    let unshare = format!("/spaces/{}/unshare", world.space);
    world.anna.post(&unshare, json!({"user": "bert"})).await.ok();
    within(async { while let Some(Ok(_)) = socket.next().await {} }).await;
}

#[tokio::test]
async fn without_a_domain_a_space_is_below_a_path() {
    let world = World::start().await;
    let prefix = format!("/spaces/anna/web/{}", world.program);
    let at = |path: &str| http().get(format!("http://{}{path}", world.apart));
    let bare = answer(token(at(&prefix), &world.anna)).await;
    assert_eq!(location(&bare), format!("{prefix}/"));
    let opened = answer(token(at(&format!("{prefix}/echo?x=1")), &world.anna)).await;
    assert!(opened.headers.get("content-security-policy").is_none());
    let opened = opened.ok();
    assert_eq!(opened["path"], "/echo?x=1");
    assert_eq!(opened["headers"]["x-forwarded-prefix"], prefix);
    let sent = answer(token(at(&format!("{prefix}/away")), &world.anna)).await;
    assert_eq!(location(&sent), format!("{prefix}/echo"));
    let set = answer(token(at(&format!("{prefix}/cookies")), &world.anna)).await;
    let set: Vec<_> = set.headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(set, [&format!("own=1; Path={prefix}/")]);

    // Pages of other people's spaces share the origin there, and so get none.
    let shares = format!("/spaces/{}/shares", world.space);
    world.anna.post(&shares, json!({"user": "bert"})).await.ok();
    let opened = answer(token(at(&format!("{prefix}/echo")), &world.bert)).await;
    let policy = opened.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("sandbox ") && !policy.contains("allow-same-origin"));

    // A browser is let in there, too, and its cookie stays below the path.
    let sent = answer(page(at(&format!("{prefix}/echo")))).await;
    let state = cookies(&sent);
    let session = world.session("anna").await;
    let back = answer(page(http().get(location(&sent)).header(header::COOKIE, session))).await;
    let arrived = answer(http().get(location(&back)).header(header::COOKIE, state)).await;
    assert_eq!(location(&arrived), format!("{prefix}/echo"));
    let set = arrived.headers.get_all(header::SET_COOKIE).iter().next().unwrap();
    assert!(set.to_str().unwrap().contains(&format!("; Path={prefix}/; HttpOnly")), "{set:?}");
    let pass = cookies(&arrived);
    answer(at(&format!("{prefix}/echo")).header(header::COOKIE, pass)).await.ok();
}

#[tokio::test]
async fn another_name_of_a_space_leads_to_its_port() {
    let world = World::start().await;
    let edit = world.anna.request(Method::PATCH, &format!("/spaces/{}", world.space));
    answer(edit.json(&json!({"alt_names": {"shop": world.program}}))).await.ok();
    let host = format!("shop--anna.{DOMAIN}:{}", world.at.port());
    answer(token(world.to(&host, Method::GET, "/echo"), &world.anna)).await.ok();
    answer(token(world.to(&host, Method::GET, "/echo"), &world.bert)).await.problem("not_found");
}

#[tokio::test]
async fn a_port_that_was_closed_stays_closed_whatever_was_said_meanwhile() {
    let world = World::start().await;
    world.share("public").await;
    let id: knot_core::id::Id<model::Space> = world.space.parse().unwrap();
    let closed = || {
        let space = world.server.replica.get(id).unwrap();
        space.port_access.is_empty()
    };
    let path = format!("/spaces/{}/ports/{}", world.space, world.program);
    world.anna.put(&path, json!({"access": "owner"})).await.ok();
    until(&world.server.replica, closed).await;
}

async fn bridge(world: &World, path: &str) -> Result<WebSocketStream<TcpStream>, u16> {
    let url = format!("ws://{}/api/v1{path}", world.at);
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {}", world.anna.token.as_ref().unwrap());
    request.headers_mut().insert("authorization", token.parse().unwrap());
    let stream = TcpStream::connect(world.at).await.unwrap();
    match within(client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_connection_is_carried_with_both_its_halves() {
    let world = World::start().await;
    let program = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = program.local_addr().unwrap().port();
    // A program that answers when it has heard all.
    tokio::spawn(async move {
        let (mut stream, _) = program.accept().await.unwrap();
        let mut heard = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard).await.unwrap();
        stream.write_all(format!("heard {}", heard.len()).as_bytes()).await.unwrap();
    });
    let mut socket = bridge(&world, &format!("/spaces/web/connect?port={port}")).await.unwrap();
    for _ in 0..10 {
        socket.send(Message::binary(vec![1; 100_000])).await.unwrap();
    }
    socket.send(Message::text("end")).await.unwrap();
    let mut said = Vec::new();
    loop {
        match within(socket.next()).await.unwrap().unwrap() {
            Message::Binary(data) => said.extend_from_slice(&data),
            Message::Text(text) => assert_eq!(text.as_str(), "end"),
            Message::Close(frame) => {
                assert_eq!(frame.unwrap().reason.as_str(), "ended");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(said, b"heard 1000000");

    assert_eq!(bridge(&world, "/spaces/web/connect?port=1").await.err(), Some(502));
    assert_eq!(bridge(&world, "/spaces/web/connect?port=0").await.err(), Some(403));
    // Who may run nothing in the space reaches what the template opens.
    world.template("features: {terminal: false, exec: false, ssh: false}\n").await;
    assert_eq!(bridge(&world, "/spaces/web/connect?port=4").await.err(), Some(403));
    let program = world.program;
    assert!(bridge(&world, &format!("/spaces/web/connect?port={program}")).await.is_ok());
}
