//! What a space's home does next: a pure function of what is wanted, known and there.
//!
//! One step at a time: the worker carries it out, writes down what came of it, and asks again.

use std::time::Duration;

use knot_core::{
    agent::{Report, STARTUP_LIMIT, Startup},
    clock::Millis,
    generation::Generation,
    id::ServerId,
    model::{Desired, Move, Observed, Placement, Space, SpaceStatus},
};

use super::{
    drivers::{Instance, Platform, State},
    trust::Trust,
};

/// How long an agent may take to link, from the start of its container.
pub const LINK_DEADLINE: Duration = Duration::from_secs(60);
/// How long an engine may be silent while something is to be done on it.
pub const ENGINE_DEADLINE: Duration = Duration::from_secs(60);
/// How long ending and removing an instance may take, all tries counted.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// How long a start waits for the spaces that have to run before it.
pub const DEPENDENCY_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// How long a space has to have been well for its restarts to be forgotten.
pub const WELL: Duration = Duration::from_secs(10 * 60);

/// The same where a person starts the agent.
const BY_HAND: Duration = Duration::from_secs(24 * 3600);

/// Everything that the next step depends on.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// The server that asks.
    pub me: ServerId,
    /// The space; `None` where it is dead, or nothing is held of it.
    pub space: Option<&'a Space>,
    /// Whether its grave is held.
    pub dead: bool,
    /// Whether a shared engine has it for a change that is not held here: a part of the cluster that is
    /// out of reach drives it.
    pub driven: bool,
    /// This server's record about it.
    pub status: &'a SpaceStatus,
    /// The instances of the space on this server's engines that carry its labels.
    pub instances: &'a [Instance],
    /// The newest generation whose agent is linked to a server that can be reached.
    pub linked: Option<Generation>,
    /// What the agent of the status' generation last reported.
    pub report: Option<&'a Report>,
    /// How often in a row an unwell or crashed space is started again.
    pub restarts: u64,
    /// The spaces that have to run before this one starts and do not, by name.
    pub waits_for: &'a [String],
    /// Since when this process has looked at the space: no deadline counts the time before.
    pub looking: Millis,
    /// Since when a start has waited for those, or something on an engine that does not answer.
    pub waiting: Millis,
    /// Whether an engine that may have something of the space does not answer: `instances` says
    /// nothing then.
    pub blind: bool,
    /// Whether this process has begun the status' generation itself: if not, and it was not
    /// finished, the key it was begun with is lost.
    pub begun_here: bool,
    /// Whether what this server remembers may be older than what has happened.
    pub trust: Trust,
    /// Whether what was here before the space went on elsewhere with new volumes has been set aside.
    pub set_aside: bool,
    /// The time on this server's clock.
    pub now: Millis,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Nothing, until something changes or this much time has passed.
    RestFor(Duration),
    /// Start this generation.
    Start(Generation),
    /// End this instance. More than one has to go one after the other.
    Stop(Instance),
    /// Write down that the space is in this state.
    Become(Observed),
    /// Write down that the space has failed, for this cause.
    Fail(Cause),
    /// Remove what the engine keeps of a dead space, then write down that it is gone.
    Forget,
    /// Nothing, until a space that has to run before this one runs, or this much time has passed.
    WaitFor(Duration),
    /// Write down whether the space is well, and what the check has said; `None` where none is made.
    Health(Option<(bool, String)>),
    /// Write down that restarts of before do not count any more.
    Forgive,
    /// Nothing of the space runs here any more: write down that it lives elsewhere from now on.
    Place(Move),
    /// Give what the space left here a name of its own, so that no later start finds it.
    SetAside,
}

/// Why a running space has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The container ended by itself; how it ended.
    Ended(String),
    /// The container is not there any more, and it was not this server that removed it.
    Vanished,
    /// The agent did not link within [`LINK_DEADLINE`].
    NoAgent,
    /// Its health checks fail; what the last one has said.
    Unwell(String),
    /// The startup script failed, and how.
    Startup(String),
    /// The startup script did not end in time, nor say so.
    SlowStartup,
    /// An engine did not answer for [`ENGINE_DEADLINE`].
    Blind,
    /// What runs could not be ended within [`STOP_DEADLINE`].
    CannotStop,
    /// These spaces, which have to run before this generation, did not within
    /// [`DEPENDENCY_DEADLINE`].
    WaitedFor(Generation, Vec<String>),
}

impl Cause {
    /// Whether the space had run, or tried to, and ended against everybody's will.
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Vanished | Self::NoAgent | Self::Unwell(_))
    }

    /// Whether what runs is to be ended.
    pub fn ends(&self) -> bool {
        self.is_crash() || matches!(self, Self::Startup(_) | Self::SlowStartup)
    }
}

