//! The worker of one space on its home: asks [`plan::next`] what to do, does it, writes down what
//! came of it, and asks again.

mod end;
mod shared;
mod start;

use std::{sync::Arc, time::Duration};

use knot_core::{
    clock::Millis,
    generation::Generation,
    id::{Author, ChangeHash, Id, ServerId},
    model::{Desired, Move, Observed, Placement, Space, SpaceHealth, SpaceStatus},
    net::Net,
    replica::{Doc, EditError, Replica},
};
use tokio::{
    sync::{Mutex, Notify, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    drivers::{Instance, Job, Platform},
    engines::Engines,
    fill::seen,
    logs::Logs,
    plan::{self, Step, World},
    policy::{self, Act},
    trust::{Trust, Trusted},
    usage::Usages,
};
use crate::causes::with_causes;

/// After a step that could not be written down, how long to wait before trying again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How often a start looks again whether what it waits for runs, beside when it hears of it.
const LOOK: Duration = Duration::from_secs(5);
/// How a note begins that says what a space waits for.
const WAITS: &str = "waits for ";

/// What all workers of a server share.
pub(super) struct Home {
    pub(super) me: ServerId,
    pub(super) options: Options,
    pub(super) replica: Replica,
    pub(super) net: Net,
    pub(super) engines: Engines,
    pub(super) logs: Logs,
    pub(super) usages: Usages,
    pub(super) trusted: Trusted,
    /// Bounds how many spaces are provisioned at a time.
    pub(super) starts: Semaphore,
    /// Held while a record of a volume is changed.
    pub(super) volumes: Mutex<()>,
    pub(super) stop: CancellationToken,
}

/// The worker of one space.
pub(super) struct Worker {
    home: Arc<Home>,
    space: Id<Space>,
    wake: Arc<Notify>,
    /// The generation that this process has begun.
    begun: Option<Generation>,
    /// Since when it waits for an engine to answer, or for other spaces to run.
    waiting: Option<Millis>,
    /// Since when it looks at the space.
    looking: Millis,
    /// A change that is held, which what a shared engine has of the space serves.
    held: Option<ChangeHash>,
    /// For which time of beginning anew what was here has been set aside.
    set_aside: Option<Placement>,
}

/// What came of a step.
enum Done {
    /// It is done, as far as it goes.
    Done,
    /// It is to be tried again in a while.
    TryAgain,
}

/// A step failed, and what to tell the user.
pub(super) struct Failure(pub(super) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(with_causes(&error))
    }
}

impl Worker {
    pub(super) fn new(home: Arc<Home>, space: Id<Space>, wake: Arc<Notify>) -> Self {
        let (looking, waiting) = (Millis::now(), None);
        Self { home, space, wake, begun: None, waiting, looking, held: None, set_aside: None }
    }

    /// Works until there is nothing left to do here for good, or the server stops.
    pub(super) async fn run(mut self) {
        let stop = self.home.stop.clone();
        while let Some(true) = stop.run_until_cancelled(self.step()).await {}
    }

