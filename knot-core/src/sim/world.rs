//! A world of servers: their clocks, disks and links, and what happens to them.

mod events;
mod faults;
mod settle;
mod watcher;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use watcher::Watcher;

use super::{
    Action, Failure,
    action::What,
    disk::Disk,
    judge::{Holdings, Judge, Number},
    network::{Links, Network, Pair, Parcel, Traffic},
};
use crate::{
    clock::Millis,
    doc::Layering,
    id::{Author, ChangeHash, DocId, ServerId},
    replica::{Core, CoreInput as Input, EditFn, Replica},
    schema::{Scalar, Schema},
    store::memory::MemoryStore,
    sync::Message,
};

/// How often a replica is told that time has passed, as its service does.
const TICK: Duration = Duration::from_millis(100);
/// How often a server probes one other, as its membership does: their roots travel with it.
const PROBE: Duration = Duration::from_secs(1);
/// The wall clock when a world begins.
const BEGIN: i64 = 1_800_000_000_000;

/// What became of something that was asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered: the server has not come to it, or crashed.
    Waiting,
    /// Acknowledged: it is durable at that server.
    Done,
    /// Refused or failed, for this reason.
    Failed(String),
}

/// Something that was asked of a server; ask the world for its [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(Number);

/// A copy of a server's disk.
#[derive(Clone, Debug)]
pub struct Backup {
    image: MemoryStore,
    holdings: Holdings,
}

type Answers = Arc<Mutex<Vec<(Number, Result<Vec<ChangeHash>, String>)>>>;
/// What became of waiting until other servers hold an edit.
type Holders = Arc<Mutex<Vec<(Number, Result<(), String>)>>>;
/// What edits put, as the servers come to them: the document, the puts, and whether all that was
/// there already.
type Made = Arc<Mutex<Vec<(Number, DocId, BTreeMap<String, Scalar>, bool)>>>;

enum Event {
    Tick { at: usize, life: u64 },
    Wake { at: usize, life: u64 },
    Step { at: usize, life: u64 },
    Probe { at: usize, life: u64 },
    Answer { at: usize, to: usize },
    Connect(Pair),
    LearnUp { at: usize, peer: usize, epoch: u64 },
    LearnDown { at: usize, peer: usize, epoch: u64 },
    Arrive(Parcel),
}

struct Server {
    id: ServerId,
    schema: Schema,
    disk: Disk,
    core: Option<Core>,
    /// Watches the core for as long as it runs.
    watcher: Option<Watcher>,
    /// Raised at each start and crash; what was planned for an earlier life does not happen.
    life: u64,
    began: Duration,
    /// How far the wall clock is off, in milliseconds.
    skew: i64,
    inbox: VecDeque<Input>,
    stepping: bool,
    /// When the server is next told the time, out of turn.
    wake: Option<Duration>,
    /// Observations that were not answered.
    observing: BTreeMap<Number, (DocId, Option<bytes::Bytes>)>,
    deleting: BTreeMap<Number, DocId>,
    /// Edits that are to be on so many servers, each within so long.
    durable: BTreeMap<Number, (DocId, usize, Duration)>,
}

/// Servers with virtual clocks, disks and links. Everything in it follows from its seed.
pub struct World {
    rng: StdRng,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    planned: u64,
    servers: Vec<Server>,
    layering: Layering,
    links: Links,
    judge: Judge,
    answers: Answers,
    holders: Holders,
    made: Made,
    outcomes: BTreeMap<Number, Outcome>,
    asked: Number,
    offenders: Vec<(usize, usize, String)>,
    always: Always,
    /// Up to so many linked peers, servers send news to each.
    direct: Option<usize>,
}

/// What must hold of each server's replica after each of its steps.
type Always = fn(&Replica) -> Result<(), String>;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now).finish_non_exhaustive()
    }
}

impl World {
    /// So many servers, all of them running and linked to each other.
    ///
    /// # Errors
    /// A server could not be started.
    pub fn new(
        seed: u64,
        servers: usize,
        schema: Schema,
        network: Network,
    ) -> Result<Self, Failure> {
        Self::with_layering(seed, servers, schema, network, Layering::default())
    }

    /// The same with documents whose layers are so long: short ones are many.
    ///
    /// # Errors
    /// A server could not be started.
    pub fn with_layering(
        seed: u64,
        servers: usize,
        schema: Schema,
        network: Network,
        layering: Layering,
    ) -> Result<Self, Failure> {
        let mut world = Self {
            judge: Judge::new(schema.clone(), servers),
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            planned: 0,
            servers: Vec::new(),
            layering,
            links: Links::new(network),
            answers: Arc::default(),
            holders: Arc::default(),
            made: Arc::default(),
            outcomes: BTreeMap::new(),
            asked: 0,
            offenders: Vec::new(),
            always: |_| Ok(()),
            direct: None,
        };
        for at in 0..servers {
            let id = ServerId(uuid::Builder::from_random_bytes(world.random()).into_uuid());
            world.servers.push(Server {
                id,
                schema: schema.clone(),
                disk: Disk::default(),
                core: None,
                watcher: None,
                life: 0,
                began: Duration::ZERO,
                skew: 0,
                inbox: VecDeque::new(),
                stepping: false,
                wake: None,
                observing: BTreeMap::new(),
                deleting: BTreeMap::new(),
                durable: BTreeMap::new(),
            });
            world.start(at)?;
        }
        Ok(world)
    }

