//! Connections out of a space: `-R`, ports and sockets, and the client's SSH agent.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use knot_core::{
    agent::{Heard, Open, Target},
    wire::{self, MAX_AGENT_FRAME},
};
use russh::{Disconnect, server::Handle};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{
    connection::{Connection, Listening},
    forward::{SOON, pump},
    session::Out,
    until,
    way::{Say, Way},
};
use crate::{
    access,
    api::{AgentReader, AgentWriter, ReachError},
};

/// How long the whole connection of a client waits for the answer to a request to listen.
const ANSWER: Duration = Duration::from_secs(1);

/// A listener in the space; it ends when this is dropped.
pub(super) struct Listener {
    _ended: DropGuard,
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
    let heeding = Heeding { way: way.clone(), handle: handle.clone(), listener, whom: For::Agent };
    let (own, guarded) = (connection.own(), ended.clone());
    connection.tasks.spawn(async move {
        if let Some(connection) = own.upgrade() {
            until(&guarded, heeding.heed(&connection, reader)).await;
        }
        drop(writer);
    });
    Ok((path, Listener { _ended: ended.drop_guard() }))
}

/// Listens in the space for the client; the port, where it is a port, or `None` where that is refused. Returns within
/// [`ANSWER`].
///
/// The library answers such a request in the one loop of its connection and has no answer to give later. So what takes
/// longer is answered before it is known: with yes, since it goes on being tried, and with no where a port is to be
/// chosen and named. Where nothing comes of that yes, people are told, or the connection ends.
pub(super) async fn listen(
    connection: &Arc<Connection>,
    handle: Handle,
    at: Listening,
) -> Option<u32> {
    let login = connection.login.get().filter(|login| login.rights.ports)?;
    let way = login.space.as_ref().ok()?.clone();
    let room = Arc::clone(&connection.room).try_acquire_owned().ok()?;
    let (target, port) = match &at {
        Listening::Tcp(host, port) => {
            (Target::Tcp { host: host.clone(), port: u16::try_from(*port).ok()? }, *port)
        }
        Listening::Unix(path) => (Target::Unix(path.clone()), 0),
    };
    let chosen = matches!(at, Listening::Tcp(_, 0));
    let ended = connection.cut.child_token();
    if !chosen && !connection.keep_listener(at.clone(), ended.clone()) {
        return None;
    }
    // Where one that was answered early is still being tried, this one would wait for the same.
    let wait = if connection.late.load(Relaxed) == 0 { ANSWER } else { Duration::ZERO };
    let (answer, answered) = oneshot::channel();
    let remote = Remote { way, handle, at, target, ended: ended.clone(), _room: room };
    connection.tasks.spawn(remote.run(Arc::clone(connection), answer));
    match timeout(wait, answered).await {
        Ok(answered) => answered.ok().flatten(),
        Err(_) if chosen => {
            ended.cancel();
            None
        }
        Err(_) => Some(port),
    }
}

/// Ends a listener; whether there was one.
pub(super) fn cancel(connection: &Connection, at: &Listening) -> bool {
    let found = connection.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(at);
    found.inspect(CancellationToken::cancel).is_some()
}

impl Connection {
    /// Keeps what ends a listener; whether there was none of that kind yet.
    fn keep_listener(&self, at: Listening, ended: CancellationToken) -> bool {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !listeners.contains_key(&at);
        if free {
            listeners.insert(at, ended);
        }
        free
    }
}

/// One more that is not known to listen, for as long as this lives.
struct Late<'a>(&'a AtomicUsize);

impl<'a> Late<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A port or socket of the space that leads to the client, until it is given up.
struct Remote {
    way: Way,
    handle: Handle,
    at: Listening,
    target: Target,
    ended: CancellationToken,
    _room: OwnedSemaphorePermit,
}

type Opened = (AgentReader, AgentWriter, Option<Target>);

