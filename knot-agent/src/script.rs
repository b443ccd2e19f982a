//! Scripts of the template: run by `/bin/sh` for a bounded time, with their output in the log.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use knot_core::agent::{Command, Exit, Run, words};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{children::Children, process, program::Surroundings};

/// How much of the end of the output is kept to be quoted, in bytes.
const QUOTED: usize = 2 << 10;
/// After a script has ended, how long its output may be held open by what it left behind.
const REST: Duration = Duration::from_millis(500);

/// What scripts are run with.
#[derive(Clone, Debug)]
pub struct Shell {
    /// What every command of the space starts from.
    pub surroundings: Surroundings,
    /// All children of this process.
    pub children: Children,
}

/// A script failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// It could not be started.
    Start(process::Error),
    /// It ended otherwise than well, after these last words.
    Exit(Exit, String),
    /// It took longer than this, after these last words, and was killed.
    Slow(Duration, String),
    /// It was not waited for.
    Cancelled,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self {
            Self::Start(error) => return error.fmt(f),
            Self::Cancelled => return f.write_str("it was not waited for"),
            Self::Exit(Exit::Code(code), said) => {
                write!(f, "it ended with status {code}")?;
                said
            }
            Self::Exit(Exit::Signal(signal), said) => {
                write!(f, "it was ended by signal {signal}")?;
                said
            }
            Self::Slow(limit, said) => {
                write!(f, "it took longer than {} s", limit.as_secs())?;
                said
            }
        };
        if said.is_empty() { Ok(()) } else { write!(f, ": {said}") }
    }
}

impl std::error::Error for Error {}

impl Shell {
    /// Runs a script to its end and returns the end of what it wrote; where `loud`, all of it goes to
    /// the log too. It is killed with its process group after `limit`, and when `cancel` is cancelled.
    pub async fn run(
        &self,
        script: &str,
        limit: Duration,
        loud: bool,
        cancel: &CancellationToken,
    ) -> Result<String, Error> {
        let command = Command::Program(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        let run = Run { command, ..Run::default() };
        let started = process::start(&run, &self.surroundings, &self.children);
        let process::Process { mut child, input, output, error_output, control } =
            started.map_err(Error::Start)?;
        drop(input);
        let (said, complained) = (Quote::default(), Quote::default());
        let mut outputs =
            vec![AbortOnDropHandle::new(tokio::spawn(said.clone().take(output, loud)))];
        if let Some(errors) = error_output {
            outputs
                .push(AbortOnDropHandle::new(tokio::spawn(complained.clone().take(errors, loud))));
        }
        let ended = tokio::select! {
            ended = timeout(limit, child.ended()) => ended.ok(),
            () = cancel.cancelled() => {
                control.hang_up().await;
                return Err(Error::Cancelled);
            }
        };
        if ended.is_none() {
            control.hang_up().await;
        }
        let rest = async {
            for output in outputs {
                // One that has panicked has said all that it will.
                let _ = output.await;
            }
        };
        let _ = timeout(REST, rest).await;
        let words = Some(complained.words()).filter(|words| !words.is_empty());
        let words = words.unwrap_or_else(|| said.words());
        match ended {
            Some(Exit::Code(0)) => Ok(words),
            Some(exit) => Err(Error::Exit(exit, words)),
            None => Err(Error::Slow(limit, words)),
        }
    }
}

/// The end of what was written.
#[derive(Clone, Default)]
struct Quote(Arc<Mutex<Vec<u8>>>);

impl Quote {
    async fn take(self, mut from: impl AsyncRead + Unpin, loud: bool) {
        let (mut buffer, mut log) = (vec![0; 4 << 10], tokio::io::stderr());
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let new = buffer.get(..n).unwrap_or_default();
            if loud && log.write_all(new).await.is_err() {
                tracing::debug!("a script's output cannot be logged");
            }
            let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            end.extend_from_slice(new);
            let beyond = end.len().saturating_sub(QUOTED);
            end.drain(..beyond);
        }
    }

    fn words(&self) -> String {
        words(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
