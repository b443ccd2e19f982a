//! Ports of spaces: what the API shows of them and takes.
//!
//! `GET /spaces/{space}/connect` is a WebSocket. Binary messages are the connection's bytes, each way; the text
//! message [`END`] says that no more come from whoever sends it, and the other half goes on. `GET
//! /spaces/{space}/datagrams` is one too: each binary message is a datagram.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The text message that ends one half of a connection.
pub const END: &str = "end";

/// The longest datagram, in bytes.
pub const MAX_DATAGRAM: usize = 65_507;

/// The ports of a space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ports {
    /// Those that the template declares or that are open to more than the space's users, by their number.
    pub ports: Vec<Port>,
    /// Whether all other ports may be opened over HTTP too.
    pub any_port: bool,
    /// Where these are opened, with `PORT` in the number's place; null where they are not.
    #[serde(default)]
    pub any_url: Option<String>,
}

/// A port of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its name in the template; null for one that the template does not declare.
    pub name: Option<String>,
    /// What is spoken there: `tcp`, `http`, `https` or `udp`.
    pub protocol: String,
    /// Who may open it over HTTP.
    pub access: Access,
    /// Where it is opened over HTTP; null where it is not.
    pub url: Option<String>,
}

/// Who may open a port of a space over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Whoever may use the space.
    #[default]
    Owner,
    /// Everybody who is signed in to the cluster.
    SignedIn,
    /// Everybody.
    Public,
}

impl Access {
    /// Who that is, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Owner => "the space's users",
            Self::SignedIn => "everybody who is signed in",
            Self::Public => "everybody",
        }
    }
}

/// To whom a port is to be open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharePort {
    /// Who may open it.
    pub access: Access,
}

/// A port that listens in a space and leads to a port of another space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forward {
    /// Where it listens, on loopback.
    pub port: u16,
    /// The other space's name.
    pub space: String,
    /// The other space's identifier.
    pub space_id: String,
    /// The other space's port.
    pub to: u16,
}

/// Where a port of a space is to lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetForward {
    /// The other space, by name or identifier.
    pub space: String,
    /// The other space's port.
    pub port: u16,
}
