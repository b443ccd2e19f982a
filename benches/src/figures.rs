//! Times of one action done many times, and how they are printed.

use std::time::{Duration, Instant};

/// The times of one action.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, began: Instant) {
        self.0.push(began.elapsed());
    }

    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The time that so many of a hundred actions did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn print(&self, what: &str) {
        println!(
            "{what:58} p50 {:>9}  p99 {:>9}  n {}",
            shown(self.median()),
            shown(self.percentile(99)),
            self.0.len()
        );
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn shown(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1_000.0)
}

pub(crate) fn print_ratio(what: &str, one: Duration, other: Duration) {
    println!("{what:58} ×{:.2}", one.as_secs_f64() / other.as_secs_f64());
}
