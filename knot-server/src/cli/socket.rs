//! One command in a space over a WebSocket: input, signals and sizes there, output back, until one side ends it.

use std::io;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, cause};
use super::failure::Failure;
use super::websocket::{self, WebSocket};
use crate::api::types::exec::{
    ClientMessage, ERROR_OUTPUT, Ended, OUTPUT, Open, ServerMessage, TerminalSize,
};

/// The most input that one message carries.
const INPUT_CHUNK: usize = 16 * 1024;

/// How long the end of the WebSocket may take to be said.
pub(crate) const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// How a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The command ended.
    Command(Ended),
    /// The command could not be run, or was lost; the server says why.
    Failed(String),
    /// The connection was lost.
    Lost(String),
    /// A signal told this program to end.
    Told(i32),
}

/// What happens on this machine besides input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// To be told the other end.
    Send(ClientMessage),
    /// This program is to end.
    Quit(i32),
}

/// The signals that a conversation listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Of a terminal: it went away, or has another size. Without a terminal the others are passed on.
    terminal: Option<(Signal, Signal)>,
}

impl Signals {
    /// Takes SIGINT and SIGTERM to pass them on.
    pub(crate) fn to_pass_on() -> io::Result<Self> {
        let [interrupt, terminate] = Self::common()?;
        Ok(Self { interrupt, terminate, terminal: None })
    }

    /// Takes the signals of a terminal: it changes its size, or this program is to end.
    pub(crate) fn of_terminal() -> io::Result<Self> {
        let [interrupt, terminate] = Self::common()?;
        let terminal = Some((signal(SignalKind::hangup())?, signal(SignalKind::window_change())?));
        Ok(Self { interrupt, terminate, terminal })
    }

    fn common() -> io::Result<[Signal; 2]> {
        Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?])
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) -> Local {
        let Self { interrupt, terminate, terminal } = self;
        let number = |kind: SignalKind| kind.as_raw_value();
        let Some((hangup, resize)) = terminal else {
            return tokio::select! {
                _ = interrupt.recv() => Local::Send(ClientMessage::Signal(number(SignalKind::interrupt()))),
                _ = terminate.recv() => Local::Send(ClientMessage::Signal(number(SignalKind::terminate()))),
            };
        };
        tokio::select! {
            _ = interrupt.recv() => Local::Quit(number(SignalKind::interrupt())),
            _ = terminate.recv() => Local::Quit(number(SignalKind::terminate())),
            _ = hangup.recv() => Local::Quit(number(SignalKind::hangup())),
            _ = resize.recv() => Local::Send(ClientMessage::Resize(size())),
        }
    }
}

/// The size of this program's terminal.
pub(crate) fn size() -> TerminalSize {
    let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    TerminalSize { columns, rows }
}

/// The connection to a command in a space.
pub(crate) struct Socket {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
}

impl Socket {
    /// Asks the server to run a command in a space.
    pub(crate) async fn open(client: &Client, space: &str, open: &Open) -> Result<Self, Failure> {
        let path = ["spaces", space, "exec"];
        let (mut sink, stream) = websocket::open(client, &path, &[]).await?.split();
        let lost = |why: String| {
            Failure::unreachable(format!("the connection to {} was lost: {why}", client.address()))
        };
        let first = serde_json::to_string(open).map_err(|error| lost(error.to_string()))?;
        sink.send(Message::text(first)).await.map_err(|error| lost(cause(&error)))?;
        Ok(Self { sink, stream })
    }

    /// Carries input there and output back until the end; `shown` sees the output that was written.
    pub(crate) async fn converse(
        self,
        input: impl AsyncRead + Unpin,
        mut signals: Signals,
        shown: impl FnMut(&[u8]),
    ) -> Result<End, Failure> {
        let Self { mut sink, mut stream } = self;
        let end = tokio::select! {
            end = receive(&mut stream, shown) => end?,
            number = feed(&mut sink, input, &mut signals) => End::Told(number),
        };
        if matches!(end, End::Command(_) | End::Failed(_)) {
            // The server reads on until this, so that it loses nothing that it sent. The outcome is known without it.
            let _ = tokio::time::timeout(FAREWELL_LIMIT, sink.close()).await;
        }
        Ok(end)
    }
}

