//! Whatever an engine and an agent do: a space comes to rest, within a bound, with a cause where it
//! failed; and a restart never shows a space as stopped.

use proptest::prelude::*;

use super::*;
use crate::spaces::restart;

/// Within this, whatever happens: the longest wait for others, a start of 15 minutes at most, the
/// startup script, and a stop of the old generation, each with an engine that fell silent before.
const BOUND: Duration = Duration::from_secs(60 * 60);
/// What a start takes in the model.
const START: Duration = Duration::from_secs(15 * 60);
/// More steps than any way to rest has.
const STEPS: usize = 400;

/// What the world does, from now on.
#[derive(Clone, Copy, Debug)]
struct Fate {
    engine_answers: bool,
    starts_work: bool,
    stops_work: bool,
    agent_links: bool,
    /// 0: it never ends, 1: it fails, 2: it ends well.
    startup: u8,
    stays_up: bool,
    others_run: bool,
    restarts: u64,
}

fn fate() -> impl Strategy<Value = Fate> {
    let flag = any::<bool>;
    (flag(), flag(), flag(), flag(), 0_u8..3, flag(), flag(), 0_u64..3).prop_map(
        |(
            engine_answers,
            starts_work,
            stops_work,
            agent_links,
            startup,
            stays_up,
            others_run,
            restarts,
        )| {
            Fate {
                engine_answers,
                starts_work,
                stops_work,
                agent_links,
                startup,
                stays_up,
                others_run,
                restarts,
            }
        },
    )
}

/// A home and its engine, as the worker and a driver behave.
struct Model {
    space: Option<Space>,
    status: SpaceStatus,
    instances: Vec<Instance>,
    waiting: Option<Millis>,
    begun: Option<Generation>,
    now: Millis,
    seen: Vec<Observed>,
}

impl Model {
    fn become_state(&mut self, state: Observed) {
        if state != self.status.state {
            self.status.since = self.now;
        }
        self.status.state = state;
        self.seen.push(state);
    }

    fn fail(&mut self, cause: &Cause, fate: Fate) {
        if cause.ends() && fate.stops_work {
            self.instances.clear();
        }
        if let Cause::WaitedFor(generation, _) = cause {
            self.status.generation = *generation;
        }
        self.status.retry = restart::after(cause, &self.status, fate.restarts, self.now).0;
        self.status.cause = Some(format!("{cause:?}"));
        self.become_state(Observed::Failed);
    }

    /// One step; `true` where the space rests.
    fn step(&mut self, fate: Fate) -> bool {
        let report = Report {
            startup: match fate.startup {
                0 => Startup::Running,
                1 => Startup::Failed("no".to_owned()),
                _ => Startup::Done,
            },
            ..Report::default()
        };
        let others = vec!["db".to_owned()];
        let step = next(&World {
            me: ME,
            space: self.space.as_ref(),
            driven: false,
            dead: self.space.is_none(),
            status: &self.status,
            instances: if fate.engine_answers { &self.instances } else { &[] },
            linked: fate.agent_links.then_some(self.status.generation),
            report: fate.agent_links.then_some(&report),
            restarts: fate.restarts,
            waits_for: if fate.others_run { &[] } else { &others },
            looking: Millis(0),
            waiting: self.waiting.unwrap_or(self.now),
            blind: !fate.engine_answers,
            begun_here: self.begun == Some(self.status.generation),
            trust: Trust::Current,
            set_aside: true,
            now: self.now,
        });
        let waits = matches!(step, Step::WaitFor(_) | Step::RestFor(_)) && !fate.engine_answers
            || matches!(step, Step::WaitFor(_));
        self.waiting = if waits { self.waiting.or(Some(self.now)) } else { None };
        match step {
            // Nothing moves here, and nothing was here before.
            Step::Rest | Step::Place(_) | Step::SetAside => return true,
            Step::RestFor(most) | Step::WaitFor(most) => self.now = self.now.plus(most),
            Step::Become(state) => {
                self.become_state(state);
                if state == Observed::Stopped {
                    self.status.retry = None;
                }
            }
            Step::Start(generation) => {
                self.begun = Some(generation);
                self.status.restarts += u64::from(self.status.retry.is_some());
                self.status.generation = generation;
                self.status.retry = None;
                self.become_state(Observed::Provisioning);
                if fate.starts_work {
                    let state =
                        if fate.stays_up { State::Running } else { State::Ended(Ended::default()) };
                    self.instances.push(instance_of(generation, state));
                    self.become_state(Observed::Starting);
                } else {
                    self.now = self.now.plus(START);
                    self.status.cause = Some("the engine said no".to_owned());
                    self.become_state(Observed::Failed);
                }
            }
            Step::Stop(instance) if fate.stops_work => {
                self.instances.retain(|one| one.id != instance.id);
            }
            Step::Stop(_) => self.now = self.now.plus(Duration::from_secs(42)),
            Step::Fail(cause) => self.fail(&cause, fate),
            Step::Forget => self.become_state(Observed::Gone),
            Step::Health(_) | Step::Forgive => self.status.restarts = 0,
        }
        false
    }
}

