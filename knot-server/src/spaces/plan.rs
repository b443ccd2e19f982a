//! What a space's home does next: a pure function of what is wanted, known and there.
//!
//! One step at a time: the worker carries it out, writes down what came of it, and asks again.

use std::time::Duration;

use knot_core::{
    clock::Millis,
    generation::Generation,
    id::ServerId,
    model::{Desired, Move, Observed, Placement, Space, SpaceStatus},
};

use super::{
    drivers::{Instance, State},
    trust::Trust,
};

/// How long an agent may take to link, from the start of its container.
pub const LINK_DEADLINE: Duration = Duration::from_secs(60);

/// Everything that the next step depends on.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// The server that asks.
    pub me: ServerId,
    /// The space; `None` where it is dead, or nothing is held of it.
    pub space: Option<&'a Space>,
    /// Whether its grave is held.
    pub dead: bool,
    /// This server's record about it.
    pub status: &'a SpaceStatus,
    /// The instances of the space on this server's engines that carry its labels.
    pub instances: &'a [Instance],
    /// The newest generation whose agent is linked to a server that can be reached.
    pub linked: Option<Generation>,
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
}

/// Says what to do next.
pub fn next(world: &World<'_>) -> Step {
    if world.trust == Trust::Restored {
        return Step::Rest;
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

/// Whether the engine has seen a run that this server's database does not know of: the database is
/// older than what has happened, and acts on nothing before it has asked.
fn is_outdated(world: &World<'_>, space: &Space) -> bool {
    let newest = world.instances.iter().map(|one| one.labels.generation).max();
    newest.is_some_and(|newest| {
        let unknown = newest > world.status.generation && world.trust != Trust::Current;
        newest.term > space.placement.term || unknown
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
        (Some(instance), Observed::Deleting) => Step::Stop(instance.clone()),
        (None, Observed::Gone) => Step::Rest,
        (None, Observed::Deleting) => Step::Forget,
        _ => Step::Become(Observed::Deleting),
    }
}

fn stop(world: &World<'_>) -> Step {
    match (world.instances.first(), world.status.state) {
        (Some(instance), Observed::Stopping) => Step::Stop(instance.clone()),
        (Some(_), _) => Step::Become(Observed::Stopping),
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
            Observed::Running | Observed::Starting => Step::Become(Observed::Stopping),
            _ => Step::Stop(old.clone()),
        };
    }
    if wanted > status.generation {
        return if must_set_aside(world, space) { Step::SetAside } else { Step::Start(wanted) };
    }
    match status.state {
        Observed::Starting | Observed::Running => watch(world),
        // A failed start stays failed until somebody asks again.
        _ => Step::Rest,
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
    let never_ran = status.generation.n == 0 || status.generation.term < term;
    let asked_again = space.restart >= status.generation;
    let half_done = status.state == Observed::Provisioning && !world.begun_here;
    let ended = matches!(status.state, Observed::Created | Observed::Stopped | Observed::Stopping);
    let engine_is_ahead = on_engine > Some(status.generation);
    if never_ran || asked_again || half_done || ended || engine_is_ahead {
        newest.next(term)
    } else {
        status.generation
    }
}

/// A generation that was started: has its agent linked, and does its container run?
fn watch(world: &World<'_>) -> Step {
    let status = world.status;
    match world.instances.iter().find(|one| one.labels.generation == status.generation) {
        None => Step::Fail(Cause::Vanished),
        Some(Instance { state: State::Ended(ended), .. }) => {
            Step::Fail(Cause::Ended(ended.to_string()))
        }
        Some(_) if status.state == Observed::Running => Step::Rest,
        Some(_) if world.linked >= Some(status.generation) => Step::Become(Observed::Running),
        Some(_) => {
            let deadline = status.since.plus(LINK_DEADLINE);
            match u64::try_from(deadline.0.saturating_sub(world.now.0)) {
                Ok(left) if left > 0 => Step::RestFor(Duration::from_millis(left)),
                _ => Step::Fail(Cause::NoAgent),
            }
        }
    }
}

#[cfg(test)]
mod tests;
