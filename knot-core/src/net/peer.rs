//! One link between two servers: a handshake, then the replica's messages, and relayed sessions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

use super::{agents::Agents, keys::PublicKey};
use crate::{
    clock::Millis,
    id::ServerId,
    replica::{Outbox, Replica},
    sync::Message,
    wire::{self, MAX_PEER_FRAME, MAX_STRANGER_FRAME},
};

/// The ALPN protocol name of a connection between servers.
pub(super) const ALPN: &[u8] = b"knot-peer/1";

/// How long the other end may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The most frames and bytes that wait to be sent to one peer: what is beyond is left out, and
/// reconciliation brings it later.
const QUEUE: usize = 1_024;
const QUEUE_BYTES: usize = 16 << 20;

/// The close code of a link that was replaced by another to the same peer.
pub(super) const CLOSE_DUPLICATE: VarInt = VarInt::from_u32(1);
/// The close code of a link whose other end broke the protocol, or is refused.
pub(super) const CLOSE_REFUSED: VarInt = VarInt::from_u32(2);
/// The close code of a server that is stopping.
pub(super) const CLOSE_STOPPING: VarInt = VarInt::from_u32(3);

/// The first frame each way on the first stream of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) server: ServerId,
    /// The number of the server's run: raised at each start.
    pub(super) run: u64,
    /// Drawn by the process: tells a second live run of one server from the first.
    pub(super) process: Uuid,
    /// The receiver's keys that the sender accepts: so it learns whether a new one is known.
    pub(super) accepts: Vec<PublicKey>,
    /// The sender's clock, to report one that is wrong. Decides nothing.
    pub(super) now: Millis,
}

/// The first frame of every later stream, from the server that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Open {
    /// A session with the agent of this space, which is linked to the receiver.
    Relay(Uuid),
    /// Which of the sender's keys does the receiver accept? Answered with a list of them.
    Keys,
}

/// Tells which of the other end's keys are accepted here.
pub(super) type Accepted = Arc<dyn Fn() -> Vec<PublicKey> + Send + Sync>;

/// A link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the other end took too long")]
    Slow,
    #[error("the connection failed: {0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("the other end said something else than its name")]
    Handshake,
    #[error("the other end is {0}, which its key does not belong to")]
    Name(ServerId),
    #[error(transparent)]
    Wire(#[from] wire::Error),
}

/// The streams of a link whose handshake is done.
pub(super) struct Greeted {
    pub(super) hello: Hello,
    send: SendStream,
    receive: RecvStream,
}

/// The handshake of the end that dialled.
pub(super) async fn greet(connection: &Connection, own: Hello) -> Result<Greeted, Error> {
    let handshake = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        wire::write_frame(&mut send, &own, MAX_STRANGER_FRAME).await?;
        let hello = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await?;
        Ok(Greeted { hello: hello.ok_or(Error::Handshake)?, send, receive })
    };
    timeout(HANDSHAKE, handshake).await.map_err(|_| Error::Slow)?
}

/// The handshake of the end that was dialled. `judge` may refuse the other's name.
pub(super) async fn be_greeted(
    connection: &Connection,
    own: Hello,
    judge: impl FnOnce(&Hello) -> Result<(), Error>,
) -> Result<Greeted, Error> {
    let handshake = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let hello: Option<Hello> = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await?;
        let hello = hello.ok_or(Error::Handshake)?;
        judge(&hello)?;
        wire::write_frame(&mut send, &own, MAX_STRANGER_FRAME).await?;
        Ok(Greeted { hello, send, receive })
    };
    timeout(HANDSHAKE, handshake).await.map_err(|_| Error::Slow)?
}

/// Runs a link until its connection ends.
pub(super) async fn run(
    connection: Connection,
    greeted: Greeted,
    replica: &Replica,
    agents: &Agents,
    accepted: &Accepted,
) -> Result<(), Error> {
    let Greeted { hello, send, mut receive } = greeted;
    let (frames, queue) = mpsc::channel(QUEUE);
    let queued = Arc::new(AtomicUsize::new(0));
    let outbox = LinkOutbox { frames, queued: Arc::clone(&queued), connection: connection.clone() };
    let Ok(link) = replica.link(hello.server, Box::new(outbox)).await else { return Ok(()) };
    let read = async {
        while let Some(message) =
            wire::read_frame::<_, Message>(&mut receive, MAX_PEER_FRAME).await?
        {
            if link.receive(message).await.is_err() {
                break;
            }
        }
        Ok::<_, Error>(())
    };
    let result = tokio::select! {
        result = read => result,
        result = write(send, queue, &queued) => result,
        result = serve(&connection, agents, accepted) => result,
    };
    link.close().await;
    result
}

async fn write(
    mut stream: SendStream,
    mut queue: mpsc::Receiver<Bytes>,
    queued: &AtomicUsize,
) -> Result<(), Error> {
    while let Some(frame) = queue.recv().await {
        queued.fetch_sub(frame.len(), Ordering::Relaxed);
        stream.write_all(&frame).await.map_err(|error| wire::Error::Stream(error.into()))?;
    }
    Ok(())
}

/// Asks the other end of a link which of this server's keys it accepts.
pub(super) async fn ask_keys(connection: &Connection) -> Result<Vec<PublicKey>, Error> {
    let asked = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        wire::write_frame(&mut send, &Open::Keys, MAX_STRANGER_FRAME).await?;
        send.finish().ok();
        let keys = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await?;
        keys.ok_or(Error::Handshake)
    };
    timeout(HANDSHAKE, asked).await.map_err(|_| Error::Slow)?
}

/// Takes the streams that the other end opens.
async fn serve(connection: &Connection, agents: &Agents, accepted: &Accepted) -> Result<(), Error> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let (agents, accepted) = (agents.clone(), Arc::clone(accepted));
        // Bounded by the connection's limit of streams, and ends with the connection.
        tokio::spawn(async move {
            let open = timeout(HANDSHAKE, wire::read_frame(&mut receive, MAX_STRANGER_FRAME)).await;
            match open {
                Ok(Ok(Some(Open::Relay(space)))) => agents.relay(space, send, receive).await,
                Ok(Ok(Some(Open::Keys))) => {
                    wire::write_frame(&mut send, &accepted(), MAX_STRANGER_FRAME).await.ok();
                    send.finish().ok();
                }
                _ => tracing::debug!("a peer opened a stream and did not say what for"),
            }
        });
    }
}

struct LinkOutbox {
    frames: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
    connection: Connection,
}

impl Outbox for LinkOutbox {
    fn send(&mut self, frame: Bytes) {
        let length = frame.len();
        if self.queued.fetch_add(length, Ordering::Relaxed) + length > QUEUE_BYTES
            || self.frames.try_send(frame).is_err()
        {
            self.queued.fetch_sub(length, Ordering::Relaxed);
            tracing::debug!(length, "a slow peer missed a frame");
        }
    }

    fn close(&mut self, reason: &str) {
        self.connection.close(CLOSE_REFUSED, reason.as_bytes());
    }
}
