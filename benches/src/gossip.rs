//! Hundreds of servers in one process, on virtual time: how news spreads, and how the halves of a cut become equal.
//!
//! What runs is knot's own [`Engine`] and [`Plumtree`] with their messages encoded as they are on the wire. Not run is
//! the rest of a server: documents, disks and QUIC. An item is a record (no automerge), a commit is a delay of
//! [`COMMIT`], and a link carries each message by itself after the delay between the two zones, some more by chance, and
//! never in less than the message before it; a lost message is not sent again. Links do not have a bandwidth.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    time::{Duration, Instant},
};

use knot_core::{
    id::{DocId, Kind, ServerId},
    store::Record,
    sync::{
        Answer, Engine, Input, ItemKey, Message, Output, Want,
        plumtree::{NewsId, Output as TreeOutput, Plumtree},
        record_digest, short_digest,
    },
    wire,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use crate::Outcome;

/// From a message's arrival until what was in it is durable and passed on.
const COMMIT: Duration = Duration::from_micros(1_200);
const TICK: Duration = Duration::from_millis(100);
/// A server probes another once in so many ticks.
const PROBE_TICKS: u32 = 10;
/// One-way delays between five regions, in milliseconds.
const DELAYS: [[u64; 5]; 5] = [
    [1, 40, 75, 110, 150],
    [40, 1, 50, 90, 120],
    [75, 50, 1, 60, 100],
    [110, 90, 60, 1, 70],
    [150, 120, 100, 70, 1],
];
/// About as long as a document's change, with its name and author.
const PAYLOAD: usize = 300;
const KIND: Kind = Kind::new("thing");

struct Server {
    id: ServerId,
    engine: Engine,
    tree: Plumtree,
    records: HashMap<ItemKey, Record>,
    wake: Option<Duration>,
    peers: Vec<usize>,
    sent: (u64, u64),
}

/// What became of one change.
struct Change {
    began: Duration,
    held: usize,
    last: Duration,
    times: Vec<Duration>,
    receptions: u64,
    hops: u64,
}

enum Event {
    Tick(usize),
    Wake(usize),
    Arrive { from: usize, to: usize, message: Message },
    Commit { from: usize, to: usize, news: Answer },
}

struct Queued(Duration, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct World {
    rng: StdRng,
    now: Duration,
    queue: BinaryHeap<Reverse<Queued>>,
    planned: u64,
    servers: Vec<Server>,
    places: BTreeMap<ServerId, usize>,
    /// When the last message over each link arrives.
    last: HashMap<(usize, usize), Duration>,
    /// The share of messages that are lost, in percent; roots too.
    loss: u8,
    cut: bool,
    changes: HashMap<NewsId, Change>,
    by_message: BTreeMap<&'static str, (u64, u64)>,
}

/// Prints what spreading and a cut cost with so many servers, each linked to so many others.
pub(crate) fn measure(servers: usize, links: usize) -> Outcome<()> {
    println!(
        "\n{servers} servers in 5 zones, {links} links each, 1 to 150 ms one way, {COMMIT:?} a commit"
    );
    for loss in [0, 2] {
        let began = Instant::now();
        let mut world = World::new(servers, links, loss)?;
        world.run(Duration::from_secs(3))?;
        // The tree finds its form.
        world.edits(400, Duration::from_millis(10), Duration::from_secs(2))?;
        world.changes.clear();
        world.forget_traffic();
        let from = world.now;
        world.edits(200, Duration::from_millis(20), Duration::from_secs(6))?;
        let seconds = (world.now - from).as_secs_f64();
        world.report(loss, seconds, began.elapsed());
    }
    let began = Instant::now();
    let mut world = World::new(servers, links, 0)?;
    world.run(Duration::from_secs(3))?;
    world.halves(10_000)?;
    println!("  ({:.1} s of this machine's time)", began.elapsed().as_secs_f64());
    Ok(())
}

impl World {
    fn new(count: usize, links: usize, loss: u8) -> Outcome<Self> {
        let mut rng = StdRng::seed_from_u64(42);
        let mut servers = Vec::new();
        let mut places = BTreeMap::new();
        for at in 0..count {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            let id = ServerId(uuid::Builder::from_random_bytes(bytes).into_uuid());
            places.insert(id, at);
            servers.push(Server {
                id,
                engine: Engine::new(id),
                tree: Plumtree::new(rng.random()),
                records: HashMap::new(),
                wake: None,
                peers: Vec::new(),
                sent: (0, 0),
            });
        }
        let mut world = Self {
            rng,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            planned: 0,
            servers,
            places,
            last: HashMap::new(),
            loss: 0,
            cut: false,
            changes: HashMap::new(),
            by_message: BTreeMap::new(),
        };
        for a in 0..count {
            for b in a + 1..count {
                // Where not all are linked: as many of the own zone as of all others.
                let share = if a % 5 == b % 5 { 2 * count / 5 } else { 2 * count * 4 / 5 };
                if links >= count - 1 || world.rng.random_range(0..share) < links {
                    world.link(a, b)?;
                }
            }
        }
        for at in 0..count {
            let first = Duration::from_micros(world.rng.random_range(0..100_000));
            world.plan(first, Event::Tick(at));
        }
        world.loss = loss;
        Ok(world)
    }

    fn link(&mut self, a: usize, b: usize) -> Outcome<()> {
        for (at, peer) in [(a, b), (b, a)] {
            let (now, time) = (self.now, 2 * self.delay(at, peer));
            let id = self.server(peer)?.id;
            let server = self.server(at)?;
            server.peers.push(peer);
            server.tree.peer_up(now, id);
            server.tree.round_trip(now, id, time);
            let outputs = server.engine.handle(now, Input::PeerUp(id));
            self.engine_outputs(at, outputs)?;
        }
        Ok(())
    }

    /// The delay without what chance adds; within a zone, the servers lie 1 to 5 ms from each other.
    fn delay(&self, a: usize, b: usize) -> Duration {
        let zones = DELAYS.get(a % 5).and_then(|row| row.get(b % 5)).copied().unwrap_or(1);
        let within = u64::try_from((a / 5 + b / 5) % 5).unwrap_or_default();
        Duration::from_millis(zones + if a % 5 == b % 5 { within } else { 0 })
    }

    fn server(&mut self, at: usize) -> Outcome<&mut Server> {
        self.servers.get_mut(at).ok_or_else(|| "no such server".into())
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse(Queued(self.now + after, self.planned, event)));
    }

    fn run(&mut self, time: Duration) -> Outcome<()> {
        let until = self.now + time;
        while self.queue.peek().is_some_and(|Reverse(next)| next.0 <= until) {
            let Some(Reverse(Queued(at, _, event))) = self.queue.pop() else { break };
            self.now = at;
            self.happen(event)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Tick(at) => {
                self.tick(at)?;
                self.plan(TICK, Event::Tick(at));
            }
            Event::Wake(at) => {
                let now = self.now;
                let server = self.server(at)?;
                server.wake = None;
                let outputs = server.tree.tick(now);
                self.tree_outputs(at, outputs)?;
                self.wake(at)?;
            }
            Event::Arrive { from, to, message } => self.arrive(from, to, message)?,
            Event::Commit { from, to, news } => self.committed(from, to, news)?,
        }
        Ok(())
    }

    fn tick(&mut self, at: usize) -> Outcome<()> {
        let now = self.now;
        let server = self.server(at)?;
        let outputs = server.tree.tick(now);
        self.tree_outputs(at, outputs)?;
        let outputs = self.server(at)?.engine.handle(now, Input::Tick);
        self.engine_outputs(at, outputs)?;
        if self.rng.random_range(0..PROBE_TICKS) == 0 {
            self.probe(at)?;
        }
        self.wake(at)
    }

    /// What a probe of membership and its answer bring with them: the roots of both.
    fn probe(&mut self, at: usize) -> Outcome<()> {
        let count = self.server(at)?.peers.len();
        let chosen = self.rng.random_range(0..count.max(1));
        let Some(peer) = self.server(at)?.peers.get(chosen).copied() else { return Ok(()) };
        for (from, to) in [(at, peer), (peer, at)] {
            let root = self.server(from)?.engine.root();
            self.send(from, to, Message::Root { count: root.count, sum: root.sum() })?;
        }
        Ok(())
    }

    fn wake(&mut self, at: usize) -> Outcome<()> {
        let now = self.now;
        let server = self.server(at)?;
        let Some(wake) = server.tree.wake().map(|wake| wake.max(now)) else { return Ok(()) };
        if server.wake.is_none_or(|planned| wake < planned) {
            server.wake = Some(wake);
            self.plan(wake - now, Event::Wake(at));
        }
        Ok(())
    }

    fn arrive(&mut self, from: usize, to: usize, message: Message) -> Outcome<()> {
        let now = self.now;
        let peer = self.server(from)?.id;
        let server = self.server(to)?;
        match message {
            Message::News(news) => self.plan(COMMIT, Event::Commit { from, to, news }),
            Message::Pull { number, wants } => {
                for message in self.find(to, number, &wants, None)? {
                    self.send(to, from, message)?;
                }
            }
            Message::IHave(names) => server.tree.i_have(now, peer, &names),
            Message::Graft(wants) => {
                server.tree.graft(peer);
                for message in self.find(to, 0, &wants, Some(1))? {
                    if matches!(message, Message::News(_)) {
                        self.send(to, from, message)?;
                    }
                }
            }
            Message::Prune => server.tree.prune(now, peer),
            // Where a pull has been answered, the answer is committed before this is looked at.
            message => {
                let outputs = server.engine.handle(now, Input::Message(peer, message));
                self.engine_outputs(to, outputs)?;
            }
        }
        self.wake(to)
    }

    /// What is held of some items, in frames of 512.
    fn find(
        &mut self,
        at: usize,
        number: u32,
        wants: &[Want],
        hops: Option<u8>,
    ) -> Outcome<Vec<Message>> {
        let server = self.server(at)?;
        let records: Vec<_> =
            wants.iter().filter_map(|want| server.records.get(&want.key).cloned()).collect();
        let frames = records.chunks(512).map(|records| {
            Message::News(Answer { records: records.to_vec(), hops, ..Answer::default() })
        });
        let mut messages: Vec<_> = frames.collect();
        messages.push(Message::Pulled { number, rest: Vec::new() });
        Ok(messages)
    }

    /// What a replica does with news: see `replica/core/gossip.rs`.
    fn committed(&mut self, from: usize, to: usize, news: Answer) -> Outcome<()> {
        let now = self.now;
        let peer = self.server(from)?.id;
        let (mut fresh, mut names, mut again) = (Vec::new(), Vec::new(), 0);
        for record in news.records {
            let name = name(&record);
            let server = self.server(to)?;
            let known = server.records.get(&name.0).is_some_and(|known| known.n >= record.n);
            if let Some(change) = self.changes.get_mut(&name) {
                change.receptions += 1;
                if !known {
                    change.held += 1;
                    change.last = now;
                    change.times.push(now - change.began);
                    change.hops += u64::from(news.hops.unwrap_or_default()) + 1;
                }
            }
            let server = self.server(to)?;
            if known {
                again += 1;
            } else {
                hold(server, now, &record);
                names.push(name);
                fresh.push(record);
            }
        }
        let server = self.server(to)?;
        server.engine.handle(now, Input::News(peer));
        let Some(hops) = news.hops else {
            names.into_iter().for_each(|name| server.tree.holds(name));
            return self.wake(to);
        };
        server.engine.handle(now, Input::Spreading);
        if again > 0 {
            let outputs = server.tree.came_again(now, peer, again);
            self.tree_outputs(to, outputs)?;
        }
        if !fresh.is_empty() {
            let targets = self.server(to)?.tree.came(now, peer, &names);
            self.push(to, &targets, hops + 1, fresh)?;
        }
        self.wake(to)
    }

    fn edit(&mut self, at: usize, n: u128) -> Outcome<()> {
        let now = self.now;
        let server = self.server(at)?;
        let subject = DocId { kind: KIND, uuid: Uuid::from_u128(n) };
        let value = Some(vec![7; PAYLOAD].into());
        let record = Record { subject, server: server.id, run: 1, n: 1, value };
        let name = name(&record);
        hold(server, now, &record);
        let direct = server.tree.is_direct();
        let targets = if direct {
            server.engine.peers().collect()
        } else {
            server.engine.handle(now, Input::Spreading);
            server.tree.began(now, &[name])
        };
        let change =
            Change { began: now, held: 1, last: now, times: Vec::new(), receptions: 0, hops: 0 };
        self.changes.insert(name, change);
        self.push(at, &targets, 0, vec![record])?;
        self.wake(at)
    }

    fn push(
        &mut self,
        at: usize,
        targets: &[ServerId],
        hops: u8,
        records: Vec<Record>,
    ) -> Outcome<()> {
        let message = Message::News(Answer { records, hops: Some(hops), ..Answer::default() });
        for target in targets {
            let to = self.places.get(target).copied().unwrap_or_default();
            self.send(at, to, message.clone())?;
        }
        Ok(())
    }

    fn engine_outputs(&mut self, at: usize, outputs: Vec<Output>) -> Outcome<()> {
        for output in outputs {
            let (to, message) = match output {
                Output::Send(to, message) => (to, message),
                Output::Pull(to, number, keys) => {
                    (to, Message::Pull { number, wants: wants(keys) })
                }
            };
            let to = self.places.get(&to).copied().unwrap_or_default();
            self.send(at, to, message)?;
        }
        Ok(())
    }

    fn tree_outputs(&mut self, at: usize, outputs: Vec<TreeOutput>) -> Outcome<()> {
        let now = self.now;
        for output in outputs {
            let (to, message) = match output {
                TreeOutput::Send(to, message) => (to, message),
                TreeOutput::Graft(to, keys) => (to, Message::Graft(wants(keys))),
                TreeOutput::Probe(to) => {
                    self.server(at)?.engine.handle(now, Input::Missed(to));
                    continue;
                }
            };
            let to = self.places.get(&to).copied().unwrap_or_default();
            self.send(at, to, message)?;
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize, message: Message) -> Outcome<()> {
        let bytes = u64::try_from(wire::encode_frame(&message, wire::MAX_PEER_FRAME)?.len())?;
        let (count, sum) = self.by_message.entry(message.name()).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
        let server = self.server(from)?;
        server.sent = (server.sent.0 + 1, server.sent.1 + bytes);
        let count = self.servers.len();
        if self.cut && (from < count / 2) != (to < count / 2)
            || self.rng.random_range(0..100) < self.loss
        {
            return Ok(());
        }
        let delay = self.delay(from, to);
        let more = u64::try_from(delay.as_micros())? / 20;
        let delay = delay + Duration::from_micros(self.rng.random_range(0..=more));
        let arrives =
            (self.now + delay).max(self.last.get(&(from, to)).copied().unwrap_or_default());
        // What a pull brings is committed before its end is looked at.
        let arrives = match message {
            Message::Pulled { .. } => arrives + COMMIT + Duration::from_micros(1),
            _ => arrives,
        };
        self.last.insert((from, to), arrives);
        self.plan(arrives - self.now, Event::Arrive { from, to, message });
        Ok(())
    }

    /// Edits at servers drawn by chance, and a while for the last to arrive.
    fn edits(&mut self, count: u128, every: Duration, rest: Duration) -> Outcome<()> {
        for _ in 0..count {
            let (at, n) = (self.rng.random_range(0..self.servers.len()), self.rng.random());
            self.edit(at, n)?;
            self.run(every)?;
        }
        self.run(rest)
    }

    /// Each half gets half of so many new items while it cannot hear the other.
    fn halves(&mut self, items: usize) -> Outcome<()> {
        let count = self.servers.len();
        for n in 0..10_000_u128 {
            let subject = DocId { kind: KIND, uuid: Uuid::from_u128(n) };
            let record = Record {
                subject,
                server: self.server(0)?.id,
                run: 1,
                n: 1,
                value: Some(vec![1; PAYLOAD].into()),
            };
            let now = self.now;
            self.servers.iter_mut().for_each(|server| hold(server, now, &record));
        }
        for n in 0..items {
            let subject =
                DocId { kind: KIND, uuid: Uuid::from_u128(u128::try_from(n)? + 1_000_000) };
            let record = Record {
                subject,
                server: self.server(0)?.id,
                run: 1,
                n: 1,
                value: Some(vec![2; PAYLOAD].into()),
            };
            let (now, first) = (self.now, n % 2 == 0);
            for (at, server) in self.servers.iter_mut().enumerate() {
                if (at < count / 2) == first {
                    hold(server, now, &record);
                }
            }
        }
        self.cut = true;
        self.run(Duration::from_secs(5))?;
        self.cut = false;
        self.forget_traffic();
        let began = self.now;
        let whole =
            self.servers.iter().map(|server| server.records.len()).max().unwrap_or_default();
        let whole = whole + items / 2;
        let mut equal = vec![None; count];
        while equal.iter().any(Option::is_none) && self.now < began + Duration::from_secs(120) {
            self.run(Duration::from_millis(50))?;
            for (slot, server) in equal.iter_mut().zip(&self.servers) {
                if server.records.len() == whole {
                    slot.get_or_insert(self.now - began);
                }
            }
        }
        let missing = equal.iter().filter(|one| one.is_none()).count();
        let mut times: Vec<_> = equal.into_iter().flatten().collect();
        times.sort_unstable();
        println!(
            "  halves with {items} of {whole} items differing: equal p50 {:?}, p99 {:?}, max {:?}; never {missing}",
            at(&times, 50),
            at(&times, 99),
            at(&times, 100)
        );
        self.print_traffic((self.now - began).as_secs_f64());
        Ok(())
    }

    fn forget_traffic(&mut self) {
        self.by_message.clear();
        self.servers.iter_mut().for_each(|server| server.sent = (0, 0));
    }

    fn report(&self, loss: u8, seconds: f64, took: Duration) {
        let count = self.servers.len();
        let (mut whole, mut each) = (Vec::new(), Vec::new());
        let (mut receptions, mut first, mut hops, mut short) = (0, 0, 0, 0);
        for change in self.changes.values() {
            whole.push(change.last - change.began);
            each.extend(&change.times);
            receptions += change.receptions;
            first += u64::try_from(change.held - 1).unwrap_or_default();
            hops += change.hops;
            short += usize::from(change.held < count);
        }
        whole.sort_unstable();
        each.sort_unstable();
        let duplicates = (receptions - first) as f64 / first.max(1) as f64;
        println!("  loss {loss} %: {} changes, {short} not everywhere", self.changes.len());
        println!(
            "    held by all after p50 {:?}, p99 {:?}, max {:?}; by one server p50 {:?}, p99 {:?}, max {:?}",
            at(&whole, 50),
            at(&whole, 99),
            at(&whole, 100),
            at(&each, 50),
            at(&each, 99),
            at(&each, 100)
        );
        println!(
            "    {duplicates:.2} duplicates a change and server; {:.1} hops",
            hops as f64 / first.max(1) as f64
        );
        self.print_traffic(seconds);
        println!("    ({:.1} s of this machine's time)", took.as_secs_f64());
    }

    fn print_traffic(&self, seconds: f64) {
        let count = self.servers.len() as f64;
        let (messages, bytes) =
            self.by_message.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        println!(
            "    {:.0} messages and {:.1} KB a server in {seconds:.0} s:",
            messages as f64 / count,
            bytes as f64 / count / 1_024.0
        );
        for (name, (messages, bytes)) in &self.by_message {
            println!(
                "      {name}: {:.1} messages, {:.2} KB",
                *messages as f64 / count,
                *bytes as f64 / count / 1_024.0
            );
        }
        let most = self.servers.iter().map(|server| server.sent.1).max().unwrap_or_default();
        println!("      the busiest server sent {:.1} KB", most as f64 / 1_024.0);
    }
}

fn at(times: &[Duration], percent: usize) -> Duration {
    let last = times.len().saturating_sub(1);
    times.get((times.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

fn hold(server: &mut Server, now: Duration, record: &Record) {
    let key = ItemKey::record(record.subject, record.server);
    server.engine.handle(now, Input::Put(key, record_digest(record)));
    server.records.insert(key, record.clone());
}

fn wants(keys: Vec<ItemKey>) -> Vec<Want> {
    keys.into_iter().map(|key| Want { key, have: Vec::new() }).collect()
}

fn name(record: &Record) -> NewsId {
    let key = ItemKey::record(record.subject, record.server);
    (key, short_digest(&record_digest(record)))
}
