//! How an agent comes by its key. What its container is started with is a secret that people can read there;
//! so it is good for one thing, once: to name the key that the agent has made itself. The home takes the
//! first that is named, and holds it in a record of its own.

use std::{sync::Arc, time::Duration};

use quinn::Connection;
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{
    keys::PublicKey,
    links::Links,
    peer::{CLOSE_REFUSED, CLOSE_STOPPING, Open},
};
use crate::{
    agent::{Enrol, Enrolled},
    generation::Generation,
    id::{DocId, Id, Kind},
    model::{Space, SpaceStatus},
    replica::Replica,
    wire::{self, MAX_STRANGER_FRAME},
};

/// What records of agents' keys are about: the kind, beside the space's id.
pub(super) const KIND: Kind = Kind::new("agent-key");

/// How long an agent may take to name its key, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A home's record of the key that the agent of a generation has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AgentKey {
    generation: Generation,
    key: PublicKey,
}

/// What one server asks the home of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    /// The space.
    pub(super) space: Uuid,
    /// The key of the secret, which the agent has shown that it holds.
    pub(super) first: PublicKey,
    /// What the agent says.
    pub(super) wanted: Enrol,
}

/// Takes the keys of agents; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Enrolling {
    replica: Replica,
    links: Links,
    /// Held while a record is looked for and written: of two that hold one secret, one is first.
    turn: Arc<Mutex<()>>,
}

impl Enrolling {
    pub(super) fn new(replica: Replica, links: Links) -> Self {
        Self { replica, links, turn: Arc::default() }
    }

    /// Serves a connection that was made with the key of a secret.
    pub(super) async fn serve(&self, connection: Connection, space: Uuid, first: PublicKey) {
        let served = timeout(PATIENCE, async {
            let (mut send, mut receive) = connection.accept_bi().await.ok()?;
            let wanted: Enrol =
                wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await.ok().flatten()?;
            let answer = self.ask_home(Question { space, first, wanted }).await;
            wire::write_frame(&mut send, &answer, MAX_STRANGER_FRAME).await.ok()?;
            send.finish().ok()?;
            send.stopped().await.ok();
            Some(())
        });
        match served.await {
            Ok(Some(())) => connection.close(CLOSE_STOPPING, b"that was all"),
            _ => connection.close(CLOSE_REFUSED, b"the agent did not name a key"),
        }
    }

    async fn ask_home(&self, question: Question) -> Enrolled {
        let Some(space) = self.replica.get(Id::<Space>::from_uuid(question.space)) else {
            return Enrolled::Stale;
        };
        let home = space.placement.server;
        if home == self.replica.me() {
            return self.take(question).await;
        }
        let Some(connection) = self.links.connection(home) else { return Enrolled::NoHome };
        let asked = timeout(PATIENCE, async {
            let (mut send, mut receive) = connection.open_bi().await.ok()?;
            let open = Open::Enrol(question);
            wire::write_frame(&mut send, &open, MAX_STRANGER_FRAME).await.ok()?;
            wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await.ok().flatten()
        });
        asked.await.ok().flatten().unwrap_or(Enrolled::NoHome)
    }

    /// The home's answer. Where it is yes, the record is committed.
    pub(super) async fn take(&self, question: Question) -> Enrolled {
        let Question { space, first, wanted: Enrol { generation, key } } = question;
        let _turn = self.turn.lock().await;
        let (id, me) = (Id::<Space>::from_uuid(space), self.replica.me());
        let status: Option<SpaceStatus> = self.replica.observed(id, me);
        if status.is_none_or(|one| (one.generation, one.agent) != (generation, Some(first))) {
            return Enrolled::Stale;
        }
        let own = AgentKey { generation, key };
        match self.replica.observed::<AgentKey>(subject(space), me) {
            Some(known) if known == own => Enrolled::Yes,
            Some(known) if known.generation == generation => {
                tracing::error!(
                    %space, %generation,
                    "the secret that an agent was started with has been used twice: somebody else may \
                     hold it, or the first who used it was not the agent; restart the space"
                );
                Enrolled::Spent
            }
            _ => match self.replica.observe(subject(space), &own).await {
                Ok(()) => Enrolled::Yes,
                Err(error) => {
                    tracing::error!(%space, %error, "an agent's key could not be written down");
                    Enrolled::NoHome
                }
            },
        }
    }
}

/// The key that the agent of this generation has named to its home, where that is known here.
pub(super) fn own_key(
    replica: &Replica,
    space: &Space,
    id: Id<Space>,
    generation: Generation,
) -> Option<PublicKey> {
    let known: AgentKey = replica.observed(subject(id.uuid()), space.placement.server)?;
    (known.generation == generation).then_some(known.key)
}

fn subject(space: Uuid) -> DocId {
    DocId { kind: KIND, uuid: space }
}
