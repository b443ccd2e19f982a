//! Waiting for a condition, within a bound.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < BOUND, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
