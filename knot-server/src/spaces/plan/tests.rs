use knot_core::{agent::Health, generation::Generation, model::SpaceHealth};
use uuid::Uuid;

use super::*;
use crate::spaces::drivers::{Ended, InstanceId, Labels, Owner};

const ME: ServerId = ServerId(Uuid::from_u128(1));
const OTHER: ServerId = ServerId(Uuid::from_u128(2));

fn generation(n: u64) -> Generation {
    Generation { term: 1, n }
}

fn space(desired: Desired) -> Space {
    Space { placement: Placement { term: 1, server: ME }, desired, ..Space::default() }
}

fn status(state: Observed, n: u64) -> SpaceStatus {
    let term = u64::from(n > 0);
    SpaceStatus { state, generation: Generation { term, n }, ..SpaceStatus::default() }
}

fn instance(n: u64, state: State) -> Instance {
    let owner = Owner { cluster: Uuid::nil(), home: ME.0 };
    let (space, revision) = (Uuid::nil(), String::new());
    let labels = Labels { owner, space, generation: generation(n), revision };
    Instance { id: InstanceId(n.to_string()), labels, state }
}

struct Case {
    space: Option<Space>,
    dead: bool,
    driven: bool,
    status: SpaceStatus,
    instances: Vec<Instance>,
    linked: Option<Generation>,
    report: Option<Report>,
    restarts: u64,
    waits_for: Vec<String>,
    blind: bool,
    begun_here: bool,
    looking: i64,
    trust: Trust,
    set_aside: bool,
    now: i64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            space: Some(space(Desired::Running)),
            dead: false,
            driven: false,
            status: SpaceStatus::default(),
            instances: Vec::new(),
            linked: None,
            report: Some(Report { startup: Startup::Done, ..Report::default() }),
            restarts: 0,
            waits_for: Vec::new(),
            blind: false,
            begun_here: true,
            looking: 0,
            trust: Trust::Current,
            set_aside: false,
            now: 0,
        }
    }
}

fn check(case: Case, expected: Step) {
    let world = World {
        me: ME,
        space: case.space.as_ref(),
        dead: case.dead,
        driven: case.driven,
        status: &case.status,
        instances: &case.instances,
        linked: case.linked,
        report: case.report.as_ref(),
        restarts: case.restarts,
        waits_for: &case.waits_for,
        looking: Millis(case.looking),
        waiting: Millis(0),
        blind: case.blind,
        begun_here: case.begun_here,
        trust: case.trust,
        set_aside: case.set_aside,
        now: Millis(case.now),
    };
    assert_eq!(next(&world), expected, "{world:?}");
}

#[test]
fn a_space_that_is_wanted_is_started_once() {
    check(Case::default(), Step::Start(generation(1)));
    for state in [Observed::Created, Observed::Stopped] {
        check(Case { status: status(state, 3), ..Case::default() }, Step::Start(generation(4)));
    }
    let provisioning = status(Observed::Provisioning, 1);
    check(Case { status: provisioning, ..Case::default() }, Step::Rest);
}

#[test]
fn a_start_that_a_killed_server_left_half_done_becomes_the_next_generation() {
    let half =
        || Case { status: status(Observed::Provisioning, 1), begun_here: false, ..Case::default() };
    check(half(), Step::Start(generation(2)));
    let created = instance(1, State::Created);
    let stops = Step::Become(Observed::Stopping);
    check(Case { instances: vec![created.clone()], ..half() }, stops);
    let stopping = status(Observed::Stopping, 1);
    let ended = Case { status: stopping, instances: vec![created.clone()], ..half() };
    check(ended, Step::Stop(created));
}

#[test]
fn a_running_container_is_adopted_after_a_server_restart() {
    let adopted = |linked| Case {
        status: status(Observed::Starting, 1),
        instances: vec![instance(1, State::Running)],
        begun_here: false,
        linked,
        ..Case::default()
    };
    check(adopted(None), Step::RestFor(LINK_DEADLINE));
    check(adopted(Some(generation(1))), Step::Become(Observed::Running));
}

#[test]
fn an_agent_that_never_links_is_a_stated_cause() {
    let late = Case {
        status: status(Observed::Starting, 1),
        instances: vec![instance(1, State::Running)],
        now: 60_000,
        ..Case::default()
    };
    check(late, Step::Fail(Cause::NoAgent));
}

#[test]
fn a_home_that_was_away_gives_everything_its_time_again() {
    let one = instance(1, State::Running);
    let back = |desired, state| Case {
        space: Some(space(desired)),
        status: status(state, 1),
        instances: vec![one.clone()],
        begun_here: false,
        looking: 86_400_000,
        now: 86_400_000,
        ..Case::default()
    };
    check(back(Desired::Running, Observed::Starting), Step::RestFor(LINK_DEADLINE));
    check(back(Desired::Stopped, Observed::Stopping), Step::Stop(one.clone()));
}

