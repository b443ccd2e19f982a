//! `knot space terminal`: a terminal that a space keeps, on this one.
//!
//! A connection that is lost is opened again, through whatever server answers, and the screen goes on as if nothing
//! had been.

mod elsewhere;
mod kept;
mod view;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use knot_core::clock::Millis;
use rand::RngExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::elsewhere::Elsewhere;
pub(crate) use self::kept::list;
use self::view::View;
use super::client::{Answer, Client};
use super::context::{Context, is_interactive, variable};
use super::exec::status;
use super::failure::Failure;
use super::output::clean;
use super::prompt::RawMode;
use super::socket::{FAREWELL_LIMIT, Local, Signals, size};
use super::up::up;
use super::websocket::{self, WebSocket};
use crate::api::types::Space;
use crate::api::types::exec::{self, Ended};
use crate::api::types::terminals::{ClientMessage, MakeTerminal, Over, Reason, ServerMessage};

/// What brings a terminal back from programs that did not end by themselves: colours, cursor, mouse, pasting, what is
/// typed over or moved, wrapping, a link, how keys are sent.
pub(crate) const RESET: &str = "\u{1b}[0m\u{1b}[?25h\u{1b}[?1000l\u{1b}[?1002l\u{1b}[?1003l\u{1b}[?1004l\u{1b}[?1006l\u{1b}[?2004l\
    \u{1b}[4;20l\u{1b}[?7h\u{1b}[?2026l\u{1b}]8;;\u{7}\u{1b}[<99u\u{1b}[>4m";
/// What leaves the alternate screen; harmful on the normal one.
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";
/// The most input that one message carries, and how many such wait while nobody takes them.
const INPUT_CHUNK: usize = 16 * 1024;
const INPUT_CHUNKS: usize = 4;
/// For how long a lost connection is opened again and again.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How long to wait between two attempts, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// A server that says nothing for so long, though it asks every 15 s whether this end is there, is gone.
const SILENCE: Duration = Duration::from_secs(40);
/// How often to look whether it is, and whether this machine has slept.
const LOOK: Duration = Duration::from_secs(2);
/// A clock that leaps by more than this was a machine that slept.
const SLEPT_MILLIS: i64 = 15_000;

/// Which terminal.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The space's name or id
    name: String,
    /// Look at a terminal that there is, by its name or id, instead of opening a new one
    #[arg(long, value_name = "TERMINAL")]
    join: Option<String>,
    /// The new terminal's name; with --join, its other name from now on
    #[arg(long = "name", value_name = "NAME")]
    title: Option<String>,
    /// End a terminal, by its name or id, with what runs in it
    #[arg(long, value_name = "TERMINAL", conflicts_with_all = ["join", "title"])]
    end: Option<String>,
}

/// How looking at a terminal ended.
enum End {
    Over(Over),
    /// A signal told this program to end.
    Told(i32),
    /// The person has let go of it.
    LetGo,
    /// No server could be reached any more.
    Lost(Failure),
}

