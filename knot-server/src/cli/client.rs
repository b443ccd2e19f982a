//! Requests to a server, and what its answers mean.

mod again;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::again::{is_repeatable, is_untouched, may_go_on, readdressed};
use super::address::Address;
use super::config::Folder;
use super::failure::{Exit, Failure};
use super::ring::Ring;
use super::seen::Seen;
use super::time::parse_http_date;
use crate::api::types::{
    CAUSALITY_HEADER, CODE_BEHIND, IDEMPOTENCY_KEY, Problem, ServerState, Servers,
};

/// How long a connection may take to open; and where there is another server to go on with.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT_OF_MANY: Duration = Duration::from_secs(3);

/// How long it may take to be told of the cluster's servers.
const LEARN_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer may take; a server that waits to catch up answers sooner.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The largest answer that is read.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// How often an idle connection is checked by the kernel, and how many silent checks end it.
const KEEPALIVE: (Duration, u32) = (Duration::from_secs(15), 3);

/// A request's body.
pub(crate) enum Body<'a, T: Serialize> {
    /// None.
    Empty,
    /// JSON.
    Json(&'a T),
    /// A template file.
    Yaml(String),
}

/// No JSON body.
pub(crate) const EMPTY: Body<'static, ()> = Body::Empty;

/// An answer: typed, as the server sent it, and the server's clock at the time.
pub(crate) struct Answer<T> {
    /// The typed answer.
    pub(crate) value: T,
    /// The answer as sent, with fields that this version does not know.
    pub(crate) raw: Value,
    /// The server's time, in seconds since 1970.
    pub(crate) now: Option<i64>,
}

/// A server, or another of its cluster in its place, and whoever signed in there.
pub(crate) struct Client {
    http: reqwest::Client,
    ring: RefCell<Ring>,
    /// Whether another server than before has answered since it was asked.
    moved: Cell<bool>,
    token: Option<String>,
    seen: RefCell<Seen>,
}

