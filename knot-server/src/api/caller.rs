//! Who makes a request, checked in one place before a handler runs: the credential, that no other
//! site made a browser send it, and that this server holds what the caller has seen.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Path, Query},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use knot_core::{
    clock::Millis,
    id::{Author, Id},
    model,
    replica::{Doc, Token},
    schema::Entity as _,
};
use serde::de::DeserializeOwned;

use super::{
    app::App,
    auth::{self, Credential},
    causality::{self, Answer},
    permit,
    problem::{Code, Problem},
};

/// The cookie that a session is in, over plain HTTP.
pub(super) const SESSION_COOKIE: &str = "knot_session";
/// That cookie over HTTPS. Browsers take one of such a name from this very host only, so that no page of
/// a space, on a host beside it, can put another in its place.
const SECURE_SESSION_COOKIE: &str = "__Host-knot_session";
/// How often a stream asks whether its caller's credential still holds: some end by the clock alone.
const LOOK: Duration = Duration::from_secs(15);

/// The user that a request acts for. As an argument of a handler it refuses all others.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The user's id.
    pub(crate) user: Id<model::User>,
    /// The user's name.
    pub(crate) name: String,
    /// May act on what belongs to others.
    pub(crate) admin: bool,
    /// The living groups that they are in.
    pub(crate) groups: BTreeSet<String>,
    pub(super) credential: Credential,
    pub(super) seen: Token,
    https: bool,
}

impl Caller {
    /// Who stands in the history of what this request changes.
    pub(crate) fn author(&self) -> Author {
        Author::User(self.user.uuid())
    }

    /// Whether the credential still holds: streams ask from time to time.
    pub(crate) fn still_holds(&self, app: &App) -> bool {
        self.credential.holds(&app.replica, Millis::now())
    }

    /// Whether the credential still holds, and the user may still use this space, as an admin only
    /// where they are one now.
    pub(crate) fn still_sees(&self, app: &App, space: Id<model::Space>) -> bool {
        let Some(user) = app.replica.get(self.user).filter(|_| self.still_holds(app)) else {
            return false;
        };
        let now = Self { admin: user.admin, ..self.clone() };
        // One that was deleted is its users' until its home has taken it down.
        let space = app.replica.get(space).or_else(|| app.replica.remains(space));
        space.is_some_and(|space| permit::space(&now, &space))
    }

    /// Waits until [`Caller::still_sees`] says no.
    pub(crate) async fn sees_no_more(&self, app: &App, space: Id<model::Space>) {
        self.until_not(app, || self.still_sees(app, space)).await;
    }

    /// The user whose SSH key, of this SHA-256, has signed.
    pub(super) fn of_key(app: &App, user: &Doc<model::User>, key: [u8; 32]) -> Self {
        Self {
            user: user.id(),
            name: user.name.clone(),
            admin: user.admin,
            groups: groups(app, user),
            credential: Credential::Key { user: user.id(), key },
            seen: Token::new(),
            https: app.https,
        }
    }

    /// Waits until [`Caller::still_holds`] says no.
    pub(crate) async fn holds_no_more(&self, app: &App) {
        self.until_not(app, || self.still_holds(app)).await;
    }

    async fn until_not(&self, app: &App, holds: impl Fn() -> bool) {
        let kinds = [model::Space::KIND, model::User::KIND, model::Token::KIND];
        let mut changes = app.replica.watch(&kinds);
        let mut ticks = tokio::time::interval(LOOK);
        while holds() {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = changes.next() => while changes.try_next().is_some() {},
            }
        }
    }

    /// An answer that shows what `shown` covers.
    pub(super) fn answer<T: IntoResponse>(&self, body: T, shown: &Token) -> Answer<T> {
        let browser = matches!(self.credential, Credential::Session { .. }).then_some(self.https);
        Answer::new(body, &self.seen, shown, browser)
    }

    /// Whoever a credential is of, while it holds.
    pub(crate) fn with(app: &App, credential: Credential) -> Option<Self> {
        let credential = Some(credential).filter(|one| one.holds(&app.replica, Millis::now()))?;
        let user = app.replica.get(credential.user())?;
        Some(Self {
            user: user.id(),
            name: user.name.clone(),
            admin: user.admin,
            groups: groups(app, &user),
            credential,
            seen: Token::new(),
            https: app.https,
        })
    }

    /// Whoever a browser is signed in as, and its session.
    pub(crate) fn by_session(app: &App, headers: &HeaderMap) -> Option<(Self, Credential)> {
        let text = cookie(headers, session_name(app.https))?;
        let session = auth::read_session(&app.keys, text)?;
        Some((Self::with(app, session)?, session))
    }

    /// Makes it what it is by now; whether its credential still holds.
    pub(crate) fn refresh(&mut self, app: &App) -> bool {
        let user = app.replica.get(self.user).filter(|_| self.still_holds(app));
        user.is_some_and(|user| {
            self.admin = user.admin;
            true
        })
    }

    /// The caller of a request that has a credential, with nothing else checked.
    pub(super) fn identify(app: &App, headers: &HeaderMap) -> Result<Self, Problem> {
        let (credential, what) = match headers.get(header::AUTHORIZATION) {
            Some(value) => (
                bearer(value).and_then(|text| auth::read_api_token(&app.keys, &app.replica, text)),
                "API token",
            ),
            None => {
                let text = cookie(headers, session_name(app.https)).ok_or_else(|| {
                    Problem::new(
                        Code::NotSignedIn,
                        "sign in first: POST /api/v1/sign-in, or `knot login`, or the page /sign-in",
                    )
                })?;
                (auth::read_session(&app.keys, text), "session")
            }
        };
        credential.and_then(|credential| Self::with(app, credential)).ok_or_else(|| {
            Problem::new(
                Code::NotSignedIn,
                format!(
                    "this {what} is over, was revoked, or is of another cluster: sign in again"
                ),
            )
        })
    }
}

