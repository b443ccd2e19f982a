//! A world of servers: their clocks, disks and links, and what happens to them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Action, Failure, Fault,
    action::What,
    disk::Disk,
    invariants,
    judge::{Holdings, Judge, Number},
    network::{Links, Network, Pair, Parcel, Traffic, pair},
};
use crate::{
    clock::Millis,
    id::{Author, DocId, ServerId},
    replica::{Core, CoreInput as Input, EditFn, Effects, Replica},
    schema::{Scalar, Schema},
    store::memory::MemoryStore,
    sync::Message,
};

/// How often a replica is told that time has passed, as its service does.
const TICK: Duration = Duration::from_millis(100);
/// The most inputs that share a commit, as in the service.
const BATCH: usize = 32;
/// How long a healed world may take until all replicas are equal.
const SETTLE: Duration = Duration::from_secs(120);
/// How long equal replicas must stay so.
const STAY: Duration = Duration::from_millis(2_500);
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

type Answers = Arc<Mutex<Vec<(Number, Result<(), String>)>>>;
/// What edits put, as the servers come to them: the document, the puts, and whether all that was
/// there already.
type Made = Arc<Mutex<Vec<(Number, DocId, BTreeMap<String, Scalar>, bool)>>>;

enum Event {
    Tick { at: usize, life: u64 },
    Step { at: usize, life: u64 },
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
    /// Raised at each start and crash; what was planned for an earlier life does not happen.
    life: u64,
    began: Duration,
    /// How far the wall clock is off, in milliseconds.
    skew: i64,
    inbox: VecDeque<Input>,
    stepping: bool,
    /// Observations that were not answered.
    observing: BTreeMap<Number, (DocId, Option<bytes::Bytes>)>,
    deleting: BTreeMap<Number, DocId>,
}

