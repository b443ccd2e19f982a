//! A session's command as processes: started, with its input, its outputs and whom to signal.

use std::{
    io, iter,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use knot_core::agent::{Run, TerminalSize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::unix::pipe,
};

use crate::{
    children::{Child, Children, Group, hang_up, in_own_group},
    leader, modes,
    program::{self, Program, Surroundings},
    terminal::{Ends, Terminal},
};

/// A command was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there to be run.
    #[error(transparent)]
    Program(#[from] program::Error),
    /// The system would not give a terminal.
    #[error("no terminal could be opened in this space: {0}")]
    Terminal(#[source] io::Error),
    /// The system would not start it.
    #[error("`{program}` could not be started: {cause}")]
    Start {
        /// The file that was to be run.
        program: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// A running command.
pub struct Process {
    /// To learn how it ended.
    pub child: Child,
    /// Where its input goes.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Standard output, or all that is written to the terminal.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Standard error, where it is apart.
    pub error_output: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What else can be done to it.
    pub control: Control,
}

/// What can be done to a running command besides input.
#[derive(Clone, Debug)]
pub struct Control {
    group: Group,
    terminal: Option<Terminal>,
}

impl Control {
    /// Signals the group in the foreground of the terminal, or else the command's own.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.terminal.as_ref().and_then(Terminal::foreground).unwrap_or(self.group).signal(signal);
    }

    /// Gives the terminal another size.
    pub fn resize(&self, size: TerminalSize) {
        if let Some(Err(error)) = self.terminal.as_ref().map(|terminal| terminal.resize(size)) {
            tracing::debug!(%error, "terminal not resized");
        }
    }

    /// The byte that ends the input of a terminal.
    pub fn end_of_file(&self) -> Option<u8> {
        self.terminal.as_ref().and_then(Terminal::end_of_file)
    }

    /// Ends the command and the groups in the foreground of its terminal, in bounded time.
    pub async fn hang_up(self) {
        let foreground = || self.terminal.as_ref().and_then(Terminal::foreground);
        hang_up(|| iter::once(self.group).chain(foreground()).collect()).await;
    }
}

/// Starts what `run` asks for.
pub fn start(
    run: &Run,
    surroundings: &Surroundings,
    children: &Children,
) -> Result<Process, Error> {
    let program = surroundings.resolve(run)?;
    match run.terminal {
        Some(size) => on_terminal(&program, size, &run.modes, children),
        None => on_pipes(&program, children),
    }
}

/// A command with its environment and directory; input and outputs are not set yet.
pub fn command(program: &Program) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(&program.file);
    command.arg0(&program.name).args(&program.arguments);
    surround(&mut command, program);
    command
}

fn surround(command: &mut Command, program: &Program) {
    command.env_clear().envs(&program.environment).current_dir(&program.directory);
}

fn on_pipes(program: &Program, children: &Children) -> Result<Process, Error> {
    let failed = |cause| start_error(program, cause);
    let mut command = command(program);
    in_own_group(&mut command, Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (child, pipes) = children.spawn(&mut command).map_err(failed)?;
    let control = Control { group: child.group(), terminal: None };
    let streams = || -> Option<(OwnedFd, OwnedFd, OwnedFd)> {
        Some((pipes.stdin?.into(), pipes.stdout?.into(), pipes.stderr?.into()))
    };
    let connect = || -> io::Result<_> {
        let (input, output, error) = streams().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((
            pipe::Sender::from_owned_fd(input)?,
            pipe::Receiver::from_owned_fd(output)?,
            pipe::Receiver::from_owned_fd(error)?,
        ))
    };
    let (input, output, error_output) = connect().map_err(|cause| {
        child.signal(rustix::process::Signal::KILL);
        failed(cause)
    })?;
    Ok(Process {
        child,
        input: Box::new(input),
        output: Box::new(output),
        error_output: Some(Box::new(error_output)),
        control,
    })
}

fn on_terminal(
    program: &Program,
    size: TerminalSize,
    wanted: &[(u8, u32)],
    children: &Children,
) -> Result<Process, Error> {
    let Ends { terminal, input, output, theirs } = Terminal::open(size).map_err(Error::Terminal)?;
    modes::apply(&theirs, wanted).map_err(Error::Terminal)?;
    let duplicate = || theirs.try_clone().map(Stdio::from).map_err(Error::Terminal);
    let mut command = leader::command(program);
    surround(&mut command, program);
    command.stdin(duplicate()?).stdout(duplicate()?).stderr(duplicate()?);
    let (child, _) = children.spawn(&mut command).map_err(|cause| start_error(program, cause))?;
    Ok(Process {
        control: Control { group: child.group(), terminal: Some(terminal) },
        child,
        input: Box::new(input),
        output: Box::new(output),
        error_output: None,
    })
}

fn start_error(program: &Program, cause: io::Error) -> Error {
    Error::Start { program: program.file.to_string_lossy().into_owned(), cause }
}