#[test]
fn a_person_has_longer_to_start_an_agent_than_an_engine() {
    let late = |now| Case {
        status: SpaceStatus { driver: "manual".to_owned(), ..status(Observed::Starting, 1) },
        instances: vec![instance(1, State::Running)],
        now,
        ..Case::default()
    };
    check(late(60_000), Step::RestFor(BY_HAND - LINK_DEADLINE));
    check(late(24 * 3_600_000), Step::Fail(Cause::NoAgent));
}

#[test]
fn a_container_that_ended_or_vanished_is_a_stated_cause() {
    let running =
        |instances| Case { status: status(Observed::Running, 1), instances, ..Case::default() };
    check(running(vec![instance(1, State::Running)]), Step::Rest);
    check(running(vec![]), Step::Fail(Cause::Vanished));
    let ended = Ended { status: Some(3), ..Ended::default() };
    let step = Step::Fail(Cause::Ended(ended.to_string()));
    check(running(vec![instance(1, State::Ended(ended))]), step);
}

#[test]
fn a_restart_ends_the_generation_it_names_once() {
    let asked = Space { restart: generation(1), ..space(Desired::Running) };
    let at = |state, n, instances| Case {
        space: Some(asked.clone()),
        status: status(state, n),
        instances,
        ..Case::default()
    };
    let (one, two) = (instance(1, State::Running), instance(2, State::Running));
    check(at(Observed::Running, 1, vec![one.clone()]), Step::Become(Observed::Stopping));
    check(at(Observed::Stopping, 1, vec![one.clone()]), Step::Stop(one));
    check(at(Observed::Stopping, 1, vec![]), Step::Start(generation(2)));
    check(at(Observed::Running, 2, vec![two]), Step::Rest);
}

#[test]
fn a_failed_start_is_tried_again_only_when_asked() {
    let failed = status(Observed::Failed, 2);
    check(Case { status: failed.clone(), ..Case::default() }, Step::Rest);
    let asked = Space { restart: generation(2), ..space(Desired::Running) };
    check(
        Case { space: Some(asked), status: failed, ..Case::default() },
        Step::Start(generation(3)),
    );
}

#[test]
fn a_number_on_the_engine_is_never_used_again() {
    let forgotten = Case {
        status: status(Observed::Running, 1),
        instances: vec![instance(5, State::Running)],
        begun_here: false,
        ..Case::default()
    };
    let old = instance(5, State::Running);
    check(forgotten, Step::Become(Observed::Stopping));
    let stopping = Case {
        status: status(Observed::Stopping, 1),
        instances: vec![old.clone()],
        begun_here: false,
        ..Case::default()
    };
    check(stopping, Step::Stop(old));
}

#[test]
fn a_stop_ends_in_stopped() {
    let wanted = || Some(space(Desired::Stopped));
    let one = instance(1, State::Running);
    let at = |state, instances| Case {
        space: wanted(),
        status: status(state, 1),
        instances,
        ..Case::default()
    };
    check(at(Observed::Running, vec![one.clone()]), Step::Become(Observed::Stopping));
    check(at(Observed::Stopping, vec![one.clone()]), Step::Stop(one));
    check(at(Observed::Stopping, vec![]), Step::Become(Observed::Stopped));
    check(at(Observed::Stopped, vec![]), Step::Rest);
    check(at(Observed::Failed, vec![]), Step::Become(Observed::Stopped));
    check(Case { space: wanted(), ..Case::default() }, Step::Rest);
}

#[test]
fn a_dead_space_is_taken_down_and_forgotten() {
    let dead = |state, instances| Case {
        space: None,
        dead: true,
        status: status(state, 1),
        instances,
        ..Case::default()
    };
    let one = instance(1, State::Running);
    check(dead(Observed::Running, vec![one.clone()]), Step::Become(Observed::Deleting));
    check(dead(Observed::Deleting, vec![one.clone()]), Step::Stop(one));
    check(dead(Observed::Deleting, vec![]), Step::Forget);
    check(dead(Observed::Gone, vec![]), Step::Rest);
}

#[test]
fn an_unknown_space_is_left_alone() {
    let unknown =
        Case { space: None, instances: vec![instance(1, State::Running)], ..Case::default() };
    check(unknown, Step::Rest);
}

/// A space that lives on another server from term 2 on, and began there with empty volumes or not.
fn elsewhere(emptied: bool) -> Space {
    let placement = Placement { term: 2, server: OTHER };
    let emptied = if emptied { placement } else { Placement::default() };
    Space { placement, emptied, ..space(Desired::Running) }
}

