//! The way from a connection to its space: which is started where it may be, and waited for.

use std::time::Duration;

use knot_core::{
    agent::{Open, Refusal, Target},
    generation::Generation,
    id::Id,
    model::{Desired, Observed, Space, SpaceStatus},
    schema::Entity as _,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    access::{self, Feature},
    api::{
        AgentReader, AgentWriter, App, ReachError,
        login::{self, Caller},
    },
};

/// How long a space may take to run: its home has a deadline of its own, below this.
const START: Duration = Duration::from_secs(15 * 60);
/// How long an agent may take to link again.
const RELINK: Duration = Duration::from_secs(20);
/// How often it is looked again, where nothing that this server hears of changes.
const LOOK: Duration = Duration::from_millis(500);

/// Who is told of what is waited for.
pub(super) type Say<'a> = &'a (dyn Fn(String) + Send + Sync);

/// The way to one space, for one caller.
#[derive(Clone)]
pub(super) struct Way {
    app: App,
    caller: Caller,
    space: Id<Space>,
    name: String,
}

/// What is to be done about a space that is wanted now.
enum Look {
    Runs,
    /// It is on its way.
    Wait(&'static str),
    /// Nobody wants it to run.
    Stopped,
    Failed(String),
}

impl Way {
    pub(super) fn new(app: App, caller: Caller, space: Id<Space>, name: String) -> Self {
        Self { app, caller, space, name }
    }

    pub(super) fn space(&self) -> Id<Space> {
        self.space
    }

