//! One terminal: its process, and the state that its viewers share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use knot_core::{
    agent::{Exit, MAX_CHUNK, TerminalInfo, TerminalSize},
    clock::Millis,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, watch},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::state::{Last, Read, State};
use crate::{
    activity::Activity,
    children::Child,
    process::{Control, Process},
};

/// How many chunks of input wait for a command that does not read.
const INPUT_CHUNKS: usize = 4;
/// After the command has ended: how long its terminal may be silent before it is given up, when some
/// process that it left behind still holds it.
const SILENCE: Duration = Duration::from_millis(200);
/// After the command has ended: how much more is read. What it wrote itself is far less.
const MAX_REST: usize = 1 << 20;
/// How long a process that was killed may take to be gone.
const REAPED: Duration = Duration::from_secs(1);

/// One terminal.
pub(super) struct Kept {
    id: Uuid,
    command: String,
    since: Millis,
    name: Mutex<String>,
    state: Mutex<State>,
    /// Raised whenever the state may have something new for somebody.
    changed: watch::Sender<()>,
    input: mpsc::Sender<Bytes>,
    control: Control,
    hang_up: CancellationToken,
    ended: Mutex<Option<Instant>>,
}

/// What a terminal's task works with.
pub(super) struct Work {
    child: Child,
    output: Box<dyn AsyncRead + Send + Unpin>,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    typed: mpsc::Receiver<Bytes>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Kept {
    /// A terminal with its process, and the work that is to be run for it.
    pub(super) fn new(
        id: Uuid,
        name: String,
        command: String,
        size: TerminalSize,
        process: Process,
    ) -> (Self, Work) {
        let Process { child, input, output, control, .. } = process;
        let (sender, typed) = mpsc::channel(INPUT_CHUNKS);
        let kept = Self {
            id,
            command,
            since: Millis::now(),
            name: name.into(),
            state: State::new(size).into(),
            changed: watch::Sender::new(()),
            input: sender,
            control,
            hang_up: CancellationToken::new(),
            ended: Mutex::default(),
        };
        (kept, Work { child, output, input, typed })
    }

    /// As a list shows it.
    pub(super) fn info(&self) -> TerminalInfo {
        let state = self.state();
        TerminalInfo {
            id: self.id,
            name: lock(&self.name).clone(),
            command: self.command.clone(),
            size: state.size(),
            viewers: u32::try_from(state.viewers()).unwrap_or(u32::MAX),
            since: self.since,
        }
    }

    pub(super) fn rename(&self, name: String) {
        *lock(&self.name) = name;
    }

    /// When it has ended, if it has.
    pub(super) fn ended(&self) -> Option<Instant> {
        *lock(&self.ended)
    }

    /// Ends the command; returns at once.
    pub(super) fn hang_up(&self) {
        self.hang_up.cancel();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the state, tells all who wait for that, and gives the terminal the size that it has now.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (before, result, after) = {
            let mut state = self.state();
            let before = state.size();
            let result = change(&mut state);
            (before, result, state.size())
        };
        if before != after {
            self.control.resize(after);
        }
        self.changed.send_replace(());
        result
    }

    /// Tells when the state has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Where the next chunk of input goes.
    pub(super) fn typing(&self) -> &mpsc::Sender<Bytes> {
        &self.input
    }

    /// Carries input and output until the command has ended, or is hung up.
    pub(super) async fn run(&self, work: Work, activity: &Activity, shutdown: &CancellationToken) {
        let Work { mut child, mut output, mut input, mut typed } = work;
        let written = async {
            while let Some(bytes) = typed.recv().await {
                activity.touch();
                if input.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // What is typed when nobody reads any more goes nowhere.
            while typed.recv().await.is_some() {}
        };
        let work = async {
            let by_itself = async {
                tokio::select! {
                    () = self.read(&mut output, activity) => {}
                    _ = child.ended() => {}
                }
                child.ended().await
            };
            let ended = tokio::select! {
                exit = by_itself => Some(exit),
                () = self.hang_up.cancelled() => None,
                () = shutdown.cancelled() => None,
            };
            let ended = match ended {
                Some(exit) => Some(exit),
                None => {
                    self.control.clone().hang_up().await;
                    timeout(REAPED, child.ended()).await.ok()
                }
            };
            self.read_rest(&mut output).await;
            ended
        };
        let exit = tokio::select! {
            exit = work => exit,
            () = written => None,
        };
        let exit = exit.unwrap_or(Exit::Signal(rustix::process::Signal::KILL.as_raw()));
        let last = if shutdown.is_cancelled() { Last::Stopping } else { Last::Exit(exit) };
        tracing::debug!(terminal = %self.id, ?exit, "terminal ended");
        *lock(&self.ended) = Some(Instant::now());
        self.change(|state| state.end(last));
    }

    /// Reads output as viewers take it, until there is no more.
    async fn read(&self, output: &mut (impl AsyncRead + Unpin), activity: &Activity) {
        let mut buffer = BytesMut::new();
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            // A statement of its own: the lock is not to be held while this waits.
            let read = self.state().read(Instant::now());
            if let Read::Until(then) = read {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = sleep_until(then.into()) => {}
                }
                continue;
            }
            buffer.reserve(MAX_CHUNK);
            match (&mut *output).take(MAX_CHUNK as u64).read_buf(&mut buffer).await {
                Ok(count) if count > 0 => {
                    activity.touch();
                    let bytes = buffer.split();
                    self.change(|state| state.output(&bytes, Instant::now()));
                }
                _ => return,
            }
        }
    }

    /// Reads what is left once the command has ended.
    async fn read_rest(&self, output: &mut (impl AsyncRead + Unpin)) {
        let mut rest = MAX_REST;
        let mut buffer = BytesMut::new();
        while rest > 0 {
            buffer.reserve(MAX_CHUNK);
            let mut source = (&mut *output).take(MAX_CHUNK as u64);
            let read = tokio::select! {
                read = source.read_buf(&mut buffer) => read,
                () = sleep(SILENCE) => return,
            };
            let (Ok(1..), bytes) = (read, buffer.split()) else { return };
            rest = rest.saturating_sub(bytes.len());
            self.change(|state| state.output(&bytes, Instant::now()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
