//! What a server does about a space of another home, on an engine that both use: a pure function.
//!
//! The home alone starts a space: it alone raises the generation, and has the key of its agent. While
//! the home is out of reach one of the servers that hear each other and use its engine stops the space
//! if that is wanted, and says what it sees and does in its own record. Once the home is heard again, and
//! has seen as much, that is taken back.

use std::time::Duration;

use knot_core::{
    clock::Millis,
    model::{Desired, Observed, SpaceStatus, Witness},
};

use super::drivers::{Instance, Job, State};

/// How long ending what runs may take, all tries counted.
const STOP_DEADLINE: Duration = Duration::from_secs(5 * 60);
const STOPPED: &str = "its home cannot be reached: another server that uses the same engine has \
    stopped it";
const STOPPING: &str =
    "its home cannot be reached: another server that uses the same engine stops it";
const WAITS: &str = "its home, which alone starts it, cannot be reached: it is started once it can";

/// Who acts on a space, of the servers that this one hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Its home, which is heard and sees the engine.
    Home,
    /// This server.
    Me,
    /// Another one; or this one sees nothing of the engine.
    Another,
}

/// Everything that the next step depends on.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Who acts.
    pub actor: Actor,
    /// What is wanted of the space; `None` once it is dead.
    pub desired: Option<Desired>,
    /// What the engine has of it.
    pub job: Option<&'a Job>,
    /// Whether that serves a change that is not held here.
    pub driven: bool,
    /// The home's record.
    pub home: &'a SpaceStatus,
    /// What this server's own record says in place of the home's.
    pub witness: Option<&'a Witness>,
    /// The time on this server's clock.
    pub now: Millis,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Rest,
    /// End this instance.
    Stop(Instance),
    /// Write this into this server's record; `None` takes back what it says.
    Say(Option<Witness>),
}

/// Says what to do next.
pub fn next(world: &World<'_>) -> Step {
    match (world.actor, world.job) {
        (Actor::Home, job) => withdraw(world, job),
        (Actor::Another, _) | (Actor::Me, None) => Step::Rest,
        (Actor::Me, Some(job)) => act(world, job),
    }
}

/// The home is back: what was said for it is taken back once it has seen as much. An engine whose
/// numbers have begun anew is waited for by nobody.
fn withdraw(world: &World<'_>, job: Option<&Job>) -> Step {
    let Some(witness) = world.witness else { return Step::Rest };
    let seen = world.home.index >= witness.index || world.home.generation > witness.generation;
    let anew = job.is_none_or(|job| job.index < witness.index);
    if seen || anew { Step::Say(None) } else { Step::Rest }
}

fn act(world: &World<'_>, job: &Job) -> Step {
    if world.driven {
        return say(world, job, seen(job), Some(driven(job)));
    }
    if world.desired != Some(Desired::Running) {
        return match job.instance() {
            Some(instance) => stop(world, job, instance),
            None if is_known(world, job, Observed::Stopped) => Step::Rest,
            None => say(world, job, Observed::Stopped, Some(STOPPED.to_owned())),
        };
    }
    let state = seen(job);
    if is_known(world, job, state) {
        return Step::Rest;
    }
    let words = (!job.lives()).then(|| WAITS.to_owned());
    say(world, job, state, words)
}

fn stop(world: &World<'_>, job: &Job, instance: Instance) -> Step {
    let begun = world.witness.filter(|witness| witness.state == Observed::Stopping);
    match begun {
        None if world.witness.is_some_and(|one| one.state == Observed::Failed) => Step::Rest,
        None => say(world, job, Observed::Stopping, Some(STOPPING.to_owned())),
        Some(witness) if world.now > witness.since.plus(STOP_DEADLINE) => {
            let minutes = STOP_DEADLINE.as_secs() / 60;
            let why =
                format!("its home cannot be reached, and it did not stop within {minutes} min");
            say(world, job, Observed::Failed, Some(why))
        }
        Some(_) => Step::Stop(instance),
    }
}

/// Whether nothing has been said in place of the home, and its own record says it already.
fn is_known(world: &World<'_>, job: &Job, state: Observed) -> bool {
    let home = world.home;
    world.witness.is_none() && (home.state == state || home.index >= job.index)
}

/// The state that a job is in.
pub(super) fn seen(job: &Job) -> Observed {
    match job.state {
        Some(State::Running) => Observed::Running,
        Some(State::Created) => Observed::Starting,
        Some(State::Ended(_)) | None => Observed::Stopped,
    }
}

/// That servers which are not heard drive a space, for people.
pub(super) fn driven(job: &Job) -> String {
    format!(
        "{DRIVEN} ({job}): what is asked for here is kept, and looked at once the servers reach each \
         other"
    )
}

/// How that begins.
pub(super) const DRIVEN: &str = "a part of the cluster that cannot be reached from here drives it";

fn say(world: &World<'_>, job: &Job, state: Observed, words: Option<String>) -> Step {
    let before = world.witness;
    let since = before.filter(|before| before.state == state).map_or(world.now, |one| one.since);
    let generation = job.labels.generation;
    let said = Witness { state, since, generation, index: job.index, words };
    if before == Some(&said) { Step::Rest } else { Step::Say(Some(said)) }
}

#[cfg(test)]
mod tests;
