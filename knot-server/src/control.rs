//! The control socket: what an operator on the server's own machine may always ask.
//!
//! A Unix socket in the data folder, which only its owner can enter. One request and one reply per
//! connection, each a line of JSON.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use knot_core::id::ServerId;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Mutex,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    data::{DataReply, DataRequest},
    node::Node,
};

/// The socket's name in the data folder.
const SOCKET: &str = "control.sock";
/// How long a request may be, in bytes.
const REQUEST: u64 = 64 << 10;
/// How long a reply may be, in bytes: lists of documents are in some.
const REPLY: u64 = 16 << 20;
/// How long a request, its answer, or a reply may take.
const EXCHANGE: Duration = Duration::from_secs(30);
/// How long the answer may take to a request that reads a whole database.
const LONG: Duration = Duration::from_secs(30 * 60);
/// How many requests are served at once; more wait to be accepted.
const AT_ONCE: usize = 8;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How the server is.
    Status,
    /// A token for one more server.
    JoinToken,
    /// Remove a server.
    Remove {
        /// Its name or id.
        server: String,
        /// Whether somebody else may have what was on it.
        stolen: bool,
    },
    /// Give this server a new key.
    RenewKey,
    /// Drop the key that this server had before [`Request::RenewKey`].
    DropOldKey {
        /// Whether to do so though a server has not shown that it knows the new one.
        whoever_knows: bool,
    },
    /// Trust this server's database: there is no peer whose is newer.
    Alone,
    /// Make a new data key.
    Rekey,
    /// Make a new SSH host key for the cluster.
    RenewHostKey,
    /// Make sure that an admin of this name exists, and give it a new password.
    Admin(String),
    /// Sign-in link and API token of this user, for `knot-server dev`.
    SignIn(String),
    /// What needs the database only.
    Data(DataRequest),
}

impl Request {
    fn is_long(&self) -> bool {
        matches!(self, Self::Data(DataRequest::Import { .. } | DataRequest::Changes { .. }))
    }

    /// How long its answer may take.
    fn bound(&self) -> Duration {
        if self.is_long() { LONG } else { EXCHANGE }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::JoinToken`]: the token.
    JoinToken(String),
    /// To [`Request::Remove`].
    Removed {
        /// The server, by its id.
        server: ServerId,
        /// The sealed values that it could open: `kind/id field`.
        exposed: Vec<String>,
        /// How many session keys were retired.
        sessions_retired: usize,
    },
    /// To [`Request::RenewKey`] and [`Request::DropOldKey`]: the new key.
    KeyRenewed(String),
    /// To [`Request::Alone`].
    Alone,
    /// To [`Request::Rekey`].
    Rekeyed {
        /// The new data key.
        key: String,
        /// The sealed values that older ones open: `kind/id field`.
        sealed: Vec<String>,
    },
    /// To [`Request::RenewHostKey`]: the new key, as a line of OpenSSH.
    HostKeyRenewed(String),
    /// To [`Request::Admin`]: the new password.
    Admin(String),
    /// To [`Request::SignIn`].
    SignIn {
        /// The path of a page that signs the user in.
        path: String,
        /// An API token.
        token: String,
    },
    /// To [`Request::Data`].
    Data(DataReply),
    /// It was not done, and why.
    Refused(String),
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// The servers that it is linked to.
    pub linked: Vec<ServerId>,
    /// The server itself.
    pub server: ServerId,
    /// Platforms whose engine has answered.
    pub platforms: Vec<String>,
}

/// A request could not be brought to a server, or was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server listens on the folder's socket.
    #[error("no server runs on {0}: start it with `knot-server run --data {0}`")]
    NotRunning(PathBuf),
    /// The exchange failed.
    #[error("the server on {folder} did not answer: {source}")]
    Failed {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the server that runs on a data folder.
///
/// # Errors
/// It does not run, does not answer, or refuses.
pub async fn ask(folder: &Path, request: &Request) -> Result<Reply, Error> {
    let failed = |source| Error::Failed { folder: folder.to_owned(), source };
    let stream = match UnixStream::connect(folder.join(SOCKET)).await {
        Ok(stream) => stream,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Error::NotRunning(folder.to_owned())
                }
                _ => failed(error),
            });
        }
    };
    // The server says itself when it has taken too long.
    match timeout(request.bound() + EXCHANGE, exchange(stream, request)).await {
        Ok(Ok(Reply::Refused(why))) => Err(Error::Refused(why)),
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

async fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Reply> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(serde_json::from_str(&read_line(&mut stream, REPLY).await?)?)
}

async fn read_line(stream: &mut UnixStream, most: u64) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(most)).read_line(&mut line).await?;
    Ok(line)
}

/// Binds the socket of a data folder. One that a killed server left behind is replaced: the
/// database's lock has shown that none runs.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves requests until told to stop. Short ones are answered one at a time; a long one holds up
/// none of them, and ends when the server stops.
pub async fn serve(listener: UnixListener, node: Node, stop: CancellationToken) {
    let (mut served, turn) = (JoinSet::new(), Arc::new(Mutex::new(())));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = served.join_next(), if !served.is_empty() => {}
            accepted = listener.accept(), if served.len() < AT_ONCE => {
                let Ok((stream, _)) = accepted else { continue };
                let (node, stop, turn) = (node.clone(), stop.clone(), Arc::clone(&turn));
                served.spawn(async move {
                    if let Err(error) = answer(stream, &node, &stop, &turn).await {
                        tracing::warn!(%error, "a control request failed");
                    }
                });
            }
        }
    }
    while served.join_next().await.is_some() {}
}

async fn answer(
    mut stream: UnixStream,
    node: &Node,
    stop: &CancellationToken,
    turn: &Mutex<()>,
) -> io::Result<()> {
    let Some(read) =
        stop.run_until_cancelled(timeout(EXCHANGE, read_line(&mut stream, REQUEST))).await
    else {
        return Ok(());
    };
    let request: Request = serde_json::from_str(&read??)?;
    let bound = request.bound();
    let replied = async {
        if request.is_long() {
            let replied = stop.run_until_cancelled(node.control(request)).await;
            return replied.unwrap_or_else(|| {
                Err("the server is stopping: what was done until now stays; ask again".to_owned())
            });
        }
        let _turn = turn.lock().await;
        node.control(request).await
    };
    let reply = timeout(bound, replied).await.unwrap_or_else(|_| {
        let seconds = bound.as_secs();
        Err(format!("it took longer than {seconds} s: what was done until then stays; ask again"))
    });
    let mut line = serde_json::to_vec(&reply.unwrap_or_else(Reply::Refused))?;
    line.push(b'\n');
    timeout(EXCHANGE, stream.write_all(&line)).await?
}
