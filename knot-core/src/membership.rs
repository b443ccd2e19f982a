//! Which of the servers that belong can be reached, without sockets, clocks or tasks.
//!
//! SWIM, as the `foca` crate has it: each server probes one other a second, asks others to try where
//! that fails, and passes on what it hears with the probes. Who *belongs* is not decided here: that
//! is data, and comes in. A server that fails every probe still belongs, and one that does not belong
//! is neither heard nor told of.
//!
//! foca finds a dead server within some ten seconds. What is quicker comes from outside: the network
//! notices a lost connection, looks again, asks another server, and says [`Input::Unreached`]. Whoever
//! is wrongly called down hears of it, and returns under a higher name.
//!
//! `now` is time since any fixed moment, the same for all calls.

mod datagram;
mod name;
mod packet;
#[cfg(test)]
mod tests;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

pub use datagram::{MAX_DATAGRAM, Root, VERSION, decode, encode};
use foca::{
    AccumulatingRuntime, Config, Foca, Identity as _, Member, NoCustomBroadcast, OwnedNotification,
    PeriodicParams,
};
use name::Name;
use packet::{Fixed, Packet};
pub use packet::{MAX_PACKET, Malformed};
use rand::{SeedableRng as _, rngs::StdRng};
use timers::Timers;

use crate::id::ServerId;

/// How often one other server is probed.
const PROBE: Duration = Duration::from_secs(1);
/// How long the answer of a probed server may take before others are asked to try.
const ANSWER: Duration = Duration::from_millis(400);
/// How many others are asked to try.
const HELPERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);
/// How long a suspected server has to speak up: what is said of it needs about a second to reach it
/// among 200, and so does its answer.
const SUSPICION: Duration = Duration::from_secs(6);
/// How often a piece of news is passed on: 4 · log₁₀ of 200 servers, and one more.
const PASSED_ON: NonZeroU8 = NonZeroU8::MIN.saturating_add(9);
/// How often news is sent, where there is some, and to how many.
const GOSSIP: (Duration, NonZeroUsize) =
    (Duration::from_millis(200), NonZeroUsize::MIN.saturating_add(2));
/// How often one member is asked for all it knows, in case news was lost.
const REFRESH: Duration = Duration::from_secs(30);
/// How often linked peers that are not members are told that this server is here, and how many at a
/// time: each answers with all that it knows.
const ANNOUNCE: (Duration, usize) = (Duration::from_secs(1), 4);

/// What happens to a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A peer is linked, in this run of it.
    Linked {
        /// The peer.
        peer: ServerId,
        /// The number of its run.
        run: u64,
    },
    /// The link to a peer is gone, which alone says nothing of whether it lives.
    Lost(ServerId),
    /// A peer does not answer: not when dialled again, and not to another server that was asked, or
    /// it said that it stops.
    Unreached {
        /// The peer.
        peer: ServerId,
        /// The run of it that was linked. A later run is not meant.
        run: u64,
    },
    /// These servers belong to the cluster, and no others.
    Belong(BTreeSet<ServerId>),
    /// Time has passed: [`Membership::deadline`] is reached.
    Due,
}

/// What a membership wants done, or has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this packet to that server if it is linked, with the root in front.
    Send(ServerId, Vec<u8>),
    /// A server can be reached, by this one or by others that it hears.
    Up(ServerId),
    /// A server cannot be reached.
    Down(ServerId),
}

/// A packet was not taken. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The bytes are no packet.
    #[error("not a packet: {0}")]
    Malformed(#[from] Malformed),
    /// It names another sender than the peer that it came from, which is this.
    #[error("{0} sent a packet in the name of another server")]
    Sender(ServerId),
    /// It names another receiver, this one.
    #[error("a packet for {0} came here")]
    Receiver(ServerId),
    /// It comes from this server or is about it, which does not belong, or has been removed.
    #[error("{0} does not belong to the cluster")]
    Stranger(ServerId),
    /// It asks this server to probe itself.
    #[error("a packet asks this server to be its own go-between")]
    Circle,
}

