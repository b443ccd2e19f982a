//! Causality tokens: an answer says what it shows, and a server that is asked with it answers when
//! it holds as much, or says that it is behind.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use knot_core::{
    id::{ChangeHash, DocId, Id},
    replica::{Replica, Token},
    schema::Entity,
};

use super::{
    caller::cookie,
    problem::{Code, Problem},
    types::CAUSALITY_HEADER,
};

/// The cookie in which a browser carries what it has seen.
pub(super) const SEEN_COOKIE: &str = "knot_seen";
/// That cookie over HTTPS, which no page on a host beside this one can set.
const SECURE_SEEN_COOKIE: &str = "__Host-knot_seen";
/// How long a request waits for what its caller has seen.
const BOUND: Duration = Duration::from_secs(5);
/// Browsers drop a cookie that is longer, in bytes, silently.
const MAX_COOKIE: usize = 3_500;
/// How long a browser keeps what it has seen: no server that is linked is that far behind.
const COOKIE_SECONDS: u64 = 15 * 60;
/// How long a change is new.
const NEW: Duration = Duration::from_secs(60);

/// What a request's caller has seen, from its header and, for a browser, its cookie.
///
/// # Errors
/// The header is no token. A cookie that is none is passed over: no person wrote it.
pub(super) fn seen(headers: &HeaderMap, https: bool) -> Result<Token, Problem> {
    let mut token = Token::new();
    if let Some(text) = cookie(headers, seen_name(https))
        && let Ok(seen) = Token::from_text(text)
    {
        token.extend(&seen);
    }
    for value in headers.get_all(CAUSALITY_HEADER) {
        let text = value.to_str().unwrap_or_default();
        let seen = Token::from_text(text)
            .map_err(|error| Problem::new(Code::MalformedRequest, error.to_string()))?;
        token.extend(&seen);
    }
    Ok(token)
}

/// Waits until this server holds what the caller has seen.
///
/// # Errors
/// It does not within a bound.
pub(super) async fn catch_up(replica: &Replica, seen: &Token) -> Result<(), Problem> {
    replica.wait_for(seen, BOUND).await.map_err(|behind| {
        let retry_after = Some(1);
        Problem { retry_after, ..Problem::new(Code::Behind, behind.to_string()) }
    })
}

/// A token that a server meets once it knows the document to be dead: the heads are those that no
/// change has.
pub(super) fn of_dead(doc: DocId) -> Token {
    let mut token = Token::new();
    token.add(doc, &[ChangeHash::DEAD]);
    token
}

/// A token for one document as it was read.
pub(super) fn of_read<E: Entity>(doc: &knot_core::replica::Doc<E>) -> Token {
    let mut token = Token::new();
    token.add(doc.id().into(), doc.heads());
    token
}

/// An answer with the token of what it shows, which covers what the caller had seen before.
pub(super) struct Answer<T> {
    body: T,
    token: Token,
    /// Whether the caller is a browser, which keeps the token in a cookie.
    browser: Option<bool>,
}

impl<T: IntoResponse> Answer<T> {
    pub(super) fn new(body: T, seen: &Token, shown: &Token, browser: Option<bool>) -> Self {
        let mut token = seen.clone();
        token.extend(shown);
        Self { body, token, browser }
    }
}

impl<T: IntoResponse> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut response = self.body.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.token.is_empty() {
            return response;
        }
        if let Ok(value) = self.token.to_text().parse() {
            headers.insert(CAUSALITY_HEADER, value);
        }
        if let Some(https) = self.browser
            && let Ok(value) = seen_cookie(&self.token, https).parse()
        {
            headers.append(header::SET_COOKIE, value);
        }
        response
    }
}

/// The `Set-Cookie` with which a browser forgets what it has seen: a server that was restored from a
/// backup would say for ever that it is behind.
pub(super) fn forget_seen(https: bool) -> HeaderValue {
    HeaderValue::from_static(match https {
        true => "__Host-knot_seen=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Secure",
        false => "knot_seen=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0",
    })
}

fn seen_name(https: bool) -> &'static str {
    if https { SECURE_SEEN_COOKIE } else { SEEN_COOKIE }
}

/// The newest of the token, as a `Set-Cookie`.
fn seen_cookie(token: &Token, https: bool) -> String {
    let mut left_out = 0;
    let text = loop {
        let mut newest = Token::new();
        token.entries().skip(left_out).for_each(|(doc, heads)| newest.add(doc, heads));
        let text = newest.to_text();
        if text.len() <= MAX_COOKIE {
            break text;
        }
        left_out += 1;
    };
    let secure = if https { "; Secure" } else { "" };
    let name = seen_name(https);
    format!("{name}={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}{secure}")
}

/// A token for what a list shows: the documents of `E` that changed here last, of those that `wanted`
/// names, and those that died.
pub(super) fn recent<E: Entity>(replica: &Replica, wanted: impl Fn(Id<E>) -> bool) -> Token {
    replica.recent(NEW, wanted)
}
