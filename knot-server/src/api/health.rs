//! Whether this server lives, and whether requests should come here: for supervisors and balancers.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;

use super::app::{App, Reachability};
use super::servers;
use knot_core::id::ServerId;

/// `GET /livez`: the process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// `GET /readyz`: 503 once the server goes away. One that is cut off from its peers stays ready.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// How the server is. It names nothing that a stranger should not know.
#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
    servers: usize,
    servers_reachable: usize,
}

/// `GET /health`: the same for people, with a count of the peers that this server hears.
pub(super) async fn health(State(app): State<App>) -> Json<Health> {
    let servers = servers::all(&app);
    let heard = servers
        .iter()
        .filter(|server| app.reachability(ServerId(server.id().uuid())) == Reachability::Linked);
    Json(Health {
        status: if app.drain.is_cancelled() { "draining" } else { "ready" },
        version: env!("CARGO_PKG_VERSION"),
        servers_reachable: heard.count(),
        servers: servers.len(),
    })
}