/// Opens a terminal; gives the shell's status.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { name: space, join, title, end } = arguments;
    let client = context.client().map_err(Failure::into_could_not_run)?;
    if let Some(terminal) = end {
        return kept::end(context, &client, &space, &terminal).await.map(|()| 0);
    }
    if !is_interactive() {
        return Err(Failure::usage(format!(
            "`knot space terminal` needs a terminal on standard input and output; without one use \
             `knot space exec {space} -- COMMAND`"
        )));
    }
    let (id, make) = match join {
        Some(terminal) => {
            let found = kept::find(&client, &space, &terminal).await?;
            if let Some(title) = title {
                kept::rename(&client, &space, found.id, &title).await?;
            }
            (found.id, None)
        }
        None => {
            let environment: BTreeMap<String, String> = ["TERM", "COLORTERM"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), variable(name)?)))
                .collect();
            let name = title.unwrap_or_default();
            (Uuid::new_v4(), Some(MakeTerminal { name, environment, ..MakeTerminal::default() }))
        }
    };
    if make.is_some() {
        let shown: Answer<Space> =
            client.get(&["spaces", &space]).await.map_err(Failure::into_could_not_run)?;
        up(context, &client, shown.value).await.map_err(Failure::into_could_not_run)?;
    }
    let id_text = id.to_string();
    let path = ["spaces", &space, "terminals", &id_text];
    // What is wrong from the beginning is said at once.
    let socket = websocket::open(&client, &path, &[]).await.map_err(Failure::into_could_not_run)?;
    client.learn().await;
    // Where it begins is not elsewhere.
    client.has_moved();
    let failed =
        |error: io::Error| Failure::could_not_run(format!("this terminal cannot be used: {error}"));
    let signals = Signals::of_terminal().map_err(failed)?;
    let raw = RawMode::enter().map_err(failed)?;
    let (typed, input) = mpsc::channel(INPUT_CHUNKS);
    let _reader = AbortOnDropHandle::new(tokio::spawn(read_input(typed)));
    let elsewhere = Elsewhere::new(&space);
    let mut looking = Looking { view: View::new(make, size()), input, signals, elsewhere };
    let end = looking.look(socket, &client, &path).await;
    if !matches!(&end, Ok(End::Over(Over { reason: Reason::Ended, .. }))) {
        looking.view.leave();
    }
    let went = looking.elsewhere.end();
    drop(raw);
    tell(end?, &space, &id_text, &went)
}

/// Says how it ended, and where it `went`; gives the status of this program.
fn tell(end: End, space: &str, id: &str, went: &str) -> Result<u8, Failure> {
    let shown = clean(space);
    let again = format!("look at it again with `knot space terminal {shown} --join {id}`");
    let (status, why) = match end {
        End::Over(Over { reason: Reason::Ended, exit: Some(ended), .. }) => match ended {
            Ended::Code(code) => {
                (status(ended), format!("ended: the shell exited with status {code}"))
            }
            Ended::Signal(number) => {
                (status(ended), format!("ended: signal {number} ended the shell"))
            }
        },
        End::Over(over) => {
            return Err(Failure::could_not_run(format!(
                "the terminal of {shown} ended: {}",
                clean(&over.detail)
            )));
        }
        End::Told(number) => (
            status(Ended::Signal(number)),
            format!("goes on: signal {number} ended this program; {again}"),
        ),
        End::LetGo => (0, format!("goes on: {again}")),
        End::Lost(failure) => {
            return Err(Failure::could_not_run(format!(
                "{failure}; the terminal goes on: {again}"
            )));
        }
    };
    // It may be the terminal that went away.
    let _ = writeln!(io::stderr(), "knot: the terminal of {shown} {why}{went}");
    Ok(status)
}

/// Looking at one terminal, by however many connections.
struct Looking {
    view: View,
    input: mpsc::Receiver<Bytes>,
    signals: Signals,
    elsewhere: Elsewhere,
}

/// What ends one connection.
enum Parted {
    End(End),
    /// It was lost, or its server is going: another takes over.
    Lost,
}

