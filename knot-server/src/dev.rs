//! `knot-server dev`: a whole cluster on this machine, each server a process with a database of its
//! own, talking QUIC over loopback as they would over a network.

mod ports;
mod servers;

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use knot_core::net::join::ParseError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::servers::Running;
use crate::{
    config, control,
    node::{self, InitError, JoinError},
};

/// The file that makes a folder one of `knot-server dev`.
const FILE: &str = "dev.json";
/// How long a server may take to come up.
const UP: Duration = Duration::from_secs(30);
/// The most servers of a cluster on one machine.
const MOST: usize = 30;

/// Options of `knot-server dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many servers [default: 1, or as many as the folder has]
    #[arg(long, value_name = "N")]
    pub servers: Option<usize>,
    /// Folder of all their data
    #[arg(long, default_value = ".knot", value_name = "DIR")]
    pub data: PathBuf,
    /// Address of the first server's HTTP; the others count up from its port [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Print one line of JSON when all servers are up
    #[arg(long)]
    pub json: bool,
}

/// The cluster could not be brought up. Servers that were started have been stopped again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of servers is not one that a machine runs.
    #[error("--servers {0}: from 1 to {MOST} are possible")]
    Servers(usize),
    /// The folder belongs to something else.
    #[error("{0} is not empty, and not a folder of `knot-server dev`: use another with --data")]
    Folder(PathBuf),
    /// A file cannot be read or written.
    #[error("{path} cannot be read or written: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another `knot-server dev` runs on the folder.
    #[error("another `knot-server dev` runs on {0}: stop it, or use another folder with --data")]
    InUse(PathBuf),
    /// An address that was named is taken.
    #[error("{0} is in use: name another with --http")]
    AddressTaken(SocketAddr),
    /// No free port was found.
    #[error("no free port was found from {0} on")]
    NoPort(SocketAddr),
    /// A configuration could not be written or read back.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The first server could not be made.
    #[error("{0}")]
    Init(#[source] Box<InitError>),
    /// Another server could not join.
    #[error("{0}")]
    Join(#[source] Box<JoinError>),
    /// A server gave a token that cannot be read.
    #[error(transparent)]
    Token(#[from] ParseError),
    /// A server could not be started.
    #[error(
        "this program could not be started as {name}: {source}; was its file replaced? Try again"
    )]
    NotStarted {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A server did not come up.
    #[error("{name} did not come up{why}: see {log}")]
    NotUp {
        /// Its name.
        name: String,
        /// What is known, with a colon before it.
        why: String,
        /// Its log file.
        log: PathBuf,
    },
    /// A server could not be asked.
    #[error(transparent)]
    Control(#[from] control::Error),
}

impl From<InitError> for Error {
    fn from(error: InitError) -> Self {
        Self::Init(Box::new(error))
    }
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Self {
        Self::Join(Box::new(error))
    }
}

/// What the folder remembers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    password: String,
    servers: Vec<String>,
}

/// The one line of `--json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Up {
    /// The servers.
    pub servers: Vec<UpServer>,
    /// The account to sign in with.
    pub admin: UpAdmin,
}

/// One server that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpServer {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub http: String,
    /// The address of its SSH gateway, once it has one.
    pub ssh: Option<String>,
    /// Its QUIC address.
    pub quic: SocketAddr,
    /// Its data folder.
    pub data: PathBuf,
    /// Its process.
    pub pid: u32,
}

/// The account to sign in with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpAdmin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
    /// An API token.
    pub token: String,
}

/// Brings a cluster up and stays with it until `stop` is cancelled; then stops what it started.
///
/// # Errors
/// See [`Error`].
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), Error> {
    let folder = std::path::absolute(&options.data)
        .map_err(|source| Error::File { path: options.data.clone(), source })?;
    let _lock = lock(&folder)?;
    let memory = recall(&folder)?;
    let known = memory.as_ref().map_or(0, |memory| memory.servers.len());
    let wanted = options.servers.unwrap_or(known.max(1));
    if !(1..=MOST).contains(&wanted) {
        return Err(Error::Servers(wanted));
    }
    let mut running = Running::default();
    let up = tokio::select! {
        up = bring_up(&folder, memory.unwrap_or_default(), wanted, options.http, &mut running) => up,
        () = stop.cancelled() => {
            running.stop().await;
            return Ok(());
        }
    };
    match up {
        Ok((up, path)) => {
            announce(&options, &up, &path);
            running.wait(&stop).await;
            running.stop().await;
            Ok(())
        }
        Err(error) => {
            running.stop().await;
            Err(error)
        }
    }
}

