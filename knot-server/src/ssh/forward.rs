//! Connections into a space: `-L`, `-D`, `-W`, sockets, and jumps to other spaces.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use knot_core::agent::{Open, Refusal, Target};
use russh::{
    Channel, ChannelOpenFailure,
    server::{ChannelOpenHandle, Handle, Msg},
};
use tokio::io::split;

use super::{
    connection::{self, Connection, Lane, Peer},
    session::{Out, carry_in, carry_out},
    until,
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
pub(super) const SOON: Duration = Duration::from_secs(60);

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
    connection.carries.store(true, Relaxed);
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
