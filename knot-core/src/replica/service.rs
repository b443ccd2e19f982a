//! The loop that runs a replica, the thread that drives it in a server, and links to peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use rand::Rng as _;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

use super::{
    CommitError, QUEUE, Replica,
    core::{Core, Effects, Input},
};
use crate::{
    clock::Millis,
    doc::Layering,
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
/// reconciliation brings it after the next [`Replica::probe`].
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
}

impl Service {
    /// Opens a replica on a store and starts its thread.
    ///
    /// # Errors
    /// The store could not be read, or the thread not be started.
    pub fn start(
        me: ServerId,
        schema: Schema,
        store: Box<dyn Store>,
    ) -> Result<(Self, Replica), StoreError> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let (driver, replica) = Driver::open(me, schema, store, seed)?;
        let thread = thread::Builder::new()
            .name("knot-replica".to_owned())
            .spawn(move || drive(driver))
            .map_err(|source| StoreError::Failed {
                what: "starting its thread",
                source: source.into(),
            })?;
        Ok((Self { replica: replica.clone(), thread }, replica))
    }

    /// Stops the thread once everything asked before has been committed. Later edits are refused.
    pub async fn stop(self) {
        let (stopped, done) = oneshot::channel();
        if self.replica.inputs.send(Command::Stop(stopped)).await.is_ok() {
            done.await.ok();
        }
        tokio::task::spawn_blocking(move || self.thread.join().ok()).await.ok();
    }
}

/// What drives a replica, for callers that give it no thread of its own but a task: a simulation
/// drives many of them on one thread, under a clock that it holds.
///
/// A commit blocks the task for as long as the store takes. Dropping a driver between two turns is
/// what a crash is: whatever was not committed is gone.
pub struct Driver {
    core: Core,
    queue: mpsc::Receiver<Command>,
    links: BTreeMap<ServerId, (u64, Box<dyn Outbox>)>,
    /// When the replica's own time began.
    began: Instant,
    /// From the first turn on.
    ticks: Option<Interval>,
    /// When the core wants to be told the time, if that is sooner than the next tick.
    wake: Option<Duration>,
    /// When the links' round-trip times were last looked at.
    measured: Duration,
    /// Peers that something could not be sent to in the last turn.
    missed: BTreeSet<ServerId>,
    stopped: Option<oneshot::Sender<()>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// Opens a replica on a store. What it draws at random follows from the seed, which no other
    /// run of any server may have.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn open(
        me: ServerId,
        schema: Schema,
        store: Box<dyn Store>,
        seed: [u8; 32],
    ) -> Result<(Self, Replica), StoreError> {
        let layering = Layering::default();
        let core = Core::open(me, schema.clone(), store, seed, Millis::now(), layering)?;
        let (run, shown, began) = (core.run(), core.shown(), Instant::now());
        let (inputs, queue) = mpsc::channel(QUEUE);
        let driver = Self {
            core,
            queue,
            links: BTreeMap::new(),
            began,
            ticks: None,
            wake: None,
            measured: Duration::ZERO,
            missed: BTreeSet::new(),
            stopped: None,
        };
        Ok((driver, Replica { me, run, schema: schema.into(), began, shown, inputs }))
    }

    /// Takes turns until the replica is stopped or no handle to it is left.
    pub async fn run(mut self) {
        while self.turn().await {}
        let Self { mut core, stopped, .. } = self;
        // The next start then finds what this one has read.
        core.tidy();
        drop(core);
        if let Some(done) = stopped {
            done.send(()).ok();
        }
    }

    /// Waits for something to do, and does it with whatever else is waiting, in one commit. Returns
    /// whether there can be more. Cancelling it while it waits loses nothing.
    ///
    /// Must be called within a tokio runtime that has its timers enabled.
    pub async fn turn(&mut self) -> bool {
        let ticks = self.ticks.get_or_insert_with(ticks);
        let wake = self.began + self.wake.unwrap_or_default();
        // A full queue must not keep the time from passing, and nothing here is up to chance.
        let first = tokio::select! {
            biased;
            _ = ticks.tick() => Command::Input(Input::Tick(Millis::now())),
            () = sleep_until(wake), if self.wake.is_some() => {
                Command::Input(Input::Tick(Millis::now()))
            }
            command = self.queue.recv() => match command {
                Some(command) => command,
                None => return false,
            },
        };
        let now = self.began.elapsed();
        let mut inputs: Vec<_> =
            std::mem::take(&mut self.missed).into_iter().map(Input::Missed).collect();
        if now >= self.measured + MEASURE {
            self.measured = now;
            inputs.extend(self.links.iter().filter_map(|(peer, link)| measure(*peer, &*link.1)));
        }
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Stop(done) => {
                    self.queue.close();
                    self.stopped = Some(done);
                }
                command => inputs.extend(translate(&mut self.links, command)),
            }
            next = if inputs.len() < BATCH { self.queue.try_recv().ok() } else { None };
        }
        let effects = self.core.step(now, inputs);
        self.wake = effects.wake;
        self.missed = deliver(&mut self.links, effects);
        true
    }
}

/// The replica's thread: a runtime of its own, so that no other task keeps it waiting.
fn drive(driver: Driver) {
    match runtime::Builder::new_current_thread().enable_time().build() {
        Ok(own) => own.block_on(driver.run()),
        Err(error) => tracing::error!(%error, "the replica has no timer and is stopped"),
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
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

    /// Takes one message from the peer if the replica is not busy; for what comes again anyway.
    pub fn offer(&self, message: Message) {
        self.inputs.try_send(Command::Message(self.peer, self.number, message)).ok();
    }

    /// Ends the link.
    pub async fn close(self) {
        self.inputs.send(Command::Unlink(self.peer, self.number)).await.ok();
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
