//! What happens in a world, and what each server does about it.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use rand::RngExt as _;

use super::{Event, Outcome, PROBE, TICK, World, take};
use crate::{
    clock::Millis,
    id::{ChangeHash, ServerId},
    membership::Root,
    replica::{CoreInput as Input, Effects},
    sim::{Failure, invariants, judge::Number, network::Pair},
    sync::{Heads, Message},
};

/// The most inputs that share a commit, as in the service.
const BATCH: usize = 32;
/// How long a server takes at most to answer a probe.
const ANSWER: Duration = Duration::from_millis(50);

impl World {
    pub(super) fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Tick { at, life } if self.lives(at, life) => {
                self.give(at, Input::Tick(Millis(self.wall(at))));
                self.plan(TICK, Event::Tick { at, life });
            }
            Event::Wake { at, life } if self.lives(at, life) => {
                if let Some(server) = self.servers.get_mut(at) {
                    server.wake = None;
                }
                self.give(at, Input::Tick(Millis(self.wall(at))));
            }
            Event::Step { at, life } if self.lives(at, life) => self.step(at)?,
            Event::Probe { at, life } if self.lives(at, life) => self.probe(at, life)?,
            Event::Answer { at, to } => self.send_root(at, to)?,
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
            Event::Tick { .. } | Event::Wake { .. } | Event::Step { .. } | Event::Probe { .. } => {}
        }
        Ok(())
    }

    /// What the memberships of two servers do: one probes, the other answers, and each datagram has
    /// its sender's root with it.
    fn probe(&mut self, at: usize, life: u64) -> Result<(), Failure> {
        self.plan(PROBE, Event::Probe { at, life });
        let peer = self.rng.random_range(0..self.servers.len());
        if peer != at {
            self.send_root(at, peer)?;
            let answered = self.up_to(ANSWER);
            self.plan(answered, Event::Answer { at: peer, to: at });
        }
        Ok(())
    }

    fn send_root(&mut self, at: usize, to: usize) -> Result<(), Failure> {
        let core = self.servers.get(at).and_then(|server| server.core.as_ref());
        let Some(root) = core.map(|core| core.shown().root()) else { return Ok(()) };
        let root = Message::from(Root::from(root));
        for (arrives, parcel) in self.links.send(self.now, (at, to), &root, &mut self.rng)? {
            self.plan(arrives.saturating_sub(self.now), Event::Arrive(parcel));
        }
        Ok(())
    }

    fn lives(&self, at: usize, life: u64) -> bool {
        self.servers.get(at).is_some_and(|server| server.life == life && server.core.is_some())
    }

    /// Puts an input into a server's inbox, which it takes a little later, as a batch.
    pub(super) fn give(&mut self, at: usize, input: Input) {
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
        let wake =
            effects.wake.map(|wake| wake.max(now.saturating_sub(server.began)) + server.began);
        if let Some(wake) = wake.filter(|wake| server.wake.is_none_or(|planned| *wake < planned)) {
            server.wake = Some(wake);
            let life = server.life;
            self.plan(wake.saturating_sub(now), Event::Wake { at, life });
        }
        for (number, doc, puts, idle) in take(&self.made) {
            self.judge.made(number, doc, puts, idle);
        }
        let mut touched = BTreeSet::new();
        for transaction in &durable {
            self.judge.durable(at, transaction)?;
            touched.extend(transaction.documents.iter().map(|document| document.doc));
            touched.extend(transaction.graves.iter().map(|(grave, _)| grave.doc));
        }
        for (number, outcome) in take(&self.answers) {
            self.answered(at, id, number, outcome)?;
        }
        for (number, outcome) in take(&self.holders) {
            self.held(number, outcome)?;
        }
        if let Some(server) = self.servers.get(at)
            && let Some(core) = &server.core
        {
            invariants::touched(core, &server.schema, &touched, &mut server.disk.clone())?;
        }
        if let Some(watcher) = self.servers.get_mut(at).and_then(|one| one.watcher.as_mut()) {
            watcher.step()?;
            (self.always)(watcher.replica()).map_err(|what| broken(at, &what))?;
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
        outcome: Result<Vec<ChangeHash>, String>,
    ) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let (observing, deleting) =
            (server.observing.remove(&number), server.deleting.remove(&number));
        let durable = server.durable.remove(&number);
        let outcome = match outcome {
            Ok(heads) => {
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
                if let Some((doc, servers, bound)) = durable {
                    let heads = if deleting.is_some() { vec![ChangeHash::DEAD] } else { heads };
                    self.wait_until_held(at, number, Heads { doc, heads }, servers, bound);
                    return Ok(());
                }
                Outcome::Done
            }
            Err(reason) => Outcome::Failed(reason),
        };
        self.outcomes.insert(number, outcome);
        Ok(())
    }

    fn wait_until_held(
        &mut self,
        at: usize,
        number: Number,
        edit: Heads,
        servers: usize,
        bound: Duration,
    ) {
        self.judge.waits_for(number, edit.doc, servers);
        let holders = Arc::clone(&self.holders);
        let reply = Box::new(move |outcome: Result<(), crate::replica::DurableError>| {
            let outcome = outcome.map_err(|error| error.to_string());
            holders.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
        });
        self.give(at, Input::DurableOn { edit, servers, bound, reply });
    }

    fn held(&mut self, number: Number, outcome: Result<(), String>) -> Result<(), Failure> {
        let outcome = match outcome {
            Ok(()) => {
                self.judge.said_durable(number)?;
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

    pub(super) fn place(&self, id: ServerId) -> Option<usize> {
        self.servers.iter().position(|server| server.id == id)
    }

    pub(super) fn pairs(&self) -> Vec<Pair> {
        let count = self.servers.len();
        (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect()
    }

    pub(super) fn plan_connect(&mut self, pair: Pair) {
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
        if self.servers.get(at).is_none_or(|server| server.core.is_none()) {
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

    pub(super) fn drop_link(&mut self, pair: Pair) {
        let Some(epoch) = self.links.disconnect(pair) else { return };
        let (a, b) = pair;
        for (at, peer) in [(a, b), (b, a)] {
            let after = self.up_to(Duration::from_millis(600));
            self.plan(after, Event::LearnDown { at, peer, epoch });
        }
    }
}

fn broken(at: usize, what: &str) -> Failure {
    Failure::new(format!("server {at} breaks an invariant of the operations: {what}"))
}
