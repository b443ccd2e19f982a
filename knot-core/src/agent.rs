//! What a server and the agent in a space say to each other.
//!
//! An agent is started with a secret that is good once: over QUIC with ALPN [`ENROL_ALPN`] and the secret's
//! key it sends one [`Enrol`], which names the key that it has made, and is answered with one [`Enrolled`].
//! With that key and ALPN [`ALPN`] it dials servers. The first bidirectional stream is opened by the agent: it sends one [`Hello`] and is
//! answered with one [`Welcome`], and whenever something in it changes with another; the agent then
//! sends a [`Report`] whenever it has news, and every [`REPORT_PERIOD`]. Every later
//! stream that a server opens is one session, and begins with one [`Open`], which says what for and
//! so what follows. Every later stream that the agent opens is one connection that leads out of the
//! space, and begins with one [`Outgoing`]. All frames are those of [`crate::wire`], at most
//! [`crate::wire::MAX_AGENT_FRAME`] bytes long.

mod health;
mod report;
pub mod sequences;
mod session;
mod terminals;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    health::{FAILURES, HealthCheck, INTERVALS, ParseProbeError, Probe, TIMEOUTS},
    report::{Health, Report, Startup, Usage, words},
    session::{
        Answer, Command, Exit, FromAgent, Heard, Open, Outgoing, Refusal, Run, Target,
        TerminalSize, ToAgent, WAITING_CONNECTIONS,
    },
    terminals::{
        Attach, Attached, FromTerminal, MAX_TERMINAL_NAME, MAX_TERMINALS, MAX_VIEWERS, Make,
        TerminalInfo, ToTerminal,
    },
};
use crate::{generation::Generation, net::PublicKey};

/// The ALPN protocol name of an agent's connection.
pub const ALPN: &[u8] = b"knot-agent/1";

/// The ALPN protocol name of the connection on which an agent names its key.
pub const ENROL_ALPN: &[u8] = b"knot-agent-key/1";

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

/// To how many servers an agent is linked where its template does not say.
pub const DEFAULT_LINKS: usize = 2;

/// To how many servers a template may ask that agents are linked.
pub const LINKS: std::ops::RangeInclusive<u64> = 1..=8;

/// What the agent of one generation is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The space it runs in.
    pub space: Uuid,
    /// The space's name: the host name shown in prompts.
    pub name: String,
    /// The generation it belongs to. An agent of an older one is refused.
    pub generation: Generation,
    /// A secret that is good once, to name the agent's own key with [`Enrol`]: a private key, PKCS#8 DER
    /// in base64.
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

/// What an agent says on the connection that it makes with the key of its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// The generation it was started for.
    pub generation: Generation,
    /// The key that it has made, and dials with from now on.
    pub key: PublicKey,
}

/// The answer to [`Enrol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enrolled {
    /// The key is that of the agent, as every server is about to hear.
    Yes,
    /// Another key was named before: this secret is good for nothing any more.
    Spent,
    /// The space is placed elsewhere, or another generation of it runs.
    Stale,
    /// The home of the space cannot be asked: it is to be tried again.
    NoHome,
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
    /// Whether the server is about to go: the agent links to another, and keeps this link while it lasts.
    #[serde(default)]
    pub leaving: bool,
}

/// What an agent looks at beside its sessions, as the space's template has it now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// What is asked to see whether the space is well; nothing where a linked agent is enough.
    pub health: Option<HealthCheck>,
    /// Seconds without activity after which a report is wanted at once.
    pub idle_stop: Option<u64>,
    /// To how many servers the agent is to be linked, of [`LINKS`]; [`DEFAULT_LINKS`] where it is not said.
    #[serde(default)]
    pub links: Option<u64>,
    /// Ports to listen at on 127.0.0.1: each connection there is an [`Outgoing`] one.
    #[serde(default)]
    pub forwards: BTreeSet<u16>,
}
