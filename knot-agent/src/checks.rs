//! When to ask whether the space is well, and what the answers mean: a state machine without a clock.

use std::time::{Duration, Instant};

use knot_core::agent::{Health, HealthCheck, Probe};

/// The checks of one space.
#[derive(Debug, Default)]
pub struct Checks {
    check: Option<HealthCheck>,
    due: Option<Instant>,
    /// Counts the checks that were set: an answer to an earlier one is no answer.
    setting: u64,
    failures: u64,
    health: Option<Health>,
}

/// One question that is to be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub probe: Probe,
    /// How long the answer may take.
    pub timeout: Duration,
    setting: u64,
}

impl Checks {
    /// Takes another check, or none. The same again changes nothing.
    pub fn set(&mut self, check: Option<HealthCheck>, now: Instant) {
        if check == self.check {
            return;
        }
        *self = Self {
            due: check.as_ref().map(|_| now),
            check,
            setting: self.setting.wrapping_add(1),
            ..Self::default()
        };
    }

    /// When [`Checks::ask`] has a question next; `None` while one is asked, or there is no check.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The question that is due, if one is. It is to be answered with [`Checks::answer`].
    pub fn ask(&mut self, now: Instant) -> Option<Question> {
        let check = self.check.as_ref()?;
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        let timeout = Duration::from_secs(check.timeout);
        Some(Question { probe: check.probe.clone(), timeout, setting: self.setting })
    }

    /// Takes the answer to a question.
    pub fn answer(&mut self, question: &Question, answer: Result<String, String>, now: Instant) {
        let Some(check) = self.check.as_ref().filter(|_| question.setting == self.setting) else {
            return;
        };
        self.due = Some(now + Duration::from_secs(check.interval));
        match answer {
            Ok(words) => {
                self.failures = 0;
                self.health = Some(Health { well: true, words });
            }
            Err(words) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= check.failures {
                    self.health = Some(Health { well: false, words });
                }
            }
        }
    }

    /// What the answers say; `None` where none has counted yet.
    pub fn health(&self) -> Option<&Health> {
        self.health.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failures: u64) -> Option<HealthCheck> {
        Some(HealthCheck::new(Probe::Tcp(80), Some(10), Some(2), Some(failures)))
    }

    #[test]
    fn it_takes_several_failures_in_a_row_and_one_success() {
        let (mut checks, mut now) = (Checks::default(), Instant::now());
        assert!(checks.ask(now).is_none() && checks.deadline().is_none());
        checks.set(check(3), now);
        let well = |checks: &Checks| checks.health().map(|health| health.well);
        let (mut asked, mut seen) = (0, Vec::new());
        for answer in [true, false, false, true, false, false, false, false, true] {
            let question = checks.ask(now).unwrap();
            assert!(checks.ask(now).is_none(), "one at a time");
            asked += 1;
            let answer = if answer { Ok(String::new()) } else { Err("refused".to_owned()) };
            checks.answer(&question, answer, now);
            assert!(checks.ask(now).is_none(), "not before the interval");
            now += Duration::from_secs(10);
            seen.push(well(&checks).unwrap());
        }
        assert_eq!(asked, 9);
        assert_eq!(seen, [true, true, true, true, true, true, false, false, true]);
    }

    #[test]
    fn a_late_answer_to_an_earlier_check_does_not_count() {
        let (mut checks, now) = (Checks::default(), Instant::now());
        checks.set(check(1), now);
        let question = checks.ask(now).unwrap();
        checks.set(check(2), now);
        checks.answer(&question, Err(String::new()), now);
        assert!(checks.health().is_none() && checks.ask(now).is_some());
        checks.set(None, now);
        assert!(checks.ask(now).is_none() && checks.deadline().is_none());
    }
}