impl Remote {
    async fn run(mut self, connection: Arc<Connection>, answer: oneshot::Sender<Option<u32>>) {
        let ended = self.ended.clone();
        let listener = Uuid::new_v4();
        let open = Open::Listen { listener, at: self.target.clone() };
        let late = Late::new(&connection.late);
        let opened = async {
            match self.way.ready(&open, &|_| {}).await {
                Err(access::Error::Reach(ReachError::Failed(_))) => self.way.again(&open).await,
                opened => opened,
            }
        };
        let Some(opened) = until(&ended, opened).await else { return };
        drop(late);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(space = %self.way.space(), %error, "not listening");
                cancel(&connection, &self.at);
                if answer.send(None).is_err() {
                    self.fail(&connection, &error).await;
                }
                return;
            }
        };
        let chosen = matches!(self.at, Listening::Tcp(_, 0));
        let Some(port) = self.found(&connection, opened.2.as_ref()) else { return };
        // Where it came too late it was a yes already, or a no where the port was to be chosen.
        if answer.send(Some(port)).is_err() && chosen {
            cancel(&connection, &self.at);
            return;
        }
        until(&ended, self.heed(&connection, listener, opened)).await;
    }

    /// Notes where it listens; the port, where it is one.
    fn found(&mut self, connection: &Connection, bound: Option<&Target>) -> Option<u32> {
        let (Listening::Tcp(address, asked), Some(Target::Tcp { port, .. })) = (&self.at, bound)
        else {
            return Some(0);
        };
        let port = u32::from(*port);
        if *asked == 0 {
            let host = address.clone();
            self.target = Target::Tcp { host: host.clone(), port: u16::try_from(port).ok()? };
            self.at = Listening::Tcp(host, port);
            connection.keep_listener(self.at.clone(), self.ended.clone()).then_some(port)
        } else {
            Some(port)
        }
    }

    /// Takes what connects to the client; where the way to the space breaks, by another.
    async fn heed(&self, connection: &Arc<Connection>, listener: Uuid, opened: Opened) {
        let (mut listener, mut opened) = (listener, opened);
        loop {
            let (reader, writer, _) = opened;
            let whom = match &self.at {
                Listening::Tcp(address, port) => For::Tcp { address: address.clone(), port: *port },
                Listening::Unix(path) => For::Unix(path.clone()),
            };
            let (way, handle) = (self.way.clone(), self.handle.clone());
            Heeding { way, handle, listener, whom }.heed(connection, reader).await;
            drop(writer);
            listener = Uuid::new_v4();
            let open = Open::Listen { listener, at: self.target.clone() };
            opened = match self.way.again(&open).await {
                Ok(opened) => opened,
                Err(error) => {
                    cancel(connection, &self.at);
                    // What becomes of the space is said for the whole connection.
                    if !matches!(error, access::Error::Reach(ReachError::NotRunning)) {
                        self.fail(connection, &error).await;
                    }
                    return;
                }
            };
        }
    }

    /// Takes back a yes.
    async fn fail(&self, connection: &Connection, error: &access::Error) {
        let what = match &self.at {
            Listening::Tcp(_, port) => format!("port {port}"),
            Listening::Unix(path) => path.clone(),
        };
        let words = format!("{what} of the space is not forwarded to you: {error}");
        if connection.is_idle() {
            let ended = self.handle.disconnect(Disconnect::ByApplication, words, String::new());
            let _ = ended.await;
        } else {
            connection.tell(words);
        }
    }
}

/// Whom a connection that a listener has accepted is for.
#[derive(Clone)]
enum For {
    Tcp { address: String, port: u32 },
    Unix(String),
    Agent,
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
    /// Takes connections until the listener's stream ends.
    async fn heed(&self, connection: &Arc<Connection>, mut reader: AgentReader) {
        while let Ok(Some(heard)) = wire::read_frame::<_, Heard>(&mut reader, MAX_AGENT_FRAME).await
        {
            // To its own end: a channel that is being opened must not be given up, or the client's
            // refusal of it ends the whole connection.
            connection.tasks.spawn(self.clone().take(Arc::clone(connection), heard));
        }
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
