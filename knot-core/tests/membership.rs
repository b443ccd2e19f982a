//! Whole clusters of memberships in a world of their own: a clock, links and datagrams that get lost.
//!
//! The world plays what the network does around a membership: a link that has heard nothing for two
//! seconds is lost, the peer is dialled again and another server asked, and only where both fail the
//! membership is told.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test they say what must be; clippy knows test functions only, not what they call"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use knot_core::{
    id::ServerId,
    membership::{Input, Membership, Output},
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

/// What the network allows for the look at a peer whose link was lost.
const LOOK: Duration = Duration::from_millis(400);

enum Event {
    Due { at: usize, life: u32 },
    Arrive { from: usize, to: usize, packet: Vec<u8> },
    Link { a: usize, b: usize },
    IdleOut { at: usize, peer: usize },
    Looked { at: usize, peer: usize, run: u64 },
}

struct Server {
    membership: Option<Membership>,
    life: u32,
    run: u64,
    links: BTreeSet<usize>,
    /// When this server last came to count another as reachable or not.
    changed: BTreeMap<usize, Duration>,
}

struct World {
    rng: StdRng,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    planned: u64,
    servers: Vec<Server>,
    /// Datagrams that are lost, of a hundred.
    loss: u32,
    /// Servers below this number and the others are cut off from each other.
    cut: Option<usize>,
    sent: (u64, usize),
    /// Every (time, by, of) at which a server came to count another as not reachable.
    alarms: Vec<(Duration, usize, usize)>,
    /// The same of what memberships say, whatever the links.
    called_down: Vec<(Duration, usize, usize)>,
}

fn id(at: usize) -> ServerId {
    ServerId(Uuid::from_u128(1 + at as u128))
}

fn place(id: ServerId) -> usize {
    usize::try_from(id.0.as_u128()).unwrap() - 1
}

fn millis(range: std::ops::Range<u64>, rng: &mut StdRng) -> Duration {
    Duration::from_micros(rng.random_range(range.start * 1_000..range.end * 1_000))
}

