//! What travels on the WebSocket of `GET /spaces/{space}/exec`.
//!
//! The client's first message is an [`Open`] as JSON text. After that its binary messages are standard input and its
//! text messages are [`ClientMessage`]s. The server's binary messages are one byte that says which stream ([`OUTPUT`]
//! or [`ERROR_OUTPUT`]) and then data; its one text message, a [`ServerMessage`], is the last.
//!
//! After that message the server sends a close frame and reads on, for a bounded time, until the client's: closing a
//! socket with unread input in it makes the kernel reset the connection, and throw away the message on its way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The first byte of a binary message from the server with data of standard output, or of the terminal.
pub const OUTPUT: u8 = 1;

/// The first byte of a binary message from the server with data of standard error.
pub const ERROR_OUTPUT: u8 = 2;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Open {
    /// The program and its arguments; empty for the user's login shell.
    pub command: Vec<String>,
    /// Variables to add to the space's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where to run it; null for the home folder.
    pub directory: Option<String>,
    /// The size of the terminal to run it on; null to run it on pipes.
    pub terminal: Option<TerminalSize>,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a client says besides input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// There is no more input (always true).
    EndOfInput(bool),
    /// The client's terminal has another size now.
    Resize(TerminalSize),
    /// Send the command this signal, by its Linux number.
    Signal(i32),
}

/// How it ended: the last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerMessage {
    /// The command ran and ended.
    Exit(Ended),
    /// The command could not be run, or was lost: what happened and what to do.
    Failed(String),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}
