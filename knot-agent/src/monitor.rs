//! Looks at the space, and reports: whether it is well, whether it is used, and what it takes up.

use std::{
    convert::Infallible,
    ffi::OsStr,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use knot_core::agent::{REPORT_PERIOD, Report, Startup, Watching};
use tokio::{sync::watch, task::JoinSet, time::sleep_until};

use crate::{
    activity::Activity,
    checks::{Checks, Question},
    probe,
    program::Environment,
    script::Shell,
    usage::{self, Sample},
};

/// How often processor and memory are looked at.
const SAMPLE: Duration = Duration::from_secs(5);
/// From the end of one count of files to the next.
const COUNT: Duration = Duration::from_secs(10 * 60);
/// A space whose processes take more than this, in thousandths of a processor, is used.
const BUSY: u64 = 100;

/// What a monitor works with.
#[derive(Debug)]
pub struct Monitor {
    /// When the space was last used.
    pub activity: Activity,
    /// What is to be looked at.
    pub watching: watch::Receiver<Watching>,
    /// How the startup script goes.
    pub startup: watch::Receiver<Startup>,
    /// Where reports go.
    pub reports: watch::Sender<Report>,
    /// What commands are run with.
    pub shell: Shell,
    /// Below which files are counted.
    pub home: PathBuf,
}

/// The home folder that files are counted below.
pub fn home(environment: &Environment) -> PathBuf {
    environment.get(OsStr::new("HOME")).map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

impl Monitor {
    /// Looks and reports, for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        let mut state = State::new(Instant::now());
        let mut asked: JoinSet<(Question, Result<String, String>)> = JoinSet::new();
        let mut counted: JoinSet<Option<u64>> = JoinSet::new();
        let mut sampled: JoinSet<io::Result<Sample>> = JoinSet::new();
        // What is said first may stand until the next report.
        sampled.spawn_blocking(Sample::take);
        if let Some(Ok(sample)) = sampled.join_next().await {
            self.sampled(&mut state, sample, Instant::now());
        }
        self.publish(&mut state);
        loop {
            let now = Instant::now();
            let watching = self.watching.borrow_and_update().clone();
            // Whether a space is well is not asked before it has been set up.
            let set_up = *self.startup.borrow() == Startup::Done;
            state.checks.set(watching.health.clone().filter(|_| set_up), now);
            if let Some(question) = state.checks.ask(now) {
                let shell = self.shell.clone();
                asked.spawn(async move {
                    let answer = probe::ask(&question.probe, question.timeout, &shell).await;
                    (question, answer)
                });
            }
            if state.sample_due.is_some_and(|due| due <= now) {
                state.sample_due = None;
                sampled.spawn_blocking(Sample::take);
            }
            if state.count_due.is_some_and(|due| due <= now) {
                state.count_due = None;
                let home = self.home.clone();
                counted.spawn_blocking(move || usage::disk(&home));
            }
            if state.news(&self, &watching, now) {
                self.publish(&mut state);
            }
            let due = state.due(&self, &watching, now);
            tokio::select! {
                () = sleep_until(due.into()) => {}
                Ok(()) = self.watching.changed() => {}
                Ok(()) = self.startup.changed() => {}
                Some(Ok((question, answer))) = asked.join_next() => {
                    state.checks.answer(&question, answer, Instant::now());
                }
                Some(sample) = sampled.join_next() => {
                    let now = Instant::now();
                    state.sample_due = Some(now + SAMPLE);
                    if let Ok(sample) = sample {
                        self.sampled(&mut state, sample, now);
                    }
                }
                Some(bytes) = counted.join_next() => {
                    state.report.usage.disk = bytes.ok().flatten();
                    state.count_due = Some(Instant::now() + COUNT);
                }
            }
        }
    }

    fn sampled(&self, state: &mut State, sample: io::Result<Sample>, now: Instant) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => return tracing::debug!(%error, "the space's use cannot be seen"),
        };
        let millicpus = state.sample.map_or(0, |earlier| sample.millicpus_since(&earlier));
        if millicpus > BUSY {
            self.activity.touch_at(now);
        }
        state.report.usage.millicpus = millicpus;
        state.report.usage.memory = sample.memory;
        state.sample = Some(sample);
    }

    fn publish(&mut self, state: &mut State) {
        let now = Instant::now();
        state.report.startup = self.startup.borrow_and_update().clone();
        state.report.health = state.checks.health().cloned();
        state.report.idle = self.activity.idle(now).as_secs();
        state.sent = now;
        self.reports.send_replace(state.report.clone());
    }
}

/// What a monitor knows.
struct State {
    checks: Checks,
    report: Report,
    sample: Option<Sample>,
    /// When a sample is taken next; `None` while one is.
    sample_due: Option<Instant>,
    /// When files are counted next; `None` while they are.
    count_due: Option<Instant>,
    /// When it has last reported.
    sent: Instant,
}

impl State {
    fn new(now: Instant) -> Self {
        let (checks, report, sample) = Default::default();
        Self {
            checks,
            report,
            sample,
            sample_due: Some(now + SAMPLE),
            count_due: Some(now),
            sent: now,
        }
    }

    /// Whether a report is wanted now.
    fn news(&self, monitor: &Monitor, watching: &Watching, now: Instant) -> bool {
        *monitor.startup.borrow() != self.report.startup
            || self.checks.health() != self.report.health.as_ref()
            || now >= self.sent + REPORT_PERIOD
            || self.idle_due(monitor, watching, now).is_some_and(|due| due <= now)
    }

    /// When the space has been idle for as long as somebody waits for; `None` once that was reported.
    fn idle_due(&self, monitor: &Monitor, watching: &Watching, now: Instant) -> Option<Instant> {
        let limit = watching.idle_stop?;
        let idle = monitor.activity.idle(now);
        let said = self.report.idle >= limit && idle >= Duration::from_secs(limit);
        (!said).then(|| now + Duration::from_secs(limit).saturating_sub(idle))
    }

    /// When to look again.
    fn due(&self, monitor: &Monitor, watching: &Watching, now: Instant) -> Instant {
        let report = self.sent + REPORT_PERIOD;
        let idle = self.idle_due(monitor, watching, now);
        let others = [self.checks.deadline(), idle, self.sample_due, self.count_due];
        others.into_iter().flatten().fold(report, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{children::Children, program::Surroundings};

    /// A monitor, and where its reports come out.
    fn world() -> (Monitor, watch::Receiver<Report>) {
        let (reports, reported) = watch::channel(Report::default());
        let surroundings = Surroundings::new("calm-otter".to_owned(), Environment::default());
        let monitor = Monitor {
            activity: Activity::new(Instant::now()),
            watching: watch::channel(Watching::default()).1,
            startup: watch::channel(Startup::Done).1,
            reports,
            shell: Shell { surroundings, children: Children::default() },
            home: PathBuf::from("/nowhere"),
        };
        (monitor, reported)
    }

    #[tokio::test]
    async fn the_first_report_says_what_the_space_takes_up() {
        let (monitor, mut reports) = world();
        tokio::select! {
            never = monitor.run() => match never {},
            changed = reports.changed() => changed.unwrap(),
        }
        assert!(reports.borrow().usage.memory > 0);
    }

    #[test]
    fn while_files_are_counted_no_count_is_due_however_long_it_takes() {
        let ((monitor, _reports), start) = (world(), Instant::now());
        let mut state = State::new(start);
        state.count_due = None;
        let now = start + 2 * COUNT;
        (state.sent, state.sample_due) = (now, Some(now + SAMPLE));
        assert_eq!(state.due(&monitor, &Watching::default(), now), now + SAMPLE);
    }
}
