//! When the space was last used: by a session, by a port, or by a processor that was busy.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// When the space was last used; clones share it.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    /// Used just now: by being started.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// It is used now.
    pub fn touch(&self) {
        self.touch_at(Instant::now());
    }

    /// It was used then.
    pub fn touch_at(&self, then: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = then.max(*last);
    }

    /// For how long it has not been used.
    pub fn idle(&self, now: Instant) -> Duration {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_counts() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let later = start + Duration::from_secs(9);
        activity.clone().touch_at(later);
        activity.touch_at(start);
        assert_eq!(activity.idle(later + Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(activity.idle(start), Duration::ZERO);
    }
}