/// The state of the membership of one server; see the module.
pub struct Membership {
    foca: Foca<Name, Fixed, StdRng, NoCustomBroadcast>,
    belong: BTreeSet<ServerId>,
    linked: BTreeMap<ServerId, u64>,
    up: BTreeSet<ServerId>,
    timers: Timers,
    announcing: Announcing,
}

/// Where the announcing to linked peers that are no members stands.
#[derive(Debug, Default)]
struct Announcing {
    /// When the next few are announced to, if any are left.
    next: Option<Duration>,
    /// How many were announced to since the last time.
    sent: usize,
    /// The peer that was last announced to: the next time begins after it.
    last: Option<ServerId>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("name", self.foca.identity())
            .field("members", &self.foca.iter_membership_state().collect::<Vec<_>>())
            .field("timers", &self.timers)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// A server in this run of it, which knows of no other. `seed` decides what is left to chance.
    pub fn new(me: ServerId, run: u64, seed: [u8; 32]) -> Self {
        let rng = StdRng::from_seed(seed);
        Self {
            foca: Foca::new(Name::new(me, run), config(), rng, Fixed),
            belong: BTreeSet::new(),
            linked: BTreeMap::new(),
            up: BTreeSet::new(),
            timers: Timers::default(),
            announcing: Announcing::default(),
        }
    }

    /// The servers that can be reached, but for this one.
    pub fn up(&self) -> &BTreeSet<ServerId> {
        &self.up
    }

