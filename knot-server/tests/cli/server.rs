//! A server for one test: it speaks the API's contract, with a script for its one space `dev`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use super::TOKEN;

/// How the space `dev` changes: the first state is what it is before anything is asked of it, a POST or DELETE makes
/// it the second, and each event the next.
#[derive(Default)]
pub(crate) struct Script {
    states: VecDeque<Value>,
    /// Whether the space is gone after its last state.
    pub(crate) ends_deleted: bool,
    /// After how many events a connection is cut; None for never.
    pub(crate) events_for_each_connection: Option<usize>,
}

impl Script {
    pub(crate) fn states(states: &[Value]) -> Self {
        Self { states: states.iter().cloned().collect(), ..Self::default() }
    }

    fn current(&self) -> Value {
        self.states.front().cloned().unwrap_or_else(|| space("running", "running", "1.1"))
    }

    fn advance(&mut self) -> Option<Value> {
        if self.states.len() < 2 {
            return None;
        }
        self.states.pop_front();
        self.states.front().cloned()
    }
}

pub(crate) fn space(desired: &str, observed: &str, generation: &str) -> Value {
    json!({
        "id": "11", "name": "dev", "owner": "anna", "owner_id": "22", "template": "rust", "template_id": "33",
        "desired": desired, "observed": observed, "cause": null, "since": "2026-11-22T14:39:05Z",
        "generation": generation, "revision": "abc123", "driver": "docker", "home": "alpha", "home_id": "44",
        "home_reachable": true, "update_available": true, "created": "2026-11-20T10:00:00Z", "later_field": 1,
        "conflicts": [{"field": "memory", "values": [{"value": 1, "author": "anna", "time": "2026-11-22T14:00:00Z"}]}],
    })
}

#[derive(Default)]
struct Told {
    script: Script,
    template: String,
    requests: Vec<String>,
    causality: Vec<Option<String>>,
    /// Where it says that other servers of its cluster are.
    others: Vec<String>,
    /// How often the space was read.
    reads: watch::Sender<u64>,
}

type Shared = Arc<Mutex<Told>>;