impl World {
    fn new(seed: u64, count: usize, loss: u32) -> Self {
        println!("{count} servers, {loss} % loss, seed {seed}");
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            planned: 0,
            servers: Vec::new(),
            loss,
            cut: None,
            sent: (0, 0),
            alarms: Vec::new(),
            called_down: Vec::new(),
        };
        for _ in 0..count {
            world.servers.push(Server {
                membership: None,
                life: 0,
                run: 0,
                links: BTreeSet::new(),
                changed: BTreeMap::new(),
            });
        }
        (0..count).for_each(|at| world.start(at));
        world
    }

    fn start(&mut self, at: usize) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let run = self.servers[at].run + 1;
        let mut membership = Membership::new(id(at), run, seed);
        let belong = (0..self.servers.len()).map(id).collect();
        membership.handle(self.now, Input::Belong(belong));
        let server = &mut self.servers[at];
        (server.membership, server.run) = (Some(membership), run);
        server.life += 1;
        for peer in (0..self.servers.len()).filter(|peer| *peer != at) {
            if self.servers[peer].membership.is_some() {
                let after = millis(1..1_000, &mut self.rng);
                self.plan(after, Event::Link { a: at, b: peer });
            }
        }
    }

    /// Kills a server without a word. `noticing` of those linked to it lose the link.
    fn kill(&mut self, at: usize, noticing: usize) {
        self.servers[at].membership = None;
        self.servers[at].life += 1;
        let links = std::mem::take(&mut self.servers[at].links);
        links.into_iter().take(noticing).for_each(|peer| self.idle_out(peer, at));
    }

    /// A server loses a link once it has heard nothing for a second and a half, which begin anew with the
    /// first keep-alive that is not answered.
    fn idle_out(&mut self, at: usize, peer: usize) {
        let after = millis(1_500..1_900, &mut self.rng);
        self.plan(after, Event::IdleOut { at, peer });
    }

    /// Cuts the servers below this number off from the others.
    fn cut(&mut self, below: usize) {
        self.cut = Some(below);
        for (at, peer) in self.across(below) {
            self.idle_out(at, peer);
        }
    }

    fn heal(&mut self) {
        let below = self.cut.take().unwrap();
        for (a, b) in self.across(below) {
            let after = millis(1..3_000, &mut self.rng);
            self.plan(after, Event::Link { a, b });
        }
    }

    /// All pairs of servers on different sides, both ways.
    fn across(&self, below: usize) -> Vec<(usize, usize)> {
        let pairs = (0..below).flat_map(|a| (below..self.servers.len()).map(move |b| (a, b)));
        pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.is_some_and(|below| (a < below) != (b < below))
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.planned += 1;
        self.events.insert((self.now + after, self.planned), event);
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Due { at, life } if self.servers[at].life == life => self.give(at, Input::Due),
            Event::Arrive { from, to, packet } if self.servers[to].links.contains(&from) => {
                let now = self.now;
                let Some(membership) = &mut self.servers[to].membership else { return };
                let outputs = membership.receive(now, id(from), &packet).unwrap();
                self.follow(to, outputs);
            }
            Event::Link { a, b } => self.link(a, b),
            Event::IdleOut { at, peer } => {
                if self.servers[at].links.remove(&peer) {
                    let run = self.servers[peer].run;
                    self.give(at, Input::Lost(id(peer)));
                    self.judge(at, peer);
                    self.look(at, peer, run);
                }
            }
            Event::Looked { at, peer, run } if !self.servers[at].links.contains(&peer) => {
                self.give(at, Input::Unreached { peer: id(peer), run });
            }
            Event::Due { .. } | Event::Arrive { .. } | Event::Looked { .. } => {}
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        let dead = [a, b].iter().any(|at| self.servers[*at].membership.is_none());
        if dead || self.is_cut(a, b) || self.servers[a].links.contains(&b) {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            self.servers[at].links.insert(peer);
            let run = self.servers[peer].run;
            self.give(at, Input::Linked { peer: id(peer), run });
            self.judge(at, peer);
        }
    }

    /// Dials again, which takes two round trips and has no time to repeat a datagram, and asks one
    /// other server, over links that repeat what was lost up to three times.
    fn look(&mut self, at: usize, peer: usize, run: u64) {
        let lives = self.servers[peer].membership.is_some() && !self.is_cut(at, peer);
        let legs = |rng: &mut StdRng, legs: u32, tries: u32, loss: u32| {
            (0..legs).all(|_| (0..tries).any(|_| rng.random_range(0..100) >= loss))
        };
        if lives && legs(&mut self.rng, 4, 1, self.loss) {
            return self.plan(Duration::from_millis(20), Event::Link { a: at, b: peer });
        }
        let others: Vec<_> = self.servers[at].links.iter().copied().collect();
        let asked = (!others.is_empty()).then(|| others[self.rng.random_range(0..others.len())]);
        let reached = asked.is_some_and(|asked| self.servers[asked].links.contains(&peer));
        if lives && reached && legs(&mut self.rng, 4, 3, self.loss) {
            return self.plan(Duration::from_secs(1), Event::Link { a: at, b: peer });
        }
        self.plan(LOOK, Event::Looked { at, peer, run });
    }

    fn give(&mut self, at: usize, input: Input) {
        let now = self.now;
        let Some(membership) = &mut self.servers[at].membership else { return };
        let outputs = membership.handle(now, input);
        self.follow(at, outputs);
    }

    fn follow(&mut self, at: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, packet) => self.send(at, place(to), packet),
                Output::Up(peer) => self.judge(at, place(peer)),
                Output::Down(peer) => {
                    self.called_down.push((self.now, at, place(peer)));
                    self.judge(at, place(peer));
                }
            }
        }
        let server = &mut self.servers[at];
        server.life += 1;
        let life = server.life;
        if let Some(deadline) = server.membership.as_ref().and_then(Membership::deadline) {
            self.plan(deadline.saturating_sub(self.now), Event::Due { at, life });
        }
    }

    fn send(&mut self, from: usize, to: usize, packet: Vec<u8>) {
        self.sent = (self.sent.0 + 1, self.sent.1 + packet.len());
        let lost = self.rng.random_range(0..100) < self.loss;
        if !lost && self.servers[from].links.contains(&to) && !self.is_cut(from, to) {
            let after = Duration::from_micros(self.rng.random_range(500..5_000));
            self.plan(after, Event::Arrive { from, to, packet });
        }
    }

    /// Notes it when a server comes to count another as reachable or not.
    fn judge(&mut self, at: usize, peer: usize) {
        let reaches = self.reaches(at, peer);
        let server = &mut self.servers[at];
        let before = server.changed.contains_key(&peer);
        if reaches && !before {
            server.changed.insert(peer, self.now);
        } else if !reaches && before {
            server.changed.remove(&peer);
            self.alarms.push((self.now, at, peer));
        }
    }

    fn reaches(&self, at: usize, peer: usize) -> bool {
        let server = &self.servers[at];
        let up = server.membership.as_ref().is_some_and(|one| one.up().contains(&id(peer)));
        up || server.links.contains(&peer)
    }

    fn living(&self) -> Vec<usize> {
        let living = self.servers.iter().enumerate();
        living.filter(|(_, server)| server.membership.is_some()).map(|(at, _)| at).collect()
    }

    /// Whether every membership counts all that live as up, and no other.
    fn knows_all(&self) -> bool {
        let living = self.living();
        living.iter().all(|at| {
            let up = self.servers[*at].membership.as_ref().unwrap().up();
            let others = living.iter().filter(|peer| *peer != at).map(|peer| id(*peer));
            others.eq(up.iter().copied())
        })
    }

    /// Lets time pass until `condition`, in steps of ten milliseconds.
    fn run_until(&mut self, bound: Duration, condition: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !condition(self) {
            assert!(self.now < began + bound, "not within {bound:?}");
            self.run(Duration::from_millis(10));
        }
        self.now - began
    }

    /// Runs and says how many packets and bytes a server has sent in a second.
    fn traffic(&mut self, time: Duration) -> (f64, f64) {
        self.sent = (0, 0);
        self.run(time);
        let per = time.as_secs_f64() * self.living().len() as f64;
        (self.sent.0 as f64 / per, self.sent.1 as f64 / per)
    }
}

