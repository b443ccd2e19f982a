//! Sessions: what a server opens a stream to an agent for, and what then goes over it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Attach;
use crate::wire;

/// How many connections to a [`Target`] that is listened at wait to be taken: more are closed.
pub const WAITING_CONNECTIONS: usize = 64;

/// The first frame of a session's stream, from the server: what it is for.
///
/// A server that stops the agent's half, resets its own or loses the connection hangs the session up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// Run a command for as long as the stream lives. [`ToAgent`] and [`FromAgent`] frames follow, until
    /// [`FromAgent::Exit`] or [`FromAgent::Failed`]. A server that finishes its half has no more input.
    Run(Run),
    /// Connect to something that listens in the space, or that the space can reach. An [`Answer`]
    /// follows, and after [`Answer::Ready`] the connection's bytes, each half ending by itself.
    Connect(Target),
    /// Listen in the space for as long as the stream lives. An [`Answer`] follows, [`Answer::Listening`]
    /// where it does, and then one [`Heard`] for each connection.
    Listen {
        /// By which [`Open::Take`] names this listener; chosen at random by who opens the stream.
        listener: Uuid,
        /// Where to listen: port 0 is any free one, an empty path a new one in a folder of its own.
        at: Target,
    },
    /// Take a connection that a listener has accepted. As [`Open::Connect`] from then on.
    Take {
        /// The listener.
        listener: Uuid,
        /// The connection, as [`Heard`] names it.
        connection: u64,
    },
    /// Serve files by the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02): by the
    /// server of the space's image where it has one, else by the agent. As [`Open::Connect`] from then
    /// on.
    Sftp,
    /// Exchange datagrams with a UDP port of the space. An [`Answer`] follows, and after
    /// [`Answer::Ready`] frames of one datagram ([`Bytes`]) each way.
    Datagrams(u16),
    /// List the terminals that the agent keeps. After [`Answer::Ready`] comes one frame, a list of
    /// [`TerminalInfo`](super::TerminalInfo).
    Terminals,
    /// Look at a terminal, and make it first where that is said. After [`Answer::Ready`] come one
    /// [`Attached`](super::Attached) and then [`ToTerminal`](super::ToTerminal) and
    /// [`FromTerminal`](super::FromTerminal) frames. The terminal outlives the stream.
    Attach(Attach),
    /// Give a terminal another name. An [`Answer`] follows.
    Rename {
        /// The terminal.
        terminal: Uuid,
        /// Its new name.
        name: String,
    },
    /// Hang a terminal up. An [`Answer`] follows.
    End(Uuid),
}

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which program.
    pub command: Command,
    /// Added to the agent's own environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory; the home directory where it is not given.
    pub directory: Option<String>,
    /// A terminal of this size, where one is wanted. Standard error is then part of the output.
    pub terminal: Option<TerminalSize>,
    /// The modes of that terminal: operation codes and arguments of RFC 4254 section 8. What is not
    /// named, or not known, stays as the system has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<(u8, u32)>,
}

/// A program and what it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The login shell of the space's user, as at a login.
    #[default]
    Login,
    /// A line for that shell, as its option `-c` takes it.
    Line(String),
    /// A program by its name, or path, and its arguments.
    Program(Vec<String>),
}

/// Something that can be connected to, or listened at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A TCP port of a host: a name, or an address.
    Tcp {
        /// The host, as the space sees it. To listen, an empty one or `*` is every address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket, by its path.
    Unix(String),
}

/// What a session begins with where it is no command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done: what follows is what was asked for.
    Ready,
    /// It is listened here, the port or path filled in.
    Listening(Target),
    /// It cannot be done. Nothing follows.
    Refused {
        /// Of what sort the reason is.
        refusal: Refusal,
        /// The reason, for people.
        why: String,
    },
}

/// Why something could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Nothing listens there.
    NotListening,
    /// The host is not known or cannot be reached, or there is no such thing.
    NotFound,
    /// Too much is open.
    TooMany,
    /// Something else failed.
    Failed,
}

