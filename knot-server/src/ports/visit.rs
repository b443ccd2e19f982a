//! One request for a port: what is meant, who asks, whether they may, and then the way there.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{
            AUTHORIZATION, CACHE_CONTROL, HOST, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE,
        },
        request::Parts,
        uri::Authority,
    },
    response::{IntoResponse, Response},
};
use knot_core::{
    model::{PortAccess, Space},
    replica::Doc,
};
use tokio::sync::Semaphore;

use super::{
    Settings,
    address::{Address, PortName, below},
    carry::{self, Carried},
    enter,
    headers::{From, OWN_AUTHORIZATION},
    pages::{Said, wants_page},
    pool::Pool,
    resolve::{Opened, Rules, access_of, find, may_open},
    start,
};
use crate::api::{
    App, Caller, Code, Leaving, World,
    auth::{self, ports::Door},
    cookie, may_use,
};

/// The most requests to ports at a time.
const REQUESTS: usize = 4_096;

/// What opens ports; clones share it.
#[derive(Clone)]
pub(super) struct Ports(Arc<Inner>);

struct Inner {
    app: App,
    pool: Pool,
    room: Arc<Semaphore>,
}

/// By which way a port was asked for.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) address: Option<Address>,
    /// The path below which the port is seen, without a slash at its end; `None` where it has a host.
    pub(super) prefix: Option<String>,
}

impl Way {
    /// By a host name that begins so.
    pub(super) fn by_host(label: &str) -> Self {
        Self { address: Address::parse(label), prefix: None }
    }

    /// By a path: `/spaces/USER/SPACE/PORT/…`.
    pub(super) fn by_path(path: &str) -> Self {
        let mut parts = path.split('/');
        let (empty, spaces) = (parts.next(), parts.next());
        let (owner, space, port) = (parts.next(), parts.next(), parts.next());
        let named = match (empty, spaces, owner, space, port) {
            (Some(""), Some("spaces"), Some(owner), Some(space), Some(port)) => {
                PortName::parse(port).map(|named| (owner, space, port, named))
            }
            _ => None,
        };
        let Some((owner, space, port, named)) = named else {
            return Self { address: None, prefix: Some(String::new()) };
        };
        let prefix = Some(format!("/spaces/{owner}/{space}/{port}"));
        let (space, owner) = (space.to_owned(), owner.to_owned());
        Self { address: Some(Address::Named { port: named, space, owner }), prefix }
    }

    /// The path that the space sees.
    pub(super) fn inner<'a>(&self, path: &'a str) -> &'a str {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let inner = path.strip_prefix(prefix).unwrap_or(path);
        if inner.is_empty() { "/" } else { inner }
    }
}

/// A port that is meant.
pub(super) struct Meant {
    pub(super) space: Doc<Space>,
    pub(super) port: Opened,
    pub(super) access: PortAccess,
}

impl Meant {
    pub(super) fn door(&self) -> Door {
        Door { space: self.space.id(), port: self.port.number }
    }
}

impl Ports {
    pub(super) fn new(app: App) -> Self {
        let room = Arc::new(Semaphore::new(REQUESTS));
        Self(Arc::new(Inner { app, pool: Pool::default(), room }))
    }

    /// Answers a request for a port.
    pub(super) async fn visit(&self, way: Way, request: Request) -> Response {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let again_at = start::again_at(way.prefix.as_deref(), request.uri());
        match self.open(way, request).await {
            Ok(response) => response,
            Err(said) => said.answer(&method, &headers, Some(&again_at)),
        }
    }

