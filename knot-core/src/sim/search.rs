//! Looking for a schedule that fails: many of them, on all cores, and the failing one made small.

use std::{
    cell::Cell,
    env,
    num::NonZero,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};

use super::{Operation, Schedule, run, schedule};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);
/// The most attempts at making a failing schedule smaller.
const SHRINK: u32 = 4_000;

/// A schedule that failed, made as small as could be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("KNOT_SIM_SEED={seed} plays this again: {reason}\n{schedule}")]
pub struct Counterexample {
    /// What to set `KNOT_SIM_SEED` to.
    pub seed: u64,
    /// What happened.
    pub reason: String,
    /// The schedule, as text.
    pub schedule: String,
}

/// What a [`Search`] has played so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// How many schedules.
    pub schedules: u64,
    /// The longest that replicas took to become equal once all faults had ended.
    pub slowest: Duration,
    /// How long it has taken.
    pub took: Duration,
}

/// Which schedules to play, and on how many threads.
///
/// A schedule follows from its number, its seed, for as long as the operations and their strategy
/// stay what they are: a fault that was found is kept for good as a test that says in code what
/// happens.
#[derive(Clone, Debug)]
pub struct Search {
    known: Vec<u64>,
    seeds: Range<u64>,
    threads: usize,
}

impl Search {
    /// Schedules number 0 to `cases`, on all cores.
    pub fn new(cases: u64) -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        Self { known: Vec::new(), seeds: 0..cases, threads }
    }

    /// Plays these seeds before all others: the lines of a file, in which `#` begins a remark.
    #[must_use]
    pub fn known(mut self, file: &str) -> Self {
        let lines = file.lines().filter_map(|line| line.split('#').next());
        self.known.extend(lines.filter_map(|line| line.trim().parse::<u64>().ok()));
        self
    }

    /// Plays the schedules of these numbers.
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// Plays on so many threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Does as these environment variables say, where they are set: `KNOT_SIM_CASES`, how many
    /// schedules to play; `KNOT_SIM_SEED`, the only one to play.
    #[must_use]
    pub fn from_environment(mut self) -> Self {
        let variable = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        if let Some(seed) = variable("KNOT_SIM_SEED") {
            self.known.clear();
            self.seeds = seed..seed.saturating_add(1);
        } else if let Some(cases) = variable("KNOT_SIM_CASES") {
            self.seeds.end = self.seeds.start.saturating_add(cases);
        }
        self
    }

    /// Plays them, and tells every few seconds how far it has come.
    ///
    /// # Errors
    /// The first that failed, shrunk.
    pub fn run<O: Operation>(
        &self,
        tell: impl Fn(&Played) + Sync,
    ) -> Result<Played, Box<Counterexample>> {
        let began = Instant::now();
        let (next, last) = (AtomicU64::new(0), AtomicU64::new(self.len()));
        let state = Mutex::new((Played::default(), began, None));
        let work = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= last.load(Ordering::Relaxed) {
                    return;
                }
                let outcome = check_one::<O>(self.seed(place));
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let (played, told, failed) = &mut *state;
                match outcome {
                    Ok(settled) => {
                        played.schedules += 1;
                        played.slowest = played.slowest.max(settled);
                        played.took = began.elapsed();
                        if told.elapsed() >= TELL {
                            *told = Instant::now();
                            tell(played);
                        }
                    }
                    // Those before it, which others are at, may fail yet.
                    Err(counterexample) => {
                        if last.fetch_min(place, Ordering::Relaxed) > place {
                            *failed = Some(counterexample);
                        }
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let (played, _, failed) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(Played { took: began.elapsed(), ..played }), Err)
    }

    fn len(&self) -> u64 {
        let known = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
        self.seeds.end.saturating_sub(self.seeds.start).saturating_add(known)
    }

    fn seed(&self, place: u64) -> u64 {
        let known = usize::try_from(place).ok().and_then(|place| self.known.get(place));
        let count = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
        known.copied().unwrap_or(self.seeds.start.wrapping_add(place.wrapping_sub(count)))
    }
}

/// Plays schedules number 0 to `cases`, or what the environment asks for:
/// [`Search::from_environment`].
///
/// # Errors
/// The first that failed, shrunk.
pub fn check<O: Operation>(cases: u64) -> Result<Played, Box<Counterexample>> {
    Search::new(cases).from_environment().run::<O>(|_| ())
}

fn check_one<O: Operation>(seed: u64) -> Result<Duration, Box<Counterexample>> {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
    let config = Config {
        cases: 1,
        failure_persistence: None::<Box<FileFailurePersistence>>.map(|one| one as _),
        max_shrink_iters: SHRINK,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let settled = Cell::new(Duration::ZERO);
    let played = TestRunner::new_with_rng(config, rng).run(&schedule::<O>(), |schedule| {
        match run(&schedule) {
            Ok(report) => settled.set(report.settled),
            Err(failure) => return Err(TestCaseError::fail(failure.to_string())),
        }
        Ok(())
    });
    let text = |schedule: &Schedule<O>| {
        let Schedule { seed, servers, direct, network, layering, steps } = schedule;
        let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
        format!(
            "{servers} servers, direct to {direct}, seed {seed}, {network:?}, {layering:?}\n{}",
            steps.join("\n")
        )
    };
    played.map(|()| settled.get()).map_err(|error| {
        let (reason, schedule) = match error {
            TestError::Fail(reason, schedule) => (reason.to_string(), text(&schedule)),
            TestError::Abort(reason) => (reason.to_string(), String::new()),
        };
        Box::new(Counterexample { seed, reason, schedule })
    })
}