fn instance_of(generation: Generation, state: State) -> Instance {
    let owner = Owner { cluster: Uuid::nil(), home: ME.0 };
    let labels = Labels { owner, space: Uuid::nil(), generation, revision: String::new() };
    Instance { id: InstanceId(generation.to_string()), labels, state }
}

fn state() -> impl Strategy<Value = Observed> {
    prop::sample::select(vec![
        Observed::Created,
        Observed::Provisioning,
        Observed::Starting,
        Observed::Running,
        Observed::Stopping,
        Observed::Stopped,
        Observed::Failed,
        Observed::Deleting,
    ])
}

#[derive(Clone, Copy, Debug)]
enum Want {
    Run,
    Restart,
    Stop,
    Delete,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn every_state_has_an_end(
        state in state(),
        want in prop::sample::select(vec![Want::Run, Want::Restart, Want::Stop, Want::Delete]),
        there in any::<bool>(),
        begun_here in any::<bool>(),
        fate in fate(),
    ) {
        // A space that is being deleted has a grave, and that is for ever.
        prop_assume!(state != Observed::Deleting || matches!(want, Want::Delete));
        let n = u64::from(state != Observed::Created);
        let restart = if matches!(want, Want::Restart) { generation(n) } else { Generation::default() };
        let desired = if matches!(want, Want::Stop) { Desired::Stopped } else { Desired::Running };
        let wanted = Space { restart, ..space(desired) };
        let mut model = Model {
            space: (!matches!(want, Want::Delete)).then_some(wanted),
            status: status(state, n),
            instances: if there && n > 0 { vec![instance(1, State::Running)] } else { Vec::new() },
            waiting: None,
            begun: begun_here.then_some(generation(n)),
            now: Millis(0),
            seen: vec![state],
        };
        // It is settled once it rests, or has failed with a cause: what is tried again after that is
        // a try of its own.
        let mut settled = false;
        for _ in 0..STEPS {
            settled = model.step(fate);
            let failed = model.status.state == Observed::Failed && model.status.cause.is_some();
            settled |= failed && model.seen.len() > 1;
            if settled {
                break;
            }
        }
        prop_assert!(settled, "it never rests: {:?} {:?}", model.seen, model.status);
        prop_assert!(model.now <= Millis(0).plus(BOUND), "{:?} at {}", model.seen, model.now);
        let busy = matches!(
            model.status.state,
            Observed::Starting | Observed::Stopping | Observed::Deleting
        ) || model.status.state == Observed::Provisioning && model.begun != Some(model.status.generation);
        prop_assert!(!busy, "it rests in {} after {:?}", model.status.state, model.seen);
    }

    /// knot of old showed a restarted space as stopped while it started.
    #[test]
    fn a_restart_is_never_seen_as_a_stop(fate in fate(), linked in any::<bool>()) {
        let state = if linked { Observed::Running } else { Observed::Starting };
        let mut model = Model {
            space: Some(Space { restart: generation(1), ..space(Desired::Running) }),
            status: status(state, 1),
            instances: vec![instance(1, State::Running)],
            waiting: None,
            begun: Some(generation(1)),
            now: Millis(0),
            seen: vec![state],
        };
        for _ in 0..STEPS {
            if model.step(fate) {
                break;
            }
        }
        prop_assert!(!model.seen.contains(&Observed::Stopped), "{:?}", model.seen);
        if model.status.generation > generation(1) {
            let started = model.seen.iter().filter(|state| **state == Observed::Provisioning).count();
            prop_assert!(started as u64 <= 1 + fate.restarts + 1, "{:?}", model.seen);
        }
    }
}