async fn bring_up(
    folder: &Path,
    mut memory: Memory,
    wanted: usize,
    http: Option<SocketAddr>,
    running: &mut Running,
) -> Result<(Up, String), Error> {
    let mut ports = ports::Ports::new(http);
    for n in 1..=wanted.max(memory.servers.len()) {
        let name = memory.servers.get(n - 1).cloned().unwrap_or_else(|| format!("knot-{n}"));
        let config = servers::configure(folder, &name, &mut ports)?;
        if memory.servers.len() < n {
            if n == 1 {
                memory.password = node::init(&config).await?.password;
            } else {
                running.join(&config).await?;
            }
            memory.servers.push(name);
            remember(folder, &memory)?;
        }
        running.start(config).await?;
    }
    running.linked().await?;
    let (path, token) = running.sign_in("admin").await?;
    let admin = UpAdmin { user: "admin".to_owned(), password: memory.password, token };
    Ok((Up { servers: running.describe(), admin }, path))
}

fn announce(options: &Options, up: &Up, path: &str) {
    let first = up.servers.first().map(|server| server.http.as_str()).unwrap_or_default();
    let text = if options.json {
        serde_json::to_string(up).unwrap_or_default()
    } else {
        let mut text = String::new();
        for server in &up.servers {
            text.push_str(&format!(
                "{:8} {}   {}\n",
                server.name,
                server.http,
                server.data.display()
            ));
        }
        let UpAdmin { user, password, token } = &up.admin;
        text.push_str(&format!(
            "\nSign in:  {first}{path}\n          as {user}, password {password}\n"
        ));
        text.push_str(&format!("CLI:      export KNOT_URL={first} KNOT_TOKEN={token}\n"));
        text.push_str("Ctrl-C stops everything.\n");
        text
    };
    let mut out = io::stdout().lock();
    // Nobody may be reading any more: the servers run all the same.
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}

/// The data folders of the servers that `knot-server dev` keeps under a folder, or under the default
/// one where none is named; none where it is not such a folder.
pub fn server_folders(folder: Option<&Path>) -> Vec<PathBuf> {
    let folder = folder.unwrap_or(Path::new(".knot"));
    let memory = recall(folder).ok().flatten().unwrap_or_default();
    memory.servers.iter().map(|name| folder.join(name)).collect()
}

/// Cancels `stop` when standard input ends: whoever started this process is gone.
pub fn stop_when_input_ends(stop: CancellationToken) {
    // A thread of its own: a blocked read of the runtime would hold its shutdown up.
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut input = io::stdin().lock();
        while matches!(input.read(&mut buffer), Ok(n) if n > 0) {}
        stop.cancel();
    });
}

/// Makes the folder and takes its lock, which ends with the process.
fn lock(folder: &Path) -> Result<std::fs::File, Error> {
    let path = folder.join("dev.lock");
    let failed = |source| Error::File { path: path.clone(), source };
    let is_empty = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !folder.join(FILE).exists() && !path.exists() {
        return Err(Error::Folder(folder.to_owned()));
    }
    node::make_private(folder).map_err(failed)?;
    let file = std::fs::File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn recall(folder: &Path) -> Result<Option<Memory>, Error> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::File { path, source: error.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path, source }),
    }
}

/// Writes what the folder remembers, for its owner's eyes: the password is in it.
fn remember(folder: &Path, memory: &Memory) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join(FILE);
    let failed = |source| Error::File { path: path.clone(), source };
    let draft = folder.join("dev.json.new");
    let text = serde_json::to_vec_pretty(memory).map_err(|error| failed(error.into()))?;
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    std::fs::rename(&draft, &path).map_err(failed)
}