/// A running server, and an empty config folder for its user.
pub(crate) struct World {
    pub(crate) address: String,
    pub(crate) config: TempDir,
    told: Shared,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn start(script: Script) -> Self {
        let told: Shared = Arc::new(Mutex::new(Told { script, ..Told::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = routes(told.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { address, config: tempfile::tempdir().unwrap(), told, _runtime: runtime }
    }

    /// Every request with a good token, without the prefix.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.told.lock().unwrap().requests.clone()
    }

    /// Has it say that there are servers of its cluster at these addresses too.
    pub(crate) fn tells(&self, urls: &[String]) {
        self.told.lock().unwrap().others = urls.to_vec();
    }

    /// The causality token of every request.
    pub(crate) fn causality_tokens(&self) -> Vec<Option<String>> {
        self.told.lock().unwrap().causality.clone()
    }
}

fn routes(told: Shared) -> Router {
    let api = Router::new()
        .route("/sign-in", post(sign_in))
        .route("/me", get(async || Json(user())))
        .route("/templates", put(apply).get(async || Json(json!({ "templates": [template()] }))))
        .route("/templates/{name}", get(async || Json(template())))
        .route("/templates/{name}/file", get(template_file))
        .route("/spaces", post(create).get(list))
        .route("/spaces/{name}", get(show).delete(delete))
        .route("/spaces/{name}/{action}", post(act))
        .route("/spaces/{name}/ports", get(async || Json(ports())))
        .route("/spaces/{name}/exec", get(super::exec::serve))
        .route("/spaces/{name}/terminals", get(async || Json(super::terminal::list())))
        .route(
            "/spaces/{name}/terminals/{id}",
            get(super::terminal::serve).delete(async || StatusCode::NO_CONTENT),
        )
        .route("/volumes", get(async || Json(volumes())))
        .route("/volumes/{name}/adopt", post(adopt))
        .route("/templates/{name}/difference", get(async || Json(difference())))
        .route("/variables/{name}", put(set_variable))
        .route("/groups/{group}/members/{user}", put(async || Json(group())))
        .route("/servers", get(servers))
        .route("/events", get(events))
        .layer(middleware::from_fn_with_state(told.clone(), signed_in));
    Router::new().nest("/api/v1", api).with_state(told)
}

pub(crate) fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let title = status.canonical_reason();
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "code": code, "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

async fn signed_in(
    State(told): State<Shared>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let authorized =
        headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    if !authorized && path != "/sign-in" {
        return problem(StatusCode::UNAUTHORIZED, "not_signed_in", "the token is not valid");
    }
    let number = {
        let told = &mut *told.lock().unwrap();
        told.requests.push(format!("{} {path}", request.method()));
        told.causality
            .push(headers.get("knot-token").map(|value| value.to_str().unwrap().to_owned()));
        told.causality.len()
    };
    let mut response = next.run(request).await;
    response.headers_mut().insert("date", "Sun, 22 Nov 2026 14:42:05 GMT".parse().unwrap());
    if !path.ends_with("/behind") {
        response.headers_mut().insert("knot-token", format!("seen-{number}").parse().unwrap());
    }
    response
}

async fn sign_in(Json(body): Json<Value>) -> Response {
    if body["password"] != "pass word" {
        return problem(
            StatusCode::UNAUTHORIZED,
            "wrong_password",
            "the name or the password is wrong",
        );
    }
    assert!(body["token_name"].as_str().unwrap().starts_with("knot on "));
    Json(json!({ "user": user(), "token": TOKEN })).into_response()
}

fn user() -> Value {
    json!({ "id": "22", "name": "anna", "admin": false, "time_zone": "" })
}

fn template() -> Value {
    json!({
        "id": "33", "name": "rust", "description": "Rust and an editor", "platform": "docker", "image": "rust:1.95",
        "command": ["/bin/sh", "-c", "sleep 1"], "environment": {"A": "b c"}, "volumes": {"home": "/home"},
        "network": null, "memory": 1_610_612_736, "cpus": 1.5, "revision": "abc123", "conflicts": [],
    })
}

fn difference() -> Value {
    json!({ "from": ["ab"], "to": ["cd"], "fields": [
        { "field": "image", "from": "rust:1", "to": "rust:2", "text": null },
        { "field": "startup_script", "from": "a\n", "to": "b\n", "text": "@@ -1,1 +1,1 @@\n-a\n+b\n" },
    ] })
}

/// Takes a secret of one value only.
async fn set_variable(Json(body): Json<Value>) -> Response {
    assert_eq!(body, json!({ "value": "hunter2", "secret": true, "zones": ["eu"] }));
    Json(json!({
        "id": "66", "name": "key", "description": "", "zones": ["eu"], "secret": true, "value": null, "conflicts": [],
    }))
    .into_response()
}

fn group() -> Value {
    json!({ "name": "science", "description": "", "members": ["anna"] })
}

fn volumes() -> Value {
    json!({ "volumes": [{
        "id": "55", "name": "home", "space": "dev", "space_id": "11", "path": "/home", "platform": "docker",
        "state": "present", "engine_id": "knot-55", "server": "alpha",
    }, {
        "id": "55", "name": "home", "space": "dev", "space_id": "11", "path": "/home", "platform": "docker",
        "state": "aside", "engine_id": "knot-54", "server": "alpha", "cause": "another took its place",
    }] })
}

/// Of what is listed, whatever of it is named.
async fn adopt(Path(name): Path<String>, Json(wanted): Json<Value>) -> Response {
    let named = [json!({}), json!({ "engine_id": "knot-54" })].contains(&wanted);
    let known = name == "dev:home" && named;
    match known {
        true => Json(volumes()["volumes"][0].clone()).into_response(),
        false => problem(StatusCode::NOT_FOUND, "not_found", "there is no such volume"),
    }
}

fn ports() -> Value {
    json!({ "any_port": true, "any_url": "https://PORT--dev--anna.example/", "ports": [{
        "number": 8080, "name": "web", "protocol": "http", "access": "public",
        "url": "https://8080--dev--anna.example/",
    }] })
}

async fn servers(State(told): State<Shared>) -> Json<Value> {
    let mut servers = json!({ "servers": [
        { "id": "44", "name": "alpha", "zone": "north", "quic": "10.0.0.1:7000", "http": "https://alpha.example",
          "state": "live", "this": true, "platforms": ["docker", "local"] },
        { "id": "45", "name": "beta", "zone": null, "quic": "10.0.0.2:7000", "http": null,
          "state": "unreachable", "this": false, "platforms": [] },
    ] });
    let others = told.lock().unwrap().others.clone();
    servers["servers"].as_array_mut().unwrap().extend(others.into_iter().map(|url| {
        json!({
            "id": url, "name": "other", "zone": null, "quic": null, "http": url, "state": "live",
            "this": false, "platforms": [],
        })
    }));
    Json(servers)
}

async fn apply(State(told): State<Shared>, body: String) -> Json<Value> {
    told.lock().unwrap().template = body;
    Json(json!({ "template": template(), "outcome": "created" }))
}

async fn template_file(State(told): State<Shared>) -> String {
    told.lock().unwrap().template.clone()
}

async fn create(State(told): State<Shared>, Json(body): Json<Value>) -> Response {
    if body["name"] == "taken" {
        return problem(
            StatusCode::CONFLICT,
            "name_taken",
            "a space is called taken already: choose another name",
        );
    }
    (StatusCode::CREATED, Json(told.lock().unwrap().script.current())).into_response()
}

async fn list(State(told): State<Shared>) -> Json<Value> {
    Json(json!({ "spaces": [told.lock().unwrap().script.current()] }))
}

async fn show(State(told): State<Shared>, Path(name): Path<String>) -> Response {
    let no = StatusCode::NOT_FOUND;
    told.lock().unwrap().reads.send_modify(|reads| *reads += 1);
    match name.as_str() {
        "dev" | "11" => Json(told.lock().unwrap().script.current()).into_response(),
        "stopped" => Json(space("stopped", "stopped", "1.2")).into_response(),
        "twice" => {
            problem(StatusCode::CONFLICT, "ambiguous", "two spaces are called twice: use the id")
        }
        "broken" => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "store", "the database is full: make room")
        }
        "behind" => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "behind", "this server is behind: try again")
        }
        "page" => (no, Html("<h1>Not here</h1>")).into_response(),
        "gateway" => (StatusCode::BAD_GATEWAY, Html("<h1>Bad gateway</h1>")).into_response(),
        "moved" => Redirect::permanent("https://other.example/").into_response(),
        _ => problem(no, "not_found", &format!("no space is called {name}: see `knot space ls`")),
    }
}

