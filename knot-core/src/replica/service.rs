//! The thread that runs a replica, and its links to peers.

use std::{
    collections::BTreeMap,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use super::{
    CommitError, QUEUE, Replica,
    core::{Core, Effects, Input},
};
use crate::{
    id::ServerId,
    schema::Schema,
    store::{Error as StoreError, Store},
    sync::Message,
    wire,
};

/// The most inputs that share one commit: beyond that only the longest waits grow.
const BATCH: usize = 32;
/// How often the engine is told that time has passed.
const TICK: Duration = Duration::from_millis(100);

/// Takes what is to be sent to one peer. It never blocks: what does not fit is left out, and
/// reconciliation brings it later.
pub trait Outbox: Send {
    /// Queues one frame.
    fn send(&mut self, frame: Bytes);
    /// Ends the link, for this reason: the peer sent what no sound server sends.
    fn close(&mut self, reason: &str);
}

pub(super) enum Command {
    Input(Input),
    Link(ServerId, u64, Box<dyn Outbox>),
    Unlink(ServerId, u64),
    Message(ServerId, u64, Message),
    Stop(oneshot::Sender<()>),
}

/// A replica's thread. Dropping it does not stop the thread; [`Service::stop`] does.
#[derive(Debug)]
pub struct Service {
    replica: Replica,
    thread: JoinHandle<()>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Service {
    /// Opens a replica on a store and starts its thread.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn start(
        me: ServerId,
        schema: Schema,
        store: Box<dyn Store>,
    ) -> Result<(Self, Replica), StoreError> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let core = Core::open(me, schema, store, seed)?;
        let began = Instant::now();
        let (run_number, shown) = (core.run(), core.shown());
        let (inputs, queue) = mpsc::channel(QUEUE);
        let ticker = tokio::spawn(tick(inputs.downgrade()));
        let thread = thread::Builder::new()
            .name("knot-replica".to_owned())
            .spawn(move || run(core, began, queue))
            .map_err(|source| StoreError::Failed {
                what: "starting its thread",
                source: source.into(),
            })?;
        let replica = Replica { me, run: run_number, began, shown, inputs };
        Ok((Self { replica: replica.clone(), thread, ticker }, replica))
    }

    /// Stops the thread once everything asked before has been committed. Later edits are refused.
    pub async fn stop(self) {
        self.ticker.abort();
        let (stopped, done) = oneshot::channel();
        if self.replica.inputs.send(Command::Stop(stopped)).await.is_ok() {
            done.await.ok();
        }
        tokio::task::spawn_blocking(move || self.thread.join().ok()).await.ok();
    }
}

async fn tick(inputs: mpsc::WeakSender<Command>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(inputs) = inputs.upgrade() else { return };
        // A full queue means that the thread is busy: it needs no reminder.
        inputs.try_send(Command::Input(Input::Tick)).ok();
    }
}

/// A link to one peer: brings its messages to the replica for as long as it lives.
#[derive(Debug)]
pub struct Link {
    peer: ServerId,
    number: u64,
    inputs: mpsc::Sender<Command>,
}

impl Replica {
    /// Links a peer. A link made later to the same peer replaces this one.
    ///
    /// # Errors
    /// The replica has been stopped.
    pub async fn link(&self, peer: ServerId, outbox: Box<dyn Outbox>) -> Result<Link, CommitError> {
        let number = rand::rng().next_u64();
        let command = Command::Link(peer, number, outbox);
        self.inputs.send(command).await.map_err(|_| CommitError::Stopped)?;
        Ok(Link { peer, number, inputs: self.inputs.clone() })
    }
}

impl Link {
    /// Takes one message from the peer; waits while the replica is busy.
    ///
    /// # Errors
    /// The replica has been stopped.
    pub async fn receive(&self, message: Message) -> Result<(), CommitError> {
        let command = Command::Message(self.peer, self.number, message);
        self.inputs.send(command).await.map_err(|_| CommitError::Stopped)
    }

    /// Ends the link.
    pub async fn close(self) {
        self.inputs.send(Command::Unlink(self.peer, self.number)).await.ok();
    }
}

/// The replica's thread.
fn run(mut core: Core, began: Instant, mut queue: mpsc::Receiver<Command>) {
    let mut links: BTreeMap<ServerId, (u64, Box<dyn Outbox>)> = BTreeMap::new();
    let mut stopped = None;
    while let Some(first) = queue.blocking_recv() {
        let mut inputs = Vec::new();
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Stop(done) => {
                    queue.close();
                    stopped = Some(done);
                }
                command => inputs.extend(translate(&mut links, command)),
            }
            next = if inputs.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        let effects = core.step(began.elapsed(), inputs);
        deliver(&mut links, effects);
    }
    drop(core);
    if let Some(done) = stopped {
        done.send(()).ok();
    }
}

/// Keeps the table of links; what comes over a link that was replaced is dropped.
fn translate(
    links: &mut BTreeMap<ServerId, (u64, Box<dyn Outbox>)>,
    command: Command,
) -> Vec<Input> {
    let current =
        |peer: &ServerId, number: u64| links.get(peer).is_some_and(|link| link.0 == number);
    match command {
        Command::Input(input) => vec![input],
        Command::Link(peer, number, outbox) => {
            let replaced = links.insert(peer, (number, outbox)).map(|_| Input::PeerDown(peer));
            replaced.into_iter().chain([Input::PeerUp(peer)]).collect()
        }
        Command::Unlink(peer, number) if current(&peer, number) => {
            links.remove(&peer);
            vec![Input::PeerDown(peer)]
        }
        Command::Message(peer, number, message) if current(&peer, number) => {
            vec![Input::Message(peer, message)]
        }
        Command::Unlink(..) | Command::Message(..) | Command::Stop(_) => Vec::new(),
    }
}

fn deliver(links: &mut BTreeMap<ServerId, (u64, Box<dyn Outbox>)>, effects: Effects) {
    for (peers, message) in effects.sends {
        let frame = match wire::encode_frame(&message, wire::MAX_PEER_FRAME) {
            Ok(frame) => Bytes::from(frame),
            Err(error) => {
                tracing::error!(%error, "a message could not be sent");
                continue;
            }
        };
        for peer in peers {
            if let Some((_, outbox)) = links.get_mut(&peer) {
                outbox.send(frame.clone());
            }
        }
    }
    for (peer, reason) in effects.offenders {
        tracing::error!(%peer, reason, "a peer sent what no sound server sends: its link is closed");
        if let Some((_, outbox)) = links.get_mut(&peer) {
            outbox.close(&reason);
        }
    }
}
