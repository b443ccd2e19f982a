//! The SSH gateway: stock clients reach spaces through any server. This module, and no other, names the
//! SSH library.
//!
//! A connection's loop belongs to the library and does no more than it must: what a callback is told goes
//! into a queue of the channel that it is for, or begins a task; tasks speak with agents. So no channel
//! waits for another one, see [`inbox`].

mod connection;
mod forward;
mod handler;
pub(crate) mod host_key;
mod inbox;
pub(crate) mod keys;
mod limits;
mod listen;
mod session;
mod stream;
mod way;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use knot_core::{
    id::{Author, Id},
    model::Server,
    secrets::Keyring,
};
use russh::{MethodKind, MethodSet, Preferred, SshId, keys as ssh, server};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{connection::Peer, limits::Limits};
use crate::api::App;

/// How often it is tried again to listen, where that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// When a client that says nothing is asked whether it is there; three times before it is given up.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How many keys a client may offer: people have agents with many.
const OFFERS: usize = 20;
/// The window of a channel, in bytes.
const WINDOW: u32 = 2 << 20;
/// The longest packet, in bytes: what the protocol asks of everybody, and what one frame to an agent
/// takes.
const PACKET: u32 = 32 << 10;

/// Where the gateway is.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// By which address people reach it.
    pub(crate) advertise: String,
}

/// A running gateway. It ends when its server drains.
pub(crate) struct Gateway {
    connections: TaskTracker,
}

impl Gateway {
    /// Starts the gateway of a server. An address that is in use does not keep the server from running:
    /// it is tried again.
    pub(crate) fn start(app: App, options: Option<Options>) -> Self {
        let connections = TaskTracker::new();
        if let Some(options) = options {
            let tracker = connections.clone();
            connections.spawn(async move {
                let drain = app.drain.clone();
                // Ends what waits; connections see to their own end.
                drain.run_until_cancelled(serve(app, options, tracker)).await;
            });
        }
        Self { connections }
    }

    /// Waits until all connections have ended, after the server began to drain; at most `bound`.
    pub(crate) async fn ended(&self, bound: Duration) -> bool {
        self.connections.close();
        tokio::time::timeout(bound, self.connections.wait()).await.is_ok()
    }
}

async fn serve(app: App, options: Options, tracker: TaskTracker) {
    let author = Author::Server(app.replica.me());
    let mut key = loop {
        match host_key::ensure(app.keys.keyring(), author).await {
            Ok(key) => break key,
            Err(error) => tracing::warn!(%error, "there is no SSH host key yet"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    let listener = listen(options.listen).await;
    announce(&app, options.advertise).await;
    tracing::info!(ssh = %options.listen, "SSH gateway up");
    let limits = Limits::default();
    let mut config = configured(&key);
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an SSH connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // One that was removed hears of no key that is taken away.
        if app.leaving().is_some() {
            tracing::debug!(%from, "this server takes nobody in any more: an SSH connection is closed");
            continue;
        }
        let Some(slot) = limits.take(from.ip()) else {
            tracing::debug!(%from, "too many have not signed in: an SSH connection is closed");
            continue;
        };
        // Of two keys that were made at once, another may have turned out to be it.
        if let Some(newest) = host_key::open(app.keys.keyring())
            && newest.public_key() != key.public_key()
        {
            (config, key) = (configured(&newest), newest);
        }
        prepare(&stream);
        let peer = Peer { address: from, jumped: None, depth: 0, slot: Some(slot) };
        let (app, config, own) = (app.clone(), Arc::clone(&config), tracker.clone());
        tracker.spawn(connection::serve(app, config, own, stream, peer));
    }
}

/// What people type is to leave at once.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps back small packets");
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !told => {
                tracing::error!(%address, %error, "there is no SSH gateway: its address cannot be listened on");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Writes into this server's document where its gateway is, once it is there.
async fn announce(app: &App, advertise: String) {
    let own = Id::<Server>::from_uuid(app.replica.me().0);
    if app.replica.get(own).is_none() {
        return;
    }
    let written = app.replica.edit(own, Author::Server(app.replica.me()), move |server| {
        server.set(Server::ssh, advertise);
        Ok(())
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "nobody is told where this server's SSH gateway is");
    }
}

fn configured(key: &ssh::PrivateKey) -> Arc<server::Config> {
    let mut methods = MethodSet::empty();
    methods.push(MethodKind::PublicKey);
    let preferred = Preferred { key: keys::ALGORITHMS.into(), ..Preferred::DEFAULT };
    Arc::new(server::Config {
        server_id: SshId::Standard("SSH-2.0-knot".into()),
        methods,
        // A key cannot be guessed: there is nothing to slow down.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.clone()],
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        max_auth_attempts: OFFERS,
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        preferred,
        ..server::Config::default()
    })
}

/// What the clusters' gateways show that they are, as a line for `known_hosts` has it; none before the
/// key has arrived.
pub(crate) fn host_key_line(keyring: &Keyring) -> Option<String> {
    host_key::open(keyring)?.public_key().to_openssh().ok()
}

/// Ends what runs when `ended` does.
async fn until<T>(ended: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    ended.run_until_cancelled(work).await
}
