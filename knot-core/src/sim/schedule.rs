//! Schedules: what is done and what goes wrong, as proptest makes and shrinks them.

use std::time::Duration;

use proptest::prelude::*;

use super::{Carriage, Failure, Fault, Network, Operation, Traffic, World};
use crate::doc::Layering;

/// How long a schedule waits until enough servers hold an edit.
const DURABLE: Duration = Duration::from_secs(5);

/// What happens in a world, in order.
#[derive(Clone, Debug)]
pub struct Schedule<O> {
    /// Decides everything that the schedule leaves open.
    pub seed: u64,
    /// How many servers there are.
    pub servers: usize,
    /// Up to so many linked peers, news goes straight to each; beyond, along a tree.
    pub direct: usize,
    /// How messages travel.
    pub network: Network,
    /// How long the layers of documents are.
    pub layering: Layering,
    /// What happens, one after the other.
    pub steps: Vec<Step<O>>,
}

/// One thing that happens. Servers are named by their place; a place past the last counts from 0.
#[derive(Clone, Debug)]
pub enum Step<O> {
    /// A server is asked to do this.
    Ask(usize, O),
    /// A server is asked to do this, and told once so many servers hold it.
    AskDurable(usize, O, usize),
    /// So many milliseconds pass.
    Wait(u64),
    /// Servers whose bits are equal see each other, the others do not.
    Cut(u8),
    /// Every separation ends.
    Heal,
    /// The connection of two servers breaks.
    Break(usize, usize),
    /// A server is killed.
    Crash(usize),
    /// A server that does not run is started.
    Start(usize),
    /// The next commit of a server fails.
    Fail(usize, Fault),
    /// From now on every commit of a server fails, until it is killed.
    Fill(usize),
    /// A server's disk is copied.
    Backup(usize),
    /// A server's last copy is put on its disk; without one, nothing happens.
    Restore(usize),
    /// A server's wall clock is off by so many seconds.
    Clock(usize, i32),
    /// Every machine sleeps for so many days.
    Sleep(u8),
}

/// Schedules of 2 to 5 servers with the operations and all faults.
pub fn schedule<O: Operation>() -> impl Strategy<Value = Schedule<O>> {
    let steps = prop::collection::vec(step::<O>(), 1..60);
    let direct = prop_oneof![3 => Just(30_usize), 2 => Just(0), 1 => 1_usize..3];
    (any::<u64>(), 2_usize..=5, direct, network(), layering(), steps).prop_map(
        |(seed, servers, direct, network, layering, steps)| Schedule {
            seed,
            servers,
            direct,
            network,
            layering,
            steps,
        },
    )
}

/// Layers as they are, or so short that there are many.
fn layering() -> impl Strategy<Value = Layering> {
    let short = (1_usize..6, 1_usize..4).prop_map(|(full, loose)| Layering { full, loose });
    prop_oneof![1 => Just(Layering::default()), 2 => short]
}

fn network() -> impl Strategy<Value = Network> {
    let loose = (0_u8..=30, 0_u8..=30).prop_map(|(loss, twice)| Carriage::Loose { loss, twice });
    let carriage = prop_oneof![2 => Just(Carriage::Ordered), 1 => loose];
    let delay = prop_oneof![Just(1..=20), Just(1..=200), Just(20..=800)];
    (delay, carriage).prop_map(|(delay, carriage)| Network { delay, carriage })
}

fn step<O: Operation>() -> impl Strategy<Value = Step<O>> {
    let at = || 0_usize..5;
    let fault = prop_oneof![Just(Fault::Fails), Just(Fault::InDoubt)];
    prop_oneof![
        40 => (at(), O::strategy()).prop_map(|(at, operation)| Step::Ask(at, operation)),
        8 => (at(), O::strategy(), 1_usize..=5)
            .prop_map(|(at, operation, servers)| Step::AskDurable(at, operation, servers)),
        16 => prop_oneof![4 => 0_u64..100, 2 => 100_u64..2_000, 1 => 2_000_u64..15_000]
            .prop_map(Step::Wait),
        3 => (1_u8..31).prop_map(Step::Cut),
        2 => Just(Step::Heal),
        3 => (at(), at()).prop_map(|(a, b)| Step::Break(a, b)),
        3 => at().prop_map(Step::Crash),
        4 => at().prop_map(Step::Start),
        4 => (at(), fault).prop_map(|(at, fault)| Step::Fail(at, fault)),
        1 => at().prop_map(Step::Fill),
        2 => at().prop_map(Step::Backup),
        1 => at().prop_map(Step::Restore),
        1 => (at(), any::<i32>()).prop_map(|(at, seconds)| Step::Clock(at, seconds)),
        1 => (1_u8..40).prop_map(Step::Sleep),
    ]
}

/// What a schedule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How long after the end of all faults the replicas became equal.
    pub settled: Duration,
    /// What they sent.
    pub traffic: Traffic,
}

/// Plays a schedule, ends all faults, and judges what the replicas have come to.
///
/// # Errors
/// Something happened that must never happen; see [`Failure`].
pub fn run<O: Operation>(schedule: &Schedule<O>) -> Result<Report, Failure> {
    let count = schedule.servers.max(1);
    let Schedule { seed, network, layering, .. } = schedule;
    let mut world = World::with_layering(*seed, count, O::schema(), network.clone(), *layering)?;
    world.always(O::always);
    world.set_direct(schedule.direct);
    let mut backups = vec![None; count];
    for step in &schedule.steps {
        match step {
            Step::Ask(at, operation) => {
                world.ask(at % count, operation.action());
            }
            Step::AskDurable(at, operation, servers) => {
                world.ask_durable(at % count, operation.action(), *servers, DURABLE);
            }
            Step::Wait(millis) => world.run(Duration::from_millis(*millis))?,
            Step::Cut(bits) => {
                let group = |one: u8| -> Vec<usize> {
                    (0..count).filter(|at| (bits >> (at % 8)) & 1 == one).collect()
                };
                world.cut(&[&group(0), &group(1)]);
            }
            Step::Heal => world.heal(),
            Step::Break(a, b) if a % count != b % count => world.break_link(a % count, b % count),
            Step::Break(..) => {}
            Step::Crash(at) => world.crash(at % count),
            Step::Start(at) => world.start(at % count)?,
            Step::Fail(at, fault) => world.fail_next_commit(at % count, *fault),
            Step::Fill(at) => world.fill_disk(at % count),
            Step::Backup(at) => {
                if let Some(slot) = backups.get_mut(at % count) {
                    *slot = world.backup(at % count);
                }
            }
            Step::Restore(at) => {
                if let Some(backup) = backups.get(at % count).cloned().flatten() {
                    world.restore(at % count, backup)?;
                }
            }
            Step::Clock(at, seconds) => world.set_clock(at % count, i64::from(*seconds) * 1_000),
            Step::Sleep(days) => world.leap(Duration::from_secs(u64::from(*days) * 86_400)),
        }
    }
    let settled = world.settle()?;
    let replicas: Vec<_> = (0..count).filter_map(|at| world.replica(at)).collect();
    O::settled(&replicas).map_err(Failure::new)?;
    Ok(Report { settled, traffic: world.traffic().clone() })
}
