//! The moment between fork and exec of a command with a terminal, as a program of its own.
//!
//! A process must leave its old session and take its terminal itself. Code that runs between fork
//! and exec is unsafe in Rust, so the agent runs itself once more with [`ARGUMENT`], and that
//! process does it and then becomes the command.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{ioctl_tiocsctty, setsid};

use crate::program::Program;

/// The hidden first argument: program, name and arguments follow.
pub const ARGUMENT: &str = "session-leader";

/// This very program, also where its file has no name here or was replaced.
const SELF: &str = "/proc/self/exe";

/// The statuses by which a shell tells that a program was not found, or could not be run.
const NOT_FOUND: u8 = 127;
const CANNOT_RUN: u8 = 126;

/// The command that becomes `program` in a session of its own, on the terminal `stdin`.
pub fn command(program: &Program) -> Command {
    let mut command = Command::new(SELF);
    command
        .arg0("knot-agent")
        .arg(ARGUMENT)
        .arg(&program.file)
        .arg(&program.name)
        .args(&program.arguments);
    command
}

/// Leads a session on the terminal that is standard input, and becomes the command. Returns when
/// that failed, after a line on the terminal.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(file), Some(name)) = (arguments.next(), arguments.next()) else {
        return failed(OsStr::new(ARGUMENT), &io::ErrorKind::InvalidInput.into());
    };
    let terminal = setsid().and_then(|_| ioctl_tiocsctty(rustix::stdio::stdin()));
    if let Err(error) = terminal {
        return failed(&file, &error.into());
    }
    let error = Command::new(&file)
        .arg0(name)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .exec();
    failed(&file, &error)
}

fn failed(file: &OsStr, error: &io::Error) -> ExitCode {
    eprintln!("knot-agent: {} could not be run: {error}\r", file.to_string_lossy());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
}
