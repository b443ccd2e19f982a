//! One connection, from the first byte to the last: who it is for, what is open in it, and what ends it.

use std::{
    borrow::Cow,
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use knot_core::agent::TerminalSize;
use russh::{ChannelId, Disconnect, server};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{handler::Handler, inbox::Inbox, keys::Rights, limits::Slot, stream::Cut, way::Way};
use crate::api::{App, Leaving, login::Caller};

/// How long signing in may take.
const SIGN_IN: Duration = Duration::from_secs(20);
/// How many channels, listeners and connections a connection has open at a time.
const MOST: usize = 256;
/// How many signals wait for a command that is being started.
const SIGNALS: usize = 16;
/// How long people have for what they are doing once they are told that the server stops.
const DRAIN: Duration = Duration::from_secs(6);
/// How long last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

const STOPPING: &str = "this server is stopping: connect again, and another one takes you in";
const REMOVED: &str = "this server was removed from its cluster: connect through another one";
const OVER: &str =
    "the key that you signed in with was removed, or the space is shared with you no more";

/// Where a connection comes from.
pub(super) struct Peer {
    /// The address of the client's machine.
    pub(super) address: SocketAddr,
    /// The space that it jumped to, through another connection.
    pub(super) jumped: Option<String>,
    /// Through how many others it comes.
    pub(super) depth: usize,
    /// Its place among those that have not signed in.
    pub(super) slot: Option<Slot>,
}

/// Who has signed in, and what for.
pub(super) struct Login {
    pub(super) caller: Caller,
    /// The space, or why there is none.
    pub(super) space: Result<Way, String>,
    pub(super) rights: Rights,
}

/// What the parts of a connection share.
pub(super) struct Connection {
    own: Weak<Connection>,
    pub(super) app: App,
    pub(super) config: Arc<server::Config>,
    pub(super) peer: Peer,
    pub(super) login: OnceLock<Login>,
    /// Ends everything.
    pub(super) cut: CancellationToken,
    /// What everybody in it is told.
    pub(super) notice: watch::Sender<Option<String>>,
    pub(super) room: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    lanes: Mutex<HashMap<ChannelId, Arc<Lane>>>,
    /// What ends listeners, by what was asked for.
    pub(super) listeners: Mutex<HashMap<Listening, CancellationToken>>,
    /// How many listeners are being set up whose client has been answered.
    pub(super) late: AtomicUsize,
    /// Whether other connections go through this one: it may outlive its space.
    pub(super) carries: AtomicBool,
}

/// What a client has asked this end to listen at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Listening {
    Tcp(String, u32),
    Unix(String),
}

/// What a client sends on one channel.
pub(super) struct Lane {
    pub(super) inbox: Inbox,
    /// Cancelled when the channel is closed, or the connection.
    pub(super) closed: CancellationToken,
    pub(super) size: watch::Sender<Option<TerminalSize>>,
    signals: mpsc::Sender<i32>,
    waiting: Mutex<Option<mpsc::Receiver<i32>>>,
}

impl Lane {
    /// Passes a signal on, unless many wait already.
    pub(super) fn signal(&self, signal: i32) {
        let _ = self.signals.try_send(signal);
    }

