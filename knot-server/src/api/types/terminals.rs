//! Terminals that a space keeps, and what travels on the WebSocket of
//! `GET /spaces/{space}/terminals/{terminal}`.
//!
//! The client's first message is a [`View`] as JSON text. After that its binary messages are input: the first byte is
//! the one after those that [`ServerMessage::Attached`] says were taken. Its text messages are [`ClientMessage`]s. The
//! server's binary messages are output, or the snapshot that [`ServerMessage::Snapshot`] announces. Its text messages
//! are [`ServerMessage`]s, the last one [`ServerMessage::Over`], with a close code that says the same.
//!
//! Output is counted from the terminal's first byte, input from a viewer's first. Whoever loses the connection opens it
//! again, at any server, with the same viewer, and gives what it has: nothing is lost by that, and nothing comes twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use super::exec::{Ended, TerminalSize};

/// So many bytes of output, snapshots included, are sent ahead of what the client says it has shown.
pub const WINDOW: u64 = 1 << 20;

/// All terminals of a space that live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalList {
    /// The oldest first.
    pub terminals: Vec<Terminal>,
}

/// A terminal that a space keeps, whoever looks at it, until its command ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terminal {
    /// Its id.
    pub id: Uuid,
    /// Its name: no two of a space have the same.
    pub name: String,
    /// What it runs, in short.
    pub command: String,
    /// Its size: that of the window of whoever typed last.
    pub size: TerminalSize,
    /// How many look at it.
    pub viewers: u32,
    /// When it was made.
    pub since: String,
}

/// What to change of a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditTerminal {
    /// Its new name, at most 64 characters.
    pub name: String,
}

/// Look at a terminal: the client's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TerminalView)]
pub struct View {
    /// What it runs, where there is none of this id yet; null to look at one that there is.
    pub make: Option<MakeTerminal>,
    /// The viewer: a random id that it keeps.
    pub viewer: Uuid,
    /// The size of the viewer's window.
    pub size: TerminalSize,
    /// How many bytes of output the viewer has; null to begin with the screen as it is.
    pub from: Option<u64>,
    /// How many of its input bytes the viewer knows to be taken.
    #[serde(default)]
    pub sent: u64,
}

/// A new terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MakeTerminal {
    /// Its name; empty for that of the command.
    #[serde(default)]
    pub name: String,
    /// The program and its arguments; empty for the user's login shell.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables to add to the space's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where to run it; null for the home folder.
    #[serde(default)]
    pub directory: Option<String>,
}

/// What a viewer says besides input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TerminalClientMessage)]
pub enum ClientMessage {
    /// The viewer's window has another size now.
    Resize(TerminalSize),
    /// So many bytes of this connection's binary messages have been shown: the server sends no further ahead than 1 MiB.
    Shown(u64),
}

/// What a viewer is told besides output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TerminalServerMessage)]
pub enum ServerMessage {
    /// The first message.
    Attached(Attached),
    /// What the next bytes draw is the whole state: begin anew with them.
    Snapshot(Snapshot),
    /// So many of the viewer's input bytes were taken: what is after them is to be sent again on a new connection.
    Taken(u64),
    /// From here on the terminal has this size.
    Size(TerminalSize),
    /// Whether this viewer leads from here on: its terminal alone answers what programs ask of a terminal.
    Leads(bool),
    /// The last message.
    Over(Over),
}

/// Where a viewer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attached {
    /// The number of the first output byte that follows; null where a snapshot comes first.
    pub from: Option<u64>,
    /// How many bytes of output there were: to what is asked in those before it no answer is sent.
    pub head: u64,
    /// How many of the viewer's input bytes were taken: the next is the first that is wanted.
    pub taken: u64,
    /// The size of the terminal.
    pub size: TerminalSize,
    /// Whether this viewer leads.
    pub leads: bool,
}

/// A snapshot of a terminal's screens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TerminalSnapshot)]
pub struct Snapshot {
    /// The number of the output byte that comes after it.
    pub at: u64,
    /// How many bytes of the binary messages it has.
    pub length: u64,
}

/// Why a viewer's connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Over {
    /// In one word.
    pub reason: Reason,
    /// What happened, and what to do.
    pub detail: String,
    /// How the command ended, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Ended>,
}

/// Why, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TerminalOver)]
pub enum Reason {
    /// The command has ended. Close code 4000.
    Ended,
    /// The space has stopped, or does not run. Close code 4001.
    SpaceStopped,
    /// The session is over, or the space is shared with the caller no more. Close code 4002.
    AccessLost,
    /// This server is stopping: open it again at once. Close code 4003.
    ServerGoing,
    /// There is no such terminal: it ended long ago, or the space was started again. Close code 4004.
    UnknownTerminal,
    /// The space's template turns terminals off. Close code 4005.
    TurnedOff,
    /// The same viewer has come by another connection. Close code 4006.
    Replaced,
    /// It cannot be done. Close code 4007.
    Refused,
    /// The space's agent could not be reached for a while: try again. Close code 4008.
    Unreachable,
}

impl Reason {
    /// The WebSocket's close code.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Ended => 4_000,
            Self::SpaceStopped => 4_001,
            Self::AccessLost => 4_002,
            Self::ServerGoing => 4_003,
            Self::UnknownTerminal => 4_004,
            Self::TurnedOff => 4_005,
            Self::Replaced => 4_006,
            Self::Refused => 4_007,
            Self::Unreachable => 4_008,
        }
    }
}
