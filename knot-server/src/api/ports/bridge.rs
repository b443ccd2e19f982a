//! Bridges one WebSocket to one stream of a space's agent: bytes, or datagrams.
//!
//! Nothing is queued beyond a message each way: a reader that is slow slows the writer at the other end.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    extract::{
        WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use knot_core::{
    id::Id,
    model::Space,
    wire::{self, MAX_AGENT_FRAME},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::api::{
    app::{AgentReader, AgentWriter, App},
    caller::Caller,
    types::ports::{END, MAX_DATAGRAM},
};

/// The largest message that is taken, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// The most bytes of one message that is sent.
const CHUNK: usize = 64 << 10;
/// How often a client is asked whether it is still there.
const PING: Duration = Duration::from_secs(15);
/// A client that says nothing for so long, not even to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(50);
/// How long a client may take to hear the end.
const CLOSING: Duration = Duration::from_secs(2);
/// How many datagrams wait for the client: more are lost, as datagrams may be.
const WAITING: usize = 64;

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// Why a bridge ends.
enum End {
    /// Both sides have said all.
    Done,
    /// The client is gone.
    Client,
    /// This happened: the client is told.
    Told(&'static str),
}

const OVER: &str = "your session is over, or the space is shared with you no more";
const LOST: &str = "the connection to the space's agent was lost";

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Kind {
    /// Bytes, whose two halves end by themselves.
    Bytes,
    /// Frames of one datagram.
    Datagrams,
}

/// Who has a stream, and to where.
pub(in crate::api) struct Bridge {
    pub(in crate::api) app: App,
    pub(in crate::api) caller: Caller,
    pub(in crate::api) space: Id<Space>,
    pub(in crate::api) kind: Kind,
}

impl Bridge {
    /// Answers the request for the WebSocket, and carries what comes until either side has gone.
    pub(in crate::api) fn answer(
        self,
        upgrade: WebSocketUpgrade,
        reader: AgentReader,
        writer: AgentWriter,
    ) -> Response {
        let upgrade = upgrade
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_MESSAGE);
        let sessions = self.app.sessions.clone();
        upgrade.on_upgrade(move |socket| sessions.track_future(self.run(socket, reader, writer)))
    }

    async fn run(self, socket: WebSocket, reader: AgentReader, writer: AgentWriter) {
        let (mut sink, mut stream) = socket.split();
        let carried = async {
            let blocked = AtomicBool::new(false);
            match self.kind {
                Kind::Bytes => {
                    let up = up(&mut stream, writer, &blocked);
                    both(down(&mut sink, reader, &blocked), up).await
                }
                Kind::Datagrams => tokio::select! {
                    end = datagrams_down(&mut sink, reader, &blocked) => end,
                    end = datagrams_up(&mut stream, writer, &blocked) => end,
                },
            }
        };
        let end = tokio::select! {
            end = carried => end,
            why = self.app.leaves() => End::Told(why.words()),
            () = self.caller.sees_no_more(&self.app, self.space) => End::Told(OVER),
        };
        let (code, reason) = match end {
            End::Client => return,
            End::Done => (close_code::NORMAL, "ended"),
            End::Told(why) => (close_code::AWAY, why),
        };
        let frame = CloseFrame { code, reason: reason.into() };
        let taken = async {
            sink.send(Message::Close(Some(frame))).await.ok()?;
            while let Some(Ok(_)) = stream.next().await {}
            Some(())
        };
        if timeout(CLOSING, taken).await.is_err() {
            tracing::debug!("a client did not take the end of its connection in time");
        }
    }
}

/// Waits until both directions are done, or one has failed.
async fn both(
    down: impl Future<Output = Result<(), End>>,
    up: impl Future<Output = Result<(), End>>,
) -> End {
    match tokio::try_join!(down, up) {
        Ok(_) => End::Done,
        Err(end) => end,
    }
}

/// Carries the space's bytes to the client, to their end.
async fn down(sink: &mut Sink, mut reader: AgentReader, blocked: &AtomicBool) -> Result<(), End> {
    let mut pings = interval(PING);
    pings.tick().await;
    let mut buffer = BytesMut::new();
    let mut open = true;
    loop {
        buffer.reserve(CHUNK);
        let mut space = (&mut reader).take(CHUNK as u64);
        let message = tokio::select! {
            read = space.read_buf(&mut buffer), if open => match read {
                Ok(0) => {
                    open = false;
                    Message::Text(END.into())
                }
                Ok(_) => Message::Binary(buffer.split().freeze()),
                Err(_) => return Err(End::Told(LOST)),
            },
            _ = pings.tick(), if open => Message::Ping(Bytes::new()),
        };
        send(sink, message, blocked).await?;
        if !open {
            return Ok(());
        }
    }
}

/// Carries the client's bytes to the space, to their end.
async fn up(stream: &mut Stream, mut writer: AgentWriter, blocked: &AtomicBool) -> Result<(), End> {
    // What the program in the space takes no more is thrown away: what it says is heard to its end.
    let mut takes = true;
    loop {
        match hear(stream, blocked).await? {
            Message::Binary(data) => {
                if takes && writer.write_all(&data).await.is_err() {
                    takes = false;
                }
            }
            Message::Text(text) if text.as_str() == END => {
                return match writer.shutdown().await {
                    Ok(()) => Ok(()),
                    Err(_) if !takes => Ok(()),
                    Err(_) => Err(End::Told(LOST)),
                };
            }
            Message::Text(_) => return Err(End::Told("a text message is not `end`")),
            Message::Close(_) => return Err(End::Client),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

async fn datagrams_down(sink: &mut Sink, reader: AgentReader, blocked: &AtomicBool) -> End {
    let (datagrams, mut read) = mpsc::channel(WAITING);
    let _reader = AbortOnDropHandle::new(tokio::spawn(read_datagrams(reader, datagrams)));
    let mut pings = interval(PING);
    pings.tick().await;
    loop {
        let message = tokio::select! {
            datagram = read.recv() => match datagram {
                Some(datagram) => Message::Binary(datagram),
                None => return End::Told(LOST),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if let Err(end) = send(sink, message, blocked).await {
            return end;
        }
    }
}

/// Reads whole frames: reading one must not be given up half way. A client that is behind loses some.
async fn read_datagrams(mut reader: AgentReader, datagrams: mpsc::Sender<Bytes>) {
    while let Ok(Some(datagram)) = wire::read_frame::<_, Bytes>(&mut reader, MAX_AGENT_FRAME).await
    {
        if let Err(mpsc::error::TrySendError::Closed(_)) = datagrams.try_send(datagram) {
            return;
        }
    }
}

async fn datagrams_up(stream: &mut Stream, mut writer: AgentWriter, blocked: &AtomicBool) -> End {
    loop {
        match hear(stream, blocked).await {
            Ok(Message::Binary(datagram)) if datagram.len() <= MAX_DATAGRAM => {
                let sent = wire::write_frame(&mut writer, &datagram, MAX_AGENT_FRAME).await;
                if sent.is_err() {
                    return End::Told(LOST);
                }
            }
            Ok(Message::Binary(_)) => return End::Told("a message is longer than a datagram"),
            Ok(Message::Text(_)) => return End::Told("datagrams are binary messages"),
            Ok(Message::Close(_)) => return End::Client,
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Err(end) => return end,
        }
    }
}

/// The client's next message; not to be called again after it has failed.
async fn hear(stream: &mut Stream, blocked: &AtomicBool) -> Result<Message, End> {
    loop {
        match timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(message))) => return Ok(message),
            Ok(Some(Err(_)) | None) => return Err(End::Client),
            // A client that reads slowly cannot answer pings that it has not seen.
            Err(_) if blocked.load(Relaxed) => {}
            Err(_) => return Err(End::Client),
        }
    }
}

async fn send(sink: &mut Sink, message: Message, blocked: &AtomicBool) -> Result<(), End> {
    blocked.store(true, Relaxed);
    let sent = sink.send(message).await;
    blocked.store(false, Relaxed);
    sent.map_err(|_| End::Client)
}
