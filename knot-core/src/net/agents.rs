//! The agents linked to this server, and the way to those linked to another.

mod relay;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use super::{links::Links, peer::CLOSE_REFUSED, questions::Questions};
use crate::{
    agent::{HealthCheck, Hello, Report, ServerAddress, Watching, Welcome},
    generation::Generation,
    id::{DocId, Id, ServerId},
    model::{Space, Template},
    replica::{Changed, Replica},
    schema::Entity as _,
    wire::{self, MAX_AGENT_FRAME},
};

/// How long the next hop may take to open a session.
const OPEN: Duration = Duration::from_secs(5);
/// How often it is looked whether agents have linked elsewhere.
const LOOK: Duration = Duration::from_millis(20);
/// The least time between two reports of an agent that are passed on: a faster one waits.
const REPORT_PAUSE: Duration = Duration::from_millis(200);

/// What a server says of a space whose agent is linked to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPresence {
    /// The generation of the agent.
    pub generation: Generation,
    /// What the agent last reported to this server; `None` before it has.
    pub report: Option<Report>,
    /// Whether the server is about to go: another way is better where there is one.
    #[serde(default)]
    pub leaving: bool,
}

/// How this server reaches the agent of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The agent is linked to this server.
    Direct,
    /// By one hop over the first of these servers that answers.
    Relayed(Vec<ServerId>),
    /// No server that this one hears has its agent.
    None,
}

/// A session could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No server that is linked to this one has a link to the space's agent.
    #[error("no agent of this space is linked to a server that can be reached")]
    NoAgent,
    /// The way to the agent failed.
    #[error("the way to the space's agent failed: {0}")]
    Failed(#[from] io::Error),
}

/// The agents that can be reached; clones share it.
#[derive(Clone, Debug)]
pub struct Agents {
    replica: Replica,
    links: Links,
    linked: Arc<Mutex<HashMap<Uuid, Linked>>>,
    servers: watch::Receiver<Vec<ServerAddress>>,
    leaving: Arc<watch::Sender<bool>>,
    calls: Questions<Call>,
}

/// A stream that an agent has opened: it begins with an [`crate::agent::Outgoing`]. The agent is that of
/// this space's generation; what the space may, is for whoever takes it to judge.
#[derive(Debug)]
pub struct Call {
    /// The space.
    pub space: Id<Space>,
    /// The generation of the agent.
    pub generation: Generation,
    /// Where the answer goes.
    pub send: SendStream,
    /// Where it comes from.
    pub receive: RecvStream,
}

#[derive(Clone, Debug)]
struct Linked {
    generation: Generation,
    connection: Connection,
}

impl Agents {
    pub(super) fn new(
        replica: Replica,
        links: Links,
        servers: watch::Receiver<Vec<ServerAddress>>,
    ) -> Self {
        let calls = Questions::new();
        Self { replica, links, linked: Arc::default(), servers, leaving: Arc::default(), calls }
    }

    /// Whether an agent of this generation of a space, or of a later one, is linked to this server.
    pub fn is_linked(&self, space: Uuid, generation: Generation) -> bool {
        self.linked(space).is_some_and(|linked| linked.generation >= generation)
    }

    /// The newest generation whose agent is linked, to this server or to one that says so.
    pub fn generation(&self, space: Id<Space>) -> Option<Generation> {
        let presence = self.replica.presence::<AgentPresence>(space);
        presence.into_iter().map(|(_, agent)| agent.generation).max()
    }

    /// What the agent of this generation last reported, to any server that says so: of two that have
    /// heard it, what shows more recent use.
    pub fn report(&self, space: Id<Space>, generation: Generation) -> Option<Report> {
        let presence = self.replica.presence::<AgentPresence>(space);
        let reports = presence
            .into_iter()
            .filter(|(_, agent)| agent.generation == generation)
            .filter_map(|(_, agent)| agent.report);
        reports.min_by_key(|report| report.idle)
    }

