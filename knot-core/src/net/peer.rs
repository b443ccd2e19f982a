//! One link between two servers: a handshake, then the replica's messages, datagrams of membership,
//! and relayed sessions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

use super::{
    keys::PublicKey,
    questions::Asked,
    service::Shared,
    swim::{self, Swim},
};
use crate::{
    clock::Millis,
    id::ServerId,
    membership,
    replica::{Link, Outbox},
    sync::Message,
    wire::{self, MAX_PEER_FRAME, MAX_STRANGER_FRAME},
};

/// The ALPN protocol name of a connection between servers.
pub(super) const ALPN: &[u8] = b"knot-peer/1";

/// How long the other end may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The most frames and bytes that wait to be sent to one peer: what is beyond is left out, and the
/// replica, which is told so, sends the root as soon as there is room: reconciliation brings the rest.
const QUEUE: usize = 1_024;
const QUEUE_BYTES: usize = 16 << 20;

/// The close code of a link that was replaced by another to the same peer.
pub(super) const CLOSE_DUPLICATE: VarInt = VarInt::from_u32(1);
/// The close code of a link whose other end broke the protocol, or is refused.
pub(super) const CLOSE_REFUSED: VarInt = VarInt::from_u32(2);
/// The close code of a server that is stopping.
pub(super) const CLOSE_STOPPING: VarInt = VarInt::from_u32(3);
/// The close code of a link to a run of a server while another run of it is linked and answers.
const CLOSE_SECOND_RUN: VarInt = VarInt::from_u32(4);

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
    /// The question whether the receiver reaches this server now; the answer is a truth value.
    Reach(ServerId),
    /// The question whether the receiver is there; the answer is `true`.
    Echo,
    /// Which of the sender's keys does the receiver accept? Answered with a list of them.
    Keys,
    /// A question of the program on top; what follows is its own.
    Program,
}

/// A link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the other end took too long")]
    Slow,
    #[error("the connection failed: {0}")]
    Connection(#[from] ConnectionError),
    #[error("the other end said something else than its name")]
    Handshake,
    #[error("the other end is {0}, which its key does not belong to")]
    Name(ServerId),
    #[error(
        "a second live run of server {0}: one that was started from the same folder or a copy of it is \
         linked and answers, and this one is refused until that one stops"
    )]
    SecondRun(String),
    #[error(transparent)]
    Wire(#[from] wire::Error),
}

impl Error {
    /// Ends a connection for this reason.
    pub(super) fn close(&self, connection: &Connection) {
        let code =
            if matches!(self, Self::SecondRun(_)) { CLOSE_SECOND_RUN } else { CLOSE_REFUSED };
        connection.close(code, self.to_string().as_bytes());
    }
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
    judge: impl AsyncFnOnce(&Hello) -> Result<(), Error>,
) -> Result<Greeted, Error> {
    let handshake = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let hello: Option<Hello> = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await?;
        let hello = hello.ok_or(Error::Handshake)?;
        judge(&hello).await?;
        wire::write_frame(&mut send, &own, MAX_STRANGER_FRAME).await?;
        Ok(Greeted { hello, send, receive })
    };
    timeout(HANDSHAKE, handshake).await.map_err(|_| Error::Slow)?
}

/// Runs a link until its connection ends.
pub(super) async fn run(
    connection: Connection,
    greeted: Greeted,
    shared: &Shared,
) -> Result<(), Error> {
    let Greeted { hello, send, mut receive } = greeted;
    let (frames, queue) = mpsc::channel(QUEUE);
    let load = Arc::new(AtomicUsize::new(0));
    let outbox = LinkOutbox { frames, load: Arc::clone(&load), connection: connection.clone() };
    let Ok(link) = shared.replica.link(hello.server, Box::new(outbox)).await else { return Ok(()) };
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
        // Which comes first is nothing that chance need decide: what is queued is bounded.
        biased;
        result = write(send, queue, &load) => result,
        result = read => result,
        result = serve(&connection, hello.server, shared) => result,
        result = hear(&connection, hello.server, &link, &shared.swim) => result,
    };
    link.close().await;
    result
}

/// Whether the connection has ended because the other end stops.
pub(super) fn says_it_stops(connection: &Connection) -> bool {
    matches!(
        connection.close_reason(),
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == CLOSE_STOPPING
    )
}

