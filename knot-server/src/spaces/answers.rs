//! What only the home of a space has, and any server is asked for: logs, and what it takes up.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use knot_core::{
    agent,
    clock::Millis,
    generation::Generation,
    id::Id,
    model::{Observed, Server, Space, SpaceStatus},
    net::Asked,
    schema::Entity as _,
    wire::{self, MAX_PEER_FRAME, MAX_STRANGER_FRAME},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};
use uuid::Uuid;

use super::{
    drivers::Archive,
    logs::Kind,
    usage::{Sample, usage_now},
    worker::Home,
};

/// How long a server may take to say what it asks.
const ASKING: Duration = Duration::from_secs(10);
/// How often a container that is followed is asked for more.
const FOLLOW: Duration = Duration::from_secs(1);
/// How much of a container's output is sent at first, and can be missed between two looks, in bytes.
const RECENT: usize = 256 << 10;
/// How much of what was sent is looked for in what is new, in bytes.
const ANCHOR: usize = 1 << 10;

/// What the home of a space is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// A log, as [`Answer::Text`] and all that follows it.
    Logs {
        /// The space.
        space: Uuid,
        /// Of which generation; the newest where it is not said.
        generation: Option<Generation>,
        /// Which log.
        kind: Kind,
        /// Whether to go on for as long as more may come.
        follow: bool,
    },
    /// What a space takes up, as [`Answer::Usage`].
    Usage(Uuid),
    /// The starts of a space that there are logs of, as [`Answer::Starts`].
    Starts(Uuid),
    /// The line for a shell that fetches and starts the agent of a space which a person has to start,
    /// as [`Answer::Text`] and what follows it.
    Launch(Uuid),
}

/// The first frame of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The rest of the stream is the log of this generation.
    Text(Generation),
    /// What the space takes up now, and did over a day.
    Usage(Option<agent::Usage>, Vec<Sample>),
    /// The starts that there are logs of, newest first.
    Starts(Vec<Start>),
    /// There is no such thing; why.
    Missing(String),
}

/// A start, and which logs of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which start.
    pub generation: Generation,
    /// Of what was done to bring it up.
    pub provision: bool,
    /// Of what its container wrote.
    pub container: bool,
}

