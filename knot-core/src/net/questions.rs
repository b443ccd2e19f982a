//! Streams between servers for the program on top: what one server alone has, another asks it for.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{RecvStream, SendStream};
use tokio::{sync::mpsc, time::timeout};

use super::{links::Links, peer::Open};
use crate::{
    id::ServerId,
    wire::{self, MAX_STRANGER_FRAME},
};

/// How many streams wait for the program: what is beyond is dropped, which ends the stream.
const WAITING: usize = 64;
/// How long a peer may take to let a stream be opened.
const OPEN: Duration = Duration::from_secs(5);

/// A stream that another server has opened for the program on top. That server belongs to the
/// cluster: what its user may ask, it has judged itself.
#[derive(Debug)]
pub struct Asked {
    /// The server that asks.
    pub peer: ServerId,
    /// Where the answer goes.
    pub send: SendStream,
    /// Where the question comes from.
    pub receive: RecvStream,
}

/// A server could not be asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It is not linked to this one.
    #[error("the server cannot be reached from here")]
    NotLinked,
    /// The stream could not be opened.
    #[error("no stream to the server could be opened: {0}")]
    Failed(#[from] io::Error),
}

/// The way from links to the program; clones share it.
#[derive(Debug)]
pub(super) struct Questions<T> {
    sender: mpsc::Sender<T>,
    receiver: Arc<Mutex<Option<mpsc::Receiver<T>>>>,
}

impl<T> Clone for Questions<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), receiver: Arc::clone(&self.receiver) }
    }
}

impl<T> Questions<T> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Arc::new(Mutex::new(Some(receiver))) }
    }

    pub(super) fn put(&self, asked: T) {
        if self.sender.try_send(asked).is_err() {
            tracing::debug!(limit = WAITING, "a stream for the program was dropped");
        }
    }

    pub(super) fn take(&self) -> Option<mpsc::Receiver<T>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Opens a stream to the program on top of a peer.
pub(super) async fn ask(
    links: &Links,
    peer: ServerId,
) -> Result<(SendStream, RecvStream), AskError> {
    let connection = links.connection(peer).ok_or(AskError::NotLinked)?;
    let opened = timeout(OPEN, async {
        let (mut send, receive) = connection.open_bi().await.map_err(io::Error::from)?;
        let open = wire::write_frame(&mut send, &Open::Program, MAX_STRANGER_FRAME).await;
        open.map_err(io::Error::other)?;
        Ok((send, receive))
    });
    opened.await.unwrap_or_else(|_| Err(AskError::Failed(io::ErrorKind::TimedOut.into())))
}
