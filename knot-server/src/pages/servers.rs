//! The page of the cluster's servers.

use askama::Template;

use super::Chrome;
use crate::api::types::ServerState;

/// `/servers`: who belongs to the cluster, and whom this server hears.
#[derive(Template)]
#[template(path = "servers.html")]
pub struct ServersPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// All servers, by name.
    pub servers: Vec<ServerRow>,
}

impl ServersPage {
    /// The empty row that the script copies for a server that appears.
    fn blank(&self) -> ServerRow {
        ServerRow::default()
    }
}

/// One server, as the API's `Server` has it.
#[derive(Clone, Debug, Default)]
pub struct ServerRow {
    /// The server's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its zone; empty if it has none.
    pub zone: String,
    /// Where peers reach it, `host:port`.
    pub quic: String,
    /// Whether the server that renders the page hears it.
    pub state: ServerState,
    /// What is to be said of its clock; empty where it is right.
    pub clock: String,
    /// Whether it is the server that renders the page.
    pub this: bool,
    /// The platforms on which it runs spaces.
    pub platforms: Vec<String>,
}
