//! One viewer of a terminal: a WebSocket on one side, and the way to the space's agent on the other.
//!
//! The way may break, because a server on it has gone: then another is opened where this one left off, and the
//! client notices nothing. Nothing is queued beyond what the client may type ahead and a few frames.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use knot_core::{
    agent::{self, FromTerminal, MAX_TERMINAL_NAME, Refusal, ToTerminal},
    model,
    replica::Doc,
    wire::{self, MAX_AGENT_FRAME},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, interval, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::input::{Input, Sending};
use crate::{
    access::{self, Feature},
    api::{
        app::{AgentReader, AgentWriter, App, ReachError},
        caller::Caller,
        exec::{CLOSING, FRAMES, Heard, OPENING, OVER, PING, ended, read_frames, silent},
        leaving::Leaving,
        types::terminals::{
            Attached, ClientMessage, Over, Reason, ServerMessage, Snapshot, TerminalSize, View,
            WINDOW,
        },
    },
};

/// For how long the way to the agent is sought again before the client is told.
const SEEKING: Duration = Duration::from_secs(30);
/// How long to wait between two attempts, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A way that has lasted for so long is looked for again at once.
const LASTED: Duration = Duration::from_secs(1);

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// A viewer's connection.
pub(in super::super) struct Bridge {
    app: App,
    caller: Caller,
    space: Doc<model::Space>,
    terminal: Uuid,
}

/// Why it ends.
enum End {
    /// The client closed its end, or is gone: nobody listens.
    Client,
    /// The client is told.
    Told(Over),
}

/// What is known of the viewer beyond one way to the agent.
struct Place {
    attach: agent::Attach,
    /// The number of the output byte that comes next; `None` until a snapshot is whole.
    at: Option<u64>,
    /// How much of a snapshot is still to come, and where the output goes on after it.
    drawing: (u64, u64),
    /// Whether the client was told that it is attached.
    told: bool,
    leads: bool,
    /// How many bytes the client was sent on this connection.
    sent: u64,
}

/// What both directions need to know of the client.
struct Client {
    heard: Heard,
    input: Input,
    shown: watch::Sender<u64>,
}

fn told(reason: Reason, detail: impl Into<String>) -> End {
    End::Told(Over { reason, detail: detail.into(), exit: None })
}

/// Who comes again at once finds another server in place of one that stops; in place of one that was removed,
/// people have to name another.
fn going(why: Leaving) -> End {
    let reason = match why {
        Leaving::Stopping => Reason::ServerGoing,
        Leaving::Removed => Reason::Refused,
    };
    told(reason, why.words())
}

impl Bridge {
    pub(super) fn new(app: App, caller: Caller, space: Doc<model::Space>, terminal: Uuid) -> Self {
        Self { app, caller, space, terminal }
    }

    /// Carries what is typed and shown until the terminal or the client ends.
    pub(super) async fn run(self, mut socket: WebSocket) {
        let begun = match access::allows(&self.app.replica, &self.space, Feature::Terminal).await {
            Ok(()) => match self.app.leaving() {
                Some(why) => Err(going(why)),
                None => first(&mut socket, self.terminal).await,
            },
            Err(off) => Err(told(Reason::TurnedOff, off.to_string())),
        };
        let (mut sink, mut stream) = socket.split();
        let end = match begun {
            Ok(attach) => {
                let client = Client {
                    heard: Heard::default(),
                    input: Input::new(attach.sent, attach.size),
                    shown: watch::Sender::new(0),
                };
                let at = attach.from;
                let drawing = (0, 0);
                let place = Place { attach, at, drawing, told: false, leads: false, sent: 0 };
                tokio::select! {
                    end = self.carry(place, &mut sink, &client) => end,
                    end = client.hear(&mut stream) => end,
                    why = self.app.leaves() => going(why),
                    () = self.caller.sees_no_more(&self.app, self.space.id()) =>
                        told(Reason::AccessLost, OVER),
                    () = silent(&client.heard) => End::Client,
                }
            }
            Err(end) => end,
        };
        if let End::Told(over) = end {
            close(sink, stream, over).await;
        }
    }