    async fn open(&self, way: Way, request: Request) -> Result<Response, Said> {
        let Inner { app, pool, room } = &*self.0;
        let Some(settings) = app.ports() else { return Err(Said::nothing()) };
        match app.leaving() {
            Some(Leaving::Stopping) => {
                let detail = "This server is stopping: another one answers in a moment.";
                return Err(Said::new(Code::Draining, "One moment", detail).tried_again());
            }
            Some(Leaving::Removed) => {
                let detail =
                    "This server was removed from its cluster: open the page through another one.";
                return Err(Said::new(Code::Removed, "This server was removed", detail));
            }
            None => {}
        }
        let (mut parts, body) = request.into_parts();
        if parts.headers.get_all(HOST).iter().nth(1).is_some() {
            let title = "This request cannot be read";
            return Err(Said::new(Code::MalformedRequest, title, "It names more than one host."));
        }
        let asked = Asked::of(&parts, &way, settings).filter(|_| way.address.is_some());
        let asked = asked.ok_or_else(Said::nothing)?;
        if way.prefix.is_some() && parts.uri.path() == way.prefix.as_deref().unwrap_or_default() {
            // What the page refers to is below it.
            return Ok(redirect(&format!("{}/", parts.uri.path())));
        }
        let meant = meant(app, &way).await;
        if way.inner(parts.uri.path()) == enter::PATH {
            return enter::arrive(app, &asked, meant.ok().as_ref(), &parts);
        }
        let by = match &meant {
            Ok(meant) => who(app, &parts.headers, meant.door()),
            // A pass is for a port that there is.
            Err(_) => by_token(app, &parts.headers).map_or(By::Nothing, By::Token),
        };
        let caller = by.caller();
        let allowed = meant.as_ref().is_ok_and(|one| may_open(caller, &one.space, one.access));
        let meant = match meant {
            Ok(meant) if allowed => meant,
            // Whoever may use the space may know why its port is closed.
            Err(Closed::Shut(space, said)) if caller.is_some_and(|one| may_use(one, &space)) => {
                return Err(said);
            }
            _ if caller.is_some() => return Err(Said::nothing()),
            _ if wants_page(&parts.headers) && parts.method.is_safe() => {
                return Ok(enter::depart(&asked, settings, &parts));
            }
            _ => {
                let detail = "sign in first: open it in a browser, or send an API token of knot's in \
                              the header Authorization or Knot-Authorization";
                return Err(Said::new(Code::NotSignedIn, "Not signed in", detail));
            }
        };
        let is_own = |origin: &str| is_of_owner(app, settings, origin, &meant.space);
        if matches!(by, By::Pass(_)) && !may_cross(&parts, &asked, is_own) {
            let detail = "A page of another origin asked for this port with your sign-in: open it \
                          by its address.";
            return Err(Said::new(Code::CrossOrigin, "Not from there", detail));
        }
        if way.inner(parts.uri.path()) == start::WAIT {
            return start::wait(app, &asked, &meant, caller, &parts.uri).await;
        }
        let opens = start::opens(&parts.headers, matches!(by, By::Pass(_)));
        let busy = || {
            let detail = "This server carries as much to spaces as it can: try again in a moment.";
            Said::new(Code::Busy, "Too much at once", detail).tried_again()
        };
        let room = Arc::clone(room).try_acquire_owned().map_err(|_| busy())?;
        // On a host that several spaces share, only its owner's own is a page like any other.
        let sandboxed =
            way.prefix.is_some() && caller.is_none_or(|caller| caller.user != meant.space.owner);
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let from = From {
            host: &asked.authority,
            https: asked.https,
            peer: peer.map(|ConnectInfo(peer)| peer.ip()),
            prefix: way.prefix.as_deref(),
        };
        let path = way.inner(parts.uri.path());
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path: Uri = format!("{path}{query}").parse().map_err(|_| Said::nothing())?;
        parts.headers.insert(HOST, asked.authority.parse().map_err(|_| Said::nothing())?);
        let carried =
            Carried { app, pool, meant: &meant, caller: by.into_caller(), opens, sandboxed };
        carry::carry(carried, &from, path, (parts, body), room).await
    }
}

/// Where a request was sent, as its sender wrote it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Host and port.
    pub(super) authority: String,
    pub(super) https: bool,
    pub(super) prefix: Option<String>,
    /// The path and query.
    pub(super) path: String,
}

impl Asked {
    fn of(parts: &Parts, way: &Way, settings: &Settings) -> Option<Self> {
        let authority = parts.uri.authority().map(Authority::as_str);
        let authority = authority.or_else(|| parts.headers.get(HOST)?.to_str().ok())?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        Some(Self {
            authority: authority.to_ascii_lowercase(),
            https: settings.https(way.prefix.is_some()),
            prefix: way.prefix.clone(),
            path: path.to_owned(),
        })
    }

    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// The name of a cookie of knot's on this host, and what its `Set-Cookie` ends with. Where the host
    /// is the port's own, browsers are told to take it from nobody else.
    pub(super) fn cookie(&self, name: &str) -> (String, String) {
        let path = match &self.prefix {
            Some(prefix) => format!("{prefix}/"),
            None => "/".to_owned(),
        };
        let secure = if self.https { "; Secure" } else { "" };
        let prefix = match (self.https, &self.prefix) {
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
            (false, _) => "",
        };
        (format!("{prefix}{name}"), format!("; Path={path}; HttpOnly; SameSite=Lax{secure}"))
    }
}

