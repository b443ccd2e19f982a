//! Ports of spaces over HTTP: who may open one, how a browser comes to be let in, and how a request goes
//! to the space and its answer back. Why it is as it is: `docs/src/decisions/ports.md`.
//!
//! A port answers at a host name of its own, `8080--dev--anna` below the configured domain, or, where
//! there is no such domain, below a path of a listener of its own. It never answers at the origin of
//! knot's own pages and API, and what knot and a browser share there never reaches it.

pub(crate) mod address;
pub(crate) mod between;
mod carry;
pub(crate) mod enter;
mod headers;
mod pages;
mod pool;
pub(crate) mod resolve;
mod settings;
mod start;
mod visit;
mod watched;

use axum::{
    Router,
    extract::{Request, State},
    http::{header::HOST, uri::Authority},
    middleware::{self, Next},
    response::Response,
    routing::any,
};

pub use self::settings::Settings;
use self::visit::{Ports, Way};
use crate::api::App;

/// All that a server answers at its HTTP address: ports by their host names, and else what `own`
/// answers. Without a domain it is `own` alone.
pub fn router(app: &App, own: Router) -> Router {
    let Some(domain) = app.ports().and_then(|settings| settings.domain.clone()) else { return own };
    own.layer(middleware::from_fn_with_state((Ports::new(app.clone()), domain), dispatch))
}

async fn dispatch(
    State((ports, domain)): State<(Ports, String)>,
    request: Request,
    next: Next,
) -> Response {
    let label = host(&request).and_then(|host| address::below(host, &domain)).map(str::to_owned);
    match label {
        Some(label) => ports.visit(Way::by_host(&label), request).await,
        None => next.run(request).await,
    }
}

/// All that is answered at the listener for ports: by host names and by paths.
pub fn apart(app: &App) -> Router {
    let domain = app.ports().and_then(|settings| settings.domain.clone());
    Router::new().fallback(any(by_path)).with_state((Ports::new(app.clone()), domain))
}

async fn by_path(
    State((ports, domain)): State<(Ports, Option<String>)>,
    request: Request,
) -> Response {
    let label =
        domain.and_then(|domain| address::below(host(&request)?, &domain).map(str::to_owned));
    let way = match label {
        Some(label) => Way::by_host(&label),
        None => Way::by_path(request.uri().path()),
    };
    ports.visit(way, request).await
}

/// Whether a host, with its port or without, stands below a domain.
pub(crate) fn is_below(host: &str, domain: &str) -> bool {
    address::below(host, domain).is_some()
}

/// The host and port that a request was sent to.
fn host(request: &Request) -> Option<&str> {
    let authority = request.uri().authority().map(Authority::as_str);
    authority.or_else(|| request.headers().get(HOST)?.to_str().ok())
}
