//! The state machine of reconciliation: `(state, input, now) -> (state, outputs)`.
//!
//! `now` is time since any fixed moment. Between two replicas the one with the lower id starts a
//! walk; both learn from it what they lack, and each pulls that from the other, a bounded number of
//! items at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    message::{Bucket, Message, Node},
    tree::{Fingerprint, ItemKey, Prefix, Tree},
};
use crate::id::ServerId;

/// How often roots are exchanged with each peer.
const PROBE: Duration = Duration::from_secs(1);
/// Roots that differ while news is on its way are no reason to walk: it must be quiet so long.
const QUIET: Duration = Duration::from_millis(300);
/// Where it never gets quiet, so long is waited: news that was lost must not stay so.
const PATIENCE: Duration = Duration::from_secs(3);
/// A walk that has heard nothing for so long is over; the next root begins another.
const WALK_OVER: Duration = Duration::from_millis(900);
/// A pull that has not been answered for so long is given up.
const PULL_STALLED: Duration = Duration::from_secs(5);
/// Under a node with at most so many items here, they are listed rather than walked further.
const FEW: u64 = 8;
/// The most items asked for in one `Pull`.
const PULL: usize = 128;
/// The most items in one `Offer`, so that its frame stays far below the limit.
const OFFER: usize = 2_048;
/// The most nodes or buckets in one message.
const NODES: usize = 256;
/// The most items that are remembered as wanted from one peer.
const WANTED: usize = 1 << 20;

/// What happens to an engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer is linked.
    PeerUp(ServerId),
    /// The link to a peer is gone.
    PeerDown(ServerId),
    /// A message of the walk from a peer. `Pull`, `News` and `Presence` need the store and are not
    /// for the engine.
    Message(ServerId, Message),
    /// News was sent to or received from a peer.
    News(ServerId),
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
    /// Ask that peer for these items, saying what is held of each.
    Pull(ServerId, Vec<ItemKey>),
}

/// What is known of a linked peer.
#[derive(Debug, Default)]
struct Peer {
    /// The newest root heard.
    root: Option<(u64, [u64; 4])>,
    next_probe: Duration,
    last_news: Option<Duration>,
    /// Since when the roots differ and it is not quiet.
    restless: Option<Duration>,
    /// When a walk that is under way last got on.
    walking: Option<Duration>,
    wanted: BTreeSet<ItemKey>,
    /// When the pull that is not yet answered was sent.
    pulling: Option<Duration>,
}

/// The reconciliation of one replica with its peers.
#[derive(Debug)]
pub struct Engine {
    me: ServerId,
    tree: Tree,
    peers: BTreeMap<ServerId, Peer>,
}

impl Engine {
    /// An engine that holds nothing and has no peers.
    pub fn new(me: ServerId) -> Self {
        Self { me, tree: Tree::default(), peers: BTreeMap::new() }
    }

    /// The fingerprint of everything held.
    pub fn root(&self) -> Fingerprint {
        self.tree.root()
    }