#[test]
fn a_space_that_is_placed_elsewhere_is_stopped_here() {
    let one = instance(1, State::Running);
    let at = |state, instances: &[Instance]| Case {
        space: Some(elsewhere(false)),
        status: status(state, 1),
        instances: instances.to_vec(),
        ..Case::default()
    };
    check(at(Observed::Running, std::slice::from_ref(&one)), Step::Stop(one));
    check(at(Observed::Running, &[]), Step::Become(Observed::Stopped));
    check(at(Observed::Stopped, &[]), Step::Rest);
    check(Case { space: Some(elsewhere(false)), ..Case::default() }, Step::Rest);
}

#[test]
fn what_a_space_that_began_anew_elsewhere_left_here_is_set_aside_once() {
    let left = |set_aside| Case {
        space: Some(elsewhere(true)),
        status: status(Observed::Stopped, 1),
        set_aside,
        ..Case::default()
    };
    check(left(false), Step::SetAside);
    check(left(true), Step::Rest);
    // It comes back with empty volumes, and finds none of what it left.
    let placement = Placement { term: 3, server: ME };
    let back = |set_aside| Case {
        space: Some(Space { placement, emptied: placement, ..space(Desired::Running) }),
        ..left(set_aside)
    };
    check(back(false), Step::SetAside);
    check(back(true), Step::Start(Generation { term: 3, n: 2 }));
    // Two servers recovered it at once, and the other is it.
    let both = Case { space: Some(elsewhere(true)), ..left(false) };
    let ours = SpaceStatus { generation: Generation { term: 2, n: 1 }, ..both.status.clone() };
    check(Case { status: ours, ..both }, Step::SetAside);
}

#[test]
fn a_space_that_is_to_move_is_stopped_and_then_handed_over() {
    let wanted = Move { placement: Placement { term: 2, server: OTHER }, empty: true };
    let at = |state, instances: &[Instance]| Case {
        space: Some(Space { moving: wanted, ..space(Desired::Running) }),
        status: status(state, 1),
        instances: instances.to_vec(),
        ..Case::default()
    };
    let one = instance(1, State::Running);
    check(at(Observed::Running, std::slice::from_ref(&one)), Step::Become(Observed::Stopping));
    check(at(Observed::Stopping, std::slice::from_ref(&one)), Step::Stop(one));
    check(at(Observed::Stopping, &[]), Step::Become(Observed::Stopped));
    check(at(Observed::Stopped, &[]), Step::Place(wanted));
    // One that a recovery has overtaken is nothing.
    let over = Space { moving: wanted, ..elsewhere(false) };
    let placed = Placement { term: 2, server: ME };
    let over = Space { placement: placed, desired: Desired::Stopped, ..over };
    check(
        Case { space: Some(over), status: status(Observed::Stopped, 1), ..Case::default() },
        Step::Rest,
    );
}

#[test]
fn what_an_engine_knows_better_is_waited_for() {
    let newer = |trust| Case {
        status: status(Observed::Running, 1),
        instances: vec![instance(5, State::Running)],
        trust,
        ..Case::default()
    };
    check(newer(Trust::Unchecked), Step::Rest);
    check(newer(Trust::Restored), Step::Rest);
    check(newer(Trust::Current), Step::Become(Observed::Stopping));
    // Of a later term: the document is old, whoever says what.
    let mut later = instance(1, State::Running);
    later.labels.generation = Generation { term: 3, n: 1 };
    for trust in [Trust::Unchecked, Trust::Current] {
        for space in [space(Desired::Running), space(Desired::Stopped), elsewhere(true)] {
            let instances = vec![later.clone()];
            check(Case { space: Some(space), instances, trust, ..Case::default() }, Step::Rest);
        }
    }
}

#[test]
fn a_restored_database_acts_on_nothing() {
    let one = || vec![instance(1, State::Running)];
    for (space, dead) in [
        (Some(space(Desired::Running)), false),
        (Some(space(Desired::Stopped)), false),
        (Some(elsewhere(false)), false),
        (None, true),
    ] {
        for instances in [one(), Vec::new()] {
            let status = status(Observed::Running, 1);
            let trust = Trust::Restored;
            let space = space.clone();
            check(Case { space, dead, status, instances, trust, ..Case::default() }, Step::Rest);
        }
    }
}

fn running(report: Report, status: SpaceStatus) -> Case {
    Case {
        status,
        instances: vec![instance(1, State::Running)],
        linked: Some(generation(1)),
        report: Some(report),
        ..Case::default()
    }
}