/// Sends input and what happens here; ends, with its number, by a signal only. A broken connection is for the
/// receiving side to tell: the last message may still be on its way.
async fn feed(
    sink: &mut SplitSink<WebSocket, Message>,
    mut input: impl AsyncRead + Unpin,
    signals: &mut Signals,
) -> i32 {
    let mut buffer = vec![0; INPUT_CHUNK];
    let mut has_input = true;
    // At most one size and one signal wait for their turn.
    let mut waiting: Vec<ClientMessage> = Vec::new();
    loop {
        let message = if let Some(next) = waiting.pop() {
            text(next)
        } else {
            tokio::select! {
                read = input.read(&mut buffer), if has_input => match read {
                    Ok(count) if count > 0 => Message::binary(buffer.get(..count).unwrap_or_default().to_vec()),
                    _ => {
                        has_input = false;
                        text(ClientMessage::EndOfInput(true))
                    }
                },
                local = signals.next() => match local {
                    Local::Send(message) => text(message),
                    Local::Quit(number) => return number,
                },
            }
        };
        // A command that reads no input blocks this; signals are heard all the same, and the second one ends it.
        let mut sending = std::pin::pin!(sink.send(message));
        loop {
            let local = tokio::select! {
                sent = &mut sending => match sent {
                    Ok(()) => break,
                    Err(_) => std::future::pending().await,
                },
                local = signals.next() => local,
            };
            match local {
                Local::Quit(number) => return number,
                Local::Send(ClientMessage::Signal(number)) => {
                    if waiting.iter().any(|message| matches!(message, ClientMessage::Signal(_))) {
                        return number;
                    }
                    waiting.push(ClientMessage::Signal(number));
                }
                Local::Send(message) => {
                    waiting.retain(|message| matches!(message, ClientMessage::Signal(_)));
                    waiting.insert(0, message);
                }
            }
        }
    }
}

fn text(message: ClientMessage) -> Message {
    Message::text(serde_json::to_string(&message).unwrap_or_default())
}

/// Writes output as it comes; reads no further than has been written.
async fn receive(
    stream: &mut SplitStream<WebSocket>,
    mut shown: impl FnMut(&[u8]),
) -> Result<End, Failure> {
    let (mut output, mut errors) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Ok(End::Lost(cause(&error))),
            None => return Ok(End::Lost("the server closed it".to_owned())),
        };
        match message {
            Message::Binary(data) => match data.split_first() {
                Some((&OUTPUT, data)) => {
                    write(&mut output, data).await.map_err(|error| Failure::output(&error))?;
                    shown(data);
                }
                // Standard error may be closed; the command's status still counts.
                Some((&ERROR_OUTPUT, data)) => drop(write(&mut errors, data).await),
                _ => {
                    return Ok(End::Lost(
                        "the server sent what this version does not know".to_owned(),
                    ));
                }
            },
            Message::Text(message) => {
                return Ok(match serde_json::from_str::<ServerMessage>(&message) {
                    Ok(ServerMessage::Exit(ended)) => End::Command(ended),
                    Ok(ServerMessage::Failed(why)) => End::Failed(why),
                    Err(_) => {
                        End::Lost("the server sent what this version does not know".to_owned())
                    }
                });
            }
            Message::Close(frame) => {
                let why = frame.map(|frame| frame.reason.to_string()).filter(|why| !why.is_empty());
                return Ok(End::Lost(why.unwrap_or_else(|| "the server closed it".to_owned())));
            }
            _ => (),
        }
    }
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}
