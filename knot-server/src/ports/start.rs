//! A visit to a port of a space that does not run: it starts the space where the template says so, and is
//! told how that goes.
//!
//! What starts by being opened must not be started by what was left open: a page that asks for something
//! every few seconds would have its space back as soon as that is stopped. So of what browsers send only the
//! opening of a page counts, and a page of knot's that tries again does so at an address that starts nothing.

use axum::{
    extract::Query,
    http::{HeaderMap, Uri},
    response::Response,
};
use knot_core::{
    model::{Desired, Observed, Space, SpaceStatus},
    replica::Doc,
};
use serde::Deserialize;

use super::{
    enter::{back, in_query},
    pages::{Said, wants_page},
    visit::{Asked, Meant, redirect},
};
use crate::{
    access,
    api::{App, Caller, Code, Reachability, World, login, may_use},
};

/// Where pages try again, below a port's host or path. What a space has at this path is not seen.
pub(super) const WAIT: &str = "/_knot/wait";
/// What a browser says of what it fetches before anybody has asked for it.
const AHEAD: [&str; 3] = ["sec-purpose", "purpose", "x-moz"];

/// Whether a request opens something, and may so start a space: it is none that an open page sends of
/// itself, and not made ahead of a visit. Programs open with each request.
pub(super) fn opens(headers: &HeaderMap, has_pass: bool) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let ahead = AHEAD.iter().any(|name| text(name).is_some_and(|why| why.contains("prefetch")));
    let opens = match text("sec-fetch-mode") {
        Some(mode) => mode == "navigate" && text("sec-fetch-dest") == Some("document"),
        // Browsers say no more over plain HTTP; a pass is theirs.
        None => !has_pass || wants_page(headers),
    };
    opens && !ahead
}

/// Where a page that was sent for `uri` tries again.
pub(super) fn again_at(prefix: Option<&str>, uri: &Uri) -> String {
    let prefix = prefix.unwrap_or_default();
    let here = uri.path_and_query().map_or("/", |path| path.as_str());
    if uri.path().strip_prefix(prefix) == Some(WAIT) {
        return here.to_owned();
    }
    format!("{prefix}{WAIT}?to={}", in_query(here))
}

#[derive(Deserialize)]
struct Back {
    to: String,
}

/// Answers a page that tries again: with the way back once the space runs.
pub(super) async fn wait(
    app: &App,
    asked: &Asked,
    meant: &Meant,
    caller: Option<&Caller>,
    uri: &Uri,
) -> Result<Response, Said> {
    let wanted = Query::<Back>::try_from_uri(uri).ok();
    let to = back(asked, wanted.as_ref().map(|Query(wanted)| wanted.to.as_str()));
    let space = &meant.space;
    match state(app, space) {
        State::Up => Ok(redirect(&to)),
        State::Stopped if may_start(app, space, caller).await => {
            let said = stopped(app, space, "Opening it again starts it.".to_owned());
            Err(said.with_action("Start it", to))
        }
        State::Stopped => Err(with_page(app, space, stopped(app, space, by_hand()))),
        State::Failed(cause) => Err(failed(app, space, caller, cause)),
        State::Starting(state) => Err(starting(app, space, state)),
    }
}

/// Answers a request for a port of a space that does not run, and starts that where the request `opens`
/// and its sender may.
pub(super) async fn not_running(
    app: &App,
    meant: &Meant,
    caller: Option<&Caller>,
    opens: bool,
) -> Said {
    let Some(space) = app.replica.get(meant.space.id()) else { return Said::nothing() };
    match state(app, &space) {
        State::Stopped if opens && may_start(app, &space, caller).await => {
            let knows = caller.filter(|caller| may_use(caller, &space));
            let wanted = match knows {
                Some(caller) => login::start(app, caller, space.id()).await,
                None => login::start_for_visitor(app, &space).await,
            };
            let by = knows.map(|caller| caller.name.as_str());
            match wanted {
                Ok(()) => {
                    tracing::info!(space = %space.id(), port = meant.port.number, by, "a visit starts a space");
                    starting(app, &space, status(app, &space).state)
                }
                Err(problem) => {
                    let why = knows.map_or_else(by_hand, |_| sentence(&problem.detail));
                    with_page(app, &space, stopped(app, &space, why))
                }
            }
        }
        State::Stopped => with_page(app, &space, stopped(app, &space, by_hand())),
        State::Failed(cause) => failed(app, &space, caller, cause),
        State::Up => starting(app, &space, status(app, &space).state),
        State::Starting(state) => starting(app, &space, state),
    }
}

/// Whether somebody's opening of a port starts the space: of its users' if the template says so of
/// connections, of anybody's if it says so of visits.
async fn may_start(app: &App, space: &Space, caller: Option<&Caller>) -> bool {
    let Some(template) = access::template(&app.replica, space).await else { return false };
    let uses = caller.is_some_and(|caller| may_use(caller, space));
    template.start_on_visit || (template.start_on_connect && uses)
}

