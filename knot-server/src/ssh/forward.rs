//! Connections into a space and out of it: `-L`, `-D`, `-W`, `-R`, sockets, the client's SSH agent, and
//! jumps to other spaces.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use knot_core::{
    agent::{Heard, Open, Refusal, Target},
    wire::{self, MAX_AGENT_FRAME},
};
use russh::{
    Channel, ChannelOpenFailure,
    server::{ChannelOpenHandle, Handle, Msg},
};
use tokio::io::split;
use tokio_util::{sync::CancellationToken, sync::DropGuard};
use uuid::Uuid;

use super::{
    connection::{self, Connection, Lane, Listening, Peer},
    session::{Out, carry_in, carry_out},
    until,
    way::{Say, Way},
};
use crate::{
    access,
    api::{AgentReader, AgentWriter, login},
};

/// The port that a jump to another space names.
pub(super) const SSH: u32 = 22;
/// Through how many connections one may come.
const DEEPEST: usize = 4;
/// How many bytes wait between two connections, each way.
const BUFFER: usize = 256 << 10;
/// How long the space may take to make a connection that nobody sees being made.
const SOON: Duration = Duration::from_secs(60);
/// How long it may take to listen: the client's whole connection waits for that answer, since the
/// library has none to give later.
const LISTEN: Duration = Duration::from_secs(30);

/// Carries a channel's bytes each way until both halves have ended, and closes it.
pub(super) async fn pump(lane: &Lane, out: &Out, mut reader: AgentReader, mut writer: AgentWriter) {
    let back = async {
        let whole = carry_out(out, &mut reader).await;
        whole && out.half.eof().await.is_ok()
    };
    let forth = carry_in(lane, &mut writer);
    tokio::pin!(back, forth);
    // One half may go on long after the other; what broke breaks both.
    tokio::select! {
        whole = &mut back => if whole { forth.await; },
        whole = &mut forth => if whole { back.await; },
    }
}

/// Connects a channel that the client opens, and answers it.
pub(super) async fn connect(
    connection: Arc<Connection>,
    channel: Channel<Msg>,
    handle: Handle,
    reply: ChannelOpenHandle,
    to: Target,
) {
    let Ok(_room) = Arc::clone(&connection.room).try_acquire_owned() else {
        return reply.reject(ChannelOpenFailure::ResourceShortage).await;
    };
    let lane = connection.lane(channel.id());
    let (_, half) = channel.split();
    let out = Out { half, handle };
    let opened = until(&lane.closed, open(&connection, to)).await;
    match opened {
        Some(Ok((reader, writer))) => {
            reply.accept().await;
            until(&lane.closed, pump(&lane, &out, reader, writer)).await;
            let _ = out.half.close().await;
        }
        Some(Err(failure)) => reply.reject(failure).await,
        None => drop(reply),
    }
    connection.close_lane(out.half.id());
}

async fn open(
    connection: &Arc<Connection>,
    to: Target,
) -> Result<(AgentReader, AgentWriter), ChannelOpenFailure> {
    let login = connection.login.get().ok_or(ChannelOpenFailure::AdministrativelyProhibited)?;
    if !login.rights.ports {
        return Err(ChannelOpenFailure::AdministrativelyProhibited);
    }
    if let Target::Tcp { host, port } = &to
        && u32::from(*port) == SSH
        && let Some(stream) = jump(connection, host)
    {
        return Ok(stream);
    }
    let failure = |code, why: &str| ChannelOpenFailure::Other { code, reason: why.to_owned() };
    let way = login.space.as_ref().map_err(|why| failure(1, why))?;
    match way.soon(&Open::Connect(to), SOON).await {
        Ok((reader, writer, _)) => Ok((reader, writer)),
        Err(access::Error::Refused { refusal: Refusal::TooMany, why }) => Err(failure(4, &why)),
        Err(error) => {
            tracing::debug!(space = %way.space(), %error, "not connected");
            Err(failure(2, &error.to_string()))
        }
    }
}

/// A connection to this gateway itself, where a host names a space that the user may use.
fn jump(connection: &Arc<Connection>, host: &str) -> Option<(AgentReader, AgentWriter)> {
    let login = connection.login.get()?;
    if connection.peer.depth >= DEEPEST {
        return None;
    }
    let name = host.strip_suffix(".knot").unwrap_or(host);
    login::find_space(&connection.app, &login.caller, name).ok()?;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let peer = Peer {
        address: connection.peer.address,
        jumped: Some(name.to_owned()),
        depth: connection.peer.depth + 1,
        slot: None,
    };
    let (app, config) = (connection.app.clone(), Arc::clone(&connection.config));
    let tasks = connection.tasks.clone();
    connection.tasks.spawn(connection::serve(app, config, tasks, theirs, peer));
    let (reader, writer) = split(ours);
    Some((Box::new(reader), Box::new(writer)))
}

/// A listener in the space; it ends when this is dropped.
pub(super) struct Listener {
    _ended: DropGuard,
}

/// Whom a connection that a listener has accepted is for.
#[derive(Clone)]
enum For {
    Tcp { address: String, port: u32 },
    Unix(String),
    Agent,
}