/// What the other end said when it ended the connection because another run of this server is linked
/// to it.
pub(super) fn says_second_run(connection: &Connection) -> Option<String> {
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == CLOSE_SECOND_RUN => {
            Some(String::from_utf8_lossy(&close.reason).into_owned())
        }
        _ => None,
    }
}

/// Sends what is queued.
async fn write(
    mut stream: SendStream,
    mut queue: mpsc::Receiver<Bytes>,
    load: &AtomicUsize,
) -> Result<(), Error> {
    while let Some(frame) = queue.recv().await {
        load.fetch_sub(frame.len(), Ordering::Relaxed);
        stream.write_all(&frame).await.map_err(|error| wire::Error::Stream(error.into()))?;
    }
    Ok(())
}

/// Whether the other end answers within so long.
pub(super) async fn answers(connection: &Connection, within: Duration) -> bool {
    matches!(timeout(within, ask(connection, &Open::Echo)).await, Ok(Ok(true)))
}

/// Asks the other end a question whose answer is a truth value.
pub(super) async fn ask(connection: &Connection, question: &Open) -> Result<bool, Error> {
    let (mut send, mut receive) = connection.open_bi().await?;
    wire::write_frame(&mut send, question, MAX_STRANGER_FRAME).await?;
    let answer = wire::read_frame(&mut receive, MAX_STRANGER_FRAME).await?;
    Ok(answer.unwrap_or(false))
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
async fn serve(connection: &Connection, peer: ServerId, shared: &Shared) -> Result<(), Error> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let (agents, links) = (shared.agents.clone(), shared.links.clone());
        let directory = Arc::clone(&shared.directory);
        let questions = shared.questions.clone();
        // Bounded by the connection's limit of streams, and ends with the connection.
        tokio::spawn(async move {
            let open = timeout(HANDSHAKE, wire::read_frame(&mut receive, MAX_STRANGER_FRAME)).await;
            match open {
                Ok(Ok(Some(Open::Relay(space)))) => agents.relay(space, send, receive).await,
                Ok(Ok(Some(Open::Reach(server)))) => {
                    let reaches = swim::reaches(&links, server).await;
                    wire::write_frame(&mut send, &reaches, MAX_STRANGER_FRAME).await.ok();
                }
                Ok(Ok(Some(Open::Echo))) => {
                    wire::write_frame(&mut send, &true, MAX_STRANGER_FRAME).await.ok();
                }
                Ok(Ok(Some(Open::Keys))) => {
                    let accepted = directory.keys_of(peer);
                    wire::write_frame(&mut send, &accepted, MAX_STRANGER_FRAME).await.ok();
                    send.finish().ok();
                }
                Ok(Ok(Some(Open::Program))) => questions.put(Asked { peer, send, receive }),
                _ => tracing::debug!("a peer opened a stream and did not say what for"),
            }
        });
    }
}

/// Takes the datagrams of the other end: its root is for the replica, the rest for membership.
async fn hear(
    connection: &Connection,
    peer: ServerId,
    link: &Link,
    swim: &Swim,
) -> Result<(), Error> {
    loop {
        match membership::decode(connection.read_datagram().await?) {
            Ok((root, packet)) => {
                swim.offer(peer, packet);
                link.offer(root.into());
            }
            Err(error) => tracing::debug!(%peer, %error, "a datagram was dropped"),
        }
    }
}

struct LinkOutbox {
    frames: mpsc::Sender<Bytes>,
    /// The bytes that wait for the peer.
    load: Arc<AtomicUsize>,
    connection: Connection,
}

impl Outbox for LinkOutbox {
    fn send(&mut self, frame: Bytes) -> bool {
        let length = frame.len();
        let full = self.load.fetch_add(length, Ordering::Relaxed) + length > QUEUE_BYTES
            || self.frames.try_send(frame).is_err();
        if full {
            self.load.fetch_sub(length, Ordering::Relaxed);
            tracing::debug!(length, "a slow peer missed a frame");
        }
        !full
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(self.connection.rtt())
    }

    fn close(&mut self, reason: &str) {
        self.connection.close(CLOSE_REFUSED, reason.as_bytes());
    }
}
