//! Requests to a server, and what its answers mean.

use std::cell::RefCell;
use std::error::Error;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::address::Address;
use super::config::Folder;
use super::failure::Failure;
use super::seen::Seen;
use super::time::parse_http_date;
use crate::api::types::{CAUSALITY_HEADER, CODE_BEHIND, IDEMPOTENCY_KEY, Problem};

/// How long a connection may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

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

/// One server, and whoever signed in there.
pub(crate) struct Client {
    http: reqwest::Client,
    address: Address,
    token: Option<String>,
    seen: RefCell<Seen>,
}

impl Client {
    /// A client that has not connected yet.
    pub(crate) fn new(
        address: Address,
        token: Option<String>,
        folder: Option<Folder>,
    ) -> Result<Self, Failure> {
        // An error means that there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            // The WebSocket of `exec` is an upgrade of HTTP/1.1.
            .http1_only()
            // A redirected POST would become a GET, and a token would go to another host.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE.0)
            .tcp_keepalive_interval(KEEPALIVE.0)
            .tcp_keepalive_retries(KEEPALIVE.1)
            .user_agent(concat!("knot/", env!("CARGO_PKG_VERSION")));
        if !address.is_https() {
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
        Ok(Self { http, address, token, seen })
    }

    /// The server's address.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Reads a resource.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Answer<T>, Failure> {
        self.send(Method::GET, path, EMPTY).await
    }

    /// Reads a resource that a query says more about.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer<T>, Failure> {
        let request = self.request(Method::GET, path)?.query(query).timeout(ANSWER_LIMIT);
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

    /// What to say when a request got no answer.
    pub(crate) fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let address = &self.address;
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

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Failure> {
        let mut request = self.http.request(method, self.address.api(path)?);
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
            .map_err(|_| Failure::unreachable(format!("{} did not answer", self.address)))?
    }

    /// Sends the request; an answer that says no is a failure.
    async fn accepted(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.no_answer(&error))?;
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
            return Err(Failure::not_knot(match to {
                Some(to) => format!(
                    "{} sends on to {to}: use the address of the knot server there",
                    self.address
                ),
                None => format!("{} sends on to nowhere: check the address", self.address),
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
                    self.address
                )),
                _ => self.not_knot(&format!("it said {status} with no reason")),
            };
        };
        if problem.code == CODE_BEHIND {
            self.seen.borrow_mut().forget();
        }
        let hint = format!("sign in with: knot login {}", self.address);
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
            self.address
        ))
    }
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
