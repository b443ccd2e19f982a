//! Session channels: a command, a shell, or files.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use knot_core::{
    agent::{self, Exit, FromAgent, MAX_CHUNK, Open, Run, TerminalSize, ToAgent},
    wire::{self, MAX_AGENT_FRAME},
};
use russh::{
    ChannelWriteHalf, Sig,
    server::{Handle, Msg},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    connection::{Connection, Lane, Login},
    forward, listen, until,
};
use crate::api::{AgentReader, AgentWriter};

/// What a session ends with that never was, or was lost: as `ssh` itself ends then.
const LOST: u32 = 255;
/// How long it may take to hear why the way to an agent broke.
const NEWS: Duration = Duration::from_secs(2);
/// How many lines about a start wait to be shown.
const LINES: usize = 16;

/// What was asked for on a channel before anything runs.
pub(super) struct Wanted {
    pub(super) channel: Out,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) terminal: Option<TerminalSize>,
    pub(super) modes: Vec<(u8, u32)>,
    /// Whether the client's SSH agent is to be reached from the space.
    pub(super) agent: bool,
}

/// What is to run.
pub(super) enum What {
    Command(agent::Command),
    Files,
}

/// What goes to a client on one channel.
pub(super) struct Out {
    pub(super) half: ChannelWriteHalf<Msg>,
    pub(super) handle: Handle,
}

/// How a session ends.
enum End {
    Exit(Exit),
    /// The files' client has gone, or their server.
    Files,
    /// Nothing ran, or nobody knows how it ended: why.
    Lost(String),
    /// The way to the agent broke: how.
    Broken(String),
    /// Nobody knows how it ended, and people were told why.
    Told,
}

/// What everybody in a connection is told, for one of its sessions.
struct Notices {
    heard: watch::Receiver<Option<String>>,
    /// Whether its people were told anything.
    told: bool,
}

impl Notices {
    /// Passes on what is said, to its own end.
    async fn pass_on<T>(&mut self, out: &Out, terminal: bool) -> T {
        while self.heard.changed().await.is_ok() {
            self.say(out, terminal).await;
        }
        std::future::pending().await
    }

    /// Says what came last. Why a way broke may be heard of a moment after that it did.
    async fn last(&mut self, out: &Out, terminal: bool, broken: bool) {
        if broken && !self.told {
            let news = timeout(NEWS, self.heard.wait_for(Option::is_some));
            if matches!(news.await, Ok(Ok(_))) {
                self.say(out, terminal).await;
            }
        } else if self.heard.has_changed().unwrap_or_default() {
            self.say(out, terminal).await;
        }
    }

    async fn say(&mut self, out: &Out, terminal: bool) {
        let words = self.heard.borrow_and_update().clone();
        if let Some(words) = words {
            self.told = true;
            out.say(terminal, &words).await;
        }
    }
}

impl Out {
    /// Output of the command. Waits for the client to take it.
    pub(super) async fn output(&self, bytes: Bytes) -> Result<(), russh::Error> {
        self.half.data_bytes(bytes).await
    }

    async fn error_output(&self, bytes: Bytes) -> Result<(), russh::Error> {
        self.half.extended_data_bytes(1, bytes).await
    }

    /// A line for people: on the terminal, or beside the output.
    async fn say(&self, terminal: bool, words: &str) {
        let line = Bytes::from(match terminal {
            true => format!("\r\nknot: {words}\r\n"),
            false => format!("knot: {words}\n"),
        });
        // Nobody is there any more when this fails.
        let _ = match terminal {
            true => self.output(line).await,
            false => self.error_output(line).await,
        };
    }

    /// How it ended, and the end: in the order that clients rely on.
    async fn end(&self, end: Exit) {
        let sent = match end {
            Exit::Code(code) => {
                let status = u32::from_ne_bytes(code.to_ne_bytes());
                self.half.exit_status(status).await.is_ok()
            }
            Exit::Signal(signal) => {
                let (id, name) = (self.half.id(), signal_name(signal));
                let told =
                    self.handle.exit_signal_request(id, name, false, String::new(), String::new());
                told.await.is_ok()
            }
        };
        if sent && self.half.eof().await.is_ok() {
            let _ = self.half.close().await;
        }
    }
}