#[test]
fn a_space_runs_once_its_startup_script_has_ended_well() {
    let starting = |startup, now| Case {
        now,
        ..running(Report { startup, ..Report::default() }, status(Observed::Starting, 1))
    };
    let bound = LINK_DEADLINE + STARTUP_LIMIT;
    check(starting(Startup::Running, 0), Step::RestFor(bound));
    check(starting(Startup::Done, 0), Step::Become(Observed::Running));
    let why = "status 1".to_owned();
    check(starting(Startup::Failed(why.clone()), 0), Step::Fail(Cause::Startup(why)));
    check(starting(Startup::Running, 3_600_000), Step::Fail(Cause::SlowStartup));
}

#[test]
fn an_unwell_space_is_shown_and_ended_where_it_may_be_restarted() {
    let report = |well| {
        let health = Some(Health { well, words: "refused".to_owned() });
        Report { startup: Startup::Done, health, ..Report::default() }
    };
    let known = |well| SpaceStatus {
        health: Some(SpaceHealth { well, since: Millis(0), words: String::new() }),
        restarts: 1,
        ..status(Observed::Running, 1)
    };
    let seen = Step::Health(Some((false, "refused".to_owned())));
    check(running(report(false), status(Observed::Running, 1)), seen);
    check(running(report(false), known(false)), Step::Rest);
    let may = Case { restarts: 3, ..running(report(false), known(false)) };
    check(may, Step::Fail(Cause::Unwell("refused".to_owned())));
    check(running(report(true), known(true)), Step::RestFor(WELL));
    check(Case { now: 700_000, ..running(report(true), known(true)) }, Step::Forgive);
}

#[test]
fn what_has_failed_is_tried_again_in_its_time_and_only_if_it_was_promised() {
    let failed = |retry| SpaceStatus { retry, ..status(Observed::Failed, 1) };
    let at = |retry, now| Case { status: failed(retry), now, ..Case::default() };
    check(at(None, 99_000), Step::Rest);
    check(at(Some(Millis(20_000)), 5_000), Step::RestFor(Duration::from_secs(15)));
    check(at(Some(Millis(20_000)), 20_000), Step::Start(generation(2)));
}

#[test]
fn a_start_waits_for_others_and_not_for_ever() {
    let names = vec!["db".to_owned()];
    let waits = |now| Case { waits_for: names.clone(), now, ..Case::default() };
    check(waits(0), Step::WaitFor(DEPENDENCY_DEADLINE));
    let failed = Cause::WaitedFor(generation(1), names.clone());
    check(waits(300_000), Step::Fail(failed));
    // What runs already is not ended when something that it needs ends.
    let up = running(
        Report { startup: Startup::Done, ..Report::default() },
        status(Observed::Running, 1),
    );
    check(Case { waits_for: names.clone(), ..up }, Step::Rest);
}

#[test]
fn an_engine_that_does_not_answer_is_a_stated_cause() {
    for (state, desired) in [
        (Observed::Starting, Desired::Running),
        (Observed::Stopping, Desired::Stopped),
        (Observed::Running, Desired::Stopped),
        (Observed::Stopped, Desired::Running),
    ] {
        let blind = |now| Case {
            space: Some(space(desired)),
            status: status(state, 1),
            blind: true,
            now,
            ..Case::default()
        };
        check(blind(0), Step::RestFor(ENGINE_DEADLINE));
        check(blind(60_000), Step::Fail(Cause::Blind));
    }
    let at_rest = Case { status: status(Observed::Running, 1), blind: true, ..Case::default() };
    check(at_rest, Step::Rest);
}

mod bound;

#[test]
fn what_another_part_of_the_cluster_drives_is_left_alone() {
    for desired in [Desired::Running, Desired::Stopped] {
        let case = |state, instances| Case {
            space: Some(space(desired)),
            driven: true,
            status: status(state, 3),
            instances,
            ..Case::default()
        };
        for state in [Observed::Starting, Observed::Running, Observed::Stopped, Observed::Failed] {
            check(case(state, vec![instance(3, State::Running)]), Step::Rest);
            let settled = state == Observed::Stopped;
            let gone = if settled { Step::Rest } else { Step::Become(Observed::Stopped) };
            check(case(state, vec![]), gone);
        }
    }
}

#[test]
fn what_an_earlier_home_left_on_a_shared_engine_is_ended() {
    let mut left = instance(5, State::Running);
    left.labels.owner.home = OTHER.0;
    let moved = |desired, state| Case {
        space: Some(Space { placement: Placement { term: 2, server: ME }, ..space(desired) }),
        status: status(state, 0),
        instances: vec![left.clone()],
        trust: Trust::Unchecked,
        ..Case::default()
    };
    for desired in [Desired::Stopped, Desired::Running] {
        check(moved(desired, Observed::Created), Step::Become(Observed::Stopping));
        check(moved(desired, Observed::Stopping), Step::Stop(left.clone()));
    }
}