impl Client {
    /// A client that has not connected yet.
    pub(crate) fn new(
        ring: Ring,
        token: Option<String>,
        folder: Option<Folder>,
    ) -> Result<Self, Failure> {
        let connect = if ring.has_others() { CONNECT_LIMIT_OF_MANY } else { CONNECT_LIMIT };
        // An error means that there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            // The WebSocket of `exec` is an upgrade of HTTP/1.1.
            .http1_only()
            // A redirected POST would become a GET, and a token would go to another host.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE.0)
            .tcp_keepalive_interval(KEEPALIVE.0)
            .tcp_keepalive_retries(KEEPALIVE.1)
            .user_agent(concat!("knot/", env!("CARGO_PKG_VERSION")));
        if !ring.order().iter().any(Address::is_https) {
            // A machine without any CA certificates can still use plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| {
            Failure::local(format!(
                "TLS cannot be set up: {}; are CA certificates installed?",
                cause(&error)
            ))
        })?;
        let seen = RefCell::new(Seen::load(folder, token.as_deref().unwrap_or_default()));
        Ok(Self { http, ring: RefCell::new(ring), moved: Cell::new(false), token, seen })
    }

    /// The address of the server that answered last, or is to be asked first.
    pub(crate) fn address(&self) -> String {
        self.ring.borrow().current().map(Address::to_string).unwrap_or_default()
    }

    /// Whether another server than before has answered since this was last asked.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved.replace(false)
    }

    /// Has a server tell where the others are, to go on with when it is lost. Best effort.
    pub(crate) async fn learn(&self) {
        let asked = self.get::<Servers>(&["servers"]);
        if let Ok(Ok(answer)) = tokio::time::timeout(LEARN_LIMIT, asked).await {
            self.learn_from(&answer.value);
        }
    }

    /// Remembers where the servers are that one has told of, those that it hears first.
    pub(crate) fn learn_from(&self, told: &Servers) {
        let mut ring = self.ring.borrow_mut();
        let Some(from) = ring.current().cloned() else { return };
        let heard = |state| told.servers.iter().filter(move |server| server.state == state);
        let all = heard(ServerState::Live).chain(heard(ServerState::Unreachable));
        ring.learn(&from, all.filter_map(|server| server.http.as_ref()));
    }

    /// Reads a resource.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Answer<T>, Failure> {
        self.send(Method::GET, path, EMPTY).await
    }

    /// Sends a request that a query says more about, and no body.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer<T>, Failure> {
        let request = self.request(method, path)?.query(query);
        self.read(request).await
    }

    /// Sends a request whose answer is JSON.
    pub(crate) async fn send<T: DeserializeOwned, B: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: Body<'_, B>,
    ) -> Result<Answer<T>, Failure> {
        let request = with_body(self.request(method, path)?, body);
        self.read(request).await
    }

    /// Makes something with a key of ours, so that the same request makes it once.
    pub(crate) async fn create_once<T: DeserializeOwned>(
        &self,
        path: &[&str],
        wanted: &impl Serialize,
        key: &str,
    ) -> Result<Answer<T>, Failure> {
        let key = HeaderValue::from_str(key).map_err(|_| {
            Failure::usage("the key has characters that no key has: a UUID will do")
        })?;
        let request = self.request(Method::POST, path)?.header(IDEMPOTENCY_KEY, key).json(wanted);
        self.read(request).await
    }

    /// Sends a request whose answer is not looked at.
    pub(crate) async fn tell<B: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: Body<'_, B>,
    ) -> Result<(), Failure> {
        let request = with_body(self.request(method, path)?, body).timeout(ANSWER_LIMIT);
        self.accepted(request).await.map(drop)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Answer<T>, Failure> {
        let response = self.accepted(request.timeout(ANSWER_LIMIT)).await?;
        let now = date(response.headers());
        let body = self.body(response).await?;
        let raw: Value =
            serde_json::from_slice(&body).map_err(|_| self.not_knot("it did not send JSON"))?;
        let value = serde_json::from_value(raw.clone()).map_err(|error| {
            self.not_knot(&format!("its answer is of another version: {error}"))
        })?;
        let due = self.ring.borrow_mut().take_due();
        if due {
            Box::pin(self.learn()).await;
        }
        Ok(Answer { value, raw, now })
    }

    /// Deletes a resource.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.tell(Method::DELETE, path, EMPTY).await
    }

    /// Reads a text resource.
    pub(crate) async fn text(&self, path: &[&str]) -> Result<String, Failure> {
        let request = self.request(Method::GET, path)?.timeout(ANSWER_LIMIT);
        let response = self.accepted(request).await?;
        let body = self.body(response).await?;
        String::from_utf8(body).map_err(|_| self.not_knot("it did not send text"))
    }

    /// Opens a stream of text; each chunk is to be asked for.
    pub(crate) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Response, Failure> {
        self.begun(self.request(Method::GET, path)?.query(query)).await
    }

    /// Opens the stream of events; it has no end of its own.
    pub(crate) async fn events(&self) -> Result<Response, Failure> {
        let request =
            self.request(Method::GET, &["events"])?.header(header::ACCEPT, "text/event-stream");
        let response = self.begun(request).await?;
        match content_type(response.headers()) {
            "text/event-stream" => Ok(response),
            _ => Err(self.not_knot("it did not send events")),
        }
    }

    /// Asks for a WebSocket with this key; the answer is a switch of protocols.
    pub(crate) async fn upgrade(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        key: &str,
    ) -> Result<Response, Failure> {
        let request = self
            .request(Method::GET, path)?
            .query(query)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key);
        let response = self.begun(request).await?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(response),
            _ => Err(self
                .not_knot("it opened no WebSocket; does a proxy stand between that passes none?")),
        }
    }

    /// What to say when a request got no answer, or not all of it.
    pub(crate) fn no_answer(&self, error: &reqwest::Error) -> Failure {
        no_answer_of(&self.address(), error)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Failure> {
        let url = match self.ring.borrow().current() {
            Some(address) => address.api(path)?,
            None => return Err(Failure::usage("no server is named")),
        };
        let mut request = self.http.request(method, url);
        request =
            request.header(header::ACCEPT, "application/json, application/problem+json, */*;q=0.1");
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failure::usage("the token has characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(seen) = self.seen.borrow().token() {
            request = request.header(CAUSALITY_HEADER, seen);
        }
        Ok(request)
    }

    /// An answer that has begun in time; how long it goes on is not bounded.
    async fn begun(&self, request: RequestBuilder) -> Result<Response, Failure> {
        tokio::time::timeout(ANSWER_LIMIT, self.accepted(request))
            .await
            .map_err(|_| Failure::unreachable(format!("{} did not answer", self.address())))?
    }

    /// Sends the request, to one server after the other where it was not taken; an answer that says no is a
    /// failure.
    async fn accepted(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request.build().map_err(|error| self.no_answer(&error))?;
        let order = self.ring.borrow().order();
        let mut first = None;
        for address in &order {
            let Some(sent) = readdressed(&request, order.first().unwrap_or(address), address)
            else {
                break;
            };
            let (failure, goes_on) = match self.http.execute(sent).await {
                Ok(response) => {
                    let moved = self.ring.borrow_mut().prefer(address);
                    self.moved.set(moved || self.moved.get());
                    match self.judged(response).await {
                        Ok(response) => return Ok(response),
                        Err(failure) => {
                            let goes_on = is_untouched(&failure)
                                || is_repeatable(&request) && failure.exit() == Exit::Unreachable;
                            (failure, goes_on)
                        }
                    }
                }
                Err(error) => {
                    (no_answer_of(&address.to_string(), &error), may_go_on(&request, &error))
                }
            };
            if !goes_on {
                return Err(failure);
            }
            first.get_or_insert(failure);
        }
        Err(first.unwrap_or_else(|| Failure::usage("no server is named")))
    }

    async fn judged(&self, response: Response) -> Result<Response, Failure> {
        let seen = response.headers().get(CAUSALITY_HEADER).and_then(|value| value.to_str().ok());
        if let Some(seen) = seen {
            self.seen.borrow_mut().keep(seen);
        }
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        if status.is_redirection() {
            let to = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let address = self.address();
            return Err(Failure::not_knot(match to {
                Some(to) => {
                    format!("{address} sends on to {to}: use the address of the knot server there")
                }
                None => format!("{address} sends on to nowhere: check the address"),
            }));
        }
        Err(self.refusal(response).await)
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(failure) => return failure,
        };
        let raw: Option<Value> = serde_json::from_slice(&body).ok();
        let problem: Option<Problem> = raw.clone().and_then(|raw| serde_json::from_value(raw).ok());
        let (Some(raw), Some(problem)) = (raw, problem) else {
            return match status.as_u16() {
                502..=504 => Failure::unreachable(format!(
                    "what stands before {} reaches no server ({status}); try again later",
                    self.address()
                )),
                _ => self.not_knot(&format!("it said {status} with no reason")),
            };
        };
        if problem.code == CODE_BEHIND {
            self.seen.borrow_mut().forget();
        }
        let hint = format!("sign in with: knot login {}", self.address());
        Failure::refused(&problem, raw, (problem.status == 401).then_some(&hint))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(self.not_knot("its answer has no end"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn not_knot(&self, why: &str) -> Failure {
        Failure::not_knot(format!(
            "what answers at {} is not a knot server of this version: {why}; check the address",
            self.address()
        ))
    }
}

/// What to say when a request to an address got no answer.
fn no_answer_of(address: &str, error: &reqwest::Error) -> Failure {
    let why = cause(error);
    if error.is_timeout() {
        return Failure::unreachable(format!(
            "{address} did not answer in time; is the server overloaded?"
        ));
    }
    if why.contains("UnknownIssuer") {
        return Failure::unreachable(format!(
            "{address} shows a certificate of an unknown CA; if that is the cluster's own CA, name its file in \
             SSL_CERT_FILE"
        ));
    }
    if why.contains("InvalidContentType") || why.contains("corrupt message") {
        return Failure::unreachable(format!(
            "{address} does not speak TLS; is it http:// instead of https://?"
        ));
    }
    let why = why.strip_prefix("failed to lookup address information: ").unwrap_or(&why);
    Failure::unreachable(format!(
        "{address} cannot be reached: {why}; check the address, and that the server runs"
    ))
}

fn with_body<B: Serialize>(request: RequestBuilder, body: Body<'_, B>) -> RequestBuilder {
    match body {
        Body::Empty => request,
        Body::Json(value) => request.json(value),
        Body::Yaml(text) => request.header(header::CONTENT_TYPE, "application/yaml").body(text),
    }
}

/// The innermost cause of an error, without the number that says it again.
pub(crate) fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

fn date(headers: &HeaderMap) -> Option<i64> {
    headers.get(header::DATE)?.to_str().ok().and_then(parse_http_date)
}

fn content_type(headers: &HeaderMap) -> &str {
    let value =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}