/// Answers for the spaces of this server; clones share it.
#[derive(Clone)]
pub struct Answers(Arc<Home>);

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Answers {
    pub(super) fn new(home: Arc<Home>) -> Self {
        Self(home)
    }

    /// Answers other servers, until this one stops.
    pub(super) async fn serve(self, mut asked: mpsc::Receiver<Asked>) {
        let stop = self.0.stop.clone();
        while let Some(Some(mut asked)) = stop.run_until_cancelled(asked.recv()).await {
            let answers = self.clone();
            // Bounded by the streams that a connection may open, and ends with its stream.
            tokio::spawn(async move {
                let question = wire::read_frame(&mut asked.receive, MAX_STRANGER_FRAME);
                let Ok(Ok(Some(question))) = timeout(ASKING, question).await else { return };
                let gone = asked.send.stopped();
                tokio::select! {
                    done = answers.answer(&question, &mut asked.send) => {
                        if done.is_ok() && asked.send.finish().is_ok() {
                            asked.send.stopped().await.ok();
                        }
                    }
                    _ = gone => {}
                }
            });
        }
    }

    /// Writes the answer. Following ends with the generation, with this server, or when the future
    /// is dropped.
    ///
    /// # Errors
    /// Nobody takes it any more.
    pub async fn answer(
        &self,
        question: &Question,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        match question {
            Question::Usage(space) => {
                let now = usage_now(&self.0, Id::from_uuid(*space));
                let answer = Answer::Usage(now, self.0.usages.day(*space, Millis::now()));
                self.frame(to, &answer).await
            }
            Question::Starts(space) => self.frame(to, &Answer::Starts(self.starts(*space))).await,
            Question::Launch(space) => self.launch(*space, to).await,
            Question::Logs { space, generation, kind, follow } => {
                self.logs(*space, *generation, *kind, *follow, to).await
            }
        }
    }

    fn starts(&self, space: Uuid) -> Vec<Start> {
        let status = self.status(space);
        let kept = |kind| self.0.logs.generations(space, kind);
        let (provision, container) = (kept(Kind::Provision), kept(Kind::Container));
        // What a running container writes is asked of its engine.
        let runs = matches!(status.state, Observed::Running | Observed::Stopping);
        let running = Some(status.generation).filter(|_| runs);
        let all: BTreeSet<_> =
            provision.iter().chain(&container).chain(&running).copied().collect();
        let start = |generation| Start {
            generation,
            provision: provision.contains(&generation),
            container: container.contains(&generation) || running == Some(generation),
        };
        all.into_iter().rev().map(start).collect()
    }

    async fn launch(&self, space: Uuid, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let status = self.status(space);
        let driver = status.driver.parse().ok().and_then(|on| self.0.engines.driver(on));
        let line = match driver {
            Some(driver) => driver.launch_line(space).await.map_err(io::Error::other)?,
            None => None,
        };
        let Some(line) = line else {
            let why =
                "nobody has to start its agent: its platform is not `manual`, or it is stopped";
            return self.frame(to, &Answer::Missing(why.to_owned())).await;
        };
        // Packing the agent, the first time, takes a while.
        let agent = tokio::task::spawn_blocking(Archive::own).await.ok().flatten();
        let own = self.0.replica.get(Id::<Server>::from_uuid(self.0.me.0));
        let fetch = agent.zip(own).map(|(agent, own)| {
            let url = agent.url(&own.http);
            format!("curl -fsS {url} | tar -xzO agent > knot-agent && chmod +x knot-agent && ")
        });
        self.frame(to, &Answer::Text(status.generation)).await?;
        to.write_all(fetch.unwrap_or_default().as_bytes()).await?;
        to.write_all(line.as_bytes()).await
    }

    async fn logs(
        &self,
        space: Uuid,
        generation: Option<Generation>,
        kind: Kind,
        follow: bool,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let newest = self.status(space).generation;
        let generation = generation.unwrap_or(newest);
        let live = kind == Kind::Container && generation == newest;
        if live && let Some(output) = self.output(space, generation).await {
            self.frame(to, &Answer::Text(generation)).await?;
            to.write_all(&output).await?;
            return if follow {
                self.follow_output(space, generation, output, to).await
            } else {
                Ok(())
            };
        }
        let mut written = self.0.logs.watch();
        let mut changes = self.0.replica.watch(&[Space::KIND]);
        let waits = follow && generation.n > 0 && generation == newest;
        let mut log = match self.0.logs.read(space, generation, kind) {
            Ok(log) => log,
            Err(_) if waits && self.goes_on(space, generation) => Vec::new(),
            Err(_) => {
                return self
                    .frame(to, &Answer::Missing(self.missing(space, generation, kind)))
                    .await;
            }
        };
        self.frame(to, &Answer::Text(generation)).await?;
        to.write_all(&log).await?;
        while follow && kind == Kind::Provision && self.goes_on(space, generation) {
            tokio::select! {
                () = self.0.stop.cancelled() => return Ok(()),
                changed = written.changed() => changed.map_err(io::Error::other)?,
                _ = changes.next() => {}
            }
            let more = self.0.logs.read(space, generation, kind).unwrap_or_default();
            to.write_all(new_part(&log, &more)).await?;
            to.flush().await?;
            log = more;
        }
        Ok(())
    }

    /// Whether a generation is still being brought up.
    fn goes_on(&self, space: Uuid, generation: Generation) -> bool {
        let status = self.status(space);
        let up = matches!(status.state, Observed::Provisioning | Observed::Starting);
        up && status.generation == generation
    }

    /// What the container of a generation has written lately; `None` where it is not there any more.
    async fn output(&self, space: Uuid, generation: Generation) -> Option<Vec<u8>> {
        let found = self.0.engines.see(space, None)?;
        let (platform, instance) =
            found.into_iter().find(|(_, one)| one.labels.generation == generation)?;
        let driver = self.0.engines.driver(platform)?;
        driver.logs(&instance, RECENT).await.ok()
    }

    async fn follow_output(
        &self,
        space: Uuid,
        generation: Generation,
        mut sent: Vec<u8>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut ticks = tokio::time::interval(FOLLOW);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.0.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(output) = self.output(space, generation).await else { break };
            to.write_all(new_part(&sent, &output)).await?;
            to.flush().await?;
            sent = output;
        }
        Ok(())
    }

    fn missing(&self, space: Uuid, generation: Generation, kind: Kind) -> String {
        let known = self.0.logs.generations(space, kind);
        let known: Vec<String> = known.iter().map(Generation::to_string).collect();
        match (generation.n, &*known) {
            (0, _) => "it was never started: there is no log yet".to_owned(),
            (_, []) => format!("no log of generation {generation} was kept"),
            _ => format!(
                "no log of generation {generation} was kept; there are logs of {}",
                known.join(", ")
            ),
        }
    }

    fn status(&self, space: Uuid) -> SpaceStatus {
        let id = Id::<Space>::from_uuid(space);
        self.0.replica.observed(id, self.0.me).unwrap_or_default()
    }

    async fn frame(&self, to: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
        wire::write_frame(to, answer, MAX_PEER_FRAME).await.map_err(io::Error::other)?;
        to.flush().await
    }
}

/// What of `now` was not in `before`, where its beginning may have been cut off meanwhile.
fn new_part<'a>(before: &[u8], now: &'a [u8]) -> &'a [u8] {
    if let Some(more) = now.strip_prefix(before) {
        return more;
    }
    let anchor = before.get(before.len().saturating_sub(ANCHOR)..).unwrap_or_default();
    let found = now.windows(anchor.len().max(1)).rposition(|window| window == anchor);
    found.and_then(|at| now.get(at + anchor.len()..)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_sent() {
        assert_eq!(new_part(b"", b"one"), b"one");
        assert_eq!(new_part(b"one", b"one two"), b" two");
        assert_eq!(new_part(b"one", b"one"), b"");
        let before: Vec<u8> = (0..5_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut now = before[8_000..].to_vec();
        now.extend_from_slice(b"more");
        assert_eq!(new_part(&before, &now), b"more");
        assert_eq!(new_part(b"lost", b"all else"), b"all else");
    }
}
