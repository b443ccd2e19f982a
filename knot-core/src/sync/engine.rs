//! The state machine of reconciliation: `(state, input, now) -> (state, outputs)`.
//!
//! `now` is time since any fixed moment. Between two replicas the one with the lower id starts a
//! walk; both learn from it what they lack, and each pulls that from the other, a bounded number of
//! items at a time. What several peers could give is pulled from one of them.

mod walk;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use super::{
    message::Message,
    tree::{Fingerprint, ItemKey, Tree},
};
use crate::id::ServerId;

/// Whoever is told the time more often than this, looks at it no more often.
const TICK: Duration = Duration::from_millis(50);
/// Roots that differ while news is on its way are no reason to walk: it must be quiet so long.
const QUIET: Duration = Duration::from_millis(300);
/// Where it never gets quiet, so long is waited: news that was lost must not stay so.
const PATIENCE: Duration = Duration::from_secs(3);
/// A walk that has heard nothing for so long is over; the next root begins another.
const WALK_OVER: Duration = Duration::from_millis(900);
/// Pulls of which nothing has come for so long are given up.
const PULL_STALLED: Duration = Duration::from_secs(2);
/// The most peers with which a walk, or what follows from it, is under way. A walk that another
/// begins beyond that is not answered.
const WALKS: usize = 4;
/// The most items asked for in one `Pull`.
const PULL: usize = 512;
/// The most pulls from one peer that are not yet answered.
const PULLS: usize = 4;
/// The most items that are remembered as wanted from one peer.
const WANTED: usize = 1 << 17;

/// What happens to an engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer is linked.
    PeerUp(ServerId),
    /// The link to a peer is gone.
    PeerDown(ServerId),
    /// A message of the walk from a peer. What needs the store, and what spreads news, is not for
    /// the engine.
    Message(ServerId, Message),
    /// News was sent to or received from a peer.
    News(ServerId),
    /// News is passed on from server to server: the roots of all are about to change.
    Spreading,
    /// Something could not be sent to a peer: it is told the root as soon as may be.
    Missed(ServerId),
    /// An item is held now, with this digest. Only what is committed is ever put.
    Put(ItemKey, [u8; 32]),
    /// Time has passed.
    Tick,
}

/// What an engine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this to that peer.
    Send(ServerId, Message),
    /// Ask that peer for these items, under this number, saying what is held of each.
    Pull(ServerId, u32, Vec<ItemKey>),
}

/// What is known of a linked peer.
#[derive(Debug, Default)]
struct Peer {
    /// The newest root heard.
    root: Option<Root>,
    /// Whether it has differed since it was heard, and no walk has begun for it yet.
    fresh: bool,
    /// The own root that it was last sent in a message of its own.
    told: Option<Root>,
    /// Something could not be sent to it: its next root may be far off.
    missed: bool,
    last_news: Option<Duration>,
    /// Since when the roots differ and it is not quiet.
    restless: Option<Duration>,
    /// When a walk that is under way last got on.
    walking: Option<Duration>,
    /// What the peer has that is not held here, as it was when the peer said so.
    wanted: BTreeMap<ItemKey, u64>,
    /// When that may be asked for: what was found while news was on its way may be that news.
    ripe: Duration,
    /// Pulls that are not yet answered, by their numbers.
    pulls: BTreeMap<u32, Vec<ItemKey>>,
    /// When they last got on, and whether something that was asked for has come since.
    pulling: Duration,
    progress: bool,
}

type Root = (u64, [u64; 4]);

impl Peer {
    fn is_busy(&self) -> bool {
        self.walking.is_some() || !self.pulls.is_empty() || !self.wanted.is_empty()
    }

    /// Whether no news of it, or of anybody, is on its way, as far as one can tell.
    fn is_quiet(&self, now: Duration, spreading: Option<Duration>) -> bool {
        self.last_news.max(spreading).is_none_or(|at| now >= at + QUIET)
    }
}

/// The reconciliation of one replica with its peers.
#[derive(Debug)]
pub struct Engine {
    me: ServerId,
    tree: Tree,
    peers: BTreeMap<ServerId, Peer>,
    /// What is asked for now, and from whom.
    flying: BTreeMap<ItemKey, ServerId>,
    /// When news was last spreading.
    spreading: Option<Duration>,
    /// The number of the last pull.
    number: u32,
    /// The number of the last walk, which salts its sums.
    salt: u32,
    ticked: Option<Duration>,
    ticks: usize,
}

impl Engine {
    /// An engine that holds nothing and has no peers.
    pub fn new(me: ServerId) -> Self {
        Self {
            me,
            tree: Tree::default(),
            peers: BTreeMap::new(),
            flying: BTreeMap::new(),
            spreading: None,
            number: 0,
            salt: 0,
            ticked: None,
            ticks: 0,
        }
    }