impl Looking {
    async fn look(
        &mut self,
        first: WebSocket,
        client: &Client,
        path: &[&str],
    ) -> Result<End, Failure> {
        let mut socket = Some(first);
        let (mut lost, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            if let Some(socket) = socket.take() {
                match self.converse(socket).await? {
                    Parted::End(end) => return Ok(end),
                    Parted::Lost => {
                        if self.view.was_attached() {
                            (lost, pause) = (Instant::now(), PAUSES.0);
                        }
                    }
                }
            }
            let attempt = async {
                sleep(pause.mul_f64(rand::rng().random_range(0.5..1.0))).await;
                websocket::open(client, path, &[]).await
            };
            tokio::select! {
                opened = attempt => match opened {
                    Ok(opened) => {
                        if client.has_moved() {
                            self.elsewhere.tries(&client.address());
                        }
                        socket = Some(opened);
                    }
                    Err(failure) if !failure.is_passing() || lost.elapsed() > PATIENCE => {
                        return Ok(End::Lost(failure));
                    }
                    Err(_) => {}
                },
                end = self.meanwhile() => return Ok(end),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Takes what is typed and what happens here while there is no connection, to the end.
    async fn meanwhile(&mut self) -> End {
        loop {
            tokio::select! {
                typed = self.input.recv(), if self.view.has_room() => match typed {
                    Some(typed) => if self.view.typed(&typed) { return End::LetGo },
                    None => return End::LetGo,
                },
                local = self.signals.next() => match local {
                    Local::Quit(number) => return End::Told(number),
                    Local::Send(exec::ClientMessage::Resize(size)) => self.view.size = size,
                    Local::Send(_) => {}
                },
            }
        }
    }

    async fn converse(&mut self, mut socket: WebSocket) -> Result<Parted, Failure> {
        let first = serde_json::to_string(&self.view.begin()).unwrap_or_default();
        if send(&mut socket, Message::text(first)).await.is_err() {
            return Ok(Parted::Lost);
        }
        let mut out = tokio::io::stdout();
        let mut looks = interval(LOOK);
        let (mut heard, mut clock) = (Instant::now(), Millis::now());
        loop {
            while let Some(bytes) = self.view.next_to_send() {
                if send(&mut socket, Message::binary(bytes)).await.is_err() {
                    return Ok(Parted::Lost);
                }
            }
            let message = tokio::select! {
                message = futures_util::StreamExt::next(&mut socket) => match message {
                    Some(Ok(message)) => message,
                    _ => return Ok(Parted::Lost),
                },
                typed = self.input.recv(), if self.view.has_room() => match typed {
                    Some(typed) if !self.view.typed(&typed) => continue,
                    _ => return Ok(Parted::End(End::LetGo)),
                },
                local = self.signals.next() => match local {
                    Local::Quit(number) => return Ok(Parted::End(End::Told(number))),
                    Local::Send(exec::ClientMessage::Resize(size)) => {
                        self.view.size = size;
                        let resize = text(ClientMessage::Resize(self.view.size));
                        if send(&mut socket, resize).await.is_err() {
                            return Ok(Parted::Lost);
                        }
                        continue;
                    }
                    Local::Send(_) => continue,
                },
                _ = looks.tick() => {
                    let now = Millis::now();
                    let slept = now.0 - clock.0 > SLEPT_MILLIS;
                    clock = now;
                    if slept || heard.elapsed() > SILENCE {
                        return Ok(Parted::Lost);
                    }
                    continue;
                }
            };
            heard = Instant::now();
            match message {
                Message::Binary(bytes) => {
                    let (shown, counted) = self.view.output(&bytes);
                    let failed = |error: io::Error| Failure::output(&error);
                    out.write_all(&shown).await.map_err(failed)?;
                    out.flush().await.map_err(failed)?;
                    if send(&mut socket, text(ClientMessage::Shown(counted))).await.is_err() {
                        return Ok(Parted::Lost);
                    }
                }
                Message::Text(message) => match serde_json::from_str(&message) {
                    Ok(ServerMessage::Over(over)) => {
                        // The server reads on until this, so that it loses nothing that it sent.
                        let _ = timeout(FAREWELL_LIMIT, socket.close(None)).await;
                        return Ok(match over.reason {
                            Reason::ServerGoing | Reason::Unreachable => Parted::Lost,
                            _ => Parted::End(End::Over(over)),
                        });
                    }
                    Ok(message) => {
                        if matches!(message, ServerMessage::Attached(_)) {
                            self.elsewhere.is_shown();
                        }
                        self.view.hear(message);
                    }
                    Err(_) => {
                        let detail = "the server sent what this version does not know".to_owned();
                        let over = Over { reason: Reason::Refused, detail, exit: None };
                        return Ok(Parted::End(End::Over(over)));
                    }
                },
                Message::Close(_) => return Ok(Parted::Lost),
                _ => {}
            }
        }
    }
}

fn text(message: ClientMessage) -> Message {
    Message::text(serde_json::to_string(&message).unwrap_or_default())
}

/// Sends a message; one that finds no way out for so long is of a dead connection.
async fn send(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    let sent = timeout(SILENCE, futures_util::SinkExt::send(socket, message)).await;
    sent.map_err(drop)?.map_err(drop)
}

async fn read_input(typed: mpsc::Sender<Bytes>) {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; INPUT_CHUNK];
    while let Ok(count @ 1..) = input.read(&mut buffer).await {
        let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        if typed.send(bytes).await.is_err() {
            return;
        }
    }
}