    /// One step, or a wait; `false` once the space is no more of this server's business.
    async fn step(&mut self) -> bool {
        let wake = Arc::clone(&self.wake);
        let woken = wake.notified();
        let space = self.home.replica.get(self.space);
        let status = self.status();
        let dead = self.home.replica.grave(self.space).is_some();
        let ours = space.as_ref().filter(|space| space.placement.server == self.home.me);
        let trust = self.home.trusted.now();
        let template = ours.and_then(|space| self.home.replica.get(space.template));
        let report = self.home.net.agents().report(self.space, status.generation);
        let now = Millis::now();
        let mut due = None;
        let job = self.home.engines.job(self.space.uuid());
        let job = job.as_ref();
        let driven = self.is_driven(space.as_deref(), job).await;
        // A database that may be old, and a home that is to hand the space over, begin nothing; nor
        // one whose space another part of the cluster drives.
        let acts = |space: &&Doc<Space>| {
            trust != Trust::Restored && space.moving_to().is_none() && !driven
        };
        if let Some(space) = ours.filter(acts) {
            let owner = self.home.replica.get(space.owner);
            let act = policy::decide(&policy::World {
                space,
                status: &status,
                template: template.as_deref(),
                zone: owner.as_ref().map_or("", |owner| &owner.time_zone),
                report: report.as_ref(),
                now,
            });
            match act {
                Act::Wait(until) => due = until,
                act => {
                    if let Err(error) = self.act(act, status).await {
                        tracing::error!(space = %self.space, %error, "what the home does of itself \
                            could not be written down");
                        drop(timeout(TRY_AGAIN, woken).await);
                    }
                    return true;
                }
            }
        }
        if trust != Trust::Restored && is_stale(&status, space.as_deref()) {
            if let Err(error) = self.write(SpaceStatus { note: None, ..status }).await {
                tracing::error!(space = %self.space, %error, "a note could not be taken away");
                drop(timeout(TRY_AGAIN, woken).await);
            }
            return true;
        }
        if let Some(news) =
            ours.filter(|_| trust != Trust::Restored).and_then(|_| self.news(job, driven, &status))
        {
            if let Err(error) = self.write(news).await {
                tracing::error!(space = %self.space, %error, "who drives it could not be written down");
                drop(timeout(TRY_AGAIN, woken).await);
            }
            return true;
        }
        let seen = self.home.engines.see(self.space.uuid(), platform(&status.driver));
        let blind = seen.is_none();
        let mut found = seen.unwrap_or_default();
        // On an engine that servers share the home ends what an earlier one has left running.
        let left = job.filter(|job| ours.is_some() && job.labels.owner.home != self.home.me.0);
        found.extend(left.and_then(Job::instance).map(|instance| (Platform::Nomad, instance)));
        let instances: Vec<_> = found.iter().map(|(_, instance)| instance.clone()).collect();
        let world = World {
            me: self.home.me,
            space: space.as_deref(),
            dead: dead && !status.is_witness_only(),
            driven,
            status: &status,
            instances: &instances,
            linked: self.home.net.agents().generation(self.space),
            report: report.as_ref(),
            restarts: template.and_then(|template| template.health_restarts).unwrap_or(0),
            waits_for: &ours.map(|space| self.waits_for(space)).unwrap_or_default(),
            looking: self.looking,
            waiting: self.waiting.unwrap_or(now),
            blind,
            begun_here: self.begun == Some(status.generation),
            trust,
            set_aside: self.set_aside == space.as_ref().map(|space| space.emptied),
            now,
        };
        self.home.engines.note_outdated(self.space.uuid(), plan::waits_for_data(&world));
        let step = plan::next(&world);
        let waits = matches!(step, Step::WaitFor(_)) || (blind && matches!(step, Step::RestFor(_)));
        self.waiting = if waits { self.waiting.or(Some(now)) } else { None };
        let until_due =
            due.map(|due| Duration::from_millis((due.0 - now.0).try_into().unwrap_or(0)));
        match step {
            Step::Rest => {
                if ours.is_none() && trust != Trust::Restored {
                    match self.stand_in(space.as_deref(), job, driven, &status).await {
                        Ok(None) => {}
                        Ok(Some(Done::Done)) => return true,
                        Ok(Some(Done::TryAgain)) => {
                            drop(timeout(TRY_AGAIN, woken).await);
                            return true;
                        }
                        Err(error) => {
                            tracing::error!(space = %self.space, %error, "what is done in place of \
                                its home could not be written down");
                            drop(timeout(TRY_AGAIN, woken).await);
                            return true;
                        }
                    }
                }
                if ours.is_none()
                    && trust != Trust::Restored
                    && !blind
                    && job.is_none()
                    && status.witness.is_none()
                    && instances.is_empty()
                    && (dead || status.generation.n == 0)
                {
                    return false;
                }
                match until_due {
                    None => woken.await,
                    Some(most) => drop(timeout(most, woken).await),
                }
            }
            Step::RestFor(most) => {
                drop(timeout(until_due.map_or(most, |due| due.min(most)), woken).await);
            }
            Step::WaitFor(most) => self.wait_for_others(most.min(LOOK), status, woken).await,
            step => match self.carry_out(step, space, status, &found).await {
                Ok(Done::Done) => {}
                Ok(Done::TryAgain) => drop(timeout(TRY_AGAIN, woken).await),
                Err(error) => {
                    tracing::error!(space = %self.space, %error, "a step could not be written down");
                    drop(timeout(TRY_AGAIN, woken).await);
                }
            },
        }
        true
    }

    /// Does what the home does of its own accord. What is wanted is written first: if this is cut
    /// short it is done again, and changes nothing.
    async fn act(&self, act: Act, status: SpaceStatus) -> Result<(), EditError> {
        let (desired, why, schedule) = match act {
            Act::Wait(_) => return Ok(()),
            Act::Mark(schedule) => {
                return self.write(SpaceStatus { schedule, ..status }).await;
            }
            Act::Stop(why, schedule) => (Desired::Stopped, why, schedule),
            Act::Start(why, schedule) => (Desired::Running, why, schedule),
        };
        tracing::info!(space = %self.space, why, "the home acts");
        let template = self.home.replica.get(self.space).map(|space| space.template);
        let template = template.and_then(|template| self.home.replica.get(template));
        let seen = template.map(|template| {
            let heads: Vec<_> = template.heads().iter().map(ChangeHash::to_string).collect();
            (heads, seen(&self.home.replica, &template))
        });
        let again = (status.state == Observed::Failed).then_some(status.generation);
        let by = Author::Server(self.home.me);
        let edit = self.home.replica.edit(self.space, by, move |space| {
            space.set(Space::desired, desired);
            if desired == Desired::Running {
                if let Some((heads, variables)) = seen {
                    space.set(Space::template_heads, heads);
                    space.set(Space::variables_seen, variables);
                }
                if let Some(generation) = again {
                    space.set(Space::restart, generation.max(space.restart));
                }
            }
            Ok(())
        });
        edit.await?;
        self.write(SpaceStatus { schedule, note: Some(why), ..status }).await
    }