/// Says what to do next.
pub fn next(world: &World<'_>) -> Step {
    if world.trust == Trust::Restored {
        return Step::Rest;
    }
    if world.blind {
        return grope(world);
    }
    if world.driven {
        return give_way(world);
    }
    let Some(space) = world.space else {
        return if world.dead { bury(world) } else { Step::Rest };
    };
    if space.placement.server != world.me {
        return leave(world, space);
    }
    if is_outdated(world, space) {
        return Step::Rest;
    }
    if let Some(wanted) = space.moving_to() {
        return match stop(world) {
            Step::Rest => Step::Place(wanted),
            step => step,
        };
    }
    match space.desired {
        Desired::Stopped => stop(world),
        Desired::Running => run(world, space),
    }
}

/// What another part of the cluster drives is left alone: only what is seen of it is written down.
fn give_way(world: &World<'_>) -> Step {
    let lives = |one: &Instance| !matches!(one.state, State::Ended(_));
    let settled =
        matches!(world.status.state, Observed::Created | Observed::Stopped | Observed::Gone);
    if settled || world.instances.iter().any(lives) {
        Step::Rest
    } else {
        Step::Become(Observed::Stopped)
    }
}

/// What to do while it cannot be seen what there is: nothing, and not for ever.
fn grope(world: &World<'_>) -> Step {
    let state = world.status.state;
    let wanted = match world.space {
        None if world.dead => !matches!(state, Observed::Gone | Observed::Failed),
        None => false,
        Some(space) if space.placement.server != world.me => false,
        Some(space) => match (space.desired, state) {
            (_, Observed::Failed) => false,
            (Desired::Running, state) => state != Observed::Running,
            (Desired::Stopped, state) => !matches!(state, Observed::Created | Observed::Stopped),
        },
    };
    if !wanted {
        return Step::Rest;
    }
    left(world, world.waiting, ENGINE_DEADLINE).map_or(Step::Fail(Cause::Blind), Step::RestFor)
}

/// What is left until a deadline.
fn left(world: &World<'_>, since: Millis, deadline: Duration) -> Option<Duration> {
    let since = since.max(world.looking);
    let left = since.plus(deadline).0.saturating_sub(world.now.0);
    // A clock that was set back makes no deadline longer.
    let left = Duration::from_millis(u64::try_from(left).ok()?).min(deadline);
    (!left.is_zero()).then_some(left)
}

/// Ends an instance, as long as there is hope.
fn end(world: &World<'_>, instance: &Instance) -> Step {
    match left(world, world.status.since, STOP_DEADLINE) {
        None => Step::Fail(Cause::CannotStop),
        Some(_) => Step::Stop(instance.clone()),
    }
}

/// What is left until what has failed is tried again.
fn patience(world: &World<'_>) -> Option<Duration> {
    let retry = world.status.retry.filter(|_| world.status.state == Observed::Failed)?;
    let left = Duration::from_millis(u64::try_from(retry.0.saturating_sub(world.now.0)).ok()?);
    (!left.is_zero()).then_some(left)
}

/// A document that is held places it elsewhere: what still runs here of that term or an earlier one
/// is of the past. Of a later term it says that the document is old.
fn leave(world: &World<'_>, space: &Space) -> Step {
    let term = space.placement.term;
    let mut instances = world.instances.iter();
    if let Some(past) = instances.find(|one| one.labels.generation.term <= term) {
        return Step::Stop(past.clone());
    }
    if !world.instances.is_empty() {
        return Step::Rest;
    }
    if must_set_aside(world, space) {
        return Step::SetAside;
    }
    match world.status.state {
        Observed::Provisioning | Observed::Starting | Observed::Running | Observed::Stopping => {
            Step::Become(Observed::Stopped)
        }
        _ => Step::Rest,
    }
}

/// Whether a space that is this server's own waits, since its engine has seen a run that this server's
/// database does not know of: the database is older than what has happened, and acts on nothing before
/// it has asked.
pub fn waits_for_data(world: &World<'_>) -> bool {
    let ours = world.space.filter(|space| space.placement.server == world.me && !world.blind);
    ours.is_some_and(|space| is_outdated(world, space))
}

fn is_outdated(world: &World<'_>, space: &Space) -> bool {
    world.instances.iter().any(|one| {
        let generation = one.labels.generation;
        // What an earlier home has left on an engine that both use was never known here.
        let own = one.labels.owner.home == world.me.0;
        let unknown = own && generation > world.status.generation && world.trust != Trust::Current;
        generation.term > space.placement.term || unknown
    })
}

/// Whether the last run here was of a time before the space began anew with empty volumes.
fn must_set_aside(world: &World<'_>, space: &Space) -> bool {
    let (last, emptied) = (world.status.generation, space.emptied);
    let elsewhere = last.term == emptied.term && emptied.server != world.me;
    !world.set_aside && last.n > 0 && (last.term < emptied.term || elsewhere)
}

fn bury(world: &World<'_>) -> Step {
    match (world.instances.first(), world.status.state) {
        (Some(instance), Observed::Deleting) => end(world, instance),
        (None, Observed::Gone) => Step::Rest,
        (None, Observed::Deleting) => Step::Forget,
        (Some(_), _) => patience(world).map_or(Step::Become(Observed::Deleting), Step::RestFor),
        (None, _) => Step::Become(Observed::Deleting),
    }
}

