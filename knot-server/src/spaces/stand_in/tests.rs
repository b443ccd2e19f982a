use knot_core::{generation::Generation, id::ChangeHash};
use uuid::Uuid;

use super::*;
use crate::spaces::drivers::{InstanceId, Labels, Owner};

struct Case {
    actor: Actor,
    desired: Option<Desired>,
    job: Option<Job>,
    driven: bool,
    home: SpaceStatus,
    witness: Option<Witness>,
    now: i64,
}

impl Default for Case {
    /// The home was cut off while the space ran.
    fn default() -> Self {
        let generation = Generation { term: 1, n: 3 };
        let home = SpaceStatus {
            state: Observed::Running,
            generation,
            index: 10,
            ..SpaceStatus::default()
        };
        let job = Some(job(Some(State::Running), 10));
        let desired = Some(Desired::Running);
        Self { actor: Actor::Me, desired, job, driven: false, home, witness: None, now: 0 }
    }
}

fn job(state: Option<State>, index: u64) -> Job {
    let owner = Owner { cluster: Uuid::nil(), home: Uuid::from_u128(2) };
    let generation = Generation { term: 1, n: 3 };
    let labels = Labels { owner, space: Uuid::nil(), generation, revision: String::new() };
    let (id, serves) = (InstanceId("job".to_owned()), Some(ChangeHash([7; 32])));
    Job { id, labels, serves, state, index }
}

fn witness(state: Observed, index: u64, words: Option<&str>) -> Witness {
    let generation = Generation { term: 1, n: 3 };
    let words = words.map(str::to_owned);
    Witness { state, since: Millis(0), generation, index, words }
}

#[track_caller]
fn check(case: Case, expected: Step) {
    let world = World {
        actor: case.actor,
        desired: case.desired,
        job: case.job.as_ref(),
        driven: case.driven,
        home: &case.home,
        witness: case.witness.as_ref(),
        now: Millis(case.now),
    };
    assert_eq!(next(&world), expected, "{world:?}");
}

#[test]
fn what_runs_as_its_home_said_is_left_alone_and_nothing_is_said() {
    check(Case::default(), Step::Rest);
    check(Case { job: Some(job(Some(State::Running), 12)), ..Case::default() }, Step::Rest);
    check(Case { job: None, ..Case::default() }, Step::Rest);
}

#[test]
fn what_is_not_wanted_is_stopped_and_that_is_said() {
    for desired in [Some(Desired::Stopped), None] {
        let case = || Case { desired, ..Case::default() };
        let stopping = witness(Observed::Stopping, 10, Some(STOPPING));
        check(case(), Step::Say(Some(stopping.clone())));
        let instance = job(Some(State::Running), 10).instance().unwrap();
        let begun = || Case { witness: Some(stopping.clone()), ..case() };
        check(begun(), Step::Stop(instance));
        let failed = begun();
        let late = i64::try_from(STOP_DEADLINE.as_millis()).unwrap() + 1;
        let Step::Say(Some(said)) = next_of(&Case { now: late, ..failed }) else { panic!("says") };
        assert_eq!(said.state, Observed::Failed);
        check(Case { witness: Some(said), now: late, ..case() }, Step::Rest);
        let gone = Case { job: Some(job(None, 20)), ..begun() };
        let stopped = witness(Observed::Stopped, 20, Some(STOPPED));
        check(gone, Step::Say(Some(stopped.clone())));
        check(Case { job: Some(job(None, 20)), witness: Some(stopped), ..case() }, Step::Rest);
    }
}

fn next_of(case: &Case) -> Step {
    next(&World {
        actor: case.actor,
        desired: case.desired,
        job: case.job.as_ref(),
        driven: case.driven,
        home: &case.home,
        witness: case.witness.as_ref(),
        now: Millis(case.now),
    })
}

#[test]
fn nobody_but_the_home_starts_it() {
    let stopped = || Case { job: Some(job(None, 20)), ..Case::default() };
    let waits = witness(Observed::Stopped, 20, Some(WAITS));
    check(stopped(), Step::Say(Some(waits.clone())));
    check(Case { witness: Some(waits), ..stopped() }, Step::Rest);
}

#[test]
fn a_job_that_serves_what_is_not_held_here_is_left_alone_and_that_is_said() {
    for desired in [Some(Desired::Running), Some(Desired::Stopped), None] {
        let job = job(Some(State::Running), 20);
        let said = witness(Observed::Running, 20, Some(&driven(&job)));
        let case = || Case { desired, driven: true, job: Some(job.clone()), ..Case::default() };
        check(case(), Step::Say(Some(said.clone())));
        check(Case { witness: Some(said), ..case() }, Step::Rest);
    }
}

#[test]
fn a_server_that_does_not_act_touches_nothing() {
    for actor in [Actor::Home, Actor::Another] {
        for driven in [false, true] {
            let desired = Some(Desired::Stopped);
            check(Case { actor, desired, driven, ..Case::default() }, Step::Rest);
        }
    }
}

#[test]
fn what_was_said_is_taken_back_once_the_home_has_seen_as_much() {
    let said = || Some(witness(Observed::Stopped, 20, Some(STOPPED)));
    let back = |index, now| {
        let home = SpaceStatus { index, ..Case::default().home };
        let job = Some(job(None, now));
        Case { actor: Actor::Home, job, home, witness: said(), ..Case::default() }
    };
    check(back(10, 20), Step::Rest);
    check(back(20, 20), Step::Say(None));
    // Nomad has been made anew, and counts from the beginning.
    check(back(3, 3), Step::Say(None));
    check(Case { job: None, ..back(10, 20) }, Step::Say(None));
}
