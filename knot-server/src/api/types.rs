//! What the HTTP API sends and takes, as one set of types for the server and its clients.
//!
//! Times are RFC 3339 in UTC. Sizes are bytes. An identifier is the text of a UUID.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::spaces::*;
pub use self::templates::*;
pub use self::volumes::*;

pub mod exec;
pub mod ports;
mod spaces;
mod templates;
pub mod terminals;
mod volumes;

/// The header that carries a causality token: a server that is sent one answers only when it holds all that the
/// sender has seen, or says that it is behind.
pub const CAUSALITY_HEADER: &str = "knot-token";

/// The code of the problem that says: this server does not yet hold what the causality token names.
pub const CODE_BEHIND: &str = "behind";

/// Why a request failed (RFC 9457), as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` where there is none.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words, the same for all of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs, such as `not_found`.
    pub code: String,
    /// What happened here, and what to do about it.
    pub detail: String,
}

/// A name and a password, for a session or an API token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SignIn {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Asks for an API token of this name instead of a session cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
}

/// The answer to a sign-in that was accepted.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// Who signed in.
    pub user: User,
    /// The API token, where one was asked for. It is shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A user, as others may see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The user's identifier.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// Whether the user may change what belongs to others.
    pub admin: bool,
    /// The time zone that schedules of the user's spaces go by, as the IANA names it.
    pub time_zone: String,
}

/// What users change of themselves; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditMe {
    /// The time zone that schedules of the user's spaces go by, as the IANA names it; empty for UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A field that was changed at several servers at once: one value holds, the others are kept until someone settles it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conflict {
    /// The field's name.
    pub field: String,
    /// The values written, the one that holds first.
    pub values: Vec<ConflictValue>,
}

/// One of the values of a field in conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConflictValue {
    /// The value.
    pub value: serde_json::Value,
    /// Who wrote it.
    pub author: String,
    /// When it was written.
    pub time: String,
}

/// Whether a server answers the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does.
    Live,
    /// It does not, as far as the server that answers can tell.
    #[default]
    Unreachable,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Unreachable => "unreachable",
        })
    }
}

/// A server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// The server's identifier.
    pub id: String,
    /// The server's name.
    pub name: String,
    /// Where it stands, as its operator named it.
    pub zone: Option<String>,
    /// The address that peers and agents reach it at (QUIC).
    pub quic: Option<String>,
    /// The URL of its pages and API.
    pub http: Option<String>,
    /// The address of its SSH gateway.
    pub ssh: Option<String>,
    /// Whether it answers.
    pub state: ServerState,
    /// By how many seconds its clock is ahead of the answering server's, behind where negative; where
    /// that is more than a minute.
    pub clock_ahead: Option<i64>,
    /// Whether it is the server that answers this request.
    pub this: bool,
    /// The kinds of engine that it drives.
    pub platforms: Vec<String>,
}

impl Server {
    /// What is to be said of its clock; nothing where it is right.
    pub(crate) fn clock_words(&self) -> String {
        let Some(ahead) = self.clock_ahead else { return String::new() };
        let side = if ahead > 0 { "ahead" } else { "behind" };
        format!("clock {} min {side}", ahead.unsigned_abs() / 60)
    }
}

/// All servers of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Servers {
    /// The servers, by name.
    pub servers: Vec<Server>,
}

/// A server to invite.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// Its name.
    pub name: String,
}

/// What accepts an invitation, once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// The join token. It is shown this once.
    pub token: String,
}

/// An SSH key of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshKey {
    /// `SHA256:` and base64, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// The kind of key, such as `ssh-ed25519`.
    pub kind: String,
    /// What its user calls it: the line's comment.
    pub label: String,
    /// Whether it is that of an authority, whose certificates sign in.
    pub authority: bool,
    /// For an authority: the names in certificates that are taken; none where the user's own is.
    pub principals: Vec<String>,
}

/// The SSH keys of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshKeys {
    /// The keys, by fingerprint.
    pub keys: Vec<SshKey>,
}

/// An SSH key to add.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AddKey {
    /// The line of a public key file, with `cert-authority` in front for an authority.
    pub key: String,
}

/// The SSH gateway of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gateway {
    /// The server's name.
    pub server: String,
    /// Where it is: `host:port`.
    pub address: String,
}

/// The SSH gateways of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gateways {
    /// The host key that all of them have, as `known_hosts` has it: kind and base64.
    pub host_key: String,
    /// The gateways, by their servers' names.
    pub gateways: Vec<Gateway>,
}
