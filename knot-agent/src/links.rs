//! Which servers to be linked to: a state machine without a socket, a clock or luck of its own.
//!
//! The agent wants [`DEFAULT_LINKS`] links, or as many as its template says, to servers of different zones where it can. A link that works
//! is never given up for a better one: it carries people's sessions. A server that cannot be
//! reached, or whose link did not last, is left alone for a time that doubles with each failure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use knot_core::{
    agent::{DEFAULT_LINKS, ServerAddress},
    net::PublicKey,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

/// The longest wait after a first failure. The wait is a random part of it, at least half.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait of all.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A link that lasted so long was a good one: failures before it are forgotten.
pub const STEADY: Duration = Duration::from_secs(5);

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// These are the servers of the cluster, by the launch or by the server with this id. An empty
    /// list is no news, and neither is one of a server whose link is being ended.
    Listed(Option<Uuid>, Vec<ServerAddress>),
    /// The server has welcomed the agent, and this is its key.
    Linked(Uuid, PublicKey),
    /// So many links are wanted. Those that are too many are kept.
    Wanted(usize),
    /// The server is about to go.
    Leaving(Uuid),
    /// A link, or the attempt at one, has ended.
    Lost(Uuid),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial this server. [`Input::Lost`] is to follow in the end, once.
    Dial(ServerAddress),
    /// End the link to this server, or the attempt at one. [`Input::Lost`] is to follow, too.
    Close(Uuid),
}

/// The servers that are known, and how the agent stands with each.
#[derive(Debug)]
pub struct Links {
    servers: BTreeMap<Uuid, Server>,
    wanted: usize,
    random: StdRng,
}

#[derive(Debug)]
struct Server {
    address: ServerAddress,
    listed: bool,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle {
        until: Instant,
    },
    Dialling,
    Linked {
        since: Instant,
        key: PublicKey,
    },
    /// Its server is about to go: it counts no more, and is kept while it lasts.
    Leaving,
    Closing,
}

impl State {
    fn is_active(self) -> bool {
        matches!(self, Self::Dialling | Self::Linked { .. })
    }
}

impl Links {
    /// Knows no server yet. The seed decides which of several equals is dialled, and when.
    pub fn new(seed: u64) -> Self {
        Self {
            servers: BTreeMap::new(),
            wanted: DEFAULT_LINKS,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Takes in what has happened and says what to do about it.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Listed(by, servers) => {
                if !servers.is_empty() && by.is_none_or(|by| self.is_active(by)) {
                    self.list(servers, now, &mut actions);
                }
            }
            Input::Linked(id, key) => self.linked(id, key, now, &mut actions),
            Input::Wanted(count) => self.wanted = count,
            Input::Leaving(id) => {
                if let Some(server) = self.servers.get_mut(&id)
                    && matches!(server.state, State::Linked { .. })
                {
                    server.state = State::Leaving;
                }
            }
            Input::Lost(id) => self.lost(id, now),
            Input::Tick => {}
        }
        self.dial(now, &mut actions);
        actions
    }

    /// When [`Input::Tick`] is wanted next.
    pub fn deadline(&self) -> Option<Instant> {
        if self.active().count() >= self.wanted {
            return None;
        }
        let waits = self.servers.values().filter_map(|server| match server.state {
            State::Idle { until } => Some(until),
            _ => None,
        });
        waits.min()
    }

    /// How many servers have welcomed the agent.
    pub fn linked_count(&self) -> usize {
        self.active().filter(|server| server.state != State::Dialling).count()
    }

    fn is_active(&self, id: Uuid) -> bool {
        self.servers.get(&id).is_some_and(|server| server.state.is_active())
    }

    fn active(&self) -> impl Iterator<Item = &Server> {
        self.servers.values().filter(|server| server.state.is_active())
    }

    fn list(&mut self, servers: Vec<ServerAddress>, now: Instant, actions: &mut Vec<Action>) {
        for server in self.servers.values_mut() {
            server.listed = false;
        }
        for address in servers {
            let server = self.servers.entry(address.id).or_insert_with(|| Server {
                address: address.clone(),
                listed: true,
                failures: 0,
                state: State::Idle { until: now },
            });
            server.listed = true;
            if server.address.address != address.address {
                // What failed was the other address.
                server.failures = 0;
                if matches!(server.state, State::Idle { .. }) {
                    server.state = State::Idle { until: now };
                }
            }
            server.address = address;
        }
        self.servers
            .retain(|_, server| server.listed || !matches!(server.state, State::Idle { .. }));
        for (id, server) in &mut self.servers {
            let distrusted = match server.state {
                State::Linked { key, .. } => !server.address.keys.contains(&key),
                _ => false,
            };
            if server.state.is_active() && (!server.listed || distrusted) {
                server.state = State::Closing;
                actions.push(Action::Close(*id));
            }
        }
    }

    fn linked(&mut self, id: Uuid, key: PublicKey, now: Instant, actions: &mut Vec<Action>) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if server.state != State::Dialling {
            return;
        }
        server.state = if server.address.keys.contains(&key) {
            State::Linked { since: now, key }
        } else {
            // The list has changed while it was dialled.
            actions.push(Action::Close(id));
            State::Closing
        };
    }

    fn lost(&mut self, id: Uuid, now: Instant) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if !server.listed {
            self.servers.remove(&id);
            return;
        }
        match server.state {
            State::Linked { since, .. } if now.saturating_duration_since(since) >= STEADY => {
                server.failures = 1;
            }
            State::Idle { .. } => return,
            _ => server.failures = server.failures.saturating_add(1),
        }
        let doublings = server.failures.saturating_sub(1).min(16);
        let wait = FIRST_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF);
        let part = self.random.random_range(0.5..=1.0);
        server.state = State::Idle { until: now + wait.mul_f64(part) };
    }

    fn dial(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.active().count() < self.wanted {
            let Some(id) = self.candidate(now) else { return };
            let Some(server) = self.servers.get_mut(&id) else { return };
            server.state = State::Dialling;
            actions.push(Action::Dial(server.address.clone()));
        }
    }

    /// The best server that may be dialled now: of a zone with no link yet, then with the fewest
    /// failures, then any.
    fn candidate(&mut self, now: Instant) -> Option<Uuid> {
        let zones: Vec<String> = self.active().map(|server| server.address.zone.clone()).collect();
        let random = &mut self.random;
        let due = self
            .servers
            .iter()
            .filter(|(_, server)| matches!(server.state, State::Idle { until } if until <= now));
        due.map(|(id, server)| {
            let same_zone = zones.contains(&server.address.zone);
            ((same_zone, server.failures, random.random::<u32>()), *id)
        })
        .min()
        .map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests;
