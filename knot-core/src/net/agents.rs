//! The agents linked to this server, and the way to those linked to another.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, sync::watch, time::timeout};
use uuid::Uuid;

use super::{
    links::Links,
    peer::{CLOSE_REFUSED, Open},
};
use crate::{
    agent::{Hello, ServerAddress, Welcome},
    generation::Generation,
    id::{DocId, Id, ServerId},
    model::Space,
    replica::Replica,
    wire::{self, MAX_AGENT_FRAME, MAX_STRANGER_FRAME},
};

/// How long the next hop may take to open a session.
const OPEN: Duration = Duration::from_secs(5);

/// What a server says of a space whose agent is linked to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPresence {
    /// The generation of the agent.
    pub generation: Generation,
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

/// The answer to [`Open::Relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Relayed {
    Yes,
    NoAgent,
}

/// The agents that can be reached; clones share it.
#[derive(Clone, Debug)]
pub struct Agents {
    replica: Replica,
    links: Links,
    linked: Arc<Mutex<HashMap<Uuid, Linked>>>,
    servers: watch::Receiver<Vec<ServerAddress>>,
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
        Self { replica, links, linked: Arc::default(), servers }
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

    /// Opens a stream for one session with the agent of a space: directly, or by one hop over a
    /// server that holds the agent.
    ///
    /// # Errors
    /// No agent could be reached.
    pub async fn open(&self, space: Uuid) -> Result<(SendStream, RecvStream), OpenError> {
        if let Some(linked) = self.linked(space)
            && let Ok(Ok(streams)) = timeout(OPEN, linked.connection.open_bi()).await
        {
            return Ok(streams);
        }
        let mut failed = None;
        for server in self.holders(space) {
            let Some(connection) = self.links.connection(server) else { continue };
            match timeout(OPEN, open_relayed(&connection, space)).await {
                Ok(Ok(Some(streams))) => return Ok(streams),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        failed.map_or(Err(OpenError::NoAgent), |error| Err(error.into()))
    }

    /// The other servers that say the agent is linked to them, newest generation first.
    fn holders(&self, space: Uuid) -> Vec<ServerId> {
        let me = self.replica.me();
        let mut holders = self.replica.presence::<AgentPresence>(subject(space));
        holders.retain(|(server, _)| *server != me);
        holders.sort_by_key(|(_, agent)| std::cmp::Reverse(agent.generation));
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

    /// Serves one relayed session: the stream of a peer on one side, the agent's on the other.
    pub(super) async fn relay(&self, space: Uuid, mut send: SendStream, mut receive: RecvStream) {
        let opened = match self.linked(space) {
            Some(linked) => {
                timeout(OPEN, linked.connection.open_bi()).await.ok().and_then(Result::ok)
            }
            None => None,
        };
        let Some((mut to_agent, mut from_agent)) = opened else {
            wire::write_frame(&mut send, &Relayed::NoAgent, MAX_STRANGER_FRAME).await.ok();
            return;
        };
        if wire::write_frame(&mut send, &Relayed::Yes, MAX_STRANGER_FRAME).await.is_err() {
            return;
        }
        let forth = async {
            let copied = tokio::io::copy(&mut receive, &mut to_agent).await;
            copied.and(to_agent.shutdown().await)
        };
        let back = async {
            let copied = tokio::io::copy(&mut from_agent, &mut send).await;
            copied.and(send.shutdown().await)
        };
        // The session is over when the agent has said its last word, or when either side broke.
        tokio::pin!(forth, back);
        tokio::select! {
            result = &mut forth => {
                if result.is_ok() { back.await.ok(); }
            }
            _ = &mut back => {}
        }
    }

    /// Runs the link of one agent until its connection ends.
    pub(super) async fn run(&self, connection: Connection, space: Uuid, generation: Generation) {
        let control = match timeout(OPEN, self.welcome(&connection, space, generation)).await {
            Ok(Some(control)) => control,
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
        self.replica.present(subject(space), Some(&AgentPresence { generation })).await.ok();
        self.keep_informed(&connection, control).await;
        self.forget(space, &connection).await;
    }

    async fn welcome(
        &self,
        connection: &Connection,
        space: Uuid,
        generation: Generation,
    ) -> Option<SendStream> {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let hello: Hello = wire::read_frame(&mut receive, MAX_AGENT_FRAME).await.ok()??;
        if (hello.space, hello.generation) != (space, generation) {
            return None;
        }
        self.send_welcome(&mut send).await.ok()?;
        Some(send)
    }

    async fn send_welcome(&self, send: &mut SendStream) -> Result<(), wire::Error> {
        let servers = self.servers.borrow().clone();
        wire::write_frame(send, &Welcome { servers }, MAX_AGENT_FRAME).await
    }

    /// Sends the list of servers whenever it changes, until the connection ends.
    async fn keep_informed(&self, connection: &Connection, mut control: SendStream) {
        let mut servers = self.servers.clone();
        servers.borrow_and_update();
        loop {
            tokio::select! {
                _ = connection.closed() => return,
                changed = servers.changed() => {
                    if changed.is_err() || self.send_welcome(&mut control).await.is_err() {
                        return;
                    }
                }
            }
        }
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

/// Asks a server that holds the agent for a session; `None` where it does not hold it any more.
async fn open_relayed(
    connection: &Connection,
    space: Uuid,
) -> Result<Option<(SendStream, RecvStream)>, io::Error> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let broken = |error: wire::Error| io::Error::other(error);
    wire::write_frame(&mut send, &Open::Relay(space), MAX_STRANGER_FRAME).await.map_err(broken)?;
    let relayed = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await.map_err(broken)?;
    Ok((relayed == Some(Relayed::Yes)).then_some((send, receive)))
}

fn subject(space: Uuid) -> DocId {
    Id::<Space>::from_uuid(space).into()
}