    /// Tells the agents that are linked here to link to other servers: this one is about to go. Their links
    /// stay until it does.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Waits, at most for `bound`, until each agent that is linked here is linked to another server too. Ends
    /// at once where no other can be reached.
    pub async fn handed_over(&self, bound: Duration) {
        let handed_over = async {
            while !self.only_here().is_empty() && !self.links.connections().is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(bound, handed_over).await.is_err() {
            let agents = self.only_here().len();
            tracing::warn!(agents, "agents have not linked to another server yet");
        }
    }

    /// The spaces whose agents are linked to no other server that this one hears.
    fn only_here(&self) -> Vec<Uuid> {
        let linked: Vec<_> = {
            let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
            linked.keys().copied().collect()
        };
        linked.into_iter().filter(|space| self.holders(*space).is_empty()).collect()
    }

    /// How this server reaches the agent of a space now.
    pub fn way(&self, space: Id<Space>) -> Way {
        if self.current(space.uuid()).is_some() {
            return Way::Direct;
        }
        let holders = self.holders(space.uuid());
        let linked: Vec<_> =
            holders.into_iter().filter(|one| self.links.connection(*one).is_some()).collect();
        if linked.is_empty() { Way::None } else { Way::Relayed(linked) }
    }

    /// Opens a stream for one session with the agent of a space: directly, or by one hop over a
    /// server that holds the agent.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn open(&self, space: Uuid) -> Result<(SendStream, RecvStream), OpenError> {
        if let Some(linked) = self.current(space)
            && let Ok(Ok(streams)) = timeout(OPEN, linked.connection.open_bi()).await
        {
            return Ok(streams);
        }
        let mut failed = None;
        for server in self.holders(space) {
            let Some(connection) = self.links.connection(server) else { continue };
            match timeout(OPEN, relay::ask(&connection, space)).await {
                Ok(Ok(Some(streams))) => return Ok(streams),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        failed.map_or(Err(OpenError::NoAgent), |error| Err(error.into()))
    }

    /// The other servers that say the agent is linked to them: the newest generation first, and those that
    /// are about to go last.
    fn holders(&self, space: Uuid) -> Vec<ServerId> {
        let me = self.replica.me();
        let mut holders = self.replica.presence::<AgentPresence>(subject(space));
        let term = self.term(space);
        holders.retain(|(server, agent)| *server != me && agent.generation.term >= term);
        holders.sort_by_key(|(_, agent)| (std::cmp::Reverse(agent.generation), agent.leaving));
        holders.into_iter().map(|(server, _)| server).collect()
    }

    /// The connections of all linked agents.
    pub(super) fn connections(&self) -> Vec<Connection> {
        let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        linked.values().map(|linked| linked.connection.clone()).collect()
    }

    fn linked(&self, space: Uuid) -> Option<Linked> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).get(&space).cloned()
    }

    /// The linked agent that somebody may be led to: none of a term that is known to be over, though the
    /// old copy runs on and its server has not heard.
    fn current(&self, space: Uuid) -> Option<Linked> {
        self.linked(space).filter(|linked| linked.generation.term >= self.term(space))
    }

    /// The term of a space as far as it is known here.
    fn term(&self, space: Uuid) -> u64 {
        let space = self.replica.get(Id::<Space>::from_uuid(space));
        space.map(|space| space.placement.term).unwrap_or_default()
    }

    /// Serves one relayed session: the stream of a peer on one side, the agent's on the other.
    pub(super) async fn relay(&self, space: Uuid, mut send: SendStream, receive: RecvStream) {
        let opened = match self.current(space) {
            Some(linked) => {
                timeout(OPEN, linked.connection.open_bi()).await.ok().and_then(Result::ok)
            }
            None => None,
        };
        if let Some(agent) = opened {
            relay::carry((send, receive), agent).await;
            return;
        }
        relay::refuse(&mut send).await;
        if self.linked(space).is_none() {
            // Who asks has not heard that the agent went: it hears it again.
            self.replica.present::<AgentPresence>(subject(space), None).await.ok();
        }
    }

    /// Runs the link of one agent until its connection ends.
    pub(super) async fn run(&self, connection: Connection, space: Uuid, generation: Generation) {
        let welcome = self.welcome(&connection, space, generation);
        let (told, control, reports) = match timeout(OPEN, welcome).await {
            Ok(Some(streams)) => streams,
            _ => {
                connection.close(CLOSE_REFUSED, b"this is not the agent that the key belongs to");
                return;
            }
        };
        let older = self
            .linked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(space, Linked { generation, connection: connection.clone() });
        if let Some(older) = older {
            older.connection.close(CLOSE_REFUSED, b"replaced by a newer link");
        }
        tracing::info!(%space, %generation, "agent linked");
        self.present(space, self.presence(generation, None)).await;
        tokio::select! {
            _ = connection.closed() => {}
            () = self.keep_informed(space, told, control) => {}
            () = self.hear_reports(&connection, space, generation, reports) => {}
            () = self.hear_calls(&connection, space, generation) => {}
        }
        self.forget(space, &connection).await;
    }

    async fn welcome(
        &self,
        connection: &Connection,
        space: Uuid,
        generation: Generation,
    ) -> Option<(Welcome, SendStream, RecvStream)> {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let hello: Hello = wire::read_frame(&mut receive, MAX_AGENT_FRAME).await.ok()??;
        if (hello.space, hello.generation) != (space, generation) {
            return None;
        }
        let news = self.news(space);
        wire::write_frame(&mut send, &news, MAX_AGENT_FRAME).await.ok()?;
        Some((news, send, receive))
    }