    /// Opens ways to the agent, one after the other, and carries what comes and goes on each.
    async fn carry(&self, mut place: Place, sink: &mut Sink, client: &Client) -> End {
        let mut pings = interval(PING);
        let (mut lost, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            let attempt = pinging(sink, &mut pings, self.attach(&mut place, client)).await;
            let why = match attempt {
                Err(end) | Ok(Err(Attempt::End(end))) => return end,
                Ok(Err(Attempt::Failed(why))) => why,
                Ok(Ok((reader, writer, attached))) => {
                    let begun = Instant::now();
                    pause = PAUSES.0;
                    let down = place.show(attached, reader, sink, client, &mut pings);
                    let up = client.send(writer, attached.taken);
                    let why = tokio::select! {
                        end = down => match end {
                            Err(why) => why,
                            Ok(end) => return end,
                        },
                        why = up => why,
                    };
                    lost = Instant::now();
                    tracing::info!(terminal = %self.terminal, why, "way to a terminal lost");
                    if begun.elapsed() > LASTED {
                        continue;
                    }
                    why
                }
            };
            if lost.elapsed() > SEEKING {
                return told(Reason::Unreachable, why);
            }
            if let Err(end) = pinging(sink, &mut pings, sleep(pause)).await {
                return end;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Opens a way to the agent that goes on where the last one ended.
    async fn attach(
        &self,
        place: &mut Place,
        client: &Client,
    ) -> Result<(AgentReader, AgentWriter, agent::Attached), Attempt> {
        let (taken, size) = client.input.state();
        place.attach = agent::Attach { from: place.at, sent: taken, size, ..place.attach.clone() };
        let open = agent::Open::Attach(place.attach.clone());
        let ready = access::ready(&*self.app.reach, self.space.id(), &open).await;
        let (mut reader, writer, _) = ready.map_err(|error| match error {
            access::Error::Reach(ReachError::NotRunning) => {
                Attempt::End(told(Reason::SpaceStopped, "the space does not run: start it first"))
            }
            access::Error::Reach(error) => Attempt::Failed(error.to_string()),
            access::Error::Refused { refusal: Refusal::NotFound, why } => {
                Attempt::End(told(Reason::UnknownTerminal, why))
            }
            access::Error::Refused { why, .. } => Attempt::End(told(Reason::Refused, why)),
        })?;
        let read = timeout(OPENING, wire::read_frame(&mut reader, MAX_AGENT_FRAME)).await;
        match read {
            Ok(Ok(Some(attached))) => Ok((reader, writer, attached)),
            Ok(Ok(None)) => Err(Attempt::Failed("its stream ended".to_owned())),
            Ok(Err(error)) => Err(Attempt::Failed(error.to_string())),
            Err(_) => Err(Attempt::Failed("the agent did not answer in time".to_owned())),
        }
    }
}

/// An attempt to reach the terminal that came to nothing.
enum Attempt {
    /// There may be another.
    Failed(String),
    /// There is nothing to be had.
    End(End),
}

impl Place {
    /// Shows what comes from the agent. `Err` where the way was lost, and why.
    async fn show(
        &mut self,
        attached: agent::Attached,
        reader: AgentReader,
        sink: &mut Sink,
        client: &Client,
        pings: &mut Interval,
    ) -> Result<End, String> {
        for message in self.begin(attached, client) {
            if let Err(end) = say(sink, &message).await {
                return Ok(end);
            }
        }
        let (frames, mut read) = mpsc::channel(FRAMES);
        let _reader = AbortOnDropHandle::new(tokio::spawn(read_frames(reader, frames)));
        let mut shown = client.shown.subscribe();
        loop {
            let ahead = self.sent.saturating_sub(*shown.borrow_and_update());
            let message = tokio::select! {
                frame = read.recv(), if ahead < WINDOW => match frame {
                    Some(Ok(frame)) => match self.translate(frame, client) {
                        Ok(message) => message,
                        Err(end) => return Ok(end),
                    },
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("its stream ended".to_owned()),
                },
                // The sender lives as long as this.
                _ = shown.changed(), if ahead >= WINDOW => continue,
                _ = pings.tick() => Message::Ping(Bytes::new()),
            };
            // A client that reads slowly cannot answer pings that it has not seen.
            let _blocked = client.heard.excuse();
            if sink.send(message).await.is_err() {
                return Ok(End::Client);
            }
        }
    }

    /// What the client is told of a way to the agent: all of the first, of others only what is new.
    fn begin(&mut self, attached: agent::Attached, client: &Client) -> Vec<ServerMessage> {
        let agent::Attached { from, head, taken, size, leads } = attached;
        let size = window(size);
        self.attach.make = None;
        (self.at, self.drawing) = (from, (0, 0));
        client.input.taken(taken);
        let had_leads = std::mem::replace(&mut self.leads, leads);
        if !std::mem::replace(&mut self.told, true) {
            return vec![ServerMessage::Attached(Attached { from, head, taken, size, leads })];
        }
        let mut news = vec![ServerMessage::Taken(taken), ServerMessage::Size(size)];
        if had_leads != leads {
            news.push(ServerMessage::Leads(leads));
        }
        news
    }

    fn translate(&mut self, frame: FromTerminal, client: &Client) -> Result<Message, End> {
        let message = match frame {
            FromTerminal::Output(bytes) => {
                let length = bytes.len() as u64;
                self.sent += length;
                if let Some(at) = &mut self.at {
                    *at += length;
                } else {
                    let (left, after) = &mut self.drawing;
                    *left = left.saturating_sub(length);
                    self.at = (*left == 0).then_some(*after);
                }
                return Ok(Message::Binary(bytes));
            }
            FromTerminal::Snapshot { at, length } => {
                (self.at, self.drawing) = (None, (length, at));
                ServerMessage::Snapshot(Snapshot { at, length })
            }
            FromTerminal::Taken(taken) => {
                client.input.taken(taken);
                ServerMessage::Taken(taken)
            }
            FromTerminal::Size(size) => ServerMessage::Size(window(size)),
            FromTerminal::Leads(leads) => {
                self.leads = leads;
                ServerMessage::Leads(leads)
            }
            FromTerminal::Ended(exit) => {
                let detail = "the command has ended".to_owned();
                let exit = Some(ended(exit));
                return Err(End::Told(Over { reason: Reason::Ended, detail, exit }));
            }
            FromTerminal::Stopping => return Err(told(Reason::SpaceStopped, STOPPED)),
            FromTerminal::Replaced => return Err(told(Reason::Replaced, REPLACED)),
        };
        Ok(text(&message))
    }
}

const STOPPED: &str = "the space has stopped, and its terminals with it: start it to open new ones";
const REPLACED: &str = "this viewer has come by another connection: it goes on there";

impl Client {
    /// Takes what the client sends, until it is gone.
    async fn hear(&self, stream: &mut Stream) -> End {
        loop {
            let message = match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(_)) | None => return End::Client,
            };
            self.heard.now();
            match message {
                Message::Binary(bytes) if bytes.is_empty() => {}
                Message::Binary(bytes) => {
                    if let Err(error) = self.input.push(bytes) {
                        return told(Reason::Refused, error.to_string());
                    }
                }
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(ClientMessage::Resize(size)) => self.input.resize(agents(size)),
                    Ok(ClientMessage::Shown(shown)) => {
                        self.shown.send_replace(shown);
                    }
                    Err(error) => {
                        let why = format!("a message is no TerminalClientMessage ({error})");
                        return told(Reason::Refused, why);
                    }
                },
                Message::Close(_) => return End::Client,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    /// Sends what is typed to the agent, which has taken so much of it; ends, with why, where the way is lost.
    async fn send(&self, mut writer: AgentWriter, mut at: u64) -> String {
        loop {
            let frame = match self.input.next(at).await {
                Sending::Size(size) => ToTerminal::Resize(size),
                Sending::Bytes(offset, bytes) => {
                    at = offset + bytes.len() as u64;
                    ToTerminal::Input { offset, bytes }
                }
            };
            if wire::write_frame(&mut writer, &frame, MAX_AGENT_FRAME).await.is_err() {
                // What the agent last said may still be on its way.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Waits for something while the client is asked whether it is still there.
async fn pinging<T>(
    sink: &mut Sink,
    pings: &mut Interval,
    wait: impl Future<Output = T>,
) -> Result<T, End> {
    tokio::pin!(wait);
    loop {
        tokio::select! {
            done = &mut wait => return Ok(done),
            _ = pings.tick() => {
                sink.send(Message::Ping(Bytes::new())).await.map_err(|_| End::Client)?;
            }
        }
    }
}

/// The client's first message.
async fn first(socket: &mut WebSocket, terminal: Uuid) -> Result<agent::Attach, End> {
    let refused = |why: String| told(Reason::Refused, why);
    let received = timeout(OPENING, async {
        loop {
            match socket.recv().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    });
    let Ok(Some(Ok(Message::Text(text)))) = received.await else {
        return Err(refused("the first message is to be text, a TerminalView".to_owned()));
    };
    let view: View = serde_json::from_str(&text)
        .map_err(|error| refused(format!("the first message is no TerminalView ({error})")))?;
    let make = view.make.map(|make| agent::Make {
        name: make.name.chars().take(MAX_TERMINAL_NAME).collect(),
        run: agent::Run {
            command: match make.command.is_empty() {
                true => agent::Command::Login,
                false => agent::Command::Program(make.command),
            },
            environment: make.environment,
            directory: make.directory,
            terminal: None,
            modes: Vec::new(),
        },
    });
    let (viewer, size) = (view.viewer, agents(view.size));
    let attach = agent::Attach { terminal, make, viewer, size, from: view.from, sent: view.sent };
    let open = agent::Open::Attach(attach.clone());
    match wire::encode_frame(&open, MAX_AGENT_FRAME) {
        Ok(_) => Ok(attach),
        Err(_) => {
            let why = format!("command and environment have more than {MAX_AGENT_FRAME} bytes");
            Err(refused(why))
        }
    }
}

fn window(size: agent::TerminalSize) -> TerminalSize {
    TerminalSize { columns: size.columns, rows: size.rows }
}

fn agents(size: TerminalSize) -> agent::TerminalSize {
    agent::TerminalSize { columns: size.columns, rows: size.rows }
}

fn text(message: &ServerMessage) -> Message {
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

async fn say(sink: &mut Sink, message: &ServerMessage) -> Result<(), End> {
    sink.send(text(message)).await.map_err(|_| End::Client)
}

/// Sends the last message, and waits until the client has taken it: a connection that is dropped with unread bytes may
/// lose it.
async fn close(mut sink: Sink, mut stream: Stream, over: Over) {
    let code = over.reason.close_code();
    let taken = async {
        say(&mut sink, &ServerMessage::Over(over)).await.ok()?;
        let frame = CloseFrame { code, reason: "over".into() };
        sink.send(Message::Close(Some(frame))).await.ok()?;
        while let Some(Ok(_)) = stream.next().await {}
        Some(())
    };
    if timeout(CLOSING, taken).await.is_err() {
        tracing::debug!("a client did not take the end of its terminal in time");
    }
}
