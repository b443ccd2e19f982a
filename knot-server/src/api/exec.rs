//! Terminals and commands: bridges one WebSocket to one session of a space's agent.
//!
//! Nothing is queued beyond one message and a few frames each way: a reader that is slow slows the
//! writer at the other end. The bridge ends with the command, with either connection, with the
//! caller's session, or when this server goes away; it then says why, where anybody still listens.

use std::{sync::Mutex, time::Duration};

use axum::{
    extract::{
        FromRequestParts, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    http::request::Parts,
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use knot_core::{
    agent::{self, Exit, FromAgent, MAX_CHUNK, ToAgent},
    model,
    names::For,
    replica::Doc,
    wire::{self, MAX_AGENT_FRAME},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    app::{AgentReader, AgentWriter, App, ReachError},
    auth::Credential,
    caller::{Caller, Key, Wanted, host, same_origin},
    problem::{Code, Problem},
    types::exec::{ClientMessage, ERROR_OUTPUT, Ended, OUTPUT, Open, ServerMessage},
    world::World,
};
use crate::access::{self, Feature};

/// The largest message that is taken from a client, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// How long the first message may take, and opening a stream to the agent.
pub(super) const OPENING: Duration = Duration::from_secs(10);
/// How often a client is asked whether it is still there.
pub(super) const PING: Duration = Duration::from_secs(15);
/// A client that says nothing for so long, not even to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(50);
/// How long a client may take to hear the last message.
pub(super) const CLOSING: Duration = Duration::from_secs(2);
/// How many frames from the agent wait for the client.
pub(super) const FRAMES: usize = 4;

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// Runs a command, or a shell, in a space: a WebSocket.
///
/// The client's first message is text, an `Open`. After it, binary messages are standard input and
/// text messages are `ClientMessage`s. The server's binary messages are one byte, 1 for output and 2
/// for error output, and data; its one text message, a `ServerMessage`, is the last.
#[utoipa::path(
    get, path = "/spaces/{space}/exec", tag = "spaces", responses((status = 101)),
    params(("space" = String, Path, description = "Its name or id."))
)]
pub(super) async fn exec(
    State(app): State<App>,
    caller: Caller,
    Key(key): Key,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let found = World::new(&app).find(&caller, &key, For::Using)?;
    let space = found.id();
    app.stays()?;
    let opened = timeout(OPENING, app.reach.open(space)).await;
    let opened =
        opened.unwrap_or_else(|_| Err(ReachError::Failed("it did not answer in time".to_owned())));
    let (reader, writer) = opened.map_err(|error| {
        let code = match error {
            ReachError::NotRunning => Code::NotRunning,
            ReachError::NoAgent { .. } | ReachError::Failed(_) => Code::NoAgent,
        };
        Problem::new(code, error.to_string())
    })?;
    tracing::info!(%space, user = %caller.user, "session opened");
    let sessions = app.sessions.clone();
    Ok(upgrade.limited(MAX_MESSAGE).on_upgrade(move |socket| {
        sessions.track_future(async move {
            let bridge = Bridge { app, caller, space: found };
            bridge.run(socket, reader, writer).await;
            tracing::info!(%space, "session ended");
        })
    }))
}

pub(super) const OVER: &str = "your session is over, or the space is shared with you no more: sign in again, or ask its owner";

/// A request for a WebSocket that this server's own pages, or a program with a token, makes.
pub(super) struct Upgrade(pub(super) WebSocketUpgrade);

impl Upgrade {
    /// One that takes and sends no message larger than this, in bytes, and holds none back.
    pub(super) fn limited(self, largest: usize) -> WebSocketUpgrade {
        self.0
            .max_message_size(largest)
            .max_frame_size(largest)
            .write_buffer_size(0)
            .max_write_buffer_size(largest)
    }
}

impl FromRequestParts<App> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // A browser sends the cookie with a WebSocket of any page, and asks nobody before.
        let caller = Caller::identify(app, &parts.headers)?;
        if matches!(caller.credential, Credential::Session { .. }) {
            same_origin(&parts.headers, host(parts), app.https, Wanted::Proof)?;
        }
        WebSocketUpgrade::from_request_parts(parts, app).await.map(Self).map_err(|rejection| {
            let why = rejection.body_text();
            Problem::new(
                Code::WebSocketOnly,
                format!("open this path as a WebSocket over HTTP/1.1: {why}"),
            )
        })
    }
}

struct Bridge {
    app: App,
    caller: Caller,
    space: Doc<model::Space>,
}