/// The groups of a user that live.
pub(super) fn groups(app: &App, user: &model::User) -> BTreeSet<String> {
    if user.groups.is_empty() {
        return BTreeSet::new();
    }
    let living = app.replica.list::<model::Group>();
    let living = living.into_iter().map(|group| group.name.clone());
    living.filter(|name| user.groups.contains(name)).collect()
}

impl Caller {
    /// The caller of a request, with everything checked, and once this server holds what the caller
    /// has seen.
    pub(super) async fn admit(parts: &Parts, app: &App) -> Result<Self, Problem> {
        let mut caller = Self::identify(app, &parts.headers)?;
        let browser = matches!(caller.credential, Credential::Session { .. });
        if browser && !parts.method.is_safe() {
            same_origin(&parts.headers, host(parts), app.https, Wanted::Proof)?;
        }
        caller.seen = causality::seen(&parts.headers, app.https)?;
        causality::catch_up(&app.replica, &caller.seen).await?;
        Ok(caller)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        Self::admit(parts, app).await.map_err(|problem| {
            let code = problem.code;
            without_seen(code, app.https, problem.into_response())
        })
    }
}

/// A refusal, with which a browser forgets what it has seen where this server cannot catch up.
pub(super) fn without_seen(code: Code, https: bool, mut refusal: Response) -> Response {
    if code == Code::Behind {
        refusal.headers_mut().append(header::SET_COOKIE, causality::forget_seen(https));
    }
    refusal
}

/// The name or id in a path, or a pair of them.
pub(super) struct Key<T = String>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Key<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(key)) => Ok(Self(key)),
            Err(_) => Err(Problem::new(
                Code::MalformedRequest,
                "the name or id in the path is no UTF-8 text: take it from the list",
            )),
        }
    }
}

/// What the query of an address asks for.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(asked)| Self(asked)).map_err(|error| {
            Problem::new(Code::MalformedRequest, format!("the query cannot be read: {error}"))
        })
    }
}

/// What a request must show of where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That it is from a page of this server.
    Proof,
    /// Nothing that says otherwise: programs that are no browsers say nothing.
    NoContradiction,
}

/// Refuses a request that a page of another site made a browser send.
pub(super) fn same_origin(
    headers: &HeaderMap,
    host: Option<&str>,
    https: bool,
    wanted: Wanted,
) -> Result<(), Problem> {
    let refused = || {
        Err(Problem::new(
            Code::CrossOrigin,
            "a request with a session cookie is taken from this server's own pages only; a program \
             sends an API token instead. Behind a proxy, see that it passes the Host header on",
        ))
    };
    if let Some(site) = headers.get("sec-fetch-site") {
        return if site == "same-origin" { Ok(()) } else { refused() };
    }
    match headers.get(header::ORIGIN) {
        None if wanted == Wanted::NoContradiction => Ok(()),
        None => refused(),
        Some(origin) => {
            let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            match origin {
                Some((scheme, authority))
                    if Some(authority) == host
                        && (scheme == "https" || (scheme == "http" && !https)) =>
                {
                    Ok(())
                }
                _ => refused(),
            }
        }
    }
}

/// The host and port that the request was sent to, as its sender wrote them.
pub(super) fn host(parts: &Parts) -> Option<&str> {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| parts.headers.get(header::HOST)?.to_str().ok())
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The name of the cookie that a session is in.
pub(super) fn session_name(https: bool) -> &'static str {
    if https { SECURE_SESSION_COOKIE } else { SESSION_COOKIE }
}

/// The `Set-Cookie` of a session; of none, which ends it in the browser.
pub(super) fn session_cookie(session: Option<&str>, https: bool) -> Option<HeaderValue> {
    let secure = if https { "; Secure" } else { "" };
    let (value, age) = match session {
        Some(session) => (session, auth::SESSION.as_secs()),
        None => ("", 0),
    };
    let name = session_name(https);
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}").parse().ok()
}

/// The address that a request comes from, where the server that took it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(info.map(|ConnectInfo(address)| address.ip())))
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(headers: &[(&'static str, &str)], https: bool, wanted: Wanted) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        same_origin(&map, Some("knot.example:7443"), https, wanted).is_ok()
    }

    #[test]
    fn only_this_servers_own_pages_may_send_the_cookie() {
        for (headers, https, taken) in [
            (&[("origin", "https://knot.example:7443")][..], true, true),
            (&[("origin", "http://knot.example:7443")], true, false),
            (&[("origin", "http://knot.example:7443")], false, true),
            (&[("origin", "https://knot.example")], true, false),
            (&[("origin", "https://evil.example:7443")], true, false),
            (&[("origin", "null")], true, false),
            (&[("sec-fetch-site", "same-origin")], true, true),
            (&[("sec-fetch-site", "same-site")], true, false),
            (
                &[("sec-fetch-site", "cross-site"), ("origin", "https://knot.example:7443")],
                true,
                false,
            ),
            (&[], true, false),
        ] {
            assert_eq!(judge(headers, https, Wanted::Proof), taken, "{headers:?}");
        }
        assert!(judge(&[], true, Wanted::NoContradiction));
        assert!(!judge(&[("origin", "https://evil.example")], true, Wanted::NoContradiction));
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; knot_session2=no; knot_session=yes=".parse().unwrap());
        headers.append("cookie", "b=2".parse().unwrap());
        assert_eq!(cookie(&headers, "knot_session"), Some("yes="));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), None);
    }
}