async fn act(
    State(told): State<Shared>,
    Path((_, action)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    assert!(["start", "stop", "restart"].contains(&action.as_str()));
    if uri.query() == Some("connecting=true") {
        let why = "stopped does not run, and no connection starts it: start it";
        return problem(StatusCode::CONFLICT, "not_running", why);
    }
    let script = &mut told.lock().unwrap().script;
    script.advance();
    Json(script.current()).into_response()
}

async fn delete(State(told): State<Shared>) -> StatusCode {
    told.lock().unwrap().script.advance();
    StatusCode::NO_CONTENT
}

/// One state for each event, once the space was read after the stream began; then silence, or the end.
async fn events(State(told): State<Shared>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let limit = told.lock().unwrap().script.events_for_each_connection;
    let reads = told.lock().unwrap().reads.subscribe();
    let states = futures_util::stream::unfold(false, move |over| {
        let (told, mut reads) = (told.clone(), reads.clone());
        async move {
            reads.changed().await.unwrap();
            let (next, ends_deleted) = {
                let script = &mut told.lock().unwrap().script;
                (script.advance(), script.ends_deleted)
            };
            let is_last = next.is_none();
            let event = match next {
                Some(state) => Event::default().event("space").json_data(state).unwrap(),
                None if ends_deleted && !over => Event::default()
                    .event("space-deleted")
                    .json_data(json!({ "id": "11" }))
                    .unwrap(),
                None => std::future::pending().await,
            };
            Some((Ok(event), is_last))
        }
    });
    Sse::new(states.take(limit.unwrap_or(usize::MAX)))
}