    /// What an agent is told now.
    fn news(&self, space: Uuid) -> Welcome {
        let servers = self.servers.borrow().clone();
        let space = self.replica.get(Id::<Space>::from_uuid(space));
        let template = space.as_ref().and_then(|space| self.replica.get(space.template));
        let mut watch = template.map(|one| watching(&one)).unwrap_or_default();
        let forwards = space.as_ref().map(|space| space.forwards.keys());
        watch.forwards =
            forwards.into_iter().flatten().filter_map(|port| port.parse().ok()).collect();
        Welcome { servers, watch, leaving: *self.leaving.borrow() }
    }

    fn presence(&self, generation: Generation, report: Option<Report>) -> AgentPresence {
        AgentPresence { generation, report, leaving: *self.leaving.borrow() }
    }

    async fn present(&self, space: Uuid, presence: AgentPresence) {
        self.replica.present(subject(space), Some(&presence)).await.ok();
    }

    /// Says what is new for an agent whenever it changes, until it hears no more.
    async fn keep_informed(&self, space: Uuid, mut told: Welcome, mut control: SendStream) {
        let (mut servers, mut leaving) = (self.servers.clone(), self.leaving.subscribe());
        let mut changes = self.replica.watch(&[Space::KIND, Template::KIND]);
        // What happens to other spaces, and what is observed, is no news for this one's agent.
        let is_news = |changed: &Changed| match changed {
            Changed::Document(doc) => doc.kind != Space::KIND || doc.uuid == space,
            Changed::Record(_) => false,
        };
        loop {
            servers.borrow_and_update();
            leaving.borrow_and_update();
            let news = self.news(space);
            if told != news
                && wire::write_frame(&mut control, &news, MAX_AGENT_FRAME).await.is_err()
            {
                return;
            }
            told = news;
            loop {
                tokio::select! {
                    changed = servers.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    changed = leaving.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    changed = changes.next() => if is_news(&changed) { break },
                }
            }
        }
    }

    /// Passes on what an agent reports, until it has nothing more to say.
    async fn hear_reports(
        &self,
        connection: &Connection,
        space: Uuid,
        generation: Generation,
        mut reports: RecvStream,
    ) {
        while let Ok(Some(report)) =
            wire::read_frame::<_, Report>(&mut reports, MAX_AGENT_FRAME).await
        {
            let newest = self.linked(space);
            if newest.is_none_or(|one| one.connection.stable_id() != connection.stable_id()) {
                return;
            }
            self.present(space, self.presence(generation, Some(report.bounded()))).await;
            tokio::time::sleep(REPORT_PAUSE).await;
        }
    }

    /// Hands on what streams an agent opens, until its connection ends or is no longer the newest.
    async fn hear_calls(&self, connection: &Connection, space: Uuid, generation: Generation) {
        while let Ok((send, receive)) = connection.accept_bi().await {
            let space = Id::from_uuid(space);
            self.calls.put(Call { space, generation, send, receive });
        }
    }

    /// The streams that agents open; `None` once they were taken.
    pub(super) fn calls(&self) -> Option<tokio::sync::mpsc::Receiver<Call>> {
        self.calls.take()
    }

    async fn forget(&self, space: Uuid, connection: &Connection) {
        if self.take(space, connection) {
            tracing::info!(%space, "agent link ended");
            self.replica.present::<AgentPresence>(subject(space), None).await.ok();
        }
    }

    /// Takes a connection out of the table, if it is still the one of its space.
    fn take(&self, space: Uuid, connection: &Connection) -> bool {
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = |one: &Linked| one.connection.stable_id() == connection.stable_id();
        let was_linked = linked.get(&space).is_some_and(is_this);
        if was_linked {
            linked.remove(&space);
        }
        was_linked
    }
}

/// What the agents of a template's spaces are to look at. A health check that cannot be read is none:
/// it is refused where it is written.
fn watching(template: &Template) -> Watching {
    let Template { health_interval, health_timeout, health_failures, idle_stop, .. } = *template;
    let probe = template.health.parse().ok();
    let health = probe
        .map(|probe| HealthCheck::new(probe, health_interval, health_timeout, health_failures));
    let idle_stop = idle_stop.filter(|seconds| *seconds > 0);
    Watching { health, idle_stop, links: template.links, forwards: BTreeSet::new() }
}

fn subject(space: Uuid) -> DocId {
    Id::<Space>::from_uuid(space).into()
}