/// Runs what is wanted, to its end.
pub(super) async fn run(connection: &Connection, lane: &Lane, wanted: Wanted, what: What) {
    let Some(login) = connection.login.get() else { return };
    let terminal = wanted.terminal.is_some();
    let Wanted { channel: out, environment, terminal: size, modes, agent } = wanted;
    let wanted = Inner { environment, size, modes, agent };
    let ended = until(&lane.closed, async {
        let mut notices = Notices { heard: connection.notice.subscribe(), told: false };
        let end = tokio::select! {
            end = work(connection, login, lane, &out, wanted, what) => end,
            never = notices.pass_on(&out, terminal) => never,
        };
        notices.last(&out, terminal, matches!(end, End::Broken(_))).await;
        match end {
            End::Broken(_) if notices.told => End::Told,
            End::Broken(why) => End::Lost(why),
            end => end,
        }
    });
    let exit = match ended.await {
        None => {
            // Closed by the client, or given up.
            let _ = out.half.close().await;
            return;
        }
        Some(End::Exit(exit)) => exit,
        Some(End::Files) => Exit::Code(0),
        Some(End::Told) => Exit::Code(i32::from_ne_bytes(LOST.to_ne_bytes())),
        Some(End::Lost(why) | End::Broken(why)) => {
            until(&lane.closed, out.say(terminal, &why)).await;
            Exit::Code(i32::from_ne_bytes(LOST.to_ne_bytes()))
        }
    };
    until(&lane.closed, out.end(exit)).await;
}

struct Inner {
    environment: BTreeMap<String, String>,
    size: Option<TerminalSize>,
    modes: Vec<(u8, u32)>,
    agent: bool,
}

async fn work(
    connection: &Connection,
    login: &Login,
    lane: &Lane,
    out: &Out,
    wanted: Inner,
    what: What,
) -> End {
    let way = match &login.space {
        Ok(way) => way,
        Err(why) => return End::Lost(why.clone()),
    };
    let terminal = wanted.size.is_some();
    let (lines, mut said) = mpsc::channel::<String>(LINES);
    let say = move |line: String| {
        let _ = lines.try_send(line);
    };
    let shown = async {
        while let Some(line) = said.recv().await {
            out.say(terminal, &line).await;
        }
        std::future::pending().await
    };
    let worked = async {
        match what {
            What::Files => match way.ready(&Open::Sftp, &say).await {
                Ok((reader, writer, _)) => {
                    forward::pump(lane, out, reader, writer).await;
                    End::Files
                }
                Err(error) => End::Lost(error.to_string()),
            },
            What::Command(command) => {
                let mut environment = wanted.environment;
                let mut kept = None;
                if wanted.agent {
                    match listen::agent(connection, way, &out.handle, &say).await {
                        Ok((path, listener)) => {
                            environment.insert("SSH_AUTH_SOCK".to_owned(), path);
                            kept = Some(listener);
                        }
                        Err(error) => say(format!("your SSH agent is not forwarded: {error}")),
                    }
                }
                let run = Run {
                    command,
                    environment,
                    directory: None,
                    // It may have changed while the space was started.
                    terminal: wanted.size.map(|size| lane.size.borrow().unwrap_or(size)),
                    modes: wanted.modes,
                };
                let end = match way.stream(&Open::Run(run), &say).await {
                    Ok((reader, writer)) => attend(lane, out, reader, writer).await,
                    Err(why) => End::Lost(why),
                };
                drop(kept);
                end
            }
        }
    };
    tokio::select! {
        end = worked => end,
        never = shown => never,
    }
}

