//! Listeners in the space: what connects to one is told to the server, which takes it over a stream of its
//! own. So a stream is always opened by a server, through whichever relay it has.

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use knot_core::{
    agent::{Answer, Heard, Refusal, Target, WAITING_CONNECTIONS},
    wire::{MAX_AGENT_FRAME, write_frame},
};
use quinn::{RecvStream, SendStream};
use tokio::{
    net::{TcpListener, UnixListener},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    Gone, Refused, Shared, answer,
    connect::{Connection, addresses},
    refuse,
};

/// How long an accepted connection waits to be taken.
const WAIT: Duration = Duration::from_secs(10);
/// How long a listener rests that could not accept, as where too many files are open.
const REST: Duration = Duration::from_millis(100);

/// The connections that wait to be taken, of all listeners.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Arc<Mutex<HashMap<Uuid, HashMap<u64, Waiting>>>>);

/// An accepted connection. It is closed when it is let go of.
struct Waiting {
    connection: Connection,
    _deadline: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

/// What is listened at.
enum Listener {
    Tcp(Vec<TcpListener>),
    Unix { listener: UnixListener, _socket: Socket },
}

/// The file of a Unix socket, which goes with it; and its folder, where that was made for it.
struct Socket {
    path: PathBuf,
    folder: Option<PathBuf>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Listeners {
    /// A connection that waits.
    pub(super) fn take(&self, listener: Uuid, connection: u64) -> Option<Connection> {
        let waiting = self.with(|all| all.get_mut(&listener)?.remove(&connection));
        waiting.map(|waiting| waiting.connection)
    }

    /// Keeps a connection until it is taken or its time is over. Whether there was room.
    fn keep(&self, listener: Uuid, number: u64, connection: Connection) -> bool {
        let all = self.clone();
        let deadline = AbortOnDropHandle::new(tokio::spawn(async move {
            sleep(WAIT).await;
            all.take(listener, number);
        }));
        let waiting = Waiting { connection, _deadline: deadline };
        self.with(|all| {
            let Some(those) = all.get_mut(&listener) else { return false };
            let room = those.len() < WAITING_CONNECTIONS;
            if room {
                those.insert(number, waiting);
            }
            room
        })
    }

    fn with<T>(&self, access: impl FnOnce(&mut HashMap<Uuid, HashMap<u64, Waiting>>) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A listener's place among the others, given up with it.
struct Place<'a>(&'a Listeners, Uuid);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.with(|all| all.remove(&self.1));
    }
}

impl Shared {
    /// Listens until the server ends the stream, and tells it of each connection.
    pub(super) async fn listen(
        &self,
        id: Uuid,
        at: Target,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), Gone> {
        let (listener, bound) = match bind(&at).await {
            Ok(bound) => bound,
            Err(refused) => return refuse(send, refused).await,
        };
        let is_new = self.listeners.with(|all| all.insert(id, HashMap::new()).is_none());
        if !is_new {
            let why = "a listener of this id is there already".to_owned();
            return refuse(send, Refused { refusal: Refusal::Failed, why }).await;
        }
        let _place = Place(&self.listeners, id);
        answer(&mut send, &Answer::Listening(bound)).await?;
        let heard = async {
            for number in 0_u64.. {
                let (connection, from) = listener.accept().await;
                if !self.listeners.keep(id, number, connection) {
                    tracing::warn!(limit = WAITING_CONNECTIONS, "a forwarded connection is closed");
                    continue;
                }
                self.activity.touch();
                let (host, port) =
                    from.map_or((String::new(), 0), |from| (from.ip().to_string(), from.port()));
                let heard = Heard { connection: number, host, port };
                write_frame(&mut send, &heard, MAX_AGENT_FRAME).await?;
            }
            Ok(())
        };
        let mut byte = [0];
        tokio::select! {
            ended = heard => ended,
            // The server has nothing more to say: the end of its half is the end of the listener.
            _ = receive.read_exact(&mut byte) => Ok(()),
            () = self.shutdown.cancelled() => Ok(()),
        }
    }
}

impl Listener {
    /// The next connection, and where it comes from.
    async fn accept(&self) -> (Connection, Option<SocketAddr>) {
        loop {
            let accepted = match self {
                Self::Tcp(listeners) => {
                    let (one, other) = (listeners.first(), listeners.get(1));
                    tokio::select! {
                        accepted = accept(one) => accepted,
                        accepted = accept(other) => accepted,
                    }
                }
                Self::Unix { listener, .. } => {
                    listener.accept().await.map(|(stream, _)| (stream.into(), None))
                }
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(REST).await;
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(Connection, Option<SocketAddr>)> {
    match listener {
        Some(listener) => {
            let (stream, from) = listener.accept().await?;
            Ok((stream.into(), Some(from)))
        }
        None => std::future::pending().await,
    }
}

/// Listens at `at`. What is answered has the port or path filled in.
async fn bind(at: &Target) -> Result<(Listener, Target), Refused> {
    let failed = |at: &str, error: &io::Error| Refused {
        refusal: Refusal::Failed,
        why: format!("nothing can listen at {at} in this space: {error}"),
    };
    match at {
        Target::Tcp { host, port } => {
            let (listeners, bound) = tcp(host, *port)
                .await?
                .map_err(|error| failed(&format!("{host}:{port}"), &error))?;
            Ok((Listener::Tcp(listeners), Target::Tcp { host: host.clone(), port: bound }))
        }
        Target::Unix(path) => {
            let (listener, socket) = unix(path).map_err(|error| failed(path, &error))?;
            let bound = Target::Unix(socket.path.to_string_lossy().into_owned());
            Ok((Listener::Unix { listener, _socket: socket }, bound))
        }
    }
}

/// Listens at one port of every address that the host has here.
async fn tcp(host: &str, port: u16) -> Result<io::Result<(Vec<TcpListener>, u16)>, Refused> {
    let addresses = match host {
        "" | "*" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        host => addresses(host).await?,
    };
    Ok(async {
        let (mut listeners, mut bound, mut failed) = (Vec::new(), port, None);
        for address in addresses {
            match TcpListener::bind((address, bound)).await {
                Ok(listener) => {
                    bound = listener.local_addr()?.port();
                    listeners.push(listener);
                }
                // An image may have one family only, and the wildcard of IPv6 may be that of IPv4 too.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok((listeners, bound)),
        }
    }
    .await)
}

/// Listens at `path`, or in a new folder where it is empty. Only the space's user can connect.
fn unix(path: &str) -> io::Result<(UnixListener, Socket)> {
    let socket = if path.is_empty() {
        let base = std::env::temp_dir();
        fs::create_dir_all(&base)?;
        let folder = base.join(format!("knot-{}", Uuid::new_v4().simple()));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Socket { path: folder.join("socket"), folder: Some(folder) }
    } else if fs::symlink_metadata(path).is_ok() {
        // Else the file of another would go with this listener.
        return Err(io::ErrorKind::AlreadyExists.into());
    } else {
        Socket { path: path.into(), folder: None }
    };
    let listener = UnixListener::bind(&socket.path)?;
    fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o600))?;
    Ok((listener, socket))
}
