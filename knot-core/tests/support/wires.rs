//! Two replicas of one process, linked by channels.

use bytes::Bytes;
use knot_core::{
    replica::{Link, Outbox, Replica},
    sync::Message,
    wire::{self, MAX_PEER_FRAME},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// The link of two replicas.
pub(crate) struct Wires {
    carriers: [JoinHandle<()>; 2],
}

struct Wire(mpsc::Sender<Bytes>);

impl Outbox for Wire {
    fn send(&mut self, frame: Bytes) -> bool {
        self.0.try_send(frame).is_ok()
    }

    fn close(&mut self, reason: &str) {
        panic!("the other end broke the protocol: {reason}");
    }
}

impl Wires {
    /// Links two replicas.
    pub(crate) async fn connect(one: &Replica, other: &Replica) -> Self {
        let (to_other, from_one) = mpsc::channel(1_024);
        let (to_one, from_other) = mpsc::channel(1_024);
        let at_one = one.link(other.me(), Box::new(Wire(to_other))).await.unwrap();
        let at_other = other.link(one.me(), Box::new(Wire(to_one))).await.unwrap();
        Self {
            carriers: [
                tokio::spawn(carry(from_other, at_one)),
                tokio::spawn(carry(from_one, at_other)),
            ],
        }
    }

    /// Ends the link; what is on its way is lost.
    pub(crate) async fn cut(self) {
        for carrier in self.carriers {
            carrier.abort();
            carrier.await.ok();
        }
    }
}

async fn carry(mut frames: mpsc::Receiver<Bytes>, to: Link) {
    while let Some(frame) = frames.recv().await {
        let message: Message =
            wire::read_frame(&mut &frame[..], MAX_PEER_FRAME).await.unwrap().unwrap();
        if to.receive(message).await.is_err() {
            return;
        }
    }
}
