//! The agent's child processes: how each ended, and whom to signal.
//!
//! In a container the agent is process 1 and inherits every process whose parent has died. So it
//! waits for *any* child, and hands a status to whoever started that one: nothing else in the agent
//! waits for a process, so no status is ever taken from under another's feet.

use std::{
    collections::HashMap,
    io,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use knot_core::agent::Exit;
use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group,
        test_kill_process_group, wait,
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{Instant, sleep},
};

/// How long a process group has between SIGHUP and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// How often a group that was hung up is looked at: no event tells that a group is empty.
const LOOK: Duration = Duration::from_millis(20);

/// All children of this process.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<HashMap<Pid, oneshot::Sender<Exit>>>>);

/// One child, the leader of its own process group.
#[derive(Debug)]
pub struct Child {
    group: Pid,
    exit: oneshot::Receiver<Exit>,
    ended: Option<Exit>,
}

/// The parent's ends of a child's pipes, where it was given any.
pub type Pipes = std::process::Child;

impl Children {
    /// Starts a command, which must make itself the leader of a process group.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(Child, Pipes)> {
        // Held over the start, so that a child that ends at once is known by then.
        let mut known = self.known();
        let pipes = command.spawn()?;
        let group = i32::try_from(pipes.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the system gave a process no number"))?;
        let (sender, exit) = oneshot::channel();
        known.insert(group, sender);
        Ok((Child { group, exit, ended: None }, pipes))
    }

    /// Reaps whatever ends, for as long as it is polled.
    pub async fn reap(&self) -> io::Result<()> {
        let mut signals = signal(SignalKind::child())?;
        loop {
            self.reap_all();
            if signals.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    fn reap_all(&self) {
        let mut known = self.known();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let (Some(exit), Some(sender)) = (exit_of(status), known.remove(&pid)) {
                // The session may be gone by now: then nobody asks.
                let _ = sender.send(exit);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<Exit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    /// The number of the process and of its group.
    pub fn id(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Waits for the end. May be dropped and called again.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.ended {
            return exit;
        }
        // The sender is only dropped with the whole agent: then this was killed along with it.
        let exit = (&mut self.exit).await.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
        *self.ended.insert(exit)
    }

    /// Signals every process of the group.
    pub fn signal(&self, signal: Signal) {
        self.group().signal(signal);
    }

    /// The process group, to be signalled later or from elsewhere.
    pub fn group(&self) -> Group {
        Group(self.group)
    }
}

/// A process group. Its number stays taken for as long as it has a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(Pid);

impl Group {
    /// The group of this number.
    pub fn new(id: Pid) -> Self {
        Self(id)
    }

    /// Signals every process of the group, if there is one.
    pub fn signal(self, signal: Signal) {
        if kill_process_group(self.0, signal) == Err(Errno::SRCH) {
            // A session leader that has only just been started is not yet a group of its own.
            let _ = kill_process(self.0, signal);
        }
    }

    fn is_empty(self) -> bool {
        test_kill_process_group(self.0) == Err(Errno::SRCH)
            && rustix::process::test_kill_process(self.0) == Err(Errno::SRCH)
    }
}

/// Ends process groups: SIGHUP, and SIGKILL for what is left after [`GRACE`]. It asks which groups
/// there are again and again, for a shell may be starting one just now.
pub async fn hang_up(mut groups: impl FnMut() -> Vec<Group>) {
    let mut seen: Vec<Group> = Vec::new();
    let deadline = Instant::now() + GRACE;
    loop {
        for group in groups() {
            if !seen.contains(&group) {
                group.signal(Signal::HUP);
                // One that is stopped would sleep through it.
                group.signal(Signal::CONT);
                seen.push(group);
            }
        }
        if seen.iter().all(|group| group.is_empty()) {
            return;
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(LOOK).await;
    }
    tracing::debug!(groups = seen.len(), "killed what did not end when hung up");
    for group in seen {
        group.signal(Signal::KILL);
    }
}

/// Makes a command the leader of a new process group, with pipes or nothing for its input.
pub fn in_own_group(command: &mut Command, input: Stdio) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0).stdin(input)
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    let code = status.exit_status().map(Exit::Code);
    code.or_else(|| status.terminating_signal().map(Exit::Signal))
}
