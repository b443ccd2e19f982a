//! One hop over the server that holds a space's agent: what is asked of it, and how it carries a session.

use std::io;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    net::peer::Open,
    wire::{self, MAX_STRANGER_FRAME},
};

/// How many pieces of a relayed stream are passed on at a time; each is what one packet brought.
const PIECES: usize = 32;
/// Shorter pieces are copied: one that waits keeps all that came with it, which is up to 64 KiB.
const SMALL: usize = 2 << 10;

/// The answer to [`Open::Relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Relayed {
    Yes,
    NoAgent,
}

/// Asks a server that holds the agent for a session; `None` where it does not hold it any more.
pub(super) async fn ask(
    connection: &Connection,
    space: Uuid,
) -> Result<Option<(SendStream, RecvStream)>, io::Error> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let broken = |error: wire::Error| io::Error::other(error);
    wire::write_frame(&mut send, &Open::Relay(space), MAX_STRANGER_FRAME).await.map_err(broken)?;
    let relayed = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await.map_err(broken)?;
    Ok((relayed == Some(Relayed::Yes)).then_some((send, receive)))
}

/// Tells who asked that the agent is not linked here.
pub(super) async fn refuse(to: &mut SendStream) {
    wire::write_frame(to, &Relayed::NoAgent, MAX_STRANGER_FRAME).await.ok();
}

/// Tells who asked that its session has begun, and carries it to its end.
pub(super) async fn carry(asker: (SendStream, RecvStream), agent: (SendStream, RecvStream)) {
    let (mut send, mut receive) = asker;
    let (mut to_agent, mut from_agent) = agent;
    if wire::write_frame(&mut send, &Relayed::Yes, MAX_STRANGER_FRAME).await.is_err() {
        return;
    }
    let forth = pass_on(&mut receive, &mut to_agent);
    let back = pass_on(&mut from_agent, &mut send);
    // A half that has ended leaves the other open; what broke ends both.
    tokio::try_join!(forth, back).ok();
}

/// Passes on what comes over one stream as it came, to its end; without a copy, but for small pieces.
async fn pass_on(from: &mut RecvStream, to: &mut SendStream) -> io::Result<()> {
    let mut pieces = [const { Bytes::new() }; PIECES];
    while let Some(count) = from.read_chunks(&mut pieces).await? {
        let pieces = pieces.get_mut(..count).unwrap_or_default();
        for piece in pieces.iter_mut().filter(|piece| piece.len() < SMALL) {
            *piece = Bytes::copy_from_slice(piece);
        }
        to.write_all_chunks(pieces).await?;
    }
    Ok(to.finish()?)
}