    /// From now on servers send what begins at them to each of up to so many linked peers, and beyond
    /// that along a tree.
    pub fn set_direct(&mut self, peers: usize) {
        self.direct = Some(peers);
        self.servers.iter_mut().filter_map(|one| one.core.as_mut()).for_each(|core| {
            core.set_direct(peers);
        });
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is no server.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The virtual time since the world began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The id of a server.
    pub fn id(&self, at: usize) -> Option<ServerId> {
        self.servers.get(at).map(|server| server.id)
    }

    /// A handle to read a running server's replica with. It is not for writing: that is
    /// [`World::ask`].
    pub fn replica(&self, at: usize) -> Option<Replica> {
        Some(self.servers.get(at)?.watcher.as_ref()?.replica().clone())
    }

    /// From now on this must hold of each server's replica after whatever the server does.
    pub fn always(&mut self, invariant: fn(&Replica) -> Result<(), String>) {
        self.always = invariant;
    }

    /// What servers have sent so far.
    pub fn traffic(&self) -> &Traffic {
        &self.links.traffic
    }

    /// Who was cut off by whom for sending what no sound server sends: (by, whom, why).
    pub fn offenders(&self) -> &[(usize, usize, String)] {
        &self.offenders
    }

    /// Whether two running servers hold exactly the same.
    pub fn are_equal(&self, a: usize, b: usize) -> bool {
        let root = |at: usize| Some(self.servers.get(at)?.core.as_ref()?.root());
        root(a).is_some() && root(a) == root(b)
    }

    /// Asks something of a server. Run the world to see what becomes of it; of a server that does
    /// not run, nothing does.
    pub fn ask(&mut self, at: usize, action: Action) -> Ticket {
        self.asked += 1;
        let number = self.asked;
        let ticket = Ticket(number);
        let now = self.wall(at);
        let Some(server) = self.servers.get_mut(at).filter(|server| server.core.is_some()) else {
            return ticket;
        };
        let answers = Arc::clone(&self.answers);
        let author = Author::Server(server.id);
        let reply = Box::new(move |outcome: Result<_, crate::replica::EditError>| {
            let outcome = outcome.map_err(|error| error.to_string());
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
        });
        let input = match action.0 {
            What::Edit { doc, must_exist, edit } => {
                let time = Millis(self.judge.asked(number, doc, now));
                let edit = told(number, doc, edit, &self.made);
                Input::Edit { doc, must_exist, author, time, edit, reply }
            }
            What::Delete(doc) => {
                server.deleting.insert(number, doc);
                Input::Delete { doc, author, time: Millis(now), reply }
            }
            What::Observe(subject, value) => {
                server.observing.insert(number, (subject, value.clone()));
                self.judge.perhaps_observed(subject, server.id, value.clone());
                Input::Observe { subject, value, reply }
            }
        };
        self.outcomes.insert(number, Outcome::Waiting);
        self.give(at, input);
        ticket
    }

    /// Asks something of a server, and to be told once `servers` servers hold it, as
    /// [`durable_on`](Replica::durable_on) does. An observation is not waited for.
    pub fn ask_durable(
        &mut self,
        at: usize,
        action: Action,
        servers: usize,
        bound: Duration,
    ) -> Ticket {
        let doc = match &action.0 {
            What::Edit { doc, .. } | What::Delete(doc) => Some(*doc),
            What::Observe(..) => None,
        };
        let ticket = self.ask(at, action);
        if let Some(server) = self.servers.get_mut(at).filter(|server| server.core.is_some()) {
            server.durable.extend(doc.map(|doc| (ticket.0, (doc, servers, bound))));
        }
        ticket
    }

    /// What became of something that was asked.
    pub fn outcome(&self, ticket: Ticket) -> Outcome {
        self.outcomes.get(&ticket.0).cloned().unwrap_or(Outcome::Waiting)
    }

    /// Brings a message to a server as if a peer had sent it.
    pub fn inject(&mut self, from: usize, to: usize, message: Message) {
        if let Some(from) = self.id(from) {
            self.give(to, Input::Message(from, message));
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// Something happened that must never happen.
    pub fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let until = self.now + time;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(event).map_err(|failure| failure.at(self.now))?;
        }
        self.now = until;
        Ok(())
    }

    /// Lets time pass in which nothing happens: every machine sleeps.
    pub fn leap(&mut self, time: Duration) {
        self.now += time;
    }

    /// Sets a server's wall clock off, in milliseconds.
    pub fn set_clock(&mut self, at: usize, skew: i64) {
        if let Some(server) = self.servers.get_mut(at) {
            server.skew = skew;
        }
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.planned += 1;
        self.events.insert((self.now + after, self.planned), event);
    }

    fn up_to(&mut self, time: Duration) -> Duration {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.random_range(0..=micros))
    }

    fn wall(&self, at: usize) -> i64 {
        let skew = self.servers.get(at).map_or(0, |server| server.skew);
        let since = i64::try_from(self.now.as_millis()).unwrap_or(i64::MAX);
        BEGIN.saturating_add(since).saturating_add(skew)
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    mem::take(&mut list.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The edit, which tells what it puts.
fn told(number: Number, doc: DocId, edit: EditFn, made: &Made) -> EditFn {
    let made = Arc::clone(made);
    Box::new(move |entry| {
        let puts = edit(entry)?;
        let idle = puts.iter().all(|(key, value)| match entry {
            Some(entry) => {
                let there = entry.view.fields.get(key).unwrap_or(&Scalar::Null);
                there == value && !entry.view.conflicts.contains_key(key)
            }
            None => *value == Scalar::Null,
        });
        let one = (number, doc, puts.clone(), idle);
        made.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        Ok(puts)
    })
}