    /// The names of the spaces that have to run before this one, and do not.
    fn waits_for(&self, space: &Doc<Space>) -> Vec<String> {
        let others = space.depends_on.iter().filter(|other| **other != self.space);
        let missing = others.filter_map(|other| {
            // One that is dead is not waited for.
            let other = self.home.replica.get(*other)?;
            let status: Option<SpaceStatus> =
                self.home.replica.observed(other.id(), other.placement.server);
            let runs = status.is_some_and(|status| status.state == Observed::Running);
            // Edits in two parts of the cluster can make a circle: nobody waits in one.
            let in_turn = other.depends_on.contains(&self.space);
            (!runs && !in_turn).then(|| other.name.clone())
        });
        missing.collect()
    }

    async fn wait_for_others(
        &self,
        most: Duration,
        status: SpaceStatus,
        woken: impl Future<Output = ()>,
    ) {
        let mut changes = self.home.replica.watch(&[<Space as knot_core::schema::Entity>::KIND]);
        let names = self.home.replica.get(self.space).map(|space| self.waits_for(&space));
        let Some(names) = names.filter(|names| !names.is_empty()) else { return };
        let note = Some(format!("{WAITS}{}", names.join(", ")));
        if note != status.note
            && let Err(error) = self.write(SpaceStatus { note, ..status }).await
        {
            tracing::error!(space = %self.space, %error, "a wait could not be written down");
        }
        let changed = async {
            tokio::select! {
                () = woken => {}
                _ = changes.next() => {}
            }
        };
        drop(timeout(most, changed).await);
    }

    async fn carry_out(
        &mut self,
        step: Step,
        space: Option<Doc<Space>>,
        status: SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<Done, EditError> {
        match step {
            Step::Rest | Step::RestFor(_) | Step::WaitFor(_) => {}
            Step::Become(state) => self.become_state(state, status).await?,
            Step::Health(seen) => {
                let since = Millis::now();
                let health = seen.map(|(well, words)| SpaceHealth { well, since, words });
                self.write(SpaceStatus { health, ..status }).await?;
            }
            Step::Forgive => self.write(SpaceStatus { restarts: 0, ..status }).await?,
            Step::Start(generation) => {
                if let Some(space) = space {
                    self.start(&space, generation).await?;
                }
            }
            Step::Stop(instance) => {
                if let Err(Failure(why)) = self.end(&instance, &status, found).await.outcome {
                    let why = format!("the container could not be stopped: {why}");
                    self.write(SpaceStatus { cause: Some(why), ..status }).await?;
                    return Ok(Done::TryAgain);
                }
            }
            Step::Fail(cause) => self.fail(cause, status, found).await?,
            Step::Forget => self.forget(status).await?,
            Step::Place(wanted) => self.place(wanted).await?,
            Step::SetAside => {
                if let Some(space) = space {
                    return self.put_aside(&space, &status).await;
                }
            }
        }
        Ok(Done::Done)
    }

    pub(super) async fn become_state(
        &self,
        state: Observed,
        status: SpaceStatus,
    ) -> Result<(), EditError> {
        let status = SpaceStatus { state, cause: None, ..status };
        let status = match state {
            Observed::Stopped => SpaceStatus { health: None, retry: None, restarts: 0, ..status },
            Observed::Running => SpaceStatus { retry: None, note: None, ..status },
            _ => status,
        };
        self.write(status).await
    }

    /// Hands the space over: nothing of it runs here any more.
    async fn place(&self, wanted: Move) -> Result<(), EditError> {
        let Move { placement, empty } = wanted;
        let me = self.home.me;
        let placed = self.home.replica.edit(self.space, Author::Server(me), move |edit| {
            // What was asked for meanwhile is looked at anew.
            if edit.placement.server == me && edit.moving_to() == Some(wanted) {
                edit.set(Space::placement, placement);
                if empty {
                    edit.set(Space::emptied, placement);
                }
            }
            Ok(())
        });
        placed.await?;
        tracing::info!(space = %self.space, to = %placement.server, term = placement.term, "handed over");
        Ok(())
    }

    pub(super) fn status(&self) -> SpaceStatus {
        self.home.replica.observed(self.space, self.home.me).unwrap_or_default()
    }

    async fn write(&self, status: SpaceStatus) -> Result<(), EditError> {
        tracing::info!(space = %self.space, state = %status.state, generation = %status.generation);
        let before = self.status();
        let same = (before.state, before.generation) == (status.state, status.generation);
        let since = if same { before.since } else { Millis::now() };
        let index = self.home.engines.job(self.space.uuid()).map_or(before.index, |job| job.index);
        let status = SpaceStatus { since, index, ..status };
        if status == before {
            return Ok(());
        }
        self.home.replica.observe(self.space, &status).await
    }
}

/// Whether the note says that the space waits, and nobody wants it to run any more.
fn is_stale(status: &SpaceStatus, space: Option<&Space>) -> bool {
    let waits = status.note.as_deref().is_some_and(|note| note.starts_with(WAITS));
    waits && space.is_none_or(|space| space.desired == Desired::Stopped)
}

fn platform(word: &str) -> Option<Platform> {
    word.parse().ok()
}