/// Listens in the space for what connects to the client's SSH agent; the path, for programs there.
pub(super) async fn agent(
    connection: &Connection,
    way: &Way,
    handle: &Handle,
    say: Say<'_>,
) -> Result<(String, Listener), String> {
    let listener = Uuid::new_v4();
    let at = Target::Unix(String::new());
    let opened = way.ready(&Open::Listen { listener, at }, say).await;
    let (reader, writer, bound) = opened.map_err(|error| error.to_string())?;
    let Some(Target::Unix(path)) = bound else {
        return Err("the space does not say where it listens".to_owned());
    };
    let ended = connection.cut.child_token();
    let listening =
        Heeding { way: way.clone(), handle: handle.clone(), listener, whom: For::Agent };
    listening.start(connection, ended.clone(), reader, writer);
    Ok((path, Listener { _ended: ended.drop_guard() }))
}

/// Listens in the space for the client; the port, where it is a port.
pub(super) async fn listen(
    connection: &Arc<Connection>,
    handle: Handle,
    at: Listening,
) -> Option<u32> {
    let login = connection.login.get().filter(|login| login.rights.ports)?;
    let way = login.space.as_ref().ok()?;
    let target = match &at {
        Listening::Tcp(address, port) => {
            Target::Tcp { host: address.clone(), port: u16::try_from(*port).ok()? }
        }
        Listening::Unix(path) => Target::Unix(path.clone()),
    };
    let room = Arc::clone(&connection.room).try_acquire_owned().ok()?;
    let listener = Uuid::new_v4();
    let open = Open::Listen { listener, at: target };
    let opened = until(&connection.cut, way.soon(&open, LISTEN)).await?;
    let (reader, writer, bound) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(space = %way.space(), %error, "not listening");
            return None;
        }
    };
    let (whom, key, port) = match (at, bound?) {
        (Listening::Tcp(address, _), Target::Tcp { port, .. }) => {
            let port = u32::from(port);
            (For::Tcp { address: address.clone(), port }, Listening::Tcp(address, port), port)
        }
        (Listening::Unix(path), _) => (For::Unix(path.clone()), Listening::Unix(path), 0),
        _ => return None,
    };
    let ended = connection.cut.child_token();
    let before = connection
        .listeners
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, ended.clone());
    if let Some(before) = before {
        before.cancel();
    }
    let heeding = Heeding { way: way.clone(), handle, listener, whom };
    heeding.start_with(connection, ended, reader, writer, Some(room));
    Some(port)
}

/// Ends a listener; whether there was one.
pub(super) fn cancel(connection: &Connection, at: &Listening) -> bool {
    let found = connection.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(at);
    found.inspect(CancellationToken::cancel).is_some()
}

/// What takes the connections of one listener to the client.
#[derive(Clone)]
struct Heeding {
    way: Way,
    handle: Handle,
    listener: Uuid,
    whom: For,
}

impl Heeding {
    fn start(
        self,
        connection: &Connection,
        ended: CancellationToken,
        reader: AgentReader,
        writer: AgentWriter,
    ) {
        self.start_with(connection, ended, reader, writer, None);
    }

    fn start_with(
        self,
        connection: &Connection,
        ended: CancellationToken,
        mut reader: AgentReader,
        writer: AgentWriter,
        room: Option<tokio::sync::OwnedSemaphorePermit>,
    ) {
        let (tasks, shared) = (connection.tasks.clone(), connection.own());
        connection.tasks.spawn(async move {
            let heard = async {
                while let Ok(Some(heard)) =
                    wire::read_frame::<_, Heard>(&mut reader, MAX_AGENT_FRAME).await
                {
                    if let Some(shared) = shared.upgrade() {
                        // To its own end: a channel that is being opened must not be given up, or the
                        // client's refusal of it ends the whole connection.
                        tasks.spawn(self.clone().take(shared, heard));
                    }
                }
            };
            until(&ended, heard).await;
            drop((writer, room));
        });
    }

    /// Takes one connection from the space to the client.
    async fn take(self, connection: Arc<Connection>, heard: Heard) {
        let Ok(_room) = Arc::clone(&connection.room).try_acquire_owned() else { return };
        let (host, port) = (heard.host, u32::from(heard.port));
        let opened = match self.whom {
            For::Tcp { address, port: at } => {
                self.handle.channel_open_forwarded_tcpip(address, at, host, port).await
            }
            For::Unix(path) => self.handle.channel_open_forwarded_streamlocal(path).await,
            For::Agent => self.handle.channel_open_agent().await,
        };
        let channel = match opened {
            Ok(channel) => channel,
            Err(error) => {
                tracing::debug!(%error, "a client takes no connection from its space");
                return;
            }
        };
        let lane = connection.lane(channel.id());
        let (_, half) = channel.split();
        let out = Out { half, handle: self.handle };
        let take = Open::Take { listener: self.listener, connection: heard.connection };
        let taken = until(&lane.closed, self.way.soon(&take, SOON)).await;
        if let Some(Ok((reader, writer, _))) = taken {
            until(&lane.closed, pump(&lane, &out, reader, writer)).await;
        }
        let _ = out.half.close().await;
        connection.close_lane(out.half.id());
    }
}
