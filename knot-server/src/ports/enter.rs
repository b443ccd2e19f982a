//! How a browser that is signed in at knot's own pages comes to be let in at a port's host, where the
//! session's cookie never comes: over to those pages, and back with a ticket.
//!
//! The ticket is good for a minute, for one space's port, at one host name, and for the one browser that
//! was sent: that one keeps a random text, in a cookie that goes with the ticket's use. So a ticket in a
//! log or a history opens nothing, and nobody can sign another in as themselves.

use axum::{
    extract::{Query, State},
    http::{Uri, request::Parts},
    response::Response,
};
use knot_core::clock::Millis;
use serde::Deserialize;

use super::{
    Settings, address,
    pages::Said,
    resolve::may_open,
    visit::{self, Asked, Closed, Meant, PASS, Way, redirect, set_cookie},
};
use crate::{
    api::{App, Caller, Code, auth, cookie, may_use},
    pages::LocalPath,
};

/// Where a ticket is taken, at a port's host. What a space has at this path is not seen.
pub(super) const PATH: &str = "/_knot/enter";
/// The cookie that a browser keeps while it is away.
const STATE: &str = "knot-port-state";
/// How many seconds it keeps it.
const AWAY: u64 = 15 * 60;
/// The longest address that is come back to, in bytes: beyond, it is the first page.
const LONGEST: usize = 1_024;

/// Sends a browser to knot's own pages.
pub(super) fn depart(asked: &Asked, settings: &Settings, parts: &Parts) -> Response {
    let (name, rest) = asked.cookie(STATE);
    // Several pages at once go with one text: each comes back.
    let kept = cookie(&parts.headers, &name).filter(|state| is_state(state));
    let state = kept.map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned);
    let first = format!("{}/", asked.prefix.as_deref().unwrap_or_default());
    let path = if asked.path.len() > LONGEST { &first } else { &asked.path };
    let to = in_query(&format!("{}{path}", asked.origin()));
    let ties = hex(auth::ports::binding(&state, &asked.authority));
    let mut response = redirect(&settings.page(&format!("/ports/enter?to={to}&ties={ties}")));
    set_cookie(&mut response, &format!("{name}={state}; Max-Age={AWAY}{rest}"));
    response
}

#[derive(Deserialize)]
pub(crate) struct Ticket {
    ticket: String,
    to: String,
}

/// Takes a ticket: gives the browser its pass and sends it to where it wanted to go.
pub(super) fn arrive(
    app: &App,
    asked: &Asked,
    meant: Option<&Meant>,
    parts: &Parts,
) -> Result<Response, Said> {
    let query = Query::<Ticket>::try_from_uri(&parts.uri).ok();
    let to = back(asked, query.as_ref().map(|Query(query)| query.to.as_str()));
    let (state_name, rest) = asked.cookie(STATE);
    let now = Millis::now();
    let session = meant.zip(query).and_then(|(meant, Query(query))| {
        let state = cookie(&parts.headers, &state_name).filter(|state| is_state(state))?;
        let ties = auth::ports::binding(state, &asked.authority);
        let session = auth::ports::read_ticket(&app.keys, &query.ticket, meant.door(), ties, now)?;
        let caller = Caller::with(app, session)?;
        may_open(Some(&caller), &meant.space, meant.access).then_some((session, meant.door()))
    });
    let again = || {
        let detail = "The way from knot's pages to here took too long, was taken before, or this \
                      browser keeps no cookies.";
        let said = Said::new(Code::NotSignedIn, "Open it again", detail);
        said.with_action("Try again", to.clone())
    };
    let (session, door) = session.ok_or_else(again)?;
    let pass = auth::ports::pass(&app.keys, &session, door).map_err(|_| again())?;
    let auth::Credential::Session { until, .. } = session else { return Err(again()) };
    let left = until.0.saturating_sub(now.0).max(0) / 1_000;
    let mut response = redirect(&to);
    let (name, _) = asked.cookie(PASS);
    set_cookie(&mut response, &format!("{name}={pass}; Max-Age={left}{rest}"));
    set_cookie(&mut response, &format!("{state_name}=; Max-Age=0{rest}"));
    Ok(response)
}

/// Where a browser is sent back to: where it says, if that is of this port, else to its first page.
pub(super) fn back(asked: &Asked, to: Option<&str>) -> String {
    let first = format!("{}/", asked.prefix.as_deref().unwrap_or_default());
    let to = to.and_then(LocalPath::parse).map(|to| to.to_string());
    to.filter(|to| to.starts_with(&first)).unwrap_or(first)
}

#[derive(Deserialize)]
pub(crate) struct Wanted {
    to: String,
    ties: String,
}

/// `GET /ports/enter`, at knot's own pages: sends a signed-in browser back with a ticket.
pub(crate) async fn enter(State(app): State<App>, parts: Parts) -> Response {
    let answered = give(&app, &parts).await;
    answered.unwrap_or_else(|said| said.answer(&parts.method, &parts.headers, None))
}

async fn give(app: &App, parts: &Parts) -> Result<Response, Said> {
    let settings = app.ports().ok_or_else(Said::nothing)?;
    let Query(Wanted { to, ties }) =
        Query::try_from_uri(&parts.uri).map_err(|_| Said::nothing())?;
    let ties = read_hex(&ties).ok_or_else(Said::nothing)?;
    let to: Uri = to.parse().map_err(|_| Said::nothing())?;
    let authority = to.authority().ok_or_else(Said::nothing)?.as_str();
    let label = settings.domain.as_ref().and_then(|domain| address::below(authority, domain));
    let way = label.map_or_else(|| Way::by_path(to.path()), Way::by_host);
    let scheme = if settings.https(way.prefix.is_some()) { "https" } else { "http" };
    let ours = settings.is_ours(authority, way.prefix.is_some());
    if to.scheme_str() != Some(scheme) || !ours {
        return Err(Said::nothing());
    }
    let session = Caller::by_session(app, &parts.headers);
    let Some((caller, session)) = session else {
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        return Ok(redirect(&format!("/sign-in?next={}", in_query(here))));
    };
    let meant = match visit::meant(app, &way).await {
        Ok(meant) if may_open(Some(&caller), &meant.space, meant.access) => meant,
        Err(Closed::Shut(space, said)) if may_use(&caller, &space) => return Err(said),
        _ => return Err(Said::nothing()),
    };
    let ticket = auth::ports::ticket(&app.keys, &session, meant.door(), ties, Millis::now());
    let ticket = ticket
        .map_err(|error| Said::new(Code::Busy, "One moment", error.to_string()).tried_again())?;
    tracing::info!(user = %caller.user, space = %meant.space.id(), port = meant.port.number, "port opened");
    let prefix = way.prefix.as_deref().unwrap_or_default();
    let path = in_query(to.path_and_query().map_or("/", |path| path.as_str()));
    Ok(redirect(&format!("{scheme}://{authority}{prefix}{PATH}?ticket={ticket}&to={path}")))
}

fn is_state(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A text as the value of a query's field.
pub(super) fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn read_hex(text: &str) -> Option<[u8; 16]> {
    is_state(text).then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}
