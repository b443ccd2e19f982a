//! Ports of the space that lead to other spaces: what connects to one goes to whichever server this agent
//! is linked to, which knows where it leads and whether it may.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::pending,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use knot_core::{
    agent::{Answer, Outgoing, Watching},
    wire::{self, MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{activity::Activity, sessions::connect::pump};

/// How many connections of one port are carried at a time; more wait to be taken.
const CONNECTIONS: usize = 256;
/// How long a server may take to open a stream.
const OPEN: Duration = Duration::from_secs(5);
/// How long it may take to reach the other space.
const ANSWER: Duration = Duration::from_secs(30);
/// After a port could not be listened at: how long until the next try.
const AGAIN: Duration = Duration::from_secs(5);

/// The connections of this agent to servers; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Uplinks(Arc<Mutex<BTreeMap<Uuid, Connection>>>);

/// A connection's place among the others, given up with it.
#[derive(Debug)]
pub struct Up {
    uplinks: Uplinks,
    server: Uuid,
    connection: usize,
}

impl Uplinks {
    /// Has connections lead by way of a server for as long as what is returned lives.
    pub fn add(&self, server: Uuid, connection: Connection) -> Up {
        let id = connection.stable_id();
        self.with(|all| all.insert(server, connection));
        Up { uplinks: self.clone(), server, connection: id }
    }

    fn all(&self) -> Vec<Connection> {
        self.with(|all| all.values().cloned().collect())
    }

    fn with<T>(&self, access: impl FnOnce(&mut BTreeMap<Uuid, Connection>) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.uplinks.with(|all| {
            let is_this = |one: &Connection| one.stable_id() == self.connection;
            if all.get(&self.server).is_some_and(is_this) {
                all.remove(&self.server);
            }
        });
    }
}

/// What forwards work with.
#[derive(Clone, Debug)]
pub struct Forwards {
    /// What is to be listened at.
    pub watching: watch::Receiver<Watching>,
    /// Where it leads.
    pub uplinks: Uplinks,
    /// When the space was last used.
    pub activity: Activity,
}

impl Forwards {
    /// Listens at what is wanted, for as long as it is polled.
    pub async fn run(self) -> Infallible {
        let mut watching = self.watching.clone();
        let mut listening: BTreeMap<u16, AbortOnDropHandle<()>> = BTreeMap::new();
        loop {
            let wanted: BTreeSet<u16> = watching.borrow_and_update().forwards.clone();
            listening.retain(|port, _| wanted.contains(port));
            for port in wanted {
                listening.entry(port).or_insert_with(|| {
                    AbortOnDropHandle::new(tokio::spawn(self.clone().listen(port)))
                });
            }
            if watching.changed().await.is_err() {
                // The agent is ending.
                pending::<()>().await;
            }
        }
    }

    async fn listen(self, port: u16) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let listener = bind(port).await;
        // Those that are under way end with the forward.
        let mut carried = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = carried.join_next() => continue,
            };
            match accepted {
                Ok((connection, _)) => {
                    let forwards = self.clone();
                    carried.spawn(async move {
                        let _place = place;
                        if let Err(error) = forwards.carry(connection, port).await {
                            tracing::debug!(port, %error, "a connection to another space ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(port, %error, "a connection was not accepted");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn carry(&self, connection: TcpStream, port: u16) -> io::Result<()> {
        self.activity.touch();
        let (send, receive) = self.open(port).await?;
        let _ = connection.set_nodelay(true);
        let (reader, writer) = connection.into_split();
        let forth = pump(reader, send, &self.activity);
        let back = pump(receive, writer, &self.activity);
        tokio::try_join!(forth, back).map(drop)
    }

    /// A stream to the other space, through the first server that has a way.
    async fn open(&self, port: u16) -> io::Result<(SendStream, RecvStream)> {
        let mut why = io::Error::from(io::ErrorKind::NotConnected);
        for connection in self.uplinks.all() {
            match through(&connection, port).await {
                Ok(streams) => return Ok(streams),
                Err(error) => why = error,
            }
        }
        tracing::info!(port, error = %why, "a connection to another space is closed");
        Err(why)
    }
}

async fn through(connection: &Connection, port: u16) -> io::Result<(SendStream, RecvStream)> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let broken = |error: wire::Error| io::Error::other(error);
    let (mut send, mut receive) =
        timeout(OPEN, connection.open_bi()).await.map_err(|_| late())??;
    write_frame(&mut send, &Outgoing { port }, MAX_AGENT_FRAME).await.map_err(broken)?;
    let answer = timeout(ANSWER, read_frame(&mut receive, MAX_AGENT_FRAME)).await;
    match answer.map_err(|_| late())?.map_err(broken)? {
        Some(Answer::Ready) => Ok((send, receive)),
        Some(Answer::Refused { why, .. }) => Err(io::Error::other(why)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Listens at a port of loopback, as soon as nothing else does.
async fn bind(port: u16) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !told {
                    tracing::warn!(port, %error, "a port that leads to another space cannot be listened at");
                    told = true;
                }
                sleep(AGAIN).await;
            }
        }
    }
}
