//! Dialling: keeps every server that belongs linked, for as long as it belongs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use quinn::Connection;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    directory::Role,
    linking::{hear_refusal, hello, run_link},
    peer,
    service::{HANDSHAKE, Shared, Standing},
    tls::{self, Accept, Judge},
};
use crate::{
    id::{Id, ServerId},
    model::Server,
};

/// Waits between two attempts to dial a peer: doubled from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// The longest wait of a server that was told that it is removed.
const REMOVED_BACK_OFF: Duration = Duration::from_secs(60);
/// A link that lasted so long was a good one: the next wait is the shortest again.
const GOOD_LINK: Duration = Duration::from_secs(5);
/// The end with the higher id leaves the other so much time to dial first.
const AFTER_YOU: Duration = Duration::from_millis(250);

/// A task that keeps one peer linked. With this value it stops dialling; a link that is up ends
/// with its connection.
pub(super) struct Dialler {
    address: String,
    _stop: DropGuard,
}

/// Dials the servers that belong, and says which those are.
pub(super) fn dial_peers(
    shared: &Shared,
    diallers: &mut BTreeMap<ServerId, Dialler>,
) -> BTreeSet<ServerId> {
    let me = shared.identity.server;
    let own = Id::<Server>::from_uuid(me.0);
    if shared.replica.grave(own).is_some() {
        shared.expelled(Standing::Removed);
    } else if shared.replica.get(own).is_some_and(|server| superseded(shared, &server)) {
        shared.expelled(Standing::Superseded);
    }
    let servers = shared.replica.list::<Server>();
    let mut wanted = BTreeMap::new();
    for server in servers.iter().filter(|server| server.key.is_some() && server.id() != own) {
        wanted.insert(ServerId(server.id().uuid()), server.quic.clone());
    }
    diallers.retain(|id, dialler| {
        let keep = wanted.get(id) == Some(&dialler.address);
        if !wanted.contains_key(id) {
            shared.links.forget(*id);
        }
        keep
    });
    shared.refused_by.send_if_modified(|peers| {
        let before = peers.len();
        peers.retain(|peer| wanted.contains_key(peer));
        peers.len() != before
    });
    let belong = wanted.keys().copied().collect();
    for (id, address) in wanted {
        diallers.entry(id).or_insert_with(|| {
            shared.links.expect(id);
            let stop = shared.stop.child_token();
            let (shared, dialled, stopped) = (shared.clone(), address.clone(), stop.clone());
            tokio::spawn(async move { keep_linked(&shared, id, &dialled, &stopped).await });
            Dialler { address, _stop: stop.drop_guard() }
        });
    }
    belong
}

/// Whether this server's own document says that another has joined in its place.
fn superseded(shared: &Shared, server: &Server) -> bool {
    let accepted = server.accepted();
    let next_is_in = shared.own.next().is_some_and(|next| accepted.contains(&next));
    !accepted.is_empty() && !accepted.contains(&shared.own.current()) && !next_is_in
}

/// Dials a peer whenever it is not linked, until told to stop.
pub(super) async fn keep_linked(
    shared: &Shared,
    id: ServerId,
    address: &str,
    stop: &CancellationToken,
) {
    let mut wait = if shared.identity.server > id { AFTER_YOU } else { Duration::ZERO };
    let (seed, _) = id.0.as_u64_pair();
    let mut rng = StdRng::seed_from_u64(shared.seed ^ seed);
    loop {
        let apart = async {
            tokio::time::sleep(wait).await;
            shared.links.until(id, false).await;
        };
        if stop.run_until_cancelled(apart).await.is_none() {
            return;
        }
        let began = tokio::time::Instant::now();
        let dialled = tokio::select! {
            biased;
            // The peer was quicker to dial us.
            () = shared.links.until(id, true) => None,
            dialled = dial(shared, id, address) => Some(dialled),
        };
        match dialled {
            Some(Ok((connection, greeted))) => {
                run_link(shared, connection, greeted, shared.identity.server).await;
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %id, address, %error, "a peer could not be dialled");
            }
            None => {}
        }
        let longer = if began.elapsed() > GOOD_LINK { BACK_OFF.0 } else { wait * 2 };
        let longest = if *shared.removed.borrow() { REMOVED_BACK_OFF } else { BACK_OFF.1 };
        wait = longer.clamp(BACK_OFF.0, longest).mul_f64(0.5 + rng.random::<f64>() / 2.0);
    }
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the address does not resolve: {0}")]
    Resolve(#[from] io::Error),
    #[error("the address resolves to nothing")]
    NoAddress,
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("no answer")]
    Slow,
    #[error("{0}")]
    Tls(#[from] tls::Error),
    #[error("{0}")]
    Peer(#[from] peer::Error),
}

async fn dial(
    shared: &Shared,
    id: ServerId,
    address: &str,
) -> Result<(Connection, peer::Greeted), DialError> {
    let address = tokio::net::lookup_host(address).await?.next().ok_or(DialError::NoAddress)?;
    let directory = Arc::clone(&shared.directory);
    let judge: Judge = Arc::new(move |key| match directory.role(key) {
        Some(Role::Peer(server)) if server == id => tls::Verdict::Known,
        _ => tls::Verdict::Unknown,
    });
    let own = shared.own.for_peer(id);
    let config = tls::client_config(&own.key, own.chain, Accept::Known(judge), peer::ALPN)?;
    let connecting = shared.endpoint.connect_with(config, address, "knot")?;
    let connection = timeout(HANDSHAKE, connecting).await.map_err(|_| DialError::Slow)??;
    match peer::greet(&connection, hello(shared, id)).await {
        Ok(greeted) if greeted.hello.server == id => Ok((connection, greeted)),
        Ok(greeted) => Err(peer::Error::Name(greeted.hello.server).into()),
        Err(error) => {
            match connection.close_reason().as_ref().and_then(tls::says) {
                Some(tls::Verdict::Removed) => shared.expelled(Standing::Removed),
                Some(tls::Verdict::Superseded) => shared.expelled(Standing::Superseded),
                _ => hear_refusal(shared, id, &connection),
            }
            Err(error.into())
        }
    }
}
