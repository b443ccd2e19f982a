//! Whether other servers still answer, and what they say of this one: asked before a server goes on
//! as if it were alone, and of those that have been removed, since one that was removed on one side of
//! a partition may have removed us on the other, and then nobody would tell.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{
    identity::Identity,
    keys::PublicKey,
    own::Presented,
    peer,
    service::{Error, Shared, Standing},
    socket::Socket,
    tls::{self, Accept, Verdict},
    upkeep,
};
use crate::{id::Author, model::Server, replica::Doc, schema::Entity as _};

/// How long a server has to answer, and then to say that it refuses.
const ANSWER: Duration = Duration::from_secs(3);
/// Waits between two rounds of asking removed servers: doubled from the first to the last, and begun
/// anew when another is removed.
const ROUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How many removed servers are asked in one round: those removed last.
const ASKED: usize = 8;

/// The names of those servers that answer at their addresses with a key of theirs, whether or not
/// they let this one in.
///
/// # Errors
/// No socket could be had.
pub async fn who_answers(identity: &Identity, servers: &[Server]) -> Result<Vec<String>, Error> {
    let mut asked = JoinSet::new();
    for server in servers {
        let key = Arc::clone(&identity.key);
        let presented = Presented { chain: identity.chain(&key)?, key };
        let server = server.clone();
        asked.spawn(async move { ask(presented, &server).await.map(|_| server.name) });
    }
    let mut answered = Vec::new();
    while let Some(name) = asked.join_next().await {
        answered.extend(name.ok().flatten());
    }
    answered.sort();
    Ok(answered)
}

/// Asks the removed servers, while no other is left, whether they hold this one to be removed too.
///
/// While another belongs, that one says so, and no removed server is believed: it could end the
/// cluster by saying so to each. One that was stolen is not believed at all.
pub(super) async fn ask_the_removed(shared: Shared) {
    let mut graves = shared.replica.watch(&[Server::KIND]);
    let mut wait = ROUNDS.0;
    while !*shared.removed.borrow() {
        let mut removed = shared.replica.all_remains::<Server>();
        let known = removed.len();
        let last = upkeep::peers(&shared).is_empty();
        removed.retain(|server| last && !server.stolen && !server.accepted().is_empty());
        removed.sort_by_key(|server| {
            std::cmp::Reverse(shared.replica.grave(server.id()).map(|grave| grave.at))
        });
        for server in removed.iter().take(ASKED) {
            let presented = shared.own.for_peer(shared.identity.server);
            match ask(presented, server).await {
                Some(Some(Verdict::Removed)) => return shared.expelled(Standing::Removed),
                Some(Some(Verdict::Superseded)) => return shared.expelled(Standing::Superseded),
                _ => {}
            }
        }
        let more = async {
            while shared.replica.all_remains::<Server>().len() <= known {
                graves.next().await;
            }
        };
        let longest = if known == 0 { Duration::MAX } else { wait };
        wait = match timeout(longest, more).await {
            Ok(()) => ROUNDS.0,
            Err(_) => (wait * 2).min(ROUNDS.1),
        };
    }
}

/// The names of the servers whose removal was taken by this server itself or by a user, wherever that
/// was: what the others need not have heard of.
pub(super) fn removed_here(shared: &Shared) -> Vec<String> {
    let me = shared.identity.server;
    let by_another = |server: &Doc<Server>| {
        let by = shared.replica.grave(server.id()).map(|grave| grave.by);
        matches!(by, Some(Author::Server(by)) if by != me)
    };
    let mut removed = shared.replica.all_remains::<Server>();
    removed.retain(|server| server.id().uuid() != me.0 && !by_another(server));
    removed.iter().map(|server| server.name.clone()).collect()
}

/// Dials a server with one of its keys: `None` where it does not answer, else what it says of ours,
/// if anything. No byte is sent.
async fn ask(presented: Presented, server: &Server) -> Option<Option<Verdict>> {
    let keys: Vec<PublicKey> = server.accepted().into_iter().collect();
    let judge =
        move |key: &PublicKey| if keys.contains(key) { Verdict::Known } else { Verdict::Unknown };
    let accept = Accept::Known(Arc::new(judge));
    let config = tls::client_config(&presented.key, presented.chain, accept, peer::ALPN).ok()?;
    let dial = async {
        let address = tokio::net::lookup_host(&server.quic).await.ok()?.next()?;
        let any: SocketAddr = if address.is_ipv4() {
            SocketAddr::from(([0, 0, 0, 0], 0))
        } else {
            SocketAddr::from(([0_u16; 8], 0))
        };
        let endpoint = Socket::from(std::net::UdpSocket::bind(any).ok()?).endpoint(None).ok()?;
        // The other end's key is judged before it judges ours: done is answered.
        let connection = endpoint.connect_with(config, address, "knot").ok()?.await.ok()?;
        Some((endpoint, connection))
    };
    let (endpoint, connection) = timeout(ANSWER, dial).await.ok().flatten()?;
    let refused = timeout(ANSWER, connection.closed()).await.ok();
    connection.close(0_u32.into(), b"only asking");
    timeout(ANSWER, endpoint.wait_idle()).await.ok();
    Some(refused.as_ref().and_then(tls::says))
}
