//! Which peers are linked now, over which connection, and since when a server can be reached or not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quinn::Connection;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::peer::{CLOSE_DUPLICATE, Hello};
use crate::{clock::Millis, id::ServerId};

/// Whether a server can be reached, and since when that has been so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whether it is linked to this server.
    pub linked: bool,
    /// Whether membership counts it as up: servers that are heard here reach it.
    pub up: bool,
    /// Since when it can be reached or cannot, by this server's clock.
    pub since: Millis,
    /// By how many milliseconds its clock was ahead of this server's when it was last linked;
    /// negative where it was behind. The time its first frame took is in it.
    pub ahead: i64,
}

/// Bytes of UDP payload, TLS and acknowledgements included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To peers.
    pub sent: u64,
    /// From peers.
    pub received: u64,
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

impl Reach {
    /// Whether it can be reached, by this server or by others that this one hears.
    pub fn is_reachable(&self) -> bool {
        self.linked || self.up
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
    /// Who waits for one peer is told of that peer only, and in order.
    turns: Arc<Mutex<BTreeMap<ServerId, Arc<Notify>>>>,
    /// The process that was last refused of each server, since another run of it is linked.
    rivals: Arc<Mutex<BTreeMap<ServerId, Uuid>>>,
}

/// There is a link to the peer, and both ends keep that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duplicate;

impl Links {
    pub(super) fn new() -> Self {
        let (links, turns, rivals) = Default::default();
        Self { links, turns, rivals, reach: Arc::new(watch::Sender::default()) }
    }

    /// What is linked; changes can be waited for.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<ServerId, Reach>> {
        self.reach.subscribe()
    }

    /// Whether a peer is linked now.
    pub fn is_linked(&self, peer: ServerId) -> bool {
        self.reach.borrow().get(&peer).is_some_and(|reach| reach.linked)
    }

    /// Whether a server can be reached now, by this one or by others that it hears.
    pub fn is_reachable(&self, server: ServerId) -> bool {
        self.reach.borrow().get(&server).is_some_and(Reach::is_reachable)
    }

    /// Waits until a peer is linked, or until it is not. Cancel-safe.
    pub(super) async fn until(&self, peer: ServerId, linked: bool) {
        let turn = self.turn(peer);
        loop {
            let turned = turn.notified();
            if self.is_linked(peer) == linked {
                return;
            }
            turned.await;
        }
    }

    /// What the links that are up have carried so far.
    pub fn traffic(&self) -> Traffic {
        let stats = self.connections().into_iter().map(|connection| connection.stats());
        stats.fold(Traffic::default(), |sum, one| Traffic {
            sent: sum.sent + one.udp_tx.bytes,
            received: sum.received + one.udp_rx.bytes,
        })
    }

    /// The connection to a peer that is linked.
    pub(super) fn connection(&self, peer: ServerId) -> Option<Connection> {
        self.lock().get(&peer).map(|link| link.connection.clone())
    }

    /// The connection that another run of this server is linked by.
    pub(super) fn of_another_run(&self, hello: &Hello) -> Option<Connection> {
        let links = self.lock();
        let link = links.get(&hello.server)?;
        let other = link.hello.process != hello.process && link.connection.close_reason().is_none();
        other.then(|| link.connection.clone())
    }

    /// Keeps in mind which run of a server was refused; whether it is another than before.
    pub(super) fn refused(&self, hello: &Hello) -> bool {
        let mut rivals = self.rivals.lock().unwrap_or_else(PoisonError::into_inner);
        rivals.insert(hello.server, hello.process) != Some(hello.process)
    }

    /// Makes a connection the link to its peer, unless a better one is there, or one to another run.
    pub(super) fn put(&self, link: Link) -> Result<(), Duplicate> {
        let peer = link.hello.server;
        let mut links = self.lock();
        if let Some(there) =
            links.get(&peer).filter(|there| there.connection.close_reason().is_none())
        {
            let same_run = there.hello.process == link.hello.process;
            if !same_run || there.dialler < link.dialler {
                return Err(Duplicate);
            }
            there.connection.close(CLOSE_DUPLICATE, b"replaced by another link");
        }
        let ahead = link.hello.now.0.saturating_sub(Millis::now().0);
        links.insert(peer, link);
        drop(links);
        self.set_linked(peer, true, Some(ahead));
        if ahead.unsigned_abs() > SKEW {
            tracing::warn!(%peer, ahead_ms = ahead, "the clocks of this server and a peer differ by \
                more than a minute: see that both are synchronised");
        }
        Ok(())
    }

    /// Takes a connection out of the table, if it is the link to its peer; whether it was.
    pub(super) fn remove(&self, peer: ServerId, connection: &Connection) -> bool {
        let mut links = self.lock();
        let is_link = links
            .get(&peer)
            .is_some_and(|one| one.connection.stable_id() == connection.stable_id());
        if is_link {
            links.remove(&peer);
            drop(links);
            self.set_linked(peer, false, None);
        }
        is_link
    }

    /// The connections of all links.
    pub(super) fn connections(&self) -> Vec<Connection> {
        self.lock().values().map(|link| link.connection.clone()).collect()
    }

    /// The connections of the links to others than this peer.
    pub(super) fn others(&self, peer: ServerId) -> Vec<Connection> {
        let links = self.lock();
        let others = links.iter().filter(|(other, _)| **other != peer);
        others.map(|(_, link)| link.connection.clone()).collect()
    }

    /// Shows a server as not reached yet.
    pub(super) fn expect(&self, peer: ServerId) {
        self.reach.send_if_modified(|reach| {
            let news = !reach.contains_key(&peer);
            if news {
                reach.insert(
                    peer,
                    Reach { linked: false, up: false, since: Millis::now(), ahead: 0 },
                );
            }
            news
        });
    }

    /// Forgets a server that belongs no more.
    pub(super) fn forget(&self, peer: ServerId) {
        self.reach.send_if_modified(|reach| reach.remove(&peer).is_some());
        self.turn(peer).notify_waiters();
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
        self.rivals.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn set_linked(&self, peer: ServerId, linked: bool, ahead: Option<i64>) {
        self.reach.send_if_modified(|reach| {
            // One that is linked before its document has come. The forgotten stay so.
            if linked {
                let new = Reach { linked: false, up: false, since: Millis::now(), ahead: 0 };
                reach.entry(peer).or_insert(new);
            }
            reach.get_mut(&peer).is_some_and(|reach| {
                change(reach, |reach| {
                    reach.linked = linked;
                    reach.ahead = ahead.unwrap_or(reach.ahead);
                })
            })
        });
        self.turn(peer).notify_waiters();
    }

    /// Takes in what membership says of a server.
    pub(super) fn set_up(&self, server: ServerId, up: bool) {
        self.reach.send_if_modified(|reach| {
            reach.get_mut(&server).is_some_and(|reach| change(reach, |reach| reach.up = up))
        });
    }

    fn turn(&self, peer: ServerId) -> Arc<Notify> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(peer).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServerId, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it changed anything.
fn change(reach: &mut Reach, change: impl FnOnce(&mut Reach)) -> bool {
    let before = *reach;
    change(reach);
    if reach.is_reachable() != before.is_reachable() {
        reach.since = Millis::now();
    }
    *reach != before
}