    /// Whether a linked peer was last heard to hold exactly what is held here.
    pub fn equals(&self, peer: ServerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.root == Some(self.wire_root()))
    }

    /// The peers that are linked.
    pub fn peers(&self) -> impl Iterator<Item = ServerId> {
        self.peers.keys().copied()
    }

    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        match input {
            Input::PeerUp(id) => {
                self.peers.insert(id, Peer { next_probe: now + PROBE, ..Peer::default() });
                vec![self.send_root(id)]
            }
            Input::PeerDown(id) => {
                self.peers.remove(&id);
                Vec::new()
            }
            Input::News(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.last_news = Some(now);
                }
                Vec::new()
            }
            Input::Put(key, digest) => {
                self.tree.put(key, digest);
                Vec::new()
            }
            Input::Message(id, message) => self.message(now, id, message),
            Input::Tick => self.tick(now),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Output> {
        let root = self.wire_root();
        let mut outputs = Vec::new();
        for (id, peer) in &mut self.peers {
            peer.walking = peer.walking.filter(|at| now <= *at + WALK_OVER);
            if peer.pulling.is_some_and(|at| now > at + PULL_STALLED) {
                peer.pulling = None;
                peer.wanted.clear();
            }
            if now >= peer.next_probe {
                peer.next_probe = now + PROBE;
                outputs.push(Output::Send(*id, Message::Root { count: root.0, sum: root.1 }));
            }
        }
        let ids: Vec<_> = self.peers.keys().copied().collect();
        outputs.extend(ids.into_iter().flat_map(|id| self.walk_if_differing(now, id)));
        outputs
    }

    fn message(&mut self, now: Duration, id: ServerId, message: Message) -> Vec<Output> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        match message {
            Message::Root { count, sum } => {
                let before = peer.root.replace((count, sum));
                let mut outputs = self.walk_if_differing(now, id);
                // Equal now, and the peer may not know it yet.
                if before != Some((count, sum)) && self.equals(id) {
                    outputs.push(self.send_root(id));
                }
                outputs
            }
            Message::Nodes(nodes) => {
                peer.walking = Some(now);
                self.compare_nodes(id, &nodes)
            }
            Message::Items(buckets) => {
                peer.walking = Some(now);
                self.compare_items(now, id, buckets)
            }
            Message::Offer(items) => {
                self.want(id, items);
                self.pull(now, id)
            }
            Message::Pulled { rest } => {
                peer.pulling = None;
                peer.walking = None;
                for key in rest {
                    if peer.wanted.len() < WANTED {
                        peer.wanted.insert(key);
                    }
                }
                let more = self.pull(now, id);
                if more.is_empty() { vec![self.send_root(id)] } else { more }
            }
            Message::Pull(_) | Message::News(_) | Message::Presence(_) => Vec::new(),
            Message::AskHeld(_) | Message::Held(_) => Vec::new(),
        }
    }

    /// The lower id begins a walk where the roots differ and nothing else is under way.
    fn walk_if_differing(&mut self, now: Duration, id: ServerId) -> Vec<Output> {
        let (mine, me) = (self.wire_root(), self.me);
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        let differs = peer.root.is_some_and(|root| root != mine);
        let quiet = peer.last_news.is_none_or(|at| now >= at + QUIET);
        let idle = peer.walking.is_none() && peer.pulling.is_none() && peer.wanted.is_empty();
        if !differs || quiet {
            peer.restless = None;
        }
        let patient = !quiet && now < *peer.restless.get_or_insert(now) + PATIENCE;
        if me > id || !differs || patient || !idle {
            return Vec::new();
        }
        peer.restless = None;
        peer.walking = Some(now);
        // What is known of the peer is used up: the next walk waits for its next root.
        peer.root = None;
        vec![Output::Send(id, Message::Nodes(vec![self.describe(Prefix::ROOT)]))]
    }

    fn compare_nodes(&self, id: ServerId, nodes: &[Node]) -> Vec<Output> {
        let (mut deeper, mut buckets) = (Vec::new(), Vec::new());
        for node in nodes.iter().filter(|node| node.prefix.is_valid() && node.prefix.has_children())
        {
            for (child, (count, sum)) in node.prefix.children().zip(&node.children) {
                let mine = self.tree.node(child);
                if (mine.count, mine.short()) == (*count, *sum) {
                    continue;
                }
                if mine.count <= FEW || !child.has_children() {
                    buckets.push(Bucket { prefix: child, items: self.tree.items(child).collect() });
                } else {
                    deeper.push(self.describe(child));
                }
            }
        }
        let nodes = deeper.chunks(NODES).map(|nodes| Message::Nodes(nodes.to_vec()));
        let items = buckets.chunks(NODES).map(|buckets| Message::Items(buckets.to_vec()));
        nodes.chain(items).map(|message| Output::Send(id, message)).collect()
    }

    /// The peer has listed all it has under some nodes: offer what it lacks, and want what it has.
    fn compare_items(&mut self, now: Duration, id: ServerId, buckets: Vec<Bucket>) -> Vec<Output> {
        let mut offer = Vec::new();
        let mut theirs = Vec::new();
        for bucket in buckets.into_iter().filter(|bucket| bucket.prefix.is_valid()) {
            let listed: BTreeMap<_, _> = bucket.items.iter().copied().collect();
            let lacking = self
                .tree
                .items(bucket.prefix)
                .filter(|(key, digest)| listed.get(key) != Some(digest));
            offer.extend(lacking);
            theirs.extend(bucket.items);
        }
        self.want(id, theirs);
        let offers = offer.chunks(OFFER).map(|items| Message::Offer(items.to_vec()));
        let mut outputs: Vec<_> = offers.map(|message| Output::Send(id, message)).collect();
        outputs.extend(self.pull(now, id));
        outputs
    }

    fn want(&mut self, id: ServerId, items: Vec<(ItemKey, u64)>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for (key, digest) in items {
            if self.tree.item(key) != Some(digest) && peer.wanted.len() < WANTED {
                peer.wanted.insert(key);
            }
        }
    }

    fn pull(&mut self, now: Duration, id: ServerId) -> Vec<Output> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        if peer.pulling.is_some() || peer.wanted.is_empty() {
            return Vec::new();
        }
        let keys: Vec<_> = peer.wanted.iter().copied().take(PULL).collect();
        keys.iter().for_each(|key| {
            peer.wanted.remove(key);
        });
        peer.pulling = Some(now);
        vec![Output::Pull(id, keys)]
    }

    fn describe(&self, prefix: Prefix) -> Node {
        let child = |prefix| {
            let node = self.tree.node(prefix);
            (node.count, node.short())
        };
        Node { prefix, children: prefix.children().map(child).collect() }
    }

    fn send_root(&self, to: ServerId) -> Output {
        let (count, sum) = self.wire_root();
        Output::Send(to, Message::Root { count, sum })
    }

    fn wire_root(&self) -> (u64, [u64; 4]) {
        let root = self.tree.root();
        (root.count, root.sum())
    }
}
