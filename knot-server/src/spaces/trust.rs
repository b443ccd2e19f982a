//! Whether what this server remembers may be older than what has happened.
//!
//! A folder may have been put back from a backup, or a machine from a snapshot: then engines have run
//! what its database never heard of, and its documents want what nobody wants any more. A server that
//! finds such signs waits until it has been level with a peer once, or is told that there is none.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use knot_core::{id::Id, model::Server, net::Net, replica::Replica};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// The note's name in the data folder: whoever restores a folder leaves it there.
const FILE: &str = "restored";
/// How long to try to be level with one peer before the next is tried.
const LEVEL: Duration = Duration::from_secs(10);
/// How long to wait before peers are tried again, where no link changes.
const AGAIN: Duration = Duration::from_secs(2);
/// How long after its start a server with peers asks them before it starts spaces: one that was down
/// may hear that a space lives elsewhere by now. Where nobody answers, it goes on.
const SETTLE: Duration = Duration::from_secs(5);

/// How far the database can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It was restored: it acts on no engine.
    Restored,
    /// Nobody has been asked since this process began: it acts on what it knows, and waits where an
    /// engine knows more.
    Unchecked,
    /// It has been level with a peer since then, or was told that it is alone.
    Current,
}

/// The trust in one server's database; clones share it.
#[derive(Clone, Debug)]
pub struct Trusted {
    now: Arc<watch::Sender<Trust>>,
    note: PathBuf,
    since: Instant,
}

impl Trusted {
    /// The trust in the database of a data folder.
    pub fn new(folder: &Path) -> Self {
        let note = folder.join(FILE);
        let now = if note.exists() { Trust::Restored } else { Trust::Unchecked };
        Self { now: Arc::new(watch::Sender::new(now)), note, since: Instant::now() }
    }

    /// How far it can be trusted now.
    pub fn now(&self) -> Trust {
        *self.now.borrow()
    }

    /// Notes that the database is as new as any, because a peer's is the same or because an operator
    /// says that there is no peer.
    ///
    /// # Errors
    /// The note that the folder was restored cannot be removed. The trust holds until the server ends.
    pub fn confirm(&self) -> io::Result<()> {
        self.now.send_replace(Trust::Current);
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Trust> {
        self.now.subscribe()
    }

    /// Waits until this server has been level with a peer, if it has any, but no longer than is good.
    pub(super) async fn settle(&self, replica: &Replica) {
        let me = Id::from_uuid(replica.me().0);
        let has_peers =
            replica.list::<Server>().iter().any(|one| one.id() != me && one.key.is_some());
        if has_peers {
            let mut now = self.watch();
            let current = now.wait_for(|trust| *trust == Trust::Current);
            tokio::time::timeout_at(self.since + SETTLE, current).await.ok();
        }
    }

    /// Waits until this server has been level with a peer.
    pub(super) async fn follow(self, replica: Replica, net: Net, stop: CancellationToken) {
        let mut links = net.reach().watch();
        while self.now() != Trust::Current {
            let reach = links.borrow_and_update().clone();
            let linked = reach.into_iter().filter(|(_, reach)| reach.linked).map(|(peer, _)| peer);
            for peer in linked {
                let level = replica.wait_until_equal(peer, LEVEL);
                match stop.run_until_cancelled(level).await {
                    None => return,
                    Some(Err(_)) => {}
                    Some(Ok(())) => {
                        if let Err(error) = self.confirm() {
                            tracing::warn!(%error, note = %self.note.display(), "the note that this folder \
                                was restored cannot be removed: delete it");
                        }
                        return;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = links.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

/// Leaves the note that a folder was restored: its server acts on no engine until it has been level
/// with a peer, or is told that it is alone.
///
/// # Errors
/// The note cannot be written.
pub fn note_restored(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(FILE), "")
}
