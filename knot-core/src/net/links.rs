//! Which peers are linked now, over which connection, and since when one is or is not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quinn::Connection;
use tokio::sync::watch;

use super::peer::{CLOSE_DUPLICATE, Hello};
use crate::{clock::Millis, id::ServerId};

/// Whether a peer is linked, and since when that has been so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whether it is linked.
    pub linked: bool,
    /// Since when, by this server's clock.
    pub since: Millis,
    /// By how many milliseconds its clock was ahead of this server's when it was last linked;
    /// negative where it was behind. The time its first frame took is in it.
    pub ahead: i64,
}

/// A difference between two clocks that is reported: one minute, in milliseconds.
pub const SKEW: u64 = 60_000;

impl Reach {
    /// Whether its clock or this server's is wrong by more than a minute: people and the expiry of
    /// tokens see it, nothing else.
    pub fn is_skewed(&self) -> bool {
        self.ahead.unsigned_abs() > SKEW
    }
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) hello: Hello,
    pub(super) connection: Connection,
    /// The server that dialled: of two connections made at once, both ends keep that of the lower.
    pub(super) dialler: ServerId,
}

/// The table of links; clones share it.
#[derive(Clone, Debug)]
pub struct Links {
    links: Arc<Mutex<BTreeMap<ServerId, Link>>>,
    reach: Arc<watch::Sender<BTreeMap<ServerId, Reach>>>,
}

/// Why a connection does not become the link to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is one, and both ends keep that.
    Duplicate,
    /// Another run of the same server is linked, which is not older.
    SecondRun,
}

impl Links {
    pub(super) fn new() -> Self {
        Self { links: Arc::default(), reach: Arc::new(watch::Sender::default()) }
    }

    /// What is linked; changes can be waited for.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<ServerId, Reach>> {
        self.reach.subscribe()
    }

    /// Whether a peer is linked now.
    pub fn is_linked(&self, peer: ServerId) -> bool {
        self.reach.borrow().get(&peer).is_some_and(|reach| reach.linked)
    }

    /// The connection to a peer that is linked.
    pub(super) fn connection(&self, peer: ServerId) -> Option<Connection> {
        self.lock().get(&peer).map(|link| link.connection.clone())
    }

    /// Makes a connection the link to its peer, unless a better one is there.
    pub(super) fn put(&self, link: Link) -> Result<(), Refused> {
        let peer = link.hello.server;
        let mut links = self.lock();
        if let Some(there) =
            links.get(&peer).filter(|there| there.connection.close_reason().is_none())
        {
            let same_run = there.hello.process == link.hello.process;
            if same_run && there.dialler < link.dialler {
                return Err(Refused::Duplicate);
            }
            if !same_run && there.hello.run >= link.hello.run {
                return Err(Refused::SecondRun);
            }
            there.connection.close(CLOSE_DUPLICATE, b"replaced by another link");
        }
        let ahead = link.hello.now.0.saturating_sub(Millis::now().0);
        links.insert(peer, link);
        drop(links);
        self.set_reach(peer, true, Some(ahead));
        if ahead.unsigned_abs() > SKEW {
            tracing::warn!(%peer, ahead_ms = ahead, "the clocks of this server and a peer differ by \
                more than a minute: see that both are synchronised");
        }
        Ok(())
    }

    /// Takes a connection out of the table, if it is the link to its peer.
    pub(super) fn remove(&self, peer: ServerId, connection: &Connection) {
        let mut links = self.lock();
        if links.get(&peer).is_some_and(|one| one.connection.stable_id() == connection.stable_id())
        {
            links.remove(&peer);
            drop(links);
            self.set_reach(peer, false, None);
        }
    }

    /// The connections of all links.
    pub(super) fn connections(&self) -> Vec<Connection> {
        self.lock().values().map(|link| link.connection.clone()).collect()
    }

    /// Shows a peer as not linked yet.
    pub(super) fn expect(&self, peer: ServerId) {
        self.reach.send_if_modified(|reach| {
            let news = !reach.contains_key(&peer);
            if news {
                reach.insert(peer, Reach { linked: false, since: Millis::now(), ahead: 0 });
            }
            news
        });
    }

    /// Forgets a server that belongs no more.
    pub(super) fn forget(&self, peer: ServerId) {
        self.reach.send_if_modified(|reach| reach.remove(&peer).is_some());
    }

    fn set_reach(&self, peer: ServerId, linked: bool, ahead: Option<i64>) {
        self.reach.send_if_modified(|reach| {
            let before = reach.get(&peer).copied();
            let changed = before.is_none_or(|reach| reach.linked != linked);
            if changed {
                let ahead = ahead.or(before.map(|reach| reach.ahead)).unwrap_or_default();
                reach.insert(peer, Reach { linked, since: Millis::now(), ahead });
            }
            changed
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServerId, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
