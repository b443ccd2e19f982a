//! Processes, known so well that a later one with the same number is never taken for them.
//!
//! A number alone says little: the kernel gives it out again. With the time at which the process
//! began, counted from the boot, and the boot's own id, it names one process for ever. What is
//! signalled is held by a descriptor first, and looked at again through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

use crate::spaces::drivers::RUN_VARIABLE;

/// How often what is left of a space is looked for and killed, before it is given up.
const ROUNDS: u32 = 20;

/// One process, now and for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Process {
    id: u32,
    /// When it began, in clock ticks since the boot.
    began: u64,
    /// The id of the boot, since which the ticks count.
    boot: String,
}

struct Seen {
    dead: bool,
    parent: u32,
    began: u64,
}

impl Process {
    /// The process that has this number now, if there is one.
    pub(super) fn of(id: u32) -> io::Result<Option<Self>> {
        let boot = boot()?;
        Ok(look(id)?.map(|seen| Self { id, began: seen.began, boot }))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Whether it still runs. One that has ended and that nobody has waited for does not.
    pub(super) fn is_alive(&self) -> io::Result<bool> {
        Ok(boot()? == self.boot
            && look(self.id)?.is_some_and(|seen| seen.began == self.began && !seen.dead))
    }

    /// Gets hold of it; none if it has ended.
    pub(super) fn hold(&self) -> io::Result<Option<Held>> {
        let held = self.hold_child()?;
        // What is held now cannot be replaced, so this look is at the same process.
        Ok(if self.is_alive()? { held } else { None })
    }

    /// Gets hold of a child that nobody has waited for, ended or not: its number is still its own.
    pub(super) fn hold_child(&self) -> io::Result<Option<Held>> {
        let Some(id) = i32::try_from(self.id).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(id, PidfdFlags::NONBLOCK) {
            Err(Errno::SRCH) => Ok(None),
            held => Ok(Some(Held(held?))),
        }
    }
}

/// A process that is held: signals reach it or nothing.
pub(super) struct Held(OwnedFd);

impl Held {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Waits for it to end, whoever its parent is.
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, for types that may close their descriptor; this one is \
                  owned, and closed with the wait"
    )]
    pub(super) async fn ended(self) -> io::Result<()> {
        AsyncFd::with_interest(self.0, Interest::READABLE)?.readable().await.map(drop)
    }

    /// Whether it ended in time.
    async fn ended_within(self, patience: Duration) -> io::Result<bool> {
        tokio::time::timeout(patience, self.ended())
            .await
            .map_or(Ok(false), |end| end.map(|()| true))
    }
}

/// The agent that carries this mark and is a program of `programs`, if it runs.
pub(super) fn find(mark: &str, programs: &Path) -> io::Result<Option<Process>> {
    let boot = boot()?;
    let mut first: Option<Process> = None;
    for (id, seen) in all()? {
        let is_agent = !seen.dead
            && fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.starts_with(programs))
            && is_marked(id, mark)?;
        // An agent may run itself again: the first is the one.
        if is_agent && first.as_ref().is_none_or(|first| seen.began < first.began) {
            first = Some(Process { id, began: seen.began, boot: boot.clone() });
        }
    }
    Ok(first)
}

/// Ends an agent and all that runs below it or carries its mark: SIGTERM to the agent, which looks
/// after its own, then SIGKILL to whatever is left. Returns what survived.
pub(super) async fn end(
    agent: Option<&Process>,
    mark: &str,
    grace: Duration,
    killed: Duration,
) -> io::Result<Vec<u32>> {
    // Read before the agent ends: afterwards nobody knows whose children they were.
    let mut family = family_of(agent.into_iter().cloned().collect(), mark)?;
    if let Some(held) = agent.map(Process::hold).transpose()?.flatten() {
        held.signal(Signal::TERM)?;
        held.ended_within(grace).await?;
    }
    for _ in 0..ROUNDS {
        family = family_of(family, mark)?;
        if family.is_empty() {
            return Ok(Vec::new());
        }
        let mut waited = Vec::new();
        for process in &family {
            if let Some(held) = process.hold()? {
                // One that another user owns cannot be killed: it is named as a survivor.
                if held.signal(Signal::KILL).is_ok() {
                    waited.push(held);
                }
            }
        }
        for held in waited {
            if !held.ended_within(killed).await? {
                return survivors(family, mark);
            }
        }
    }
    survivors(family, mark)
}

