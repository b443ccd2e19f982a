//! The way to a running space, for all that carries people there: what its template lets through, and a
//! stream to its agent for one purpose.

use std::time::Duration;

use knot_core::{
    agent::{Answer, Open, Refusal, Target},
    id::Id,
    model::{Space, Template},
    replica::Replica,
    wire::{self, MAX_AGENT_FRAME},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    api::{AgentReader, AgentWriter, Reach, ReachError},
    spaces::current,
};

/// How long opening a stream to an agent may take, and its first answer.
pub(crate) const OPENING: Duration = Duration::from_secs(12);

/// For how long after its first try a stream is tried again that broke before the agent had answered: a server
/// on the way has gone, and it takes a moment until that is known.
const ANOTHER_WAY: Duration = Duration::from_secs(5);
/// The pause before.
const PAUSE: Duration = Duration::from_millis(100);

/// A way into a space that its template can turn off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Terminals of the page and the command-line client.
    Terminal,
    /// Commands.
    Exec,
    /// The SSH gateway.
    Ssh,
    /// Ports, over HTTP or forwarded.
    Ports,
}

impl Feature {
    /// Its word in `features` of a template.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Exec => "exec",
            Self::Ssh => "ssh",
            Self::Ports => "ports",
        }
    }
}

/// The space's template turns something off.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the space's template turns {} off: ask an admin", .0.word())]
pub(crate) struct TurnedOff(pub(crate) Feature);

/// No stream could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The agent could not be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The agent says no.
    #[error("{why}")]
    Refused {
        /// Of what sort its reason is.
        refusal: Refusal,
        /// Its reason.
        why: String,
    },
}

/// Refuses what the current revision of the space's template turns off. It counts at once, without a
/// restart.
pub(crate) async fn allows(
    replica: &Replica,
    space: &Space,
    feature: Feature,
) -> Result<(), TurnedOff> {
    let template = template(replica, space).await;
    let off = template.is_some_and(|template| template.without.contains(feature.word()));
    if off { Err(TurnedOff(feature)) } else { Ok(()) }
}

/// The current revision of a space's template. One that was deleted elsewhere while spaces use it says
/// what it said.
pub(crate) async fn template(replica: &Replica, space: &Space) -> Option<Template> {
    let id = space.template;
    let template = replica.get(id).or_else(|| replica.remains(id))?;
    match current::current(replica, &template).await {
        Ok(current) => Some(current.template),
        Err(_) => Some((*template).clone()),
    }
}

/// Whether the space's template has it started by those of its users who connect to it.
pub(crate) async fn starts_on_connect(replica: &Replica, space: &Space) -> bool {
    template(replica, space).await.is_some_and(|template| template.start_on_connect)
}

/// A stream to the agent, with its first frame sent.
pub(crate) async fn stream(
    reach: &dyn Reach,
    space: Id<Space>,
    open: &Open,
) -> Result<(AgentReader, AgentWriter), ReachError> {
    let opened = timeout(OPENING, async {
        let (reader, mut writer) = reach.open(space).await?;
        let sent = wire::write_frame(&mut writer, open, MAX_AGENT_FRAME).await;
        sent.map_err(|error| ReachError::Failed(error.to_string()))?;
        Ok((reader, writer))
    });
    opened.await.unwrap_or_else(|_| Err(silent()))
}

/// A stream to the agent on which it has said that what was asked for is ready; and where it listens,
/// if it was asked to.
pub(crate) async fn ready(
    reach: &dyn Reach,
    space: Id<Space>,
    open: &Open,
) -> Result<(AgentReader, AgentWriter, Option<Target>), Error> {
    let began = Instant::now();
    loop {
        match ready_one_way(reach, space, open).await {
            Err(Error::Reach(ReachError::Failed(why))) if began.elapsed() < ANOTHER_WAY => {
                tracing::debug!(%space, why, "a stream to an agent broke: it is opened again");
                sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

async fn ready_one_way(
    reach: &dyn Reach,
    space: Id<Space>,
    open: &Open,
) -> Result<(AgentReader, AgentWriter, Option<Target>), Error> {
    let (mut reader, writer) = stream(reach, space, open).await?;
    let answer = timeout(OPENING, wire::read_frame(&mut reader, MAX_AGENT_FRAME));
    let lost = |why: String| Error::Reach(ReachError::Failed(why));
    match answer.await.map_err(|_| silent())? {
        Ok(Some(Answer::Ready)) => Ok((reader, writer, None)),
        Ok(Some(Answer::Listening(at))) => Ok((reader, writer, Some(at))),
        Ok(Some(Answer::Refused { refusal, why })) => Err(Error::Refused { refusal, why }),
        Ok(None) => Err(lost("its stream ended".to_owned())),
        Err(error) => Err(lost(error.to_string())),
    }
}

fn silent() -> ReachError {
    ReachError::Failed("it did not answer in time".to_owned())
}