/// Carries input and output of a command until it has ended.
async fn attend(lane: &Lane, out: &Out, mut reader: AgentReader, writer: AgentWriter) -> End {
    let outputs = async {
        loop {
            let frame = wire::read_raw(&mut reader, MAX_AGENT_FRAME).await;
            let heard = frame.and_then(|one| one.as_ref().map(FromAgent::in_frame).transpose());
            let sent = match heard {
                Ok(Some(FromAgent::Output(bytes))) => out.output(bytes).await,
                Ok(Some(FromAgent::ErrorOutput(bytes))) => out.error_output(bytes).await,
                Ok(Some(FromAgent::Exit(exit))) => return End::Exit(exit),
                Ok(Some(FromAgent::Failed(why))) => return End::Lost(why),
                Ok(None) => return lost("its stream ended"),
                Err(error) => return lost(&error.to_string()),
            };
            if let Err(error) = sent {
                return lost(&error.to_string());
            }
        }
    };
    tokio::select! {
        end = outputs => end,
        never = inputs(lane, writer) => never,
    }
}

fn lost(why: &str) -> End {
    End::Broken(format!(
        "the connection to the space's agent was lost ({why}): what ran may have ended with it"
    ))
}

/// Carries what the client sends to the agent. Where the agent takes no more, its last word is still on
/// the way.
async fn inputs<T>(lane: &Lane, mut writer: AgentWriter) -> T {
    let mut sizes = lane.size.subscribe();
    let mut signals = lane.signals();
    let mut ended = false;
    loop {
        let sent = tokio::select! {
            data = lane.inbox.next(), if !ended => match data {
                Some(data) => send_input(&mut writer, &data).await,
                None => {
                    ended = true;
                    send(&mut writer, &ToAgent::EndOfInput).await
                }
            },
            Ok(()) = sizes.changed() => {
                let size = *sizes.borrow_and_update();
                match size {
                    Some(size) => send(&mut writer, &ToAgent::Resize(size)).await,
                    None => Ok(()),
                }
            }
            Some(signal) = next(&mut signals) => send(&mut writer, &ToAgent::Signal(signal)).await,
        };
        if sent.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn send(writer: &mut AgentWriter, frame: &ToAgent) -> Result<(), wire::Error> {
    wire::write_frame(writer, frame, MAX_AGENT_FRAME).await
}

async fn send_input(writer: &mut AgentWriter, data: &[u8]) -> Result<(), wire::Error> {
    for data in data.chunks(MAX_CHUNK) {
        let empty = ToAgent::Input(Bytes::new());
        wire::write_data_frame(writer, &empty, data, MAX_AGENT_FRAME).await?;
    }
    Ok(())
}

async fn next(signals: &mut Option<mpsc::Receiver<i32>>) -> Option<i32> {
    match signals {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    }
}

/// Carries bytes from the agent to the client, to their end.
pub(super) async fn carry_out(out: &Out, reader: &mut AgentReader) -> bool {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_CHUNK);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
        if out.output(buffer.split().freeze()).await.is_err() {
            return false;
        }
    }
}

/// Carries bytes from the client to the agent, to their end.
pub(super) async fn carry_in(lane: &Lane, writer: &mut AgentWriter) -> bool {
    while let Some(data) = lane.inbox.next().await {
        if writer.write_all(&data).await.is_err() {
            return false;
        }
    }
    writer.shutdown().await.is_ok()
}

/// The numbers of signals that clients name, as Linux has them.
const SIGNALS: [(&str, i32); 15] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("ABRT", 6),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("WINCH", 28),
];

/// The number of a signal that a client names; none for one that is not known.
pub(super) fn signal_number(signal: &Sig) -> Option<i32> {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name.split('@').next().unwrap_or_default(),
    };
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn signal_name(number: i32) -> Sig {
    match number {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        10 => Sig::USR1,
        11 => Sig::SEGV,
        12 => Sig::Custom("USR2".to_owned()),
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("{other}@knot")),
    }
}