/// Why nothing is opened.
pub(super) enum Closed {
    /// There is no such space.
    Nothing,
    /// The space is there, and its port is not open to anybody.
    Shut(Doc<Space>, Said),
}

/// The port that is meant, if it may be opened at all.
pub(super) async fn meant(app: &App, way: &Way) -> Result<Meant, Closed> {
    let address = way.address.as_ref().ok_or(Closed::Nothing)?;
    let (space, name) = find(app, address).ok_or(Closed::Nothing)?;
    let said = |why: String| Said::new(Code::PortClosed, "This port is not open", why);
    let rules = match Rules::of(&app.replica, &space).await {
        Ok(rules) => rules,
        Err(off) => return Err(Closed::Shut(space, said(off.to_string()))),
    };
    match rules.over_http(&name) {
        Some(port) => {
            let access = access_of(&space, port.number);
            Ok(Meant { space, port, access })
        }
        None => {
            let name = match name {
                PortName::Number(number) => number.to_string(),
                PortName::Name(name) => name,
            };
            let space_name = World::new(app).space_name(&space);
            let why = format!(
                "The template of {space_name} does not name port {name}: an admin adds it to `ports`, \
                 or says `any_port: true`. `knot port-forward` may reach it without."
            );
            Err(Closed::Shut(space, said(why)))
        }
    }
}

/// Who a request for a port is from.
enum By {
    Nothing,
    Token(Caller),
    Pass(Caller),
}

impl By {
    fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Nothing => None,
            Self::Token(caller) | Self::Pass(caller) => Some(caller),
        }
    }

    fn into_caller(self) -> Option<Caller> {
        match self {
            Self::Nothing => None,
            Self::Token(caller) | Self::Pass(caller) => Some(caller),
        }
    }
}

/// The cookie of a pass, without what browsers' rules put before its name.
pub(super) const PASS: &str = "knot-port";

fn who(app: &App, headers: &HeaderMap, door: Door) -> By {
    if let Some(caller) = by_token(app, headers) {
        return By::Token(caller);
    }
    let names = ["__Host-", "__Secure-", ""].map(|prefix| format!("{prefix}{PASS}"));
    let credentials = names.iter().filter_map(|name| cookie(headers, name));
    let mut credentials =
        credentials.filter_map(|text| auth::ports::read_pass(&app.keys, text, door));
    match credentials.find_map(|credential| Caller::with(app, credential)) {
        Some(caller) => By::Pass(caller),
        None => By::Nothing,
    }
}

/// Whoever a token of knot's is of.
fn by_token(app: &App, headers: &HeaderMap) -> Option<Caller> {
    [OWN_AUTHORIZATION, AUTHORIZATION].iter().find_map(|name| {
        let (scheme, token) = headers.get(name)?.to_str().ok()?.split_once(' ')?;
        let bearer = scheme.eq_ignore_ascii_case("bearer");
        let token = Some(token.trim()).filter(|_| bearer)?;
        Caller::with(app, auth::read_api_token(&app.keys, &app.replica, token)?)
    })
}

/// Whether an origin is a port of a space of the same owner.
fn is_of_owner(app: &App, settings: &Settings, origin: &str, space: &Space) -> bool {
    let Some(domain) = &settings.domain else { return false };
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let address = below(authority, domain).and_then(Address::parse);
    let other = address.and_then(|address| find(app, &address));
    other.is_some_and(|(other, _)| other.owner == space.owner)
}

/// Whether a browser that has a pass may send this: it comes from a page of the same port, of another
/// port of the same owner's, or a person follows a link.
fn may_cross(parts: &Parts, asked: &Asked, is_own: impl Fn(&str) -> bool) -> bool {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let fetch = |name: &'static str| text(HeaderName::from_static(name));
    let origin = text(ORIGIN);
    let from_own = origin.is_some_and(&is_own);
    match fetch("sec-fetch-site") {
        Some("same-origin" | "none") => true,
        Some(_) => {
            let followed = fetch("sec-fetch-mode") == Some("navigate")
                && fetch("sec-fetch-dest") == Some("document")
                && parts.method.is_safe();
            from_own || followed
        }
        None => origin.is_none_or(|origin| origin == asked.origin() || from_own),
    }
}

/// An answer that sends a browser on.
pub(super) fn redirect(to: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    if let Ok(to) = to.parse() {
        headers.insert(LOCATION, to);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Adds a `Set-Cookie`.
pub(super) fn set_cookie(response: &mut Response, text: &str) {
    if let Ok(value) = text.parse() {
        response.headers_mut().append(SET_COOKIE, value);
    }
}
