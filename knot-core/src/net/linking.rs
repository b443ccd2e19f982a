//! From a connection between two servers to their link: what they say first, which run of a server may
//! be linked, and what follows when a link comes or goes.
//!
//! Of one server one run is linked at a time: the one that was first, for as long as it answers. So a
//! copy of a server's disk that is started elsewhere is refused and named, whatever the number of its
//! run, while a server that was killed is let in again at its restart, before its old link has timed
//! out.

use std::time::Duration;

use quinn::Connection;

use super::{
    links::{Duplicate, Link},
    peer::{self, CLOSE_DUPLICATE, CLOSE_REFUSED, Hello},
    service::Shared,
    upkeep,
};
use crate::{
    clock::Millis,
    id::{Id, ServerId},
    model::Server,
};

/// How long the run of a server that is linked has to answer, when another run of it comes.
const ANSWER: Duration = Duration::from_secs(1);

/// What this server says first.
pub(super) fn hello(shared: &Shared, to: ServerId) -> Hello {
    Hello {
        server: shared.identity.server,
        run: shared.run,
        process: shared.process,
        accepts: shared.directory.keys_of(to),
        now: Millis::now(),
    }
}

/// Takes a connection that the holder of a peer's key has dialled.
pub(super) async fn accept_peer(shared: &Shared, connection: Connection, id: ServerId) {
    let judge = async |hello: &Hello| {
        if hello.server != id {
            return Err(peer::Error::Name(hello.server));
        }
        only_run(shared, hello).await
    };
    match peer::be_greeted(&connection, hello(shared, id), judge).await {
        Ok(greeted) => run_link(shared, connection, greeted, id).await,
        Err(error) => {
            tracing::info!(peer = %id, %error, "a peer's handshake failed");
            error.close(&connection);
        }
    }
}

/// Makes a connection the link to its peer, if it may be that, and runs it until it ends.
pub(super) async fn run_link(
    shared: &Shared,
    connection: Connection,
    greeted: peer::Greeted,
    dialler: ServerId,
) {
    let id = greeted.hello.server;
    if let Err(error) = only_run(shared, &greeted.hello).await {
        return error.close(&connection);
    }
    let link = Link { hello: greeted.hello.clone(), connection: connection.clone(), dialler };
    if shared.links.put(link) == Err(Duplicate) {
        return connection.close(CLOSE_DUPLICATE, b"another link is there");
    }
    tracing::info!(peer = %id, "peer linked");
    shared.refused_by.send_if_modified(|peers| peers.remove(&id));
    upkeep::learn(shared, id, &greeted.hello.accepts);
    let run = greeted.hello.run;
    shared.swim.linked(id, run).await;
    let ended = peer::run(connection.clone(), greeted, shared).await;
    let stops = peer::says_it_stops(&connection);
    hear_refusal(shared, id, &connection);
    connection.close(CLOSE_REFUSED, b"the link has ended");
    if shared.links.remove(id, &connection) {
        shared.swim.lost(id, run, stops).await;
    }
    if let Err(error) = ended {
        tracing::info!(peer = %id, %error, "peer link ended");
    }
}

/// Takes it in, if a peer has ended a connection because another run of this server is linked to it.
pub(super) fn hear_refusal(shared: &Shared, peer: ServerId, connection: &Connection) {
    let Some(reason) = peer::says_second_run(connection) else { return };
    let mut first = false;
    shared.refused_by.send_if_modified(|peers| {
        first = peers.is_empty();
        peers.insert(peer)
    });
    if first {
        tracing::error!(
            server = %shared.identity.server, %peer, reason,
            "this server is refused: another runs from the same folder or a copy of it. Stop one of \
             the two; what was written at the one that is given up is brought in with `import`"
        );
    }
}

/// Refuses a run of a server while another is linked and answers. One that does not answer makes room.
async fn only_run(shared: &Shared, hello: &Hello) -> Result<(), peer::Error> {
    let Some(linked) = shared.links.of_another_run(hello) else { return Ok(()) };
    if !peer::answers(&linked, ANSWER).await {
        linked
            .close(CLOSE_DUPLICATE, b"another run of this server has come, and this one is silent");
        return Ok(());
    }
    let id = hello.server;
    let known = shared.replica.get(Id::<Server>::from_uuid(id.0));
    let server = known.map_or_else(|| id.to_string(), |known| format!("{} ({id})", known.name));
    if shared.links.refused(hello) {
        tracing::error!(
            peer = %id, server, run = hello.run,
            "a second live run of a server was refused: its folder was copied, and both run. Stop one \
             of the two"
        );
    }
    Err(peer::Error::SecondRun(server))
}
