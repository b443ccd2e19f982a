//! Waiting for a condition, within a bound.

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test gives up: longer than any of the product's own bounds for a start, on a
/// busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

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

/// Reads what a child of this process says, or waits for its end; one that does neither within the bound is killed.
pub(crate) fn bounded<T>(child: u32, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if is_done.recv_timeout(BOUND) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the process {child} says nothing, and is killed");
            let pid = Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
            kill_process(pid, Signal::KILL).ok();
        }
    });
    let found = work();
    drop(done);
    watch.join().unwrap();
    found
}
