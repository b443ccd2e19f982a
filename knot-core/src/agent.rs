//! What a server and the agent in a space say to each other.
//!
//! The agent dials servers over QUIC with ALPN [`ALPN`] and the key of its space's running
//! generation. The first bidirectional stream is opened by the agent: it sends one [`Hello`] and is
//! answered with one [`Welcome`], and whenever something in it changes with another; the agent then
//! sends a [`Report`] whenever it has news, and every [`REPORT_PERIOD`]. Every later
//! stream is opened by a server, is one session, begins with one [`Open`], and then carries
//! [`ToAgent`] and [`FromAgent`] frames until the session has ended with [`FromAgent::Exit`] or
//! [`FromAgent::Failed`]. A server that finishes its half has no more input to send; one that stops
//! the agent's half, resets its own or loses the connection hangs the session up. All frames are those of [`crate::wire`], at most
//! [`crate::wire::MAX_AGENT_FRAME`] bytes long.

mod health;
mod report;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    health::{FAILURES, HealthCheck, INTERVALS, ParseProbeError, Probe, TIMEOUTS},
    report::{Health, Report, Startup, Usage, words},
};
use crate::{generation::Generation, net::PublicKey};

/// The ALPN protocol name of an agent's connection.
pub const ALPN: &[u8] = b"knot-agent/1";

/// The environment variable that an agent reads its [`Launch`] from, as JSON.
pub const LAUNCH_VARIABLE: &str = "KNOT_AGENT_LAUNCH";

/// The environment variable with the space's main command: a JSON array of program and arguments.
///
/// The agent starts it once, without input and with the agent's own output. A space lives as long as
/// its agent, not as long as this command. Absent, or an empty array, means that there is none.
pub const COMMAND_VARIABLE: &str = "KNOT_AGENT_COMMAND";

/// The most bytes of one data frame: larger reads are sent as several frames.
pub const MAX_CHUNK: usize = 32 << 10;

/// How long a startup script may take before it is killed and counts as failed.
pub const STARTUP_LIMIT: Duration = Duration::from_secs(5 * 60);

/// How long a shutdown script may take before it is killed.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// The longest script, in bytes: it travels in an environment variable.
pub const MAX_SCRIPT: usize = 32 << 10;

/// How often an agent reports where it has no news.
pub const REPORT_PERIOD: Duration = Duration::from_secs(30);

/// What the agent of one generation is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The space it runs in.
    pub space: Uuid,
    /// The space's name: the host name shown in prompts.
    pub name: String,
    /// The generation it belongs to. An agent of an older one is refused.
    pub generation: Generation,
    /// Its private key, PKCS#8 DER in base64.
    pub key: String,
    /// The servers to dial; the list is kept up to date by [`Welcome`].
    pub servers: Vec<ServerAddress>,
    /// Run by `/bin/sh` before the main command is started, for [`STARTUP_LIMIT`] at most; empty for
    /// none. The main command is not started where it fails.
    #[serde(default)]
    pub startup_script: String,
    /// Run by `/bin/sh` when the agent is told to end, for [`SHUTDOWN_LIMIT`] at most; empty for none.
    #[serde(default)]
    pub shutdown_script: String,
}

/// Where a server is, and the keys by which it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAddress {
    /// The server's id.
    pub id: Uuid,
    /// The zone it stands in: an agent prefers servers of different zones.
    pub zone: String,
    /// Its QUIC address.
    pub address: SocketAddr,
    /// The keys it may present.
    pub keys: Vec<PublicKey>,
}

/// The first frame from an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The space it runs in.
    pub space: Uuid,
    /// The generation it was started for.
    pub generation: Generation,
    /// The version of the agent, for people to read.
    pub version: String,
}

/// A server's answer: the agent is linked, and these are the servers of the cluster now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Every live server that can be dialled.
    pub servers: Vec<ServerAddress>,
    /// What the agent is to look at.
    #[serde(default)]
    pub watch: Watching,
}

/// What an agent looks at beside its sessions, as the space's template has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// What is asked to see whether the space is well; nothing where a linked agent is enough.
    pub health: Option<HealthCheck>,
    /// Seconds without activity after which a report is wanted at once.
    pub idle_stop: Option<u64>,
}

/// The first frame of a session's stream, from the server: what to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Program and arguments; empty for the space's login shell.
    pub command: Vec<String>,
    /// Added to the agent's own environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory; the home directory where it is not given.
    pub directory: Option<String>,
    /// A terminal of this size, where one is wanted. Standard error is then part of the output.
    pub terminal: Option<TerminalSize>,
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
    /// Bytes for standard input, at most [`MAX_CHUNK`].
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
    /// Bytes of standard output or of the terminal, at most [`MAX_CHUNK`].
    Output(Bytes),
    /// Bytes of standard error, at most [`MAX_CHUNK`].
    ErrorOutput(Bytes),
    /// The command has ended and all of its output has been sent. The last frame.
    ///
    /// A process that it left behind may still hold its output open: what that one writes later is
    /// not waited for.
    Exit(Exit),
    /// The command could not be run, and why. The last frame.
    Failed(String),
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
