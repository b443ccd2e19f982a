//! What handlers work with: the replica, the keys, and two traits for what lies beyond this server.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::BoxFuture;
use knot_core::{
    clock::Millis,
    id::{Author, Id, ServerId},
    model::Space,
    net::Way,
    replica::Replica,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    auth::{Keys, Limiter, Passwords},
    spaces::index::Index,
    templates::judged::Judged,
};
use crate::{ports, spaces::answers::Question};

/// What comes from a space's agent in one session.
pub type AgentReader = Box<dyn AsyncRead + Send + Unpin>;
/// What goes to a space's agent in one session.
pub type AgentWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Opens sessions with the agents of spaces, wherever those are linked.
pub trait Reach: Send + Sync {
    /// A new stream to the agent of a space's running generation. The caller sends the first frame,
    /// [`knot_core::agent::Open`], and drops both halves to end the session.
    fn open(
        &self,
        space: Id<Space>,
    ) -> BoxFuture<'_, Result<(AgentReader, AgentWriter), ReachError>>;

    /// How the agent of a space would be reached now.
    fn way(&self, space: Id<Space>) -> Way;

    /// Asks the home of a space. What comes begins with a [`crate::spaces::answers::Answer`]; to drop
    /// it ends the answer.
    fn ask(
        &self,
        home: ServerId,
        question: Question,
    ) -> BoxFuture<'_, Result<AgentReader, ReachError>>;
}

/// No session could be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// No generation of the space runs.
    #[error("the space does not run: start it first")]
    NotRunning,
    /// It runs, and no server that this one hears has its agent.
    #[error("the space runs, and its agent is linked to no server that this one hears: {why}")]
    NoAgent {
        /// What is known of the agent, and what to do.
        why: String,
    },
    /// The agent is linked, and opening a stream failed.
    #[error("the space's agent could not be reached: {0}; try again")]
    Failed(String),
}

/// Whether this server hears another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// It is this server, or it can be reached, by this one or by others that this one hears.
    Linked,
    /// It cannot be reached; since when, where that is known.
    Lost {
        /// When that was found, by this server's clock.
        since: Option<Millis>,
    },
}

/// What handlers ask of the cluster's membership.
pub trait ClusterControl: Send + Sync {
    /// Whether this server hears another, now. Answers at once. Not asked about this server.
    fn reachability(&self, server: ServerId) -> Reachability;

    /// By how many seconds another's clock is ahead of this server's, or behind where negative; where
    /// that is more than a minute.
    fn skew(&self, server: ServerId) -> Option<i64>;

    /// Changes whenever an answer of [`ClusterControl::reachability`] has.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Makes an invitation for a new server of this name, and the token that accepts it.
    fn join_token(&self, name: String, by: Author)
    -> BoxFuture<'_, Result<String, JoinTokenError>>;

    /// Asks an engine that runs jobs whether it can read one. Says yes where there is none.
    fn check_job<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), String>> {
        let _ = job;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// No join token could be made.
#[derive(Debug, thiserror::Error)]
#[error("no join token could be made: {0}")]
pub struct JoinTokenError(pub String);

/// What an [`App`] is made from.
pub struct Parts {
    /// The local database.
    pub replica: Replica,
    /// The cluster's signing key.
    pub keys: Keys,
    /// This server's name, for people.
    pub name: String,
    /// Whether browsers come over HTTPS: cookies are then sent over nothing else.
    pub https: bool,
    /// Sessions with agents.
    pub reach: Arc<dyn Reach>,
    /// The cluster's membership.
    pub cluster: Arc<dyn ClusterControl>,
    /// Cancelled when this server begins to go away: `/readyz` says so, and streams end.
    pub drain: CancellationToken,
    /// Whether this server was removed from its cluster.
    pub removed: watch::Receiver<bool>,
}

/// The state of the HTTP API. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What it was made from, and what it keeps beside.
#[expect(missing_docs, reason = "its one public field says it all")]
pub struct Inner {
    parts: Parts,
    pub passwords: Passwords,
    pub(super) limiter: Limiter,
    /// Which revision of each template is the current one.
    pub(super) judged: Judged,
    /// Held while a name is looked for and given: of two at once here, one gets it.
    pub(super) names: Mutex<()>,
    /// What spaces are called.
    pub(super) index: std::sync::Mutex<Index>,
    /// Where ports of spaces are to be found, where this server opens any.
    ports: OnceLock<ports::Settings>,
    /// The terminals, commands and connections that run through this server.
    pub(crate) sessions: TaskTracker,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("name", &self.name).finish_non_exhaustive()
    }
}

impl App {
    /// The state for one server. Must be called within a tokio runtime: it follows what changes for
    /// as long as a clone lives.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            index: Index::new(&parts.replica).into(),
            judged: Judged::start(parts.replica.clone()),
            parts,
            passwords: Passwords::default(),
            limiter: Limiter::default(),
            names: Mutex::new(()),
            ports: OnceLock::new(),
            sessions: TaskTracker::new(),
        }))
    }

    /// Says where ports of spaces are to be found. Once: what is said later does not count.
    pub fn open_ports(&self, settings: ports::Settings) {
        let _ = self.ports.set(settings);
    }

    /// Where ports of spaces are to be found, where this server opens any.
    pub(crate) fn ports(&self) -> Option<&ports::Settings> {
        self.ports.get()
    }

    /// Waits until the terminals and commands that run through this server have ended, after
    /// `drain` was cancelled. They get `bound`; says whether that was enough.
    pub async fn sessions_ended(&self, bound: Duration) -> bool {
        self.sessions.close();
        tokio::time::timeout(bound, self.sessions.wait()).await.is_ok()
    }

    pub(super) fn reachability(&self, server: ServerId) -> Reachability {
        if server == self.replica.me() {
            Reachability::Linked
        } else {
            self.cluster.reachability(server)
        }
    }
}
