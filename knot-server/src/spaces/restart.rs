//! Whether and when what has failed is tried again by its home.

use std::time::Duration;

use knot_core::{clock::Millis, model::SpaceStatus};

use super::plan::Cause;

/// The wait before the first restart in a row; it doubles with each.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How long after a stop that failed the next one is tried.
const STOP_AGAIN: Duration = Duration::from_secs(60);

/// When a space that failed for this cause is tried again, and what there is to say of it. `allowed`
/// is how often in a row that may be.
pub fn after(
    cause: &Cause,
    status: &SpaceStatus,
    allowed: u64,
    now: Millis,
) -> (Option<Millis>, String) {
    match cause {
        // As soon as it can be seen what there is.
        Cause::Blind => (Some(now), "; it is tried again once it answers".to_owned()),
        Cause::CannotStop => (Some(now.plus(STOP_AGAIN)), "; it is tried again".to_owned()),
        cause if !cause.is_crash() || allowed == 0 => (None, String::new()),
        _ if status.restarts >= allowed => {
            let times = if allowed == 1 { "once".to_owned() } else { format!("{allowed} times") };
            (None, format!("; it was started again {times} in a row, and is given up"))
        }
        _ => {
            let wait = wait(status.restarts);
            let again = format!(
                "; it is started again after {} s ({} of {allowed})",
                wait.as_secs(),
                status.restarts.saturating_add(1)
            );
            (Some(now.plus(wait)), again)
        }
    }
}

/// The wait before the next restart, after so many in a row.
fn wait(restarts: u64) -> Duration {
    let doublings = u32::try_from(restarts.min(16)).unwrap_or(16);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<_> = (0..8).map(|restarts| wait(restarts).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(wait(u64::MAX), LONGEST);
    }

    #[test]
    fn a_crash_is_tried_again_as_often_as_it_may_be() {
        let status = |restarts| SpaceStatus { restarts, ..SpaceStatus::default() };
        let retry = |cause: &Cause, restarts, allowed| {
            after(cause, &status(restarts), allowed, Millis(1_000)).0
        };
        let unwell = Cause::Unwell("no".to_owned());
        for cause in [Cause::Vanished, Cause::NoAgent, unwell] {
            assert_eq!(retry(&cause, 0, 0), None);
            assert_eq!(retry(&cause, 0, 2), Some(Millis(11_000)));
            assert_eq!(retry(&cause, 1, 2), Some(Millis(21_000)));
            assert_eq!(retry(&cause, 2, 2), None);
        }
        assert_eq!(retry(&Cause::Startup(String::new()), 0, 9), None, "it would fail again");
        assert!(retry(&Cause::Blind, 0, 0).is_some() && retry(&Cause::CannotStop, 0, 0).is_some());
    }
}