/// The first frame of a stream that an agent opens: a program of the space has connected to a port
/// that leads to another space. An [`Answer`] follows, and after [`Answer::Ready`] the connection's
/// bytes, each half ending by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The port that it has connected to, as the space's document has it.
    pub port: u16,
}

/// A listener has accepted a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// By which it is taken, within ten seconds.
    pub connection: u64,
    /// The address that it comes from; empty for a Unix socket.
    pub host: String,
    /// Its port, or 0.
    pub port: u16,
}

/// The size of a terminal, in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What the user of a session sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Bytes for standard input, at most [`MAX_CHUNK`](super::MAX_CHUNK).
    Input(Bytes),
    /// Standard input ends here. A terminal is typed its end-of-file character, control-D by default.
    EndOfInput,
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// A signal by number for the process group of the session; on a terminal, for the group in the
    /// foreground. Numbers without a POSIX or Linux name, real-time ones included, are ignored.
    Signal(i32),
}

/// What a session sends back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// Bytes of standard output or of the terminal, at most [`MAX_CHUNK`](super::MAX_CHUNK).
    Output(Bytes),
    /// Bytes of standard error, at most [`MAX_CHUNK`](super::MAX_CHUNK).
    ErrorOutput(Bytes),
    /// The command has ended and all of its output has been sent. The last frame.
    ///
    /// A process that it left behind may still hold its output open: what that one writes later is
    /// not waited for.
    Exit(Exit),
    /// The command could not be run, and why. The last frame.
    Failed(String),
}

/// [`ToAgent`] as a frame holds it.
#[derive(Deserialize)]
enum ToAgentIn<'a> {
    #[serde(borrow)]
    Input(&'a [u8]),
    EndOfInput,
    Resize(TerminalSize),
    Signal(i32),
}

/// [`FromAgent`] as a frame holds it.
#[derive(Deserialize)]
enum FromAgentIn<'a> {
    #[serde(borrow)]
    Output(&'a [u8]),
    #[serde(borrow)]
    ErrorOutput(&'a [u8]),
    Exit(Exit),
    Failed(String),
}

impl ToAgent {
    /// Decodes a frame as [`wire::read_raw`] gives it, whose bytes it shares.
    pub fn in_frame(frame: &Bytes) -> Result<Self, wire::Error> {
        Ok(match wire::decode(frame)? {
            ToAgentIn::Input(bytes) => Self::Input(frame.slice_ref(bytes)),
            ToAgentIn::EndOfInput => Self::EndOfInput,
            ToAgentIn::Resize(size) => Self::Resize(size),
            ToAgentIn::Signal(number) => Self::Signal(number),
        })
    }
}

impl FromAgent {
    /// Decodes a frame as [`wire::read_raw`] gives it, whose bytes it shares.
    pub fn in_frame(frame: &Bytes) -> Result<Self, wire::Error> {
        Ok(match wire::decode(frame)? {
            FromAgentIn::Output(bytes) => Self::Output(frame.slice_ref(bytes)),
            FromAgentIn::ErrorOutput(bytes) => Self::ErrorOutput(frame.slice_ref(bytes)),
            FromAgentIn::Exit(exit) => Self::Exit(exit),
            FromAgentIn::Failed(why) => Self::Failed(why),
        })
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The status a shell would give: a signal is 128 and its number.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_i32.saturating_add(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_its_frame_is_what_was_sent() {
        let data = Bytes::from(vec![7; 300]);
        let size = TerminalSize { columns: 80, rows: 24 };
        for sent in [
            ToAgent::Input(data.clone()),
            ToAgent::EndOfInput,
            ToAgent::Resize(size),
            ToAgent::Signal(15),
        ] {
            let frame = wire::encode(&sent).unwrap().into();
            assert_eq!(ToAgent::in_frame(&frame).unwrap(), sent);
        }
        for sent in [
            FromAgent::Output(data.clone()),
            FromAgent::ErrorOutput(Bytes::new()),
            FromAgent::Exit(Exit::Signal(9)),
            FromAgent::Failed("no such program".to_owned()),
        ] {
            let frame = wire::encode(&sent).unwrap().into();
            assert_eq!(FromAgent::in_frame(&frame).unwrap(), sent);
        }
    }
}
