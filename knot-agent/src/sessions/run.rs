//! One command for one stream: its input, its outputs, and how it ended.

use std::{convert::Infallible, future::pending, time::Duration};

use bytes::{Bytes, BytesMut};
use knot_core::{
    agent::{Exit, FromAgent, MAX_CHUNK, Run, ToAgent},
    wire::{MAX_AGENT_FRAME, read_raw, write_data_frame},
};
use quinn::{RecvStream, SendStream};
use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::sleep,
};

use super::{Gone, LAST_WORDS, Shared, finish};
use crate::{
    activity::Activity,
    children::Child,
    process::{self, Control},
};

/// How many chunks of input wait for a command that does not read.
const INPUT_CHUNKS: usize = 4;
/// After a command has ended: how long its outputs may be silent before they are given up, when
/// some process that it left behind still holds them.
const SILENCE: Duration = Duration::from_millis(200);
/// After a command has ended: how much more is read of its outputs. All that it wrote itself is in
/// the pipes by then, and Linux lets no pipe hold more than this unless told otherwise.
const MAX_REST: usize = 2 << 20;

impl Shared {
    /// Runs a command until it has ended, or the server is gone.
    pub(super) async fn run(
        &self,
        run: &Run,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), Gone> {
        let last = match process::start(run, &self.surroundings, &self.children) {
            Ok(process) => self.attend(process, &mut send, &mut receive).await?,
            Err(error) => FromAgent::Failed(error.to_string()),
        };
        finish(send, &last).await
    }

    /// Carries input and output until the command has ended, or the server is gone.
    async fn attend(
        &self,
        process: process::Process,
        send: &mut SendStream,
        receive: &mut RecvStream,
    ) -> Result<FromAgent, Gone> {
        let process::Process { mut child, input, output, error_output, control } = process;
        let id = child.id();
        tracing::debug!(process = id, "session started");
        let stopped = send.stopped();
        let ended = {
            let outputs = carry_output(&mut child, output, error_output, send, &self.activity);
            let inputs = carry_input(receive, input, &control, &self.activity);
            let hung_up = async {
                self.shutdown.cancelled().await;
                control.clone().hang_up().await;
                // By now the outputs have ended, or are held by what will not end.
                sleep(LAST_WORDS).await;
            };
            tokio::select! {
                ended = outputs => ended,
                never = inputs => match never {
                    Ok(never) => match never {},
                    Err(gone) => Err(gone),
                },
                _ = stopped => Err(Gone),
                () = hung_up => Err(Gone),
            }
        };
        match ended {
            Ok(exit) => {
                tracing::debug!(process = id, ?exit, "session ended");
                if self.shutdown.is_cancelled() {
                    // The command may have ended before others of its group.
                    self.tasks.spawn(control.hang_up());
                }
                Ok(FromAgent::Exit(exit))
            }
            Err(gone) => {
                tracing::debug!(process = id, "session hung up");
                control.hang_up().await;
                Err(gone)
            }
        }
    }
}

/// Sends all output and returns how the command ended.
async fn carry_output(
    child: &mut Child,
    output: impl AsyncRead + Unpin,
    error_output: Option<impl AsyncRead + Unpin>,
    send: &mut SendStream,
    activity: &Activity,
) -> Result<Exit, Gone> {
    let mut output = Source::new(Some(output));
    let mut error_output = Source::new(error_output);
    let mut ended = None;
    let mut rest = MAX_REST;
    loop {
        let open = output.is_open() || error_output.is_open();
        if let Some(exit) = ended
            && (!open || rest == 0)
        {
            return Ok(exit);
        }
        let chunk = tokio::select! {
            more = output.next(), if output.is_open() => {
                more.then_some((FromAgent::Output(Bytes::new()), &output.chunk))
            }
            more = error_output.next(), if error_output.is_open() => {
                more.then_some((FromAgent::ErrorOutput(Bytes::new()), &error_output.chunk))
            }
            exit = child.ended(), if ended.is_none() => {
                ended = Some(exit);
                continue;
            }
            () = sleep(SILENCE), if ended.is_some() => {
                rest = 0;
                continue;
            }
        };
        let Some((empty, chunk)) = chunk else { continue };
        activity.touch();
        if ended.is_some() {
            rest = rest.saturating_sub(chunk.len());
        }
        write_data_frame(send, &empty, chunk, MAX_AGENT_FRAME).await?;
    }
}

/// An output that is read in chunks until it ends.
struct Source<R> {
    stream: Option<R>,
    /// What was read last.
    chunk: BytesMut,
}

impl<R: AsyncRead + Unpin> Source<R> {
    fn new(stream: Option<R>) -> Self {
        Self { stream, chunk: BytesMut::new() }
    }

    fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Reads the next chunk; false when it has ended. May be dropped and called again.
    async fn next(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return pending().await };
        self.chunk.clear();
        self.chunk.reserve(MAX_CHUNK);
        let mut space = (&mut *stream).take(MAX_CHUNK as u64);
        match space.read_buf(&mut self.chunk).await {
            Ok(n) if n > 0 => return true,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "output not readable any more"),
        }
        self.stream = None;
        false
    }
}

/// Takes frames from the server and acts on them, until the server is gone.
async fn carry_input(
    receive: &mut RecvStream,
    input: impl AsyncWrite + Unpin,
    control: &Control,
    activity: &Activity,
) -> Result<Infallible, Gone> {
    let (chunks, waiting) = mpsc::channel(INPUT_CHUNKS);
    let written = async {
        write_input(waiting, input, control).await;
        pending().await
    };
    tokio::select! {
        gone = take_frames(receive, chunks, control, activity) => gone,
        never = written => never,
    }
}

async fn take_frames(
    receive: &mut RecvStream,
    chunks: mpsc::Sender<Bytes>,
    control: &Control,
    activity: &Activity,
) -> Result<Infallible, Gone> {
    let mut chunks = Some(chunks);
    while let Some(frame) = read_raw(receive, MAX_AGENT_FRAME).await? {
        activity.touch();
        match ToAgent::in_frame(&frame)? {
            ToAgent::Input(bytes) => {
                if let Some(chunks) = &chunks {
                    // The writer outlives this loop: it is there to take it.
                    let _ = chunks.send(bytes).await;
                }
            }
            ToAgent::EndOfInput => chunks = None,
            ToAgent::Resize(size) => control.resize(size),
            ToAgent::Signal(number) => match Signal::from_named_raw(number) {
                Some(signal) => control.signal(signal),
                None => tracing::debug!(number, "unknown signal ignored"),
            },
        }
    }
    // The server has finished its half: there is no more input, and the command goes on.
    drop(chunks);
    pending().await
}

async fn write_input(
    mut waiting: mpsc::Receiver<Bytes>,
    input: impl AsyncWrite + Unpin,
    control: &Control,
) {
    let mut input = Some(input);
    while let Some(bytes) = waiting.recv().await {
        if let Some(open) = &mut input
            && open.write_all(&bytes).await.is_err()
        {
            // The command has closed its input, as `head` does. What follows goes nowhere.
            input = None;
        }
    }
    if let (Some(mut input), Some(end)) = (input, control.end_of_file()) {
        let _ = input.write_all(&[end]).await;
    }
}
