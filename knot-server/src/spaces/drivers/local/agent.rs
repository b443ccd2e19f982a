//! The agent as a program on disk, and as a child process.

use crate::spaces::drivers::error::Blame as _;
use std::{
    fmt::Write,
    fs::{self, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    at, failed,
    files::{self, SpaceFolder},
    process::Process,
};
use crate::spaces::drivers::{Owner, Platform, Run, StartError};

/// What a space takes over from the server's own environment. Nothing else: there may be secrets.
const INHERITED: [&str; 8] = ["PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR"];
/// How often a program that another thread is just writing or forking beside is tried again.
const BUSY_TRIES: u32 = 50;

/// Sees that the agent stands in `folder`, and says where.
pub(super) fn put(folder: &Path, agent: &[u8]) -> io::Result<PathBuf> {
    let mut name = "knot-agent-".to_owned();
    for byte in Sha256::digest(agent).iter().take(8) {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    let path = folder.join(name);
    let there = fs::metadata(&path).is_ok_and(|found| found.len() == agent.len() as u64);
    if !there {
        files::make_private(folder)?;
        files::write_whole(&path, agent, 0o755)?;
    }
    Ok(path)
}

/// Starts the agent as the head of a process group of its own.
pub(super) fn spawn(
    program: &Path,
    folder: &SpaceFolder,
    home: &Path,
    run: &Run,
    owner: Owner,
) -> Result<(Child, Process), StartError> {
    let environment = run
        .full_environment(owner)
        .map_err(|error| Platform::Local.unknown("write the agent's settings", error))?;
    let path = folder.log();
    // Appending is what lets the file be cut while the agent writes to it.
    let open = || {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).and_then(|log| {
            log.set_len(0)?;
            Ok((log.try_clone()?, log))
        })
    };
    let (output, errors) = open().map_err(at(&path)).map_err(failed("open the log"))?;
    let inherited =
        INHERITED.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value)));
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(inherited)
        .env("HOME", home)
        .envs(environment)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    let mut child = spawn_when_free(&mut command)
        .map_err(|error| StartError::Agent { cause: at(program)(error).to_string() })?;
    let process = Process::of(child.id())
        .and_then(|process| process.ok_or_else(|| io::Error::other("it is not in /proc")));
    match process {
        Ok(process) => Ok((child, process)),
        Err(error) => {
            // Nobody would know it again. It is our own child and has not been waited for, so the
            // signal can reach nothing else, and fails only if it has ended.
            let _ = child.kill().and_then(|()| child.wait());
            Err(failed("find the started process")(error).into())
        }
    }
}

/// While another thread forks, its child may for a moment hold a program open that was just written.
fn spawn_when_free(command: &mut Command) -> io::Result<Child> {
    for _ in 1..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            done => return done,
        }
    }
    command.spawn()
}
