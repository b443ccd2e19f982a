//! What a server and the agent in a space say to each other.
//!
//! The agent dials servers over QUIC with ALPN [`ALPN`] and the key of its space's running
//! generation. The first bidirectional stream is opened by the agent: it sends one [`Hello`] and is
//! answered with one [`Welcome`], and whenever something in it changes with another; the agent then
//! sends a [`Report`] whenever it has news, and every [`REPORT_PERIOD`]. Every later
//! stream is opened by a server, is one session, and begins with one [`Open`], which says what for and
//! so what follows. All frames are those of [`crate::wire`], at most
//! [`crate::wire::MAX_AGENT_FRAME`] bytes long.

mod health;
mod report;
pub mod sequences;
mod session;
mod terminals;

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    health::{FAILURES, HealthCheck, INTERVALS, ParseProbeError, Probe, TIMEOUTS},
    report::{Health, MAX_WORDS, Report, Startup, Usage, words},
    session::{
        Answer, Command, Exit, FromAgent, Heard, Open, Refusal, Run, Target, TerminalSize, ToAgent,
        WAITING_CONNECTIONS,
    },
    terminals::{
        Attach, Attached, FromTerminal, MAX_TERMINAL_NAME, MAX_TERMINALS, MAX_VIEWERS, Make,
        TerminalInfo, ToTerminal,
    },
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
