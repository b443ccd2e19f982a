//! The thread that runs a replica, and its links to peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::Rng as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

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
/// How often the round-trip times of links are looked at.
const MEASURE: Duration = Duration::from_secs(2);

/// Takes what is to be sent to one peer. It never blocks: what does not fit is left out, and
/// reconciliation brings it later.
pub trait Outbox: Send {
    /// Queues one frame. Returns whether there was room for it.
    fn send(&mut self, frame: Bytes) -> bool;
    /// The round-trip time to the peer, where it is known.
    fn round_trip(&self) -> Option<Duration> {
        None
    }
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
        let (run_number, shown) = (core.run(), core.shown());
        let (inputs, queue) = mpsc::channel(QUEUE);
        let (wakes, wake) = watch::channel(None);
        let ticker = tokio::spawn(tick(inputs.downgrade(), wake));
        let thread = thread::Builder::new()
            .name("knot-replica".to_owned())
            .spawn(move || run(core, queue, &wakes))
            .map_err(|source| StoreError::Failed {
                what: "starting its thread",
                source: source.into(),
            })?;
        let replica = Replica { me, run: run_number, shown, inputs };
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

/// Tells the replica that time has passed: every so often, and when it asked for it.
async fn tick(inputs: mpsc::WeakSender<Command>, mut wake: watch::Receiver<Option<Instant>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let asked = *wake.borrow_and_update();
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep_until(asked.unwrap_or_else(Instant::now).into()), if asked.is_some() => {}
            changed = wake.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        let Some(inputs) = inputs.upgrade() else { return };
        // A full queue means that the thread is busy: it needs no reminder.
        inputs.try_send(Command::Input(Input::Tick)).ok();
        // Until it has been heard, it is not said again.
        if wake.changed().await.is_err() {
            return;
        }
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
fn run(mut core: Core, mut queue: mpsc::Receiver<Command>, wakes: &watch::Sender<Option<Instant>>) {
    let began = Instant::now();
    let mut links: BTreeMap<ServerId, (u64, Box<dyn Outbox>)> = BTreeMap::new();
    let (mut stopped, mut measured, mut missed) = (None, began, Vec::new());
    while let Some(first) = queue.blocking_recv() {
        let mut inputs = std::mem::take(&mut missed);
        if measured.elapsed() >= MEASURE {
            measured = Instant::now();
            inputs.extend(links.iter().filter_map(|(peer, link)| measure(*peer, &*link.1)));
        }
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
        wakes.send_replace(effects.wake.map(|wake| began + wake));
        missed.extend(deliver(&mut links, effects).into_iter().map(Input::Missed));
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
            let measured = measure(peer, &*outbox);
            let replaced = links.insert(peer, (number, outbox)).map(|_| Input::PeerDown(peer));
            replaced.into_iter().chain([Input::PeerUp(peer)]).chain(measured).collect()
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

fn measure(peer: ServerId, outbox: &dyn Outbox) -> Option<Input> {
    outbox.round_trip().map(|time| Input::RoundTrip(peer, time))
}

/// Sends; returns the peers that something could not be sent to.
fn deliver(
    links: &mut BTreeMap<ServerId, (u64, Box<dyn Outbox>)>,
    effects: Effects,
) -> BTreeSet<ServerId> {
    let mut missed = BTreeSet::new();
    for (peers, message) in effects.sends {
        let frame = match wire::encode_frame(&message, wire::MAX_PEER_FRAME) {
            Ok(frame) => Bytes::from(frame),
            Err(error) => {
                tracing::error!(%error, "a message could not be sent");
                continue;
            }
        };
        for peer in peers {
            if let Some((_, outbox)) = links.get_mut(&peer)
                && !outbox.send(frame.clone())
            {
                missed.insert(peer);
            }
        }
    }
    for (peer, reason) in effects.offenders {
        tracing::error!(%peer, reason, "a peer sent what no sound server sends: its link is closed");
        if let Some((_, outbox)) = links.get_mut(&peer) {
            outbox.close(&reason);
        }
    }
    missed
}