/// Why a bridge ends before the command does.
enum End {
    /// The client closed its end, or is gone: nobody listens.
    Client,
    /// This happened: the client is told.
    Told(String),
}

impl Bridge {
    async fn run(self, mut socket: WebSocket, reader: AgentReader, mut writer: AgentWriter) {
        let run = match first(&mut socket).await {
            Ok(run) => self.allowed(&run).await.map(|()| run),
            Err(why) => Err(why),
        };
        let run = match run {
            Ok(run) => run,
            Err(why) => {
                let (sink, stream) = socket.split();
                return close(sink, stream, ServerMessage::Failed(why)).await;
            }
        };
        let (mut sink, mut stream) = socket.split();
        let heard = Heard::default();
        let last = {
            let up = uplink(&mut stream, &mut writer, run, &heard);
            let down = self.downlink(&mut sink, reader, &heard);
            let gone = async {
                tokio::select! {
                    why = self.app.leaves() => End::Told(why.words().to_owned()),
                    () = self.caller.sees_no_more(&self.app, self.space.id()) =>
                        End::Told(OVER.to_owned()),
                    () = silent(&heard) => End::Client,
                }
            };
            tokio::pin!(gone);
            tokio::select! {
                last = down => match last {
                    // Why the way to the agent broke may be heard of a moment later.
                    Err(End::Told(why)) => {
                        let late = timeout(CLOSING, &mut gone).await;
                        Err(late.unwrap_or(End::Told(why)))
                    }
                    last => last,
                },
                end = up => Err(end),
                end = &mut gone => Err(end),
            }
        };
        // The agent ends the command where the stream ends first.
        drop(writer);
        match last {
            Ok(last) => close(sink, stream, last).await,
            Err(End::Told(why)) => close(sink, stream, ServerMessage::Failed(why)).await,
            Err(End::Client) => {}
        }
    }

    /// Refuses what the space's template turns off.
    async fn allowed(&self, run: &agent::Run) -> Result<(), String> {
        let feature = if run.terminal.is_some() { Feature::Terminal } else { Feature::Exec };
        let allowed = access::allows(&self.app.replica, &self.space, feature).await;
        allowed.map_err(|off| off.to_string())
    }

    /// Carries what comes from the agent to the client, until the command has ended.
    async fn downlink(
        &self,
        sink: &mut Sink,
        reader: AgentReader,
        heard: &Heard,
    ) -> Result<ServerMessage, End> {
        let (frames, mut read) = mpsc::channel(FRAMES);
        let _reader = AbortOnDropHandle::new(tokio::spawn(read_frames(reader, frames)));
        let mut pings = tokio::time::interval(PING);
        pings.tick().await;
        loop {
            let message = tokio::select! {
                frame = read.recv() => match frame {
                    Some(Ok(FromAgent::Output(data))) => binary(OUTPUT, &data),
                    Some(Ok(FromAgent::ErrorOutput(data))) => binary(ERROR_OUTPUT, &data),
                    Some(Ok(FromAgent::Exit(exit))) => return Ok(ServerMessage::Exit(ended(exit))),
                    Some(Ok(FromAgent::Failed(why))) => return Ok(ServerMessage::Failed(why)),
                    Some(Err(error)) => return Err(lost(&error.to_string())),
                    None => return Err(lost("its stream ended")),
                },
                _ = pings.tick() => Message::Ping(Bytes::new()),
            };
            // A client that reads slowly cannot answer pings it has not seen.
            let _blocked = heard.excuse();
            sink.send(message).await.map_err(|_| End::Client)?;
        }
    }
}

/// Ends when the client is silent for too long.
pub(super) async fn silent(heard: &Heard) {
    let mut ticks = tokio::time::interval(PING);
    while heard.silence() <= SILENCE {
        ticks.tick().await;
    }
}

fn lost(why: &str) -> End {
    End::Told(format!(
        "the connection to the space's agent was lost ({why}): the command may have ended with it; open it again"
    ))
}

/// Reads whole frames: reading one must not be given up half way.
pub(super) async fn read_frames<T: DeserializeOwned>(
    mut reader: AgentReader,
    frames: mpsc::Sender<Result<T, wire::Error>>,
) {
    loop {
        let frame = match wire::read_frame(&mut reader, MAX_AGENT_FRAME).await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let failed = frame.is_err();
        if frames.send(frame).await.is_err() || failed {
            return;
        }
    }
}