/// Starts a cluster, watches it at rest, kills a server, and lets it return.
fn life_and_death(seed: u64, count: usize, loss: u32, rest: Duration) {
    let mut world = World::new(seed, count, loss);
    let joined = world.run_until(Duration::from_secs(20), World::knows_all);
    world.run(Duration::from_secs(10));
    world.alarms.clear();
    world.called_down.clear();
    let (packets, bytes) = world.traffic(rest);
    assert_eq!(world.alarms, [], "somebody was counted as not reachable");
    assert_eq!(world.called_down, [], "somebody was wrongly called down");
    println!(
        "  all know all after {joined:.2?}; for {rest:?} {packets:.1} packets and {bytes:.0} bytes a second \
         each, nobody called down"
    );

    let dead = count / 2;
    world.kill(dead, count);
    let killed = world.now;
    world.run(Duration::from_secs(5));
    let mut noticed: Vec<_> = world.alarms.iter().map(|(at, ..)| *at - killed).collect();
    noticed.sort();
    assert!(world.alarms.iter().all(|(_, _, of)| *of == dead), "another was called down");
    assert_eq!(noticed.len(), count - 1, "not everybody noticed");
    println!(
        "  killed: first noticed after {:.2?}, by all after {:.2?}",
        noticed[0],
        noticed[count - 2]
    );
    assert!(noticed[count - 2] <= Duration::from_secs(3));

    world.start(dead);
    let back = world.run_until(Duration::from_secs(10), World::knows_all);
    println!("  returned: all know all after {back:.2?}");
}

#[test]
fn the_dead_are_known_in_three_seconds_and_nobody_else_is_called_down() {
    for (seed, count, rest) in [(1, 2, 120), (2, 3, 180), (3, 30, 120), (4, 200, 120)] {
        life_and_death(seed, count, 0, Duration::from_secs(10));
        life_and_death(seed, count, 5, Duration::from_secs(rest));
    }
}

/// How long it takes until no membership counts a dead server as up, where only some lose a link to it.
fn told_by(seed: u64, count: usize, noticing: usize) -> Duration {
    let mut world = World::new(seed, count, 5);
    world.run_until(Duration::from_secs(20), World::knows_all);
    world.kill(count / 2, noticing);
    world.run_until(Duration::from_secs(60), World::knows_all)
}

#[test]
fn who_does_not_notice_a_death_hears_of_it() {
    for count in [30, 200] {
        let told = told_by(5, count, 3);
        println!("  killed, noticed by 3: known to all memberships after {told:.2?}");
        assert!(told < Duration::from_secs(4));
        let found = told_by(6, count, 0);
        println!("  killed, noticed by none: known to all memberships after {found:.2?}");
        assert!(found < Duration::from_secs(30));
    }
}

#[test]
fn halves_that_were_cut_find_each_other_again() {
    for (count, below) in [(3, 1), (30, 10), (60, 30)] {
        let mut world = World::new(7, count, 5);
        world.run_until(Duration::from_secs(20), World::knows_all);
        world.cut(below);
        world.run(Duration::from_secs(60));
        let side = |at: usize| at < below;
        for at in 0..count {
            let seen: Vec<_> = (0..count).filter(|peer| world.reaches(at, *peer)).collect();
            let own: Vec<_> =
                (0..count).filter(|peer| *peer != at && side(*peer) == side(at)).collect();
            assert_eq!(seen, own, "what server {at} sees");
        }
        world.heal();
        let healed = world.run_until(Duration::from_secs(30), World::knows_all);
        println!("  cut after {below} and healed: all know all after {healed:.2?}");
    }
}

#[test]
fn a_link_that_is_lost_for_nothing_calls_nobody_down() {
    let mut world = World::new(8, 30, 5);
    world.run_until(Duration::from_secs(20), World::knows_all);
    world.alarms.clear();
    world.called_down.clear();
    for second in 0..180 {
        let (at, peer) = (second % 30, (second * 7 + 3) % 30);
        if at != peer {
            world.plan(Duration::ZERO, Event::IdleOut { at, peer });
        }
        world.run(Duration::from_secs(1));
    }
    assert_eq!((world.alarms, world.called_down), (vec![], vec![]));
}