/// How it stands with a space that is wanted now.
enum State {
    Up,
    Stopped,
    Starting(Observed),
    Failed(Option<String>),
}

fn status(app: &App, space: &Doc<Space>) -> SpaceStatus {
    app.replica.observed(space.id(), space.placement.server).unwrap_or_default()
}

fn state(app: &App, space: &Doc<Space>) -> State {
    let status = status(app, space);
    match (space.desired, status.state) {
        (Desired::Stopped, _) => State::Stopped,
        (Desired::Running, Observed::Running) => State::Up,
        (Desired::Running, Observed::Failed) => State::Failed(status.cause),
        (Desired::Running, state) => State::Starting(state),
    }
}

fn name(app: &App, space: &Doc<Space>) -> String {
    World::new(app).space_name(space)
}

fn by_hand() -> String {
    "It is started from its page, or with `knot space start`.".to_owned()
}

fn stopped(app: &App, space: &Doc<Space>, detail: String) -> Said {
    Said::new(Code::NotRunning, format!("{} is stopped", name(app, space)), detail)
}

/// Its cause is for its users; a start that was just asked for comes after it.
fn failed(app: &App, space: &Doc<Space>, caller: Option<&Caller>, cause: Option<String>) -> Said {
    let cause = cause.filter(|_| caller.is_some_and(|caller| may_use(caller, space)));
    let detail = cause.map_or_else(|| "Its page says why.".to_owned(), |cause| sentence(&cause));
    let title = format!("{} could not be started", name(app, space));
    with_page(app, space, Said::new(Code::NotRunning, title, detail).tried_again())
}

fn starting(app: &App, space: &Doc<Space>, state: Observed) -> Said {
    let home = space.placement.server;
    let hears = home == app.replica.me() || app.cluster.reachability(home) == Reachability::Linked;
    let detail = match state {
        _ if !hears => "Its home cannot be reached from here: it starts once that hears of this.",
        Observed::Provisioning => "It is being prepared.",
        Observed::Stopping => "It is still stopping, and starts then.",
        _ => "It has been asked to start.",
    };
    let said = Said::new(Code::Starting, format!("{} is starting", name(app, space)), detail);
    with_page(app, space, said.tried_again())
}

/// The same, with a link to the space's own page.
pub(super) fn with_page(app: &App, space: &Doc<Space>, said: Said) -> Said {
    match app.ports().map(|settings| settings.page(&format!("/spaces/{}", space.id()))) {
        Some(page) => said.with_action("Open the space's page", page),
        None => said,
    }
}

/// A text that is part of one, as one of its own.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.trim_end_matches('.').chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn what_was_left_open_starts_nothing() {
        const PAGE: (&str, &str) = ("accept", "text/html,*/*");
        const NAVIGATES: (&str, &str) = ("sec-fetch-mode", "navigate");
        const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
        for (headers, has_pass, wanted) in [
            // A program, with a token or nothing.
            (&[][..], false, true),
            (&[("upgrade", "websocket")], false, true),
            // Browsers, over HTTPS and over HTTP.
            (&[PAGE, NAVIGATES, DOCUMENT], true, true),
            (&[PAGE, NAVIGATES, DOCUMENT], false, true),
            (&[PAGE], true, true),
            (&[PAGE, NAVIGATES, ("sec-fetch-dest", "iframe")], true, false),
            (&[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], false, false),
            (&[("sec-fetch-mode", "websocket")], true, false),
            (&[("accept", "*/*")], true, false),
            (&[PAGE, NAVIGATES, DOCUMENT, ("sec-purpose", "prefetch;prerender")], true, false),
            (&[PAGE, ("purpose", "prefetch")], true, false),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            assert_eq!(opens(&headers, has_pass), wanted, "{headers:?}");
        }
    }

    #[test]
    fn a_page_tries_again_where_nothing_starts() {
        let at = |prefix, uri: &str| again_at(prefix, &uri.parse().unwrap());
        assert_eq!(at(None, "/a?b=1&c"), "/_knot/wait?to=/a%3Fb%3D1%26c");
        assert_eq!(at(None, "http://host/"), "/_knot/wait?to=/");
        assert_eq!(at(None, "/_knot/wait?to=/a"), "/_knot/wait?to=/a");
        let below = "/spaces/anna/dev/80";
        assert_eq!(
            at(Some(below), &format!("{below}/x")),
            format!("{below}/_knot/wait?to={below}/x")
        );
        let waits = format!("{below}/_knot/wait?to={below}/x");
        assert_eq!(at(Some(below), &waits), waits);
    }
}