/// The client's first message.
async fn first(socket: &mut WebSocket) -> Result<agent::Run, String> {
    let received = timeout(OPENING, async {
        loop {
            match socket.recv().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    });
    let Ok(Some(Ok(Message::Text(text)))) = received.await else {
        return Err("the first message is to be text, an Open: nothing was run".to_owned());
    };
    let open: Open = serde_json::from_str(&text)
        .map_err(|error| format!("the first message is no Open ({error}): nothing was run"))?;
    let size = |size: super::types::exec::TerminalSize| agent::TerminalSize {
        columns: size.columns,
        rows: size.rows,
    };
    let command = match open.command.is_empty() {
        true => agent::Command::Login,
        false => agent::Command::Program(open.command),
    };
    Ok(agent::Run {
        command,
        environment: open.environment,
        directory: open.directory,
        terminal: open.terminal.map(size),
        modes: Vec::new(),
    })
}

/// Carries what the client sends to the agent. Where the agent takes no more, its last word is
/// still on the way: only the client's end is heard from then on.
async fn uplink(
    stream: &mut Stream,
    writer: &mut AgentWriter,
    run: agent::Run,
    heard: &Heard,
) -> End {
    let mut takes = wire::write_frame(writer, &agent::Open::Run(run), MAX_AGENT_FRAME).await;
    if let Err(wire::Error::TooLong { limit, .. }) = takes {
        return End::Told(format!(
            "command and environment have more than {limit} bytes: nothing was run"
        ));
    }
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(_)) | None => return End::Client,
        };
        heard.now();
        let frames = match message {
            Message::Binary(data) => chunks(data),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => control(message).into_iter().collect(),
                Err(error) => return End::Told(format!("a message is no ClientMessage ({error})")),
            },
            Message::Close(_) => return End::Client,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let _blocked = heard.excuse();
        for frame in frames {
            if takes.is_ok() {
                takes = wire::write_frame(writer, &frame, MAX_AGENT_FRAME).await;
            }
        }
    }
}

fn chunks(mut data: Bytes) -> Vec<ToAgent> {
    let mut frames = Vec::new();
    while !data.is_empty() {
        frames.push(ToAgent::Input(data.split_to(data.len().min(MAX_CHUNK))));
    }
    frames
}

fn control(message: ClientMessage) -> Option<ToAgent> {
    match message {
        ClientMessage::EndOfInput(end) => end.then_some(ToAgent::EndOfInput),
        ClientMessage::Resize(size) => {
            Some(ToAgent::Resize(agent::TerminalSize { columns: size.columns, rows: size.rows }))
        }
        ClientMessage::Signal(number) => Some(ToAgent::Signal(number)),
    }
}

fn binary(stream: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(1 + data.len());
    bytes.put_u8(stream);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

pub(super) fn ended(exit: Exit) -> Ended {
    match exit {
        Exit::Code(code) => Ended::Code(code),
        Exit::Signal(signal) => Ended::Signal(signal),
    }
}

/// Sends the last message, and waits until the client has taken it: a connection that is dropped
/// with unread bytes may lose it.
async fn close(mut sink: Sink, mut stream: Stream, last: ServerMessage) {
    let text = serde_json::to_string(&last).unwrap_or_default();
    let frame = CloseFrame { code: close_code::NORMAL, reason: "ended".into() };
    let taken = async {
        sink.send(Message::Text(text.into())).await.ok()?;
        sink.send(Message::Close(Some(frame))).await.ok()?;
        while let Some(Ok(_)) = stream.next().await {}
        Some(())
    };
    if timeout(CLOSING, taken).await.is_err() {
        tracing::debug!("a client did not take the end of its session in time");
    }
}

/// When the client was last heard, and whether it could be heard at all.
pub(super) struct Heard(Mutex<(Instant, u32)>);

impl Default for Heard {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Heard {
    pub(super) fn now(&self) {
        self.with(|(heard, _)| *heard = Instant::now());
    }

    /// While the value lives, silence is not the client's fault.
    pub(super) fn excuse(&self) -> Excuse<'_> {
        self.with(|(_, excuses)| *excuses += 1);
        Excuse(self)
    }

    fn silence(&self) -> Duration {
        self.with(|(heard, excuses)| if *excuses > 0 { Duration::ZERO } else { heard.elapsed() })
    }

    fn with<T>(&self, access: impl FnOnce(&mut (Instant, u32)) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

pub(super) struct Excuse<'a>(&'a Heard);

impl Drop for Excuse<'_> {
    fn drop(&mut self) {
        self.0.with(|(heard, excuses)| {
            *excuses = excuses.saturating_sub(1);
            *heard = Instant::now();
        });
    }
}