    /// A stream to the agent, with its first frame sent. `say` is told of each step that is waited for.
    pub(super) async fn stream(
        &self,
        open: &Open,
        say: Say<'_>,
    ) -> Result<(AgentReader, AgentWriter), String> {
        let began = Instant::now();
        loop {
            self.up(say).await?;
            match access::stream(&*self.app.reach, self.space, open).await {
                Ok(stream) => return Ok(stream),
                Err(ReachError::NotRunning | ReachError::NoAgent { .. })
                    if began.elapsed() < RELINK =>
                {
                    sleep(LOOK).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// A stream to the agent on which it is ready; and where it listens, if it was asked to.
    pub(super) async fn ready(
        &self,
        open: &Open,
        say: Say<'_>,
    ) -> Result<(AgentReader, AgentWriter, Option<Target>), access::Error> {
        let refused = |why| access::Error::Refused { refusal: Refusal::Failed, why };
        let began = Instant::now();
        loop {
            self.up(say).await.map_err(refused)?;
            match access::ready(&*self.app.reach, self.space, open).await {
                Err(access::Error::Reach(ReachError::NotRunning | ReachError::NoAgent { .. }))
                    if began.elapsed() < RELINK =>
                {
                    sleep(LOOK).await;
                }
                other => return other,
            }
        }
    }

    /// As [`Way::ready`], of a space that ran a moment ago and may have been stopped since: it is not started.
    pub(super) async fn again(
        &self,
        open: &Open,
    ) -> Result<(AgentReader, AgentWriter, Option<Target>), access::Error> {
        let began = Instant::now();
        loop {
            sleep(LOOK).await;
            match access::ready(&*self.app.reach, self.space, open).await {
                Err(access::Error::Reach(ReachError::NotRunning)) => {
                    return Err(ReachError::NotRunning.into());
                }
                // It may hold on to what came by a way that is dead for some seconds.
                Err(_) if began.elapsed() < RELINK => {}
                other => return other,
            }
        }
    }

    /// As [`Way::ready`], where nobody is there to be told and little time.
    pub(super) async fn soon(
        &self,
        open: &Open,
        bound: Duration,
    ) -> Result<(AgentReader, AgentWriter, Option<Target>), access::Error> {
        let late = || access::Error::Reach(ReachError::Failed("the space takes too long".into()));
        timeout(bound, self.ready(open, &|_| {})).await.map_err(|_| late())?
    }

    /// Waits until the space runs, and then until that run is over: what became of it. `ends` is told once, when
    /// it is to end and has not yet.
    pub(super) async fn over(&self, ends: impl Fn(String)) -> String {
        let mut changes = self.app.replica.watch(&[Space::KIND]);
        let (mut known, mut told) = (None, false);
        loop {
            let space = self.app.replica.get(self.space);
            let status = space
                .as_ref()
                .and_then(|space| self.app.replica.observed(self.space, space.placement.server));
            let status: SpaceStatus = status.unwrap_or_default();
            match fate(space.as_deref(), &status, known) {
                Fate::Waits => {}
                Fate::Runs(generation) => known = Some(generation),
                Fate::Ends(word) => {
                    if !std::mem::replace(&mut told, true) {
                        ends(format!("{} {word}", self.name));
                    }
                }
                Fate::Over(word) => return format!("{} {word}", self.name),
            }
            let _ = changes.next().await;
            while changes.try_next().is_some() {}
        }
    }

    /// Sees to it that the space runs, and that its template lets SSH through.
    async fn up(&self, say: Say<'_>) -> Result<(), String> {
        let mut changes = self.app.replica.watch(&[Space::KIND]);
        let began = Instant::now();
        let mut asked: Option<SpaceStatus> = None;
        let mut said = "";
        loop {
            let Some(space) = self.app.replica.get(self.space) else {
                return Err(format!("{} was deleted", self.name));
            };
            let allowed = access::allows(&self.app.replica, &space, Feature::Ssh).await;
            allowed.map_err(|off| off.to_string())?;
            let status: SpaceStatus =
                self.app.replica.observed(self.space, space.placement.server).unwrap_or_default();
            let step = match look(&space, &status, asked.as_ref()) {
                Look::Runs => return Ok(()),
                Look::Wait(step) => step,
                Look::Failed(why) => return Err(format!("{} failed: {why}", self.name)),
                Look::Stopped => {
                    if !access::starts_on_connect(&self.app.replica, &space).await {
                        return Err(format!(
                            "{name} does not run: start it with `knot space start {name}`, or on its page",
                            name = self.name
                        ));
                    }
                    say(format!("{} is stopped: starting it", self.name));
                    let wanted = login::start(&self.app, &self.caller, self.space).await;
                    wanted.map_err(|problem| problem.detail)?;
                    asked = Some(status);
                    continue;
                }
            };
            if step != said && !step.is_empty() {
                say(format!("{} {step}", self.name));
                said = step;
            }
            if began.elapsed() > START {
                return Err(format!("{} is still not running: see its page for why", self.name));
            }
            let _ = timeout(LOOK, changes.next()).await;
            while changes.try_next().is_some() {}
        }
    }
}

/// What is said of a space that there is not, and of one that whoever asks may not know of.
pub(super) fn no_space(login: &str) -> String {
    let name = login.split_once('+').map_or(login, |(_, name)| name);
    let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
    format!(
        "there is no space `{name}` that you may use: `ssh SPACE@…` names one, `knot space ls` lists yours"
    )
}

/// What a space needs before it can be used. `asked` is how it was when it was last asked to start.
fn look(space: &Space, status: &SpaceStatus, asked: Option<&SpaceStatus>) -> Look {
    // What the home has not acted on yet says nothing.
    let is_old =
        asked.is_some_and(|asked| asked.since == status.since && asked.state == status.state);
    let wanted = space.desired == Desired::Running;
    match status.state {
        Observed::Running if wanted && status.generation != Generation::default() => Look::Runs,
        Observed::Provisioning if wanted => Look::Wait("is being prepared"),
        Observed::Starting if wanted => Look::Wait("is starting"),
        Observed::Stopping if wanted => Look::Wait("is still stopping"),
        Observed::Failed if !is_old => {
            Look::Failed(status.cause.clone().unwrap_or_else(|| "see its page".to_owned()))
        }
        Observed::Deleting | Observed::Gone => Look::Failed("it was deleted".to_owned()),
        _ if wanted => Look::Wait(""),
        _ => Look::Stopped,
    }
}

/// What becomes of the run of a space.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It has not begun.
    Waits,
    Runs(Generation),
    /// It is to end, or may.
    Ends(String),
    /// It has ended.
    Over(String),
}

/// What becomes of the run `known`, or of the next one where none is known yet.
fn fate(space: Option<&Space>, status: &SpaceStatus, known: Option<Generation>) -> Fate {
    let over = |word: &str| Fate::Over(word.to_owned());
    let ends = |word: &str| Fate::Ends(word.to_owned());
    let wanted = space.is_some_and(|space| space.desired == Desired::Running);
    let Some(known) = known else {
        let runs = wanted && status.state == Observed::Running;
        return if runs { Fate::Runs(status.generation) } else { Fate::Waits };
    };
    if space.is_none() {
        return over("was deleted");
    }
    if status.generation > known {
        return over("was started again: connect again");
    }
    match (status.state, wanted) {
        (Observed::Stopped, _) => over("was stopped"),
        (Observed::Deleting | Observed::Gone, _) => over("was deleted"),
        // It may be that only a stop has failed.
        (Observed::Failed, _) => {
            ends(&format!("failed: {}", status.cause.as_deref().unwrap_or("see its page")))
        }
        (_, false) => ends("is being stopped"),
        (Observed::Stopping, true) => ends("is being restarted"),
        (_, true) => Fate::Runs(known),
    }
}

#[cfg(test)]
mod tests {
    use knot_core::clock::Millis;

    use super::*;

    fn word(look: Look) -> String {
        match look {
            Look::Runs => "runs".to_owned(),
            Look::Wait(step) => format!("wait {step}"),
            Look::Stopped => "stopped".to_owned(),
            Look::Failed(why) => format!("failed {why}"),
        }
    }

    #[test]
    fn what_the_home_has_not_acted_on_yet_is_waited_for() {
        let mut space = Space::default();
        let mut status = SpaceStatus { state: Observed::Stopped, ..SpaceStatus::default() };
        assert_eq!(word(look(&space, &status, None)), "stopped");
        space.desired = Desired::Running;
        assert_eq!(word(look(&space, &status, None)), "wait ");
        status.state = Observed::Failed;
        status.cause = Some("no image".to_owned());
        let asked = status.clone();
        assert_eq!(word(look(&space, &status, Some(&asked))), "wait ");
        status.since = Millis(1);
        assert_eq!(word(look(&space, &status, Some(&asked))), "failed no image");
        status.state = Observed::Running;
        status.generation = Generation { term: 1, n: 1 };
        assert_eq!(word(look(&space, &status, None)), "runs");
        space.desired = Desired::Stopped;
        assert_eq!(word(look(&space, &status, None)), "stopped");
    }

    #[test]
    fn a_run_ends_once_it_has_begun() {
        let mut space = Space { desired: Desired::Running, ..Space::default() };
        let generation = Generation { term: 1, n: 3 };
        let mut status =
            SpaceStatus { state: Observed::Starting, generation, ..SpaceStatus::default() };
        assert_eq!(fate(Some(&space), &status, None), Fate::Waits);
        status.state = Observed::Running;
        assert_eq!(fate(Some(&space), &status, None), Fate::Runs(generation));
        let known = Some(generation);
        assert_eq!(fate(Some(&space), &status, known), Fate::Runs(generation));
        status.state = Observed::Stopping;
        let ends = |word: &str| Fate::Ends(word.to_owned());
        assert_eq!(fate(Some(&space), &status, known), ends("is being restarted"));
        space.desired = Desired::Stopped;
        assert_eq!(fate(Some(&space), &status, known), ends("is being stopped"));
        status.state = Observed::Stopped;
        let over = |word: &str| Fate::Over(word.to_owned());
        assert_eq!(fate(Some(&space), &status, known), over("was stopped"));
        assert_eq!(fate(Some(&space), &status, None), Fate::Waits);
        assert_eq!(fate(None, &status, known), over("was deleted"));
        space.desired = Desired::Running;
        (status.state, status.generation.n) = (Observed::Running, 4);
        assert_eq!(fate(Some(&space), &status, known), over("was started again: connect again"));
        (status.state, status.generation.n) = (Observed::Failed, 3);
        status.cause = Some("it ended".to_owned());
        assert_eq!(fate(Some(&space), &status, known), ends("failed: it ended"));
    }
}
