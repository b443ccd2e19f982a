//! What the HTTP API asks of the network.

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
    net::{Net, OpenError},
};
use tokio::sync::watch;

use super::Node;
use crate::api::{
    AgentReader, AgentWriter, ClusterControl, Code, JoinTokenError, Problem, Reach, ReachError,
    Reachability,
};

/// Sessions with agents, over the network.
pub(super) struct Agents(pub(super) Node);

impl Reach for Agents {
    fn open(
        &self,
        space: Id<Space>,
    ) -> BoxFuture<'_, Result<(AgentReader, AgentWriter), ReachError>> {
        Box::pin(async move {
            match self.0.net.agents().open(space.uuid()).await {
                Ok((send, receive)) => {
                    Ok((Box::new(receive) as AgentReader, Box::new(send) as AgentWriter))
                }
                Err(OpenError::NoAgent) => Err(self.explain(space)),
                Err(error) => Err(ReachError::Failed(error.to_string())),
            }
        })
    }
}

impl Agents {
    /// Why no agent was found, by what its home last said.
    fn explain(&self, id: Id<Space>) -> ReachError {
        let replica = &self.0.replica;
        let Some(space) = replica.get(id) else { return ReachError::NotRunning };
        let home = space.placement.server;
        let status = replica.observed::<SpaceStatus>(id, home).unwrap_or_default();
        let runs = matches!(status.state, Observed::Starting | Observed::Running);
        if !runs || status.generation == Generation::default() {
            return ReachError::NotRunning;
        }
        let why = if status.state == Observed::Starting {
            "it is starting: try again in a moment".to_owned()
        } else if home != replica.me() && !self.0.net.reach().is_linked(home) {
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
    changes: watch::Receiver<u64>,
}

impl Cluster {
    /// Must be called within a tokio runtime. Counts changes of the links for as long as it lives.
    pub(super) fn new(node: Node) -> Self {
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
        Self { node, changes }
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
        let detail = "this server has been removed from its cluster: use another server";
        return Problem::new(Code::Removed, detail).into_response();
    }
    next.run(request).await
}