/// Servers with virtual clocks, disks and links. Everything in it follows from its seed.
pub struct World {
    rng: StdRng,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    planned: u64,
    servers: Vec<Server>,
    links: Links,
    judge: Judge,
    answers: Answers,
    made: Made,
    outcomes: BTreeMap<Number, Outcome>,
    asked: Number,
    offenders: Vec<(usize, usize, String)>,
}

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
        let mut world = Self {
            judge: Judge::new(schema.clone(), servers),
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            planned: 0,
            servers: Vec::new(),
            links: Links::new(network),
            answers: Arc::default(),
            made: Arc::default(),
            outcomes: BTreeMap::new(),
            asked: 0,
            offenders: Vec::new(),
        };
        for at in 0..servers {
            let id = ServerId(uuid::Builder::from_random_bytes(world.random()).into_uuid());
            world.servers.push(Server {
                id,
                schema: schema.clone(),
                disk: Disk::default(),
                core: None,
                life: 0,
                began: Duration::ZERO,
                skew: 0,
                inbox: VecDeque::new(),
                stepping: false,
                observing: BTreeMap::new(),
                deleting: BTreeMap::new(),
            });
            world.start(at)?;
        }
        Ok(world)
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
        let server = self.servers.get(at)?;
        Some(Replica::reader(server.id, server.core.as_ref()?.shown()))
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
            let outcome = outcome.map(drop).map_err(|error| error.to_string());
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

    /// Separates the groups; a server in none of them stands alone.
    pub fn cut(&mut self, groups: &[&[usize]]) {
        self.links.cut(self.servers.len(), groups);
        for pair in self.pairs() {
            if self.links.is_cut(pair) {
                self.drop_link(pair);
            } else {
                self.plan_connect(pair);
            }
        }
    }

    /// Ends every separation.
    pub fn heal(&mut self) {
        self.links.heal();
        self.pairs().into_iter().for_each(|pair| self.plan_connect(pair));
    }

    /// Breaks the connection of two servers; it is made again.
    pub fn break_link(&mut self, a: usize, b: usize) {
        self.drop_link(pair(a, b));
        self.plan_connect(pair(a, b));
    }

    /// Kills a server: what was not committed is gone.
    pub fn crash(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        server.life += 1;
        server.core = None;
        server.inbox.clear();
        server.stepping = false;
        server.observing.clear();
        server.deleting.clear();
        server.disk.mend();
        self.links.forget(at);
        for peer in (0..self.servers.len()).filter(|peer| *peer != at) {
            self.drop_link(pair(at, peer));
        }
    }

    /// Starts a server that does not run.
    ///
    /// # Errors
    /// Its store cannot be opened.
    pub fn start(&mut self, at: usize) -> Result<(), Failure> {
        let seed = self.random();
        let now = self.now;
        let Some(server) = self.servers.get_mut(at).filter(|server| server.core.is_none()) else {
            return Ok(());
        };
        let core =
            Core::open(server.id, server.schema.clone(), Box::new(server.disk.clone()), seed)
                .map_err(|error| Failure::new(format!("server {at} does not start: {error}")))?;
        server.core = Some(core);
        server.life += 1;
        server.began = now;
        let life = server.life;
        let first = self.up_to(TICK);
        self.plan(first, Event::Tick { at, life });
        for peer in (0..self.servers.len()).filter(|peer| *peer != at) {
            self.plan_connect(pair(at, peer));
        }
        Ok(())
    }

    /// Starts a server with another declaration of its types, as an upgrade does.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn upgrade(&mut self, at: usize, schema: Schema) -> Result<(), Failure> {
        self.crash(at);
        if let Some(server) = self.servers.get_mut(at) {
            server.schema = schema;
        }
        self.start(at)
    }

    /// Makes the next commit of a server fail.
    pub fn fail_next_commit(&mut self, at: usize, fault: Fault) {
        if let Some(server) = self.servers.get(at) {
            server.disk.fail_next(fault);
        }
    }

    /// Makes every commit of a server fail, as a full disk does, until the world settles or the
    /// server crashes.
    pub fn fill_disk(&mut self, at: usize) {
        if let Some(server) = self.servers.get(at) {
            server.disk.fill();
        }
    }

    /// Copies a server's disk.
    pub fn backup(&self, at: usize) -> Option<Backup> {
        let image = self.servers.get(at)?.disk.image();
        Some(Backup { image, holdings: self.judge.holdings(at)?.clone() })
    }

    /// Puts a copy on a server's disk, whose own content is lost, and starts the server.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn restore(&mut self, at: usize, backup: Backup) -> Result<(), Failure> {
        self.crash(at);
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        server.disk.replace(backup.image);
        self.judge.replaced(at, server.id, backup.holdings);
        self.start(at)
    }

    /// Kills a server, overwrites one of its stored changes, and starts it.
    ///
    /// # Errors
    /// As [`World::start`], or there is no such document.
    pub fn damage(&mut self, at: usize, doc: impl Into<DocId>, number: u32) -> Result<(), Failure> {
        self.crash(at);
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        server.disk.damage(doc.into(), number).map_err(|error| Failure::new(error.to_string()))?;
        self.start(at)
    }

    /// Ends all faults and separations, starts every server, and lets time pass until all replicas
    /// are equal and stay so; then judges what they have come to. Returns how long it took.
    ///
    /// # Errors
    /// They do not become equal, or not rightly so.
    pub fn settle(&mut self) -> Result<Duration, Failure> {
        let began = self.now;
        self.links.set_lossless(true);
        self.heal();
        for at in 0..self.servers.len() {
            if let Some(server) = self.servers.get(at) {
                server.disk.mend();
            }
            self.start(at)?;
        }
        let mut equal_since = None;
        while equal_since.is_none_or(|since| self.now < since + STAY) {
            self.run(Duration::from_millis(100))?;
            if self.is_still() {
                equal_since.get_or_insert(self.now);
            } else if equal_since.take().is_none() && self.now > began + SETTLE {
                let roots: Vec<_> = self.cores().map(|(at, core)| (at, core.root())).collect();
                let what = format!("the replicas did not become equal: {roots:?}");
                return Err(Failure::new(what).at(self.now));
            }
        }
        self.links.set_lossless(false);
        self.verdict().map_err(|failure| failure.at(self.now))?;
        Ok(equal_since.unwrap_or(self.now).saturating_sub(began))
    }

    /// Whether all servers run, hold the same, and nothing but roots is on its way.
    fn is_still(&self) -> bool {
        let idle = self.servers.iter().all(|server| {
            server.core.is_some()
                && !server
                    .inbox
                    .iter()
                    .any(|input| !matches!(input, Input::Tick | Input::Message(..)))
        });
        let linked = self.pairs().iter().all(|pair| self.links.is_alive(*pair));
        let mut roots = self.cores().map(|(_, core)| core.root());
        let first = roots.next();
        idle && linked && roots.all(|root| Some(root) == first)
    }

    fn verdict(&self) -> Result<(), Failure> {
        let mut looks = self.cores().map(|(at, core)| (at, core.look()));
        let Some((_, first)) = looks.next() else { return Ok(()) };
        for (at, look) in looks {
            if look != first {
                let what = format!("servers 0 and {at} differ: {first:#?} and {look:#?}");
                return Err(Failure::new(what));
            }
        }
        for server in &self.servers {
            let Some(core) = &server.core else { continue };
            invariants::whole(core, &server.schema, server.id, &mut server.disk.clone())?;
        }
        self.judge.verdict(&first.documents, &first.graves, &first.records)
    }

    fn cores(&self) -> impl Iterator<Item = (usize, &Core)> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(at, server)| Some((at, server.core.as_ref()?)))
    }

    fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Tick { at, life } if self.lives(at, life) => {
                self.give(at, Input::Tick);
                self.plan(TICK, Event::Tick { at, life });
            }
            Event::Step { at, life } if self.lives(at, life) => self.step(at)?,
            Event::Connect(pair) => self.connect(pair),
            Event::LearnUp { at, peer, epoch } => self.learn_up(at, peer, epoch),
            Event::LearnDown { at, peer, epoch } => {
                if self.links.learn_down(at, peer, epoch) {
                    self.give_about(at, peer, Input::PeerDown);
                }
            }
            Event::Arrive(parcel) => {
                if let Some(message) = self.links.arrive(&parcel)? {
                    self.inject(parcel.from, parcel.to, message);
                }
            }
            Event::Tick { .. } | Event::Step { .. } => {}
        }
        Ok(())
    }

    fn lives(&self, at: usize, life: u64) -> bool {
        self.servers.get(at).is_some_and(|server| server.life == life && server.core.is_some())
    }

    /// Puts an input into a server's inbox, which it takes a little later, as a batch.
    fn give(&mut self, at: usize, input: Input) {
        let busy = Duration::from_micros(match self.rng.random_range(0..10_u8) {
            0 => self.rng.random_range(0..40_000),
            _ => self.rng.random_range(0..2_000),
        });
        let Some(server) = self.servers.get_mut(at).filter(|server| server.core.is_some()) else {
            return;
        };
        server.inbox.push_back(input);
        if !mem::replace(&mut server.stepping, true) {
            let life = server.life;
            self.plan(busy, Event::Step { at, life });
        }
    }

    fn give_about(&mut self, at: usize, peer: usize, input: impl FnOnce(ServerId) -> Input) {
        if let Some(peer) = self.id(peer) {
            self.give(at, input(peer));
        }
    }

    fn step(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now;
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let Some(core) = &mut server.core else { return Ok(()) };
        server.stepping = false;
        let count = server.inbox.len().min(BATCH);
        let inputs: Vec<_> = server.inbox.drain(..count).collect();
        let effects = core.step(now.saturating_sub(server.began), inputs);
        let durable = server.disk.durable();
        let id = server.id;
        for (number, doc, puts, idle) in take(&self.made) {
            self.judge.made(number, doc, puts, idle);
        }
        let mut touched = BTreeSet::new();
        for transaction in &durable {
            self.judge.durable(at, transaction)?;
            touched.extend(transaction.documents.iter().map(|document| document.doc));
            touched.extend(transaction.graves.iter().map(|grave| grave.doc));
        }
        for (number, outcome) in take(&self.answers) {
            self.answered(at, id, number, outcome)?;
        }
        if let Some(server) = self.servers.get(at)
            && let Some(core) = &server.core
        {
            invariants::touched(core, &server.schema, &touched, &mut server.disk.clone())?;
        }
        self.deliver(at, effects)?;
        if let Some(server) = self.servers.get_mut(at)
            && !server.inbox.is_empty()
            && !mem::replace(&mut server.stepping, true)
        {
            let life = server.life;
            self.plan(Duration::from_micros(100), Event::Step { at, life });
        }
        Ok(())
    }

    fn answered(
        &mut self,
        at: usize,
        id: ServerId,
        number: Number,
        outcome: Result<(), String>,
    ) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let (observing, deleting) =
            (server.observing.remove(&number), server.deleting.remove(&number));
        let outcome = match outcome {
            Ok(()) => {
                self.judge.acknowledged(number)?;
                if let Some(doc) = deleting {
                    self.judge.deleted(doc);
                }
                if let Some((subject, value)) = observing {
                    self.judge.observed(subject, id, value);
                    // Those that still wait may come after it.
                    let waiting: Vec<_> = server.observing.values().cloned().collect();
                    for (subject, value) in waiting {
                        self.judge.perhaps_observed(subject, id, value);
                    }
                }
                Outcome::Done
            }
            Err(reason) => Outcome::Failed(reason),
        };
        self.outcomes.insert(number, outcome);
        Ok(())
    }

    fn deliver(&mut self, at: usize, effects: Effects) -> Result<(), Failure> {
        for (peers, message) in effects.sends {
            self.judge.sent(at, &message)?;
            for peer in peers {
                let Some(to) = self.place(peer) else { continue };
                let copies = self.links.send(self.now, (at, to), &message, &mut self.rng)?;
                for (arrives, parcel) in copies {
                    self.plan(arrives.saturating_sub(self.now), Event::Arrive(parcel));
                }
            }
        }
        for (peer, reason) in effects.offenders {
            let Some(whom) = self.place(peer) else { continue };
            self.offenders.push((at, whom, reason));
            self.break_link(at, whom);
        }
        Ok(())
    }

    fn place(&self, id: ServerId) -> Option<usize> {
        self.servers.iter().position(|server| server.id == id)
    }

    fn pairs(&self) -> Vec<Pair> {
        let count = self.servers.len();
        (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect()
    }

    fn plan_connect(&mut self, pair: Pair) {
        let after = self.up_to(Duration::from_millis(300));
        self.plan(after, Event::Connect(pair));
    }

    fn connect(&mut self, pair: Pair) {
        let runs = |at: usize| self.servers.get(at).is_some_and(|server| server.core.is_some());
        let (a, b) = pair;
        if self.links.is_cut(pair) || self.links.is_alive(pair) || !runs(a) || !runs(b) {
            return;
        }
        let (epoch, [learns_a, learns_b]) = self.links.connect(pair, self.now, &mut self.rng);
        let (now, up) = (self.now, |at, peer| Event::LearnUp { at, peer, epoch });
        self.plan(learns_a.saturating_sub(now), up(a, b));
        self.plan(learns_b.saturating_sub(now), up(b, a));
    }

    fn learn_up(&mut self, at: usize, peer: usize, epoch: u64) {
        if !self.servers.get(at).is_some_and(|server| server.core.is_some()) {
            return;
        }
        let (counts, replaces) = self.links.learn_up(at, peer, epoch);
        if replaces {
            self.give_about(at, peer, Input::PeerDown);
        }
        if counts {
            self.give_about(at, peer, Input::PeerUp);
        }
    }

    fn drop_link(&mut self, pair: Pair) {
        let Some(epoch) = self.links.disconnect(pair) else { return };
        let (a, b) = pair;
        for (at, peer) in [(a, b), (b, a)] {
            let after = self.up_to(Duration::from_millis(600));
            self.plan(after, Event::LearnDown { at, peer, epoch });
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
