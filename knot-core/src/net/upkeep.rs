//! What a server does for its own document and for the keys of all, whenever something has changed:
//! it announces its keys, learns who knows its new one, and shares data keys with who lacks them.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep_until};

use super::{
    identity::{self, Identity},
    keys::PublicKey,
    peer,
    service::{Shared, present},
};
use crate::{
    id::{Author, Id, ServerId},
    model::{DataKey, Server},
    replica::EditError,
    schema::Entity as _,
};

/// Waits before looking: between these, so that of several servers one mostly does what is needed
/// by all.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_500));
/// How often peers that have not shown that they know a new key are asked.
const ASK: Duration = Duration::from_secs(1);

/// A renewal was not finished. The old key is in use as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// No renewal is under way.
    #[error("no key renewal is under way: begin one with `knot-server renew-key`")]
    NotBegun,
    /// Some servers would not know this one any more.
    #[error(
        "{} {} not shown yet to know this server's new key: wait until each has been linked for a \
         moment, or remove those that will not return",
        .0.join(", "), if .0.len() == 1 { "has" } else { "have" }
    )]
    NotKnown(Vec<String>),
    /// The identity could not be read or written.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// This server's document could not be written.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// Runs for as long as the network does.
pub(super) async fn run(shared: Shared) {
    let mut changes = shared.replica.watch(&[Server::KIND, DataKey::KIND]);
    let mut reach = shared.links.watch();
    let mut rng = StdRng::seed_from_u64(shared.seed);
    let mut due = Some(Instant::now());
    loop {
        let look = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = look => {
                if let Err(error) = look_after(&shared).await {
                    tracing::warn!(%error, "this server's own document or the data keys could not be written");
                }
                due = shared.own.next().map(|_| Instant::now() + ASK);
            }
            _ = changes.next() => due = Some(sooner(&mut rng, due)),
            changed = reach.changed() => {
                if changed.is_err() {
                    return;
                }
                due = Some(sooner(&mut rng, due));
            }
        }
    }
}

fn sooner(rng: &mut StdRng, due: Option<Instant>) -> Instant {
    let soon = Instant::now() + PAUSE.0 + (PAUSE.1 - PAUSE.0).mul_f64(rng.random());
    due.map_or(soon, |due| due.min(soon))
}

async fn look_after(shared: &Shared) -> Result<(), EditError> {
    if *shared.removed.borrow() {
        return Ok(());
    }
    announce(shared).await?;
    if shared.own.next().is_some() {
        ask_peers(shared).await;
    }
    shared.keyring.share(Author::Server(shared.identity.server)).await.map(drop)
}

/// Writes this server's new key and its sealing key into its document, where they are missing.
async fn announce(shared: &Shared) -> Result<(), EditError> {
    let own = Id::<Server>::from_uuid(shared.identity.server.0);
    let Some(server) = shared.replica.get(own) else { return Ok(()) };
    // The loser of a token writes nothing into the winner's document.
    let Some(joined) = server.key.filter(|_| server.accepted().contains(&shared.own.current()))
    else {
        return Ok(());
    };
    let next = shared.own.next().filter(|next| !server.keys.contains_key(next));
    let sealing = shared.identity.sealing.public();
    let unsealed = server.sealing_key().is_none();
    if next.is_none() && !unsealed {
        return Ok(());
    }
    let edit = shared.replica.edit(own, Author::Server(shared.identity.server), move |server| {
        if let Some(next) = next {
            server.put(Server::keys, &next, joined);
        }
        if unsealed {
            server.put(Server::sealing, &joined, sealing);
        }
        Ok(())
    });
    edit.await.map(drop)
}

async fn ask_peers(shared: &Shared) {
    let peers = peers(shared);
    for peer in peers.keys().filter(|peer| !shared.own.knows(**peer)) {
        let Some(connection) = shared.links.connection(*peer) else { continue };
        match peer::ask_keys(&connection).await {
            Ok(keys) => learn(shared, *peer, &keys),
            Err(error) => tracing::debug!(%peer, %error, "a peer did not say which keys it knows"),
        }
    }
    present(shared);
}

/// A peer has shown which of this server's keys it accepts.
pub(super) fn learn(shared: &Shared, peer: ServerId, accepts: &[PublicKey]) {
    if shared.own.shown(peer, accepts) {
        tracing::info!(%peer, "a peer knows this server's new key");
        present(shared);
    }
}

/// The other servers that belong, with their names.
pub(super) fn peers(shared: &Shared) -> BTreeMap<ServerId, String> {
    let servers = shared.replica.list::<Server>();
    let joined = servers.iter().filter(|server| server.key.is_some());
    joined
        .map(|server| (ServerId(server.id().uuid()), server.name.clone()))
        .filter(|(id, _)| *id != shared.identity.server)
        .collect()
}

/// Takes up a renewal that was written into the data folder.
pub(super) async fn take_up(shared: &Shared, identity: &Identity) -> Result<(), RenewalError> {
    shared.own.take(identity)?;
    announce(shared).await?;
    present(shared);
    Ok(())
}

/// Ends a renewal: the old key opens no door any more.
pub(super) async fn finish(
    shared: &Shared,
    folder: &std::path::Path,
    whoever_knows: bool,
) -> Result<PublicKey, RenewalError> {
    let next = shared.own.next().ok_or(RenewalError::NotBegun)?;
    let mut unknown = peers(shared);
    unknown.retain(|peer, _| !shared.own.knows(*peer));
    if !unknown.is_empty() && !whoever_knows {
        return Err(RenewalError::NotKnown(unknown.into_values().collect()));
    }
    announce(shared).await?;
    let (own, old) = (Id::<Server>::from_uuid(shared.identity.server.0), shared.own.current());
    // The folder first: a server must never hold only a key that it has itself retired.
    Identity::drop_old(folder)?;
    shared.own.take(&Identity::load(folder)?)?;
    present(shared);
    let retire = shared.replica.edit(own, Author::Server(shared.identity.server), move |server| {
        server.insert(Server::retired, &old);
        Ok(())
    });
    retire.await?;
    Ok(next)
}
