//! What the HTTP API asks of the network.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::{Request, State},
    http::Method,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use futures_util::future::BoxFuture;
use knot_core::{
    generation::Generation,
    id::{Author, Id, ServerId},
    model::{Observed, Space, SpaceStatus},
    net::{AskError, Net, OpenError, Way},
    wire::{self, MAX_STRANGER_FRAME},
};
use tokio::{
    io::{AsyncRead, DuplexStream, ReadBuf},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

use super::Node;
use crate::{
    api::{
        AgentReader, AgentWriter, ClusterControl, Code, JoinTokenError, Problem, Reach, ReachError,
        Reachability,
    },
    spaces::{
        Engines,
        answers::{Answers, Question},
    },
};

/// Sessions with agents and questions to homes, over the network.
pub(super) struct Agents {
    pub(super) node: Node,
    pub(super) answers: Answers,
}

/// What is still to be written by a task that ends when this is dropped.
struct Own {
    stream: DuplexStream,
    _task: AbortOnDropHandle<()>,
}

impl AsyncRead for Own {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Reach for Agents {
    fn open(
        &self,
        space: Id<Space>,
    ) -> BoxFuture<'_, Result<(AgentReader, AgentWriter), ReachError>> {
        Box::pin(async move {
            match self.node.net.agents().open(space.uuid()).await {
                Ok((send, receive)) => {
                    Ok((Box::new(receive) as AgentReader, Box::new(send) as AgentWriter))
                }
                Err(OpenError::NoAgent) => Err(self.explain(space)),
                Err(error) => Err(ReachError::Failed(error.to_string())),
            }
        })
    }

    fn way(&self, space: Id<Space>) -> Way {
        self.node.net.agents().way(space)
    }

    fn ask(
        &self,
        home: ServerId,
        question: Question,
    ) -> BoxFuture<'_, Result<AgentReader, ReachError>> {
        Box::pin(async move {
            if home == self.node.replica.me() {
                let (stream, mut theirs) = tokio::io::duplex(BUFFER);
                let answers = self.answers.clone();
                let task = tokio::spawn(async move {
                    // Nobody takes it any more when this fails.
                    let _ = answers.answer(&question, &mut theirs).await;
                });
                let own = Own { stream, _task: AbortOnDropHandle::new(task) };
                return Ok(Box::new(own) as AgentReader);
            }
            let failed = |error: &dyn std::fmt::Display| ReachError::Failed(error.to_string());
            let asked = self.node.net.ask(home).await;
            let (mut send, receive) = asked.map_err(|error| match error {
                AskError::NotLinked => ReachError::NoAgent {
                    why: "its home cannot be reached from here: try another server".to_owned(),
                },
                error => failed(&error),
            })?;
            let written = wire::write_frame(&mut send, &question, MAX_STRANGER_FRAME).await;
            written.map_err(|error| failed(&error))?;
            send.finish().map_err(|error| failed(&error))?;
            Ok(Box::new(receive) as AgentReader)
        })
    }
}

/// How much of an answer of this server's own waits to be taken, in bytes.
const BUFFER: usize = 64 << 10;

impl Agents {
    /// Why no agent was found, by what its home last said.
    fn explain(&self, id: Id<Space>) -> ReachError {
        let replica = &self.node.replica;
        let Some(space) = replica.get(id) else { return ReachError::NotRunning };
        let home = space.placement.server;
        let status = replica.observed::<SpaceStatus>(id, home).unwrap_or_default();
        let runs = matches!(status.state, Observed::Starting | Observed::Running);
        if !runs || status.generation == Generation::default() {
            return ReachError::NotRunning;
        }
        let why = if status.state == Observed::Starting {
            "it is starting: try again in a moment".to_owned()
        } else if home != replica.me() && !self.node.net.reach().is_linked(home) {
            "its home cannot be reached from here: try another server".to_owned()
        } else {
            "it may be linking again: try again in a moment".to_owned()
        };
        ReachError::NoAgent { why }
    }
}

/// The cluster's membership, as the API sees it.
pub(super) struct Cluster {
    node: Node,
    engines: Engines,
    changes: watch::Receiver<u64>,
}

impl Cluster {
    /// Must be called within a tokio runtime. Counts changes of the links for as long as it lives.
    pub(super) fn new(node: Node, engines: Engines) -> Self {
        let (count, changes) = watch::channel(0);
        let mut links = node.net.reach().watch();
        tokio::spawn(async move {
            while links.changed().await.is_ok() {
                if count.is_closed() {
                    return;
                }
                count.send_modify(|count: &mut u64| *count = count.wrapping_add(1));
            }
        });
        Self { node, engines, changes }
    }
}

impl ClusterControl for Cluster {
    fn reachability(&self, server: ServerId) -> Reachability {
        let reach = self.node.net.reach().watch().borrow().get(&server).copied();
        match reach {
            Some(reach) if reach.is_reachable() => Reachability::Linked,
            reach => Reachability::Lost { since: reach.map(|reach| reach.since) },
        }
    }

    fn skew(&self, server: ServerId) -> Option<i64> {
        let reach = self.node.net.reach().watch().borrow().get(&server).copied()?;
        reach.is_skewed().then_some(reach.ahead / 1_000)
    }

    fn check_job<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.engines.check_job(job))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    fn join_token(
        &self,
        name: String,
        by: Author,
    ) -> BoxFuture<'_, Result<String, JoinTokenError>> {
        Box::pin(async move { self.node.join_token(&name, by).await.map_err(JoinTokenError) })
    }
}

/// What is said to whoever would have a removed server change something.
pub(super) const REMOVED: &str =
    "this server has been removed from its cluster: use another server";

/// A server that has been removed from the cluster takes no more writes: nobody would hear of them.
pub(super) fn refuse_writes_once_removed(router: Router, net: &Net) -> Router {
    router.layer(middleware::from_fn_with_state(net.removed(), refuse))
}

async fn refuse(
    State(removed): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if *removed.borrow() && !reads {
        return Problem::new(Code::Removed, REMOVED).into_response();
    }
    next.run(request).await
}
