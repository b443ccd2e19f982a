//! What a test's servers leave running when they are killed: the processes of their spaces, which outlive them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// For how long more of them may appear, as those that others start while they are ended.
const BOUND: Duration = Duration::from_secs(10);

/// Ends what is left below a folder when it is dropped, after a failed assertion too. The servers have to be gone by
/// then, and the folder must not be.
#[derive(Debug)]
pub(crate) struct Left(PathBuf);

impl Left {
    pub(crate) fn below(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        end_all_below(&self.0);
    }
}

/// The processes that belong to spaces below a folder: each carries the mark of its run and names the folder in its
/// environment, or its program is there.
pub(crate) fn all_below(folder: &Path) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
        let pid = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
        is_below(pid, folder).then_some(pid)
    });
    pids.collect()
}

/// Kills them, and waits until none is left.
pub(crate) fn end_all_below(folder: &Path) {
    let began = Instant::now();
    loop {
        let left = all_below(folder);
        if left.is_empty() {
            return;
        }
        if began.elapsed() > BOUND {
            // A second panic would hide the first.
            eprintln!("processes {left:?} below {} could not be ended", folder.display());
            return;
        }
        for pid in left {
            // Held first and looked at again: a number may have come to another process meanwhile.
            if let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
                && is_below(pid, folder)
            {
                pidfd_send_signal(&held, Signal::KILL).ok();
            }
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn is_below(pid: Pid, folder: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // Of one that has ended and that nobody has waited for there is no program any more.
    let Ok(program) = fs::read_link(process.join("exe")) else { return false };
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&environment);
    let named = text.contains("KNOT_RUN=") && text.contains(folder.to_str().unwrap());
    named || program.starts_with(folder)
}