fn stop(world: &World<'_>) -> Step {
    match (world.instances.first(), world.status.state) {
        (Some(instance), Observed::Stopping) => end(world, instance),
        (Some(_), _) => patience(world).map_or(Step::Become(Observed::Stopping), Step::RestFor),
        (None, Observed::Created | Observed::Stopped) => Step::Rest,
        (None, _) => Step::Become(Observed::Stopped),
    }
}

fn run(world: &World<'_>, space: &Space) -> Step {
    let status = world.status;
    let wanted = wanted(world, space);
    let old = world.instances.iter().find(|one| one.labels.generation < wanted);
    if let Some(old) = old {
        return match status.state {
            Observed::Stopping => end(world, old),
            _ => patience(world).map_or(Step::Become(Observed::Stopping), Step::RestFor),
        };
    }
    if wanted > status.generation {
        if must_set_aside(world, space) {
            return Step::SetAside;
        }
        if world.waits_for.is_empty() {
            return Step::Start(wanted);
        }
        let failed = || Step::Fail(Cause::WaitedFor(wanted, world.waits_for.to_vec()));
        return left(world, world.waiting, DEPENDENCY_DEADLINE).map_or_else(failed, Step::WaitFor);
    }
    match status.state {
        Observed::Starting | Observed::Running => watch(world),
        // A failed start stays failed until somebody asks again, or its time has come.
        _ => patience(world).map_or(Step::Rest, Step::RestFor),
    }
}

/// The generation that should run.
///
/// A new one is above the one in the status and every one on the engine: a database older than the
/// engine must not use a number twice.
fn wanted(world: &World<'_>, space: &Space) -> Generation {
    let status = world.status;
    let Placement { term, .. } = space.placement;
    let on_engine = world.instances.iter().map(|one| one.labels.generation).max();
    let newest = on_engine.unwrap_or_default().max(status.generation);
    let failed = status.state == Observed::Failed;
    let never_ran = match status.generation.n {
        // It failed before it had a number: it is tried again in its time.
        0 => !failed,
        _ => status.generation.term < term,
    };
    let asked_again = status.generation.n > 0 && space.restart >= status.generation;
    let again = failed && status.retry.is_some_and(|at| at <= world.now);
    let half_done = status.state == Observed::Provisioning && !world.begun_here;
    let ended = matches!(status.state, Observed::Created | Observed::Stopped | Observed::Stopping);
    let engine_is_ahead = on_engine > Some(status.generation);
    if never_ran || asked_again || again || half_done || ended || engine_is_ahead {
        newest.next(term)
    } else {
        status.generation
    }
}

/// A generation that was started: does its container run, has its agent linked, and is it well?
fn watch(world: &World<'_>) -> Step {
    let status = world.status;
    match world.instances.iter().find(|one| one.labels.generation == status.generation) {
        None => return Step::Fail(Cause::Vanished),
        Some(Instance { state: State::Ended(ended), .. }) => {
            return Step::Fail(Cause::Ended(ended.to_string()));
        }
        Some(_) => {}
    }
    let starting = status.state == Observed::Starting;
    if world.linked < Some(status.generation) {
        if !starting {
            return Step::Rest;
        }
        let late = Step::Fail(Cause::NoAgent);
        return left(world, status.since, link_deadline(status)).map_or(late, Step::RestFor);
    }
    match world.report.map(|report| &report.startup) {
        Some(Startup::Failed(why)) => Step::Fail(Cause::Startup(why.clone())),
        Some(Startup::Done) if starting => Step::Become(Observed::Running),
        None | Some(Startup::Running) if starting => {
            let deadline = link_deadline(status).saturating_add(STARTUP_LIMIT);
            let late = Step::Fail(Cause::SlowStartup);
            left(world, status.since, deadline).map_or(late, Step::RestFor)
        }
        _ => examine(world),
    }
}

/// How long the agent of a generation may take to link.
pub(super) fn link_deadline(status: &SpaceStatus) -> Duration {
    let by_hand = status.driver == Platform::Manual.as_str();
    if by_hand { BY_HAND } else { LINK_DEADLINE }
}

/// A space that runs: is it well?
fn examine(world: &World<'_>) -> Step {
    let status = world.status;
    let Some(report) = world.report else { return Step::Rest };
    let seen = report.health.as_ref().map(|health| (health.well, &*health.words));
    let known = status.health.as_ref().map(|health| health.well);
    if seen.map(|(well, _)| well) != known {
        return Step::Health(seen.map(|(well, words)| (well, words.to_owned())));
    }
    match seen {
        Some((false, words)) if world.restarts > 0 => Step::Fail(Cause::Unwell(words.to_owned())),
        Some((false, _)) => Step::Rest,
        _ if status.restarts == 0 => Step::Rest,
        _ => {
            let well_since = status.health.as_ref().map(|health| health.since);
            let since = well_since.unwrap_or_default().max(status.since);
            left(world, since, WELL).map_or(Step::Forgive, Step::RestFor)
        }
    }
}

#[cfg(test)]
mod tests;