    /// The fingerprint of everything held.
    pub fn root(&self) -> Fingerprint {
        self.tree.root()
    }

    /// Whether a linked peer was last heard to hold exactly what is held here.
    pub fn equals(&self, peer: ServerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.root == Some(self.wire_root()))
    }

    /// Tells a peer what is held here; it answers if it has come to hold the same.
    pub fn ask(&mut self, peer: ServerId) -> Option<Output> {
        self.peers.contains_key(&peer).then(|| self.send_root(peer))
    }

    /// The peers that are linked.
    pub fn peers(&self) -> impl Iterator<Item = ServerId> {
        self.peers.keys().copied()
    }

    /// Whether what is remembered of each peer is within its bounds.
    #[cfg(feature = "sim")]
    pub(crate) fn is_bounded(&self) -> bool {
        self.peers.values().all(|peer| peer.wanted.len() <= WANTED)
    }

    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        match input {
            Input::PeerUp(id) => {
                self.peers.insert(id, Peer::default());
                vec![self.send_root(id)]
            }
            Input::PeerDown(id) => {
                self.peers.remove(&id).into_iter().for_each(|peer| self.land(peer.pulls));
                Vec::new()
            }
            Input::News(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.last_news = Some(now);
                }
                Vec::new()
            }
            Input::Spreading => {
                self.spreading = Some(now);
                Vec::new()
            }
            Input::Missed(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.missed = true;
                }
                Vec::new()
            }
            Input::Put(key, digest) => {
                self.tree.put(key, digest);
                let asked = self.flying.get(&key);
                if let Some(peer) = asked.and_then(|peer| self.peers.get_mut(peer)) {
                    peer.progress = true;
                }
                Vec::new()
            }
            Input::Message(id, message) => self.message(now, id, message),
            Input::Tick => self.tick(now),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Output> {
        if self.ticked.is_some_and(|at| now < at + TICK) {
            return Vec::new();
        }
        self.ticked = Some(now);
        let (mut outputs, mut stalled) = (Vec::new(), Vec::new());
        for peer in self.peers.values_mut() {
            peer.walking = peer.walking.filter(|at| now <= *at + WALK_OVER);
            if std::mem::take(&mut peer.progress) {
                peer.pulling = now;
            }
            if !peer.pulls.is_empty() && now > peer.pulling + PULL_STALLED {
                stalled.push(std::mem::take(&mut peer.pulls));
                peer.wanted.clear();
            }
        }
        stalled.into_iter().for_each(|pulls| self.land(pulls));
        // Each time another peer is the first, so that none is left out for long.
        let mut ids: Vec<_> = self.peers.keys().copied().collect();
        self.ticks = self.ticks.wrapping_add(7);
        let first = self.ticks.checked_rem(ids.len()).unwrap_or_default();
        ids.rotate_left(first);
        for id in ids {
            let missed = self.peers.get_mut(&id).map(|peer| std::mem::take(&mut peer.missed));
            if missed == Some(true) {
                outputs.push(self.send_root(id));
            }
            outputs.extend(self.pull(now, id));
            outputs.extend(self.walk_if_differing(now, id));
        }
        outputs
    }

    fn message(&mut self, now: Duration, id: ServerId, message: Message) -> Vec<Output> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        match message {
            Message::Root { count, sum } => {
                (peer.root, peer.fresh) = (Some((count, sum)), true);
                let told = peer.told;
                let mut outputs = self.walk_if_differing(now, id);
                // Equal now, or for the peer to begin a walk, and it may not know this root yet.
                if told != Some(self.wire_root()) && (self.equals(id) || self.me > id) {
                    outputs.push(self.send_root(id));
                }
                outputs
            }
            Message::Nodes(nodes) if self.may_walk(id) => {
                self.is_walking(now, id);
                self.compare_nodes(id, &nodes)
            }
            Message::Items(buckets) if self.may_walk(id) => {
                self.is_walking(now, id);
                let mut outputs = self.compare_items(now, id, &buckets);
                outputs.extend(self.pull(now, id));
                outputs
            }
            Message::Offer(items) => {
                self.want(now, id, items.read(WANTED));
                self.pull(now, id)
            }
            Message::Pulled { number, rest } => self.pulled(now, id, number, rest),
            Message::Nodes(_)
            | Message::Items(_)
            | Message::Pull { .. }
            | Message::News(_)
            | Message::IHave(_)
            | Message::Graft(_)
            | Message::Prune
            | Message::Presence(_)
            | Message::AskHeld(_)
            | Message::Held(_) => Vec::new(),
        }
    }

    /// Whether there is room for a walk with this peer, or it is under way.
    fn may_walk(&self, id: ServerId) -> bool {
        let busy = |peer: &Peer| peer.is_busy();
        self.peers.get(&id).is_some_and(busy)
            || self.peers.values().filter(|peer| busy(peer)).count() < WALKS
    }

    fn is_walking(&mut self, now: Duration, id: ServerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.walking = Some(now);
        }
    }

    /// The lower id begins a walk where the roots differ and nothing else is under way.
    fn walk_if_differing(&mut self, now: Duration, id: ServerId) -> Vec<Output> {
        let (mine, me) = (self.wire_root(), self.me);
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        // What was equal once is no reason to walk when only this root has moved on.
        peer.fresh &= peer.root.is_some_and(|root| root != mine);
        let differs = peer.fresh;
        let quiet = peer.is_quiet(now, self.spreading);
        if !differs || quiet {
            peer.restless = None;
        }
        let patient = !quiet && now < *peer.restless.get_or_insert(now) + PATIENCE;
        if me > id || !differs || patient || peer.is_busy() || !self.may_walk(id) {
            return Vec::new();
        }
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        peer.restless = None;
        peer.walking = Some(now);
        // The next walk waits for the peer's next root.
        peer.fresh = false;
        // Where all spreads to all, one walk finds what any other would.
        let others = self.peers.values_mut().filter(|peer| !quiet && peer.restless.is_some());
        others.for_each(|peer| peer.restless = Some(now));
        vec![Output::Send(id, self.first_step())]
    }

    fn want(
        &mut self,
        now: Duration,
        id: ServerId,
        items: impl IntoIterator<Item = (ItemKey, u64)>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.wanted.is_empty() && !peer.is_quiet(now, self.spreading) {
            peer.ripe = now + QUIET;
        }
        for (key, digest) in items {
            if self.tree.item(key) != Some(digest) && peer.wanted.len() < WANTED {
                peer.wanted.insert(key, digest);
            }
        }
    }

    /// Asks for what is wanted from a peer and not on its way from another, as far as there is room.
    fn pull(&mut self, now: Duration, id: ServerId) -> Vec<Output> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        let mut outputs = Vec::new();
        if now < peer.ripe {
            return outputs;
        }
        while peer.pulls.len() < PULLS && !peer.wanted.is_empty() {
            let (mut keys, mut done) = (Vec::new(), Vec::new());
            // From each peer another part first, so that several share the work.
            let start = ItemKey::from_bytes(*id.0.as_bytes());
            let wanted = peer.wanted.range(start..).chain(peer.wanted.range(..start));
            for (key, digest) in wanted {
                if self.tree.item(*key) == Some(*digest) {
                    done.push(*key);
                } else if let Entry::Vacant(entry) = self.flying.entry(*key) {
                    entry.insert(id);
                    keys.push(*key);
                }
                if keys.len() == PULL {
                    break;
                }
            }
            for key in keys.iter().chain(&done) {
                peer.wanted.remove(key);
            }
            if keys.is_empty() {
                break;
            }
            if peer.pulls.is_empty() {
                peer.pulling = now;
            }
            self.number = self.number.wrapping_add(1).max(1);
            peer.pulls.insert(self.number, keys.clone());
            outputs.push(Output::Pull(id, self.number, keys));
        }
        outputs
    }

    fn pulled(
        &mut self,
        now: Duration,
        id: ServerId,
        number: u32,
        rest: Vec<ItemKey>,
    ) -> Vec<Output> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        let Some(keys) = peer.pulls.remove(&number) else { return Vec::new() };
        peer.pulling = now;
        peer.walking = None;
        for key in rest.into_iter().filter(|key| keys.contains(key)) {
            // Its digest is not known any more: whatever it is, it is asked for.
            peer.wanted.insert(key, !self.tree.item(key).unwrap_or_default());
        }
        self.land(BTreeMap::from([(number, keys)]));
        let more = self.pull(now, id);
        let busy = self.peers.get(&id).is_some_and(Peer::is_busy);
        if busy { more } else { vec![self.send_root(id)] }
    }

    /// Pulls are over: others may be asked for what they asked for.
    fn land(&mut self, pulls: BTreeMap<u32, Vec<ItemKey>>) {
        for key in pulls.into_values().flatten() {
            self.flying.remove(&key);
        }
    }

    fn send_root(&mut self, to: ServerId) -> Output {
        let root = self.wire_root();
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.told = Some(root);
        }
        Output::Send(to, Message::Root { count: root.0, sum: root.1 })
    }

    fn wire_root(&self) -> Root {
        let root = self.tree.root();
        (root.count, root.sum())
    }
}