fn survivors(family: BTreeSet<Process>, mark: &str) -> io::Result<Vec<u32>> {
    Ok(family_of(family, mark)?.iter().map(Process::id).collect())
}

/// Those of `known` that live, all that is below them, and all that is marked.
fn family_of(known: BTreeSet<Process>, mark: &str) -> io::Result<BTreeSet<Process>> {
    let boot = boot()?;
    let mut alive = all()?;
    alive.retain(|_, seen| !seen.dead);
    let mut family: BTreeSet<u32> = known
        .into_iter()
        .filter(|process| process.boot == boot)
        .filter(|process| alive.get(&process.id).is_some_and(|seen| seen.began == process.began))
        .map(|process| process.id)
        .collect();
    for id in alive.keys() {
        if is_marked(*id, mark)? {
            family.insert(*id);
        }
    }
    loop {
        let is_new = |id: &u32, seen: &Seen| family.contains(&seen.parent) && !family.contains(id);
        let more: Vec<u32> =
            alive.iter().filter(|(id, seen)| is_new(id, seen)).map(|(id, _)| *id).collect();
        if more.is_empty() {
            break;
        }
        family.extend(more);
    }
    Ok(family
        .into_iter()
        .filter_map(|id| Some(Process { id, began: alive.get(&id)?.began, boot: boot.clone() }))
        .collect())
}

/// The kernel's version, for people.
pub(super) fn kernel() -> io::Result<String> {
    boot()?;
    Ok(format!("Linux {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()))
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Every process that can be seen. What is not known must not be taken for ended, so a failure to
/// look is a failure.
fn all() -> io::Result<BTreeMap<u32, Seen>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        all.extend(look(id)?.map(|seen| (id, seen)));
    }
    Ok(all)
}

fn is_marked(id: u32, mark: &str) -> io::Result<bool> {
    let wanted = format!("{RUN_VARIABLE}={mark}");
    match fs::read(format!("/proc/{id}/environ")) {
        Ok(all) => Ok(all.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())),
        // Another user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) if has_ended(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn look(id: u32) -> io::Result<Option<Seen>> {
    match fs::read(format!("/proc/{id}/stat")) {
        Ok(line) => {
            let line = String::from_utf8_lossy(&line);
            parse(&line)
                .map(Some)
                .ok_or_else(|| io::Error::other(format!("/proc/{id}/stat: {line}")))
        }
        Err(error) if has_ended(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// One line of `/proc/<pid>/stat`. A program's name is in brackets and may itself have brackets and
/// blanks in it, so fields are counted from the last bracket.
fn parse(line: &str) -> Option<Seen> {
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // The 22nd of all, counting the two before the bracket.
    let began = fields.nth(17)?.parse().ok()?;
    Some(Seen { dead: matches!(state, "Z" | "X" | "x"), parent, began })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line = "77 (a) R 1 (b) S 5 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 9 9";
        let seen = parse(line).unwrap();
        assert_eq!((seen.dead, seen.parent, seen.began), (false, 5, 424_242));
        assert!(parse("77 (x) S 5").is_none());
    }

    #[test]
    fn a_process_with_the_same_number_is_not_taken_for_an_earlier_one() {
        let me = Process::of(std::process::id()).unwrap().unwrap();
        assert!(me.is_alive().unwrap() && me.hold().unwrap().is_some());
        let earlier = Process { began: me.began - 1, ..me.clone() };
        let before_the_boot = Process { boot: "another".to_owned(), ..me };
        for other in [earlier, before_the_boot] {
            assert!(!other.is_alive().unwrap() && other.hold().unwrap().is_none());
        }
    }
}