    /// The signals, for the one who passes them on.
    pub(super) fn signals(&self) -> Option<mpsc::Receiver<i32>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Connection {
    /// The lane of a channel, made where there is none.
    pub(super) fn lane(&self, channel: ChannelId) -> Arc<Lane> {
        let make = || {
            let (signals, waiting) = mpsc::channel(SIGNALS);
            Arc::new(Lane {
                inbox: Inbox::default(),
                closed: self.cut.child_token(),
                size: watch::Sender::new(None),
                signals,
                waiting: Mutex::new(Some(waiting)),
            })
        };
        self.with_lanes(|lanes| Arc::clone(lanes.entry(channel).or_insert_with(make)))
    }

    /// The lane of a channel that is open.
    pub(super) fn open_lane(&self, channel: ChannelId) -> Option<Arc<Lane>> {
        self.with_lanes(|lanes| lanes.get(&channel).cloned())
    }

    /// Forgets a channel that is closed.
    pub(super) fn close_lane(&self, channel: ChannelId) {
        if let Some(lane) = self.with_lanes(|lanes| lanes.remove(&channel)) {
            lane.inbox.end();
            lane.closed.cancel();
        }
    }

    /// Whether any channel has more than it should.
    pub(super) fn is_full(&self) -> bool {
        self.with_lanes(|lanes| lanes.values().any(|lane| lane.inbox.is_full()))
    }

    /// Itself, for what must not keep it.
    pub(super) fn own(&self) -> Weak<Self> {
        self.own.clone()
    }

    /// Whether no channel is open.
    pub(super) fn is_idle(&self) -> bool {
        self.with_lanes(|lanes| lanes.is_empty())
    }

    fn with_lanes<T>(&self, access: impl FnOnce(&mut HashMap<ChannelId, Arc<Lane>>) -> T) -> T {
        access(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells everybody in it something.
    pub(super) fn tell(&self, words: String) {
        self.notice.send_replace(Some(words));
    }

    /// Waits until the space's run that this connection was made for, or has started, is over; whoever is in it
    /// is told as soon as it is to end. Says what became of it.
    async fn space_over(&self) -> String {
        let Some(Ok(way)) = self.login.get().map(|login| &login.space) else {
            return std::future::pending().await;
        };
        let over = way.over(|words| self.tell(words)).await;
        if self.carries.load(Relaxed) {
            // What runs in the space ends by itself.
            return std::future::pending().await;
        }
        over
    }

    /// Waits until who has signed in may not be here any more.
    async fn lost(&self) {
        let Some(login) = self.login.get() else { return std::future::pending().await };
        match &login.space {
            Ok(way) => login.caller.sees_no_more(&self.app, way.space()).await,
            Err(_) => login.caller.holds_no_more(&self.app).await,
        }
    }
}

/// Serves one connection until it has ended. (Boxed: a connection may carry others.)
pub(super) fn serve<S>(
    app: App,
    config: Arc<server::Config>,
    tasks: TaskTracker,
    stream: S,
    peer: Peer,
) -> BoxFuture<'static, ()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Box::pin(async move {
        let from = peer.address;
        let mut peer = peer;
        let slot = peer.slot.take();
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        let connection = Arc::new_cyclic(|own| Connection {
            own: own.clone(),
            app,
            config,
            peer,
            login: OnceLock::new(),
            cut: cut.clone(),
            notice: watch::Sender::new(None),
            room: Arc::new(Semaphore::new(MOST)),
            tasks,
            lanes: Mutex::default(),
            listeners: Mutex::default(),
            late: AtomicUsize::default(),
            carries: AtomicBool::default(),
        });
        let (signed_in, login) = oneshot::channel();
        let handler = Handler::new(Arc::clone(&connection), signed_in);
        let stream = Cut::new(stream, cut);
        let config = Arc::clone(&connection.config);
        let begun = timeout(SIGN_IN, async {
            let session = server::run_stream(config, stream, handler).await?;
            Ok::<_, russh::Error>((session, login))
        });
        match begun.await {
            Ok(Ok((session, login))) => attend(&connection, session, login, slot).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "no SSH connection came of it"),
            Err(_) => tracing::debug!(%from, "an SSH client said nothing in time"),
        }
    })
}

async fn attend(
    connection: &Connection,
    session: server::RunningSession<Handler>,
    login: oneshot::Receiver<()>,
    slot: Option<Slot>,
) {
    let from = connection.peer.address;
    let handle = session.handle();
    tokio::pin!(session);
    tokio::select! {
        ended = &mut session => {
            tracing::debug!(%from, error = ?ended.err(), "an SSH client went without signing in");
            return;
        }
        login = timeout(SIGN_IN, login) => if !matches!(login, Ok(Ok(()))) {
            tracing::debug!(%from, "an SSH client did not sign in in time");
            return;
        },
    }
    drop(slot);
    let (why, grace): (Cow<'static, str>, _) = tokio::select! {
        ended = &mut session => {
            tracing::debug!(%from, error = ?ended.err(), "SSH connection ended");
            return;
        }
        leaving = connection.app.leaves() => match leaving {
            Leaving::Stopping => (STOPPING.into(), DRAIN),
            Leaving::Removed => (REMOVED.into(), LAST_WORDS),
        },
        () = connection.lost() => (OVER.into(), LAST_WORDS),
        why = connection.space_over() => (why.into(), LAST_WORDS),
    };
    connection.tell(why.to_string());
    if connection.is_idle() || timeout(grace, &mut session).await.is_err() {
        let told = handle.disconnect(Disconnect::ByApplication, why.to_string(), String::new());
        let _ = timeout(LAST_WORDS, told).await;
        let _ = timeout(LAST_WORDS, &mut session).await;
    }
    tracing::info!(%from, %why, "SSH connection ended by this server");
}