    /// When [`Input::Due`] is wanted. Later does no harm, and neither does sooner.
    pub fn deadline(&self) -> Option<Duration> {
        [self.timers.next(), self.announcing.next].into_iter().flatten().min()
    }

    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        let mut effects = AccumulatingRuntime::new();
        match input {
            Input::Linked { peer, run } => {
                self.linked.insert(peer, run);
                self.announce(now, &[peer], &mut effects);
            }
            Input::Lost(peer) => {
                self.linked.remove(&peer);
            }
            Input::Unreached { peer, run } => self.call_down(peer, Some(run), &mut effects),
            Input::Belong(servers) => {
                let gone: Vec<_> = self.belong.difference(&servers).copied().collect();
                self.belong = servers;
                gone.into_iter().for_each(|server| self.call_down(server, None, &mut effects));
                let linked: Vec<_> = self.linked.keys().copied().collect();
                self.announce(now, &linked, &mut effects);
            }
            Input::Due => self.due(now, &mut effects),
        }
        self.outputs(now, effects)
    }

    /// Takes a packet that came over the link of a peer.
    ///
    /// # Errors
    /// It is malformed, or says what that peer may not. Nothing was changed.
    pub fn receive(
        &mut self,
        now: Duration,
        from: ServerId,
        packet: &[u8],
    ) -> Result<Vec<Output>, Refused> {
        let packet = self.checked(from, packet)?;
        let mut effects = AccumulatingRuntime::new();
        let about_me = packet.members.iter().map(|member| *member.id()).chain([packet.header.dst]);
        if let Some(highest) = about_me.filter(|name| name.server == self.me()).max() {
            self.outbid(highest, &mut effects);
        }
        if let Some(known) = self.known(from)
            && known.is_after(&packet.header.src)
        {
            // A server put back to an older state numbers its runs too low, and will be heard once
            // it knows what it was called last.
            note(self.foca.announce(known, &mut effects));
        }
        note(self.foca.handle_data(&packet.to_bytes()?, &mut effects));
        Ok(self.outputs(now, effects))
    }

    /// What is in a packet, with what it says of servers that do not belong left out.
    fn checked(&self, from: ServerId, packet: &[u8]) -> Result<Packet, Refused> {
        let mut packet = Packet::parse(packet)?;
        if packet.header.src.server != from {
            return Err(Refused::Sender(from));
        }
        if packet.header.dst.server != self.me() {
            return Err(Refused::Receiver(packet.header.dst.server));
        }
        for server in [Some(from), packet.third()].into_iter().flatten() {
            if server == self.me() {
                return Err(Refused::Circle);
            }
            if !self.belong.contains(&server) {
                return Err(Refused::Stranger(server));
            }
        }
        packet.members.retain(|member| {
            let server = member.id().server;
            server == self.me() || self.belong.contains(&server)
        });
        Ok(packet)
    }

    fn me(&self) -> ServerId {
        self.foca.identity().server
    }

    fn known(&self, server: ServerId) -> Option<Name> {
        let mut members = self.foca.iter_membership_state();
        members.find(|member| member.id().server == server).map(|member| *member.id())
    }

    /// Tells linked peers that this server is here, until they are known to be members.
    fn announce(
        &mut self,
        now: Duration,
        peers: &[ServerId],
        effects: &mut AccumulatingRuntime<Name>,
    ) {
        for peer in peers {
            let run = self.linked.get(peer).filter(|_| self.belong.contains(peer));
            let Some(run) = run.filter(|_| !self.up.contains(peer)) else { continue };
            self.announcing.next.get_or_insert(now + ANNOUNCE.0);
            if self.announcing.sent == ANNOUNCE.1 {
                return;
            }
            self.announcing.sent += 1;
            self.announcing.last = Some(*peer);
            note(self.foca.announce(Name::new(*peer, *run), &mut *effects));
        }
    }

    /// Calls a member down, up to a run of it, or whatever its run.
    fn call_down(
        &mut self,
        server: ServerId,
        run: Option<u64>,
        effects: &mut AccumulatingRuntime<Name>,
    ) {
        let known = self.known(server).filter(|_| self.up.contains(&server));
        if let Some(known) = known.filter(|known| run.is_none_or(|run| known.run <= run)) {
            note(self.foca.apply_many([Member::down(known)].into_iter(), true, effects));
        }
    }

    /// Takes a name above one that this server was called by.
    fn outbid(&mut self, heard: Name, effects: &mut AccumulatingRuntime<Name>) {
        if heard.is_after(self.foca.identity())
            && let Some(name) = heard.renew()
        {
            note(self.foca.change_identity(name, effects));
        }
    }

    fn due(&mut self, now: Duration, effects: &mut AccumulatingRuntime<Name>) {
        for timer in self.timers.due(now) {
            note(self.foca.handle_timer(timer, &mut *effects));
        }
        if self.announcing.next.is_some_and(|at| at <= now) {
            (self.announcing.next, self.announcing.sent) = (None, 0);
            let (before, after): (Vec<_>, Vec<_>) =
                self.linked.keys().partition(|peer| Some(**peer) <= self.announcing.last);
            self.announce(now, &[after, before].concat(), effects);
        }
    }

    fn outputs(&mut self, now: Duration, mut effects: AccumulatingRuntime<Name>) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some((after, timer)) = effects.to_schedule() {
            self.timers.arm(now + after, timer);
        }
        while let Some((to, packet)) = effects.to_send() {
            if self.belong.contains(&to.server) {
                outputs.push(Output::Send(to.server, packet.into()));
            }
        }
        while let Some(notification) = effects.to_notify() {
            match notification {
                OwnedNotification::MemberUp(name) if self.up.insert(name.server) => {
                    outputs.push(Output::Up(name.server));
                }
                OwnedNotification::MemberDown(name) if self.up.remove(&name.server) => {
                    outputs.push(Output::Down(name.server));
                    if self.linked.contains_key(&name.server) {
                        self.announcing.next.get_or_insert(now + ANNOUNCE.0);
                    }
                }
                _ => {}
            }
        }
        outputs
    }
}

/// One configuration for 1 to 200 servers: see the decision on membership for its figures.
fn config() -> Config {
    let one = NonZeroUsize::MIN;
    Config {
        probe_period: PROBE,
        probe_rtt: ANSWER,
        num_indirect_probes: HELPERS,
        max_transmissions: PASSED_ON,
        suspect_to_down_after: SUSPICION,
        // One name is remembered of each server, and a server that returns takes a higher.
        remove_down_after: None,
        max_packet_size: one.saturating_add(MAX_PACKET - 1),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams { frequency: REFRESH, num_members: one }),
        // Links are made again by those who dial, and then announced over.
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams { frequency: GOSSIP.0, num_members: GOSSIP.1 }),
    }
}

/// foca's errors are of bytes that it cannot read, which were checked before, and of calls out of
/// turn: it says of all of them that it goes on.
fn note(result: Result<(), foca::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "membership goes on after an error");
    }
}
