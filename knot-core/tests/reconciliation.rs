//! Two engines and nothing else: what a walk finds, what it costs, and what a hostile one is answered.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use knot_core::{
    id::{ChangeHash, ServerId},
    sync::{Buckets, Engine, Input, ItemKey, Items, Message, Nodes, Output, Prefix, Want},
    wire,
};
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
/// One way, so that a round trip is twice that.
const DELAY: Duration = Duration::from_millis(10);

type Set = BTreeMap<[u8; 16], [u8; 32]>;

/// An item by number: keys lie evenly, as hashes do.
fn item(n: u64, version: u8) -> ([u8; 16], [u8; 32]) {
    let key = Sha256::digest(n.to_be_bytes());
    let digest = Sha256::digest([&n.to_be_bytes()[..], &[version]].concat());
    (key[..16].try_into().unwrap(), digest.into())
}

fn items(numbers: impl IntoIterator<Item = u64>) -> Set {
    numbers.into_iter().map(|n| item(n, 0)).collect()
}

struct Side {
    id: ServerId,
    engine: Engine,
    held: Set,
    /// What was ever asked for.
    asked: BTreeSet<[u8; 16]>,
}

impl Side {
    fn new(id: u128, held: Set) -> Self {
        let id = ServerId(Uuid::from_u128(id));
        let mut side =
            Self { id, engine: Engine::new(id), held: Set::new(), asked: BTreeSet::new() };
        held.into_iter().for_each(|(key, digest)| side.put(key, digest));
        side
    }

    fn put(&mut self, key: [u8; 16], digest: [u8; 32]) {
        self.held.insert(key, digest);
        self.engine.handle(Duration::ZERO, Input::Put(ItemKey::from_bytes(key), digest));
    }
}

/// What was sent, beyond the items themselves.
#[derive(Debug, Default)]
struct Cost {
    bytes: usize,
    messages: usize,
    /// The virtual time until the last answer was sent. The half round trip until both know the
    /// other's root is counted, and that of the last answer is not: it is the time from the one to
    /// the end of the other.
    took: Duration,
    largest: usize,
}

impl Cost {
    fn round_trips(&self) -> f64 {
        self.took.as_secs_f64() / (2 * DELAY).as_secs_f64()
    }
}

/// Links the two, and lets them talk until they hold the same. Where both have another version of an
/// item, both take the larger, as documents take both's changes.
fn reconcile(mut sides: [Side; 2]) -> (Cost, [Side; 2]) {
    let mut cost = Cost::default();
    let mut queue: VecDeque<(Duration, usize, Message)> = VecDeque::new();
    let mut now = Duration::ZERO;
    let ids = [sides[0].id, sides[1].id];
    let send = |cost: &mut Cost,
                queue: &mut VecDeque<_>,
                now,
                sides: &mut [Side; 2],
                at: usize,
                outputs| {
        for output in outputs {
            let message = match output {
                Output::Send(_, message) => message,
                Output::Pull(_, number, keys) => {
                    sides[at].asked.extend(keys.iter().map(|key: &ItemKey| key.to_bytes()));
                    let want = |key: ItemKey| {
                        let held = sides[at].held.get(&key.to_bytes());
                        Want {
                            key,
                            have: held.map(|digest| ChangeHash(*digest)).into_iter().collect(),
                        }
                    };
                    Message::Pull { number, wants: keys.into_iter().map(want).collect() }
                }
            };
            let bytes = wire::encode_frame(&message, wire::MAX_PEER_FRAME).unwrap().len();
            cost.bytes += bytes;
            cost.messages += 1;
            cost.largest = cost.largest.max(bytes);
            queue.push_back((now + DELAY, 1 - at, message));
        }
    };
    for at in 0..2 {
        let outputs = sides[at].engine.handle(now, Input::PeerUp(ids[1 - at]));
        send(&mut cost, &mut queue, now, &mut sides, at, outputs);
    }
    while now < 60 * SECOND {
        if let Some((arrives, at, message)) = queue.pop_front() {
            now = now.max(arrives);
            let peer = ids[1 - at];
            let outputs = match message {
                Message::Pull { number, wants } => {
                    // The answer travels with `Pulled` and is committed before that is looked at.
                    for want in wants {
                        let key = want.key.to_bytes();
                        if let Some(digest) = sides[at].held.get(&key).copied() {
                            let newer =
                                sides[1 - at].held.get(&key).is_none_or(|held| *held < digest);
                            if newer {
                                sides[1 - at].put(key, digest);
                            }
                        }
                    }
                    vec![Output::Send(peer, Message::Pulled { number, rest: Vec::new() })]
                }
                message => sides[at].engine.handle(now, Input::Message(peer, message)),
            };
            send(&mut cost, &mut queue, now, &mut sides, at, outputs);
            if sides[0].held == sides[1].held && cost.took == Duration::ZERO {
                cost.took = now;
            }
            continue;
        }
        if sides[0].held == sides[1].held {
            return (cost, sides);
        }
        now += Duration::from_millis(100);
        for at in 0..2 {
            // What membership's probes bring once a second.
            if now.as_millis() % 1_000 < 100 {
                let root = sides[1 - at].engine.root();
                let root = Message::Root { count: root.count, sum: root.sum() };
                let heard = sides[at].engine.handle(now, Input::Message(ids[1 - at], root));
                send(&mut cost, &mut queue, now, &mut sides, at, heard);
            }
            let outputs = sides[at].engine.handle(now, Input::Tick);
            send(&mut cost, &mut queue, now, &mut sides, at, outputs);
        }
    }
    panic!("not equal after a minute");
}

/// Both ways: whichever side has the lower id, which begins the walk.
fn both_ways(a: &Set, b: &Set, check: impl Fn(&Cost)) {
    for (one, other) in [(1, 2), (2, 1)] {
        let (cost, _) = reconcile([Side::new(one, a.clone()), Side::new(other, b.clone())]);
        println!(
            "  {} bytes, {:.1} round trips, {} messages",
            cost.bytes,
            cost.round_trips(),
            cost.messages
        );
        check(&cost);
    }
}

/// The set with these items changed, those new, and others not there.
fn changed(set: &Set, numbers: impl IntoIterator<Item = u64>) -> Set {
    let mut set = set.clone();
    set.extend(numbers.into_iter().map(|n| item(n, 1)));
    set
}

#[test]
fn equal_replicas_exchange_a_root_each() {
    let set = items(0..10_000);
    both_ways(&set, &set, |cost| {
        assert!(cost.bytes <= 400 && cost.round_trips() <= 1.0, "{cost:?}");
    });
}

#[test]
fn ten_of_ten_thousand_cost_six_kilobytes_and_three_round_trips() {
    let set = items(0..10_000);
    let sparse = |k: u64| (0..10).map(move |n| n * 997 + k);
    println!("changed on one side");
    let check =
        |cost: &Cost| assert!(cost.bytes <= 6 << 10 && cost.round_trips() <= 3.0, "{cost:?}");
    both_ways(&set, &changed(&set, sparse(0)), check);
    println!("new on one side");
    both_ways(&set, &changed(&set, 20_000..20_010), check);
    println!("five changed on each side");
    both_ways(&changed(&set, sparse(0).take(5)), &changed(&set, sparse(3).take(5)), check);
}

#[test]
fn a_hundred_of_a_hundred_thousand_cost_sixty_four_kilobytes() {
    let set = items(0..100_000);
    let check =
        |cost: &Cost| assert!(cost.bytes <= 64 << 10 && cost.round_trips() <= 4.0, "{cost:?}");
    println!("changed on one side");
    both_ways(&set, &changed(&set, (0..100).map(|n| n * 997)), check);
    println!("new on one side");
    both_ways(&set, &changed(&set, 200_000..200_100), check);
}

#[test]
fn an_empty_replica_is_told_names_only() {
    let set = items(0..100_000);
    both_ways(&Set::new(), &set, |cost| {
        // 24 bytes of name in an offer, 20 in a pull.
        assert!(cost.bytes <= 100_000 * 48, "{cost:?}");
        assert!(cost.largest <= 256 << 10, "{cost:?}");
    });
}

/// What the crate `negentropy` says that each side lacks of (key, digest) pairs.
fn oracle(a: &Set, b: &Set) -> [BTreeSet<[u8; 16]>; 2] {
    let mut names = BTreeMap::new();
    let mut storage = |set: &Set| {
        let mut storage = NegentropyStorageVector::new();
        for (key, digest) in set {
            let id: [u8; 32] = Sha256::digest([&key[..], digest].concat()).into();
            names.insert(id, *key);
            storage.insert(0, Id::from_byte_array(id)).unwrap();
        }
        storage.seal().unwrap();
        storage
    };
    let (of_a, of_b) = (storage(a), storage(b));
    let mut client = Negentropy::owned(of_a, 0).unwrap();
    let mut server = Negentropy::owned(of_b, 0).unwrap();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut query = Some(client.initiate().unwrap());
    while let Some(asked) = query {
        let answer = server.reconcile(&asked).unwrap();
        query = client.reconcile_with_ids(&answer, &mut have, &mut need).unwrap();
    }
    let keys = |ids: Vec<Id>| ids.iter().map(|id| names[&**id]).collect();
    [keys(need), keys(have)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_finds_what_negentropy_finds(
        shared in 0_u64..1_500,
        at_a in prop::collection::btree_set(0_u64..3_000, 0..100),
        at_b in prop::collection::btree_set(0_u64..3_000, 0..100),
        swapped: bool,
    ) {
        let set = items(0..shared);
        let (a, mut b) = (changed(&set, at_a), set);
        b.extend(at_b.iter().map(|n| item(*n, 2)));
        let lacks = oracle(&a, &b);
        let ids = if swapped { [2, 1] } else { [1, 2] };
        let (_, sides) = reconcile([Side::new(ids[0], a), Side::new(ids[1], b)]);
        for (side, lacks) in sides.iter().zip(lacks) {
            // A version that is older than one's own is asked for too: only its holder knows that.
            prop_assert_eq!(&side.asked, &lacks);
        }
    }
}

/// An engine with many items, and a peer that says what no engine says.
fn asked(message: Message) -> (usize, usize) {
    let mut side = Side::new(2, items(0..100_000));
    let peer = ServerId(Uuid::from_u128(1));
    side.engine.handle(Duration::ZERO, Input::PeerUp(peer));
    let outputs = side.engine.handle(Duration::ZERO, Input::Message(peer, message));
    let frames: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send(_, message) => {
                Some(wire::encode_frame(message, wire::MAX_PEER_FRAME).unwrap().len())
            }
            Output::Pull(..) => None,
        })
        .collect();
    (frames.iter().sum(), frames.into_iter().max().unwrap_or_default())
}

#[test]
fn no_walk_message_is_answered_without_bound() {
    // All nodes of the third level, over and over, with sums that are nobody's.
    let nodes: Vec<_> = Prefix::ROOT.below(2).collect();
    let wrong = |levels: u8| vec![1; 16_usize.pow(levels.into())];
    for levels in [1, 2] {
        let many = nodes.iter().cycle().take(4_096).map(|node| (*node, wrong(levels)));
        let (bytes, largest) = asked(Message::Nodes(Nodes::new(7, levels, many)));
        println!("{levels} levels: {bytes} bytes");
        assert!(bytes <= 600 << 10 && largest <= 256 << 10, "{bytes} bytes");
    }
    let (bytes, largest) = asked(Message::Items(Buckets::new([(Prefix::ROOT, Vec::new())])));
    println!("everything: {bytes} bytes");
    assert!(bytes <= 65_536 * 24 + 1_024 && largest <= 256 << 10, "{bytes} bytes");
    let again = std::iter::repeat_n((Prefix::ROOT, Vec::new()), 10_000);
    let (more, _) = asked(Message::Items(Buckets::new(again)));
    assert_eq!(bytes, more, "no part of the tree is listed twice");
    // Levels that the tree has not.
    let node = Prefix::ROOT.below(2).next().unwrap();
    assert_eq!(asked(Message::Nodes(Nodes::new(7, 9, [(node, wrong(1))]))).0, 0);
    assert_eq!(asked(Message::Nodes(Nodes::new(7, 0, [(node, Vec::new())]))).0, 0);
}

#[test]
fn what_a_peer_offers_is_wanted_within_bounds() {
    let mut side = Side::new(2, Set::new());
    let peer = ServerId(Uuid::from_u128(1));
    side.engine.handle(Duration::ZERO, Input::PeerUp(peer));
    let mut asked = 0;
    for n in 0..30_u64 {
        let offered: Vec<_> = (n * 10_000..(n + 1) * 10_000)
            .map(|n| (ItemKey::from_bytes(item(n, 0).0), 1))
            .collect();
        let offer = Message::Offer(Items::new(&offered));
        for output in side.engine.handle(Duration::ZERO, Input::Message(peer, offer)) {
            if let Output::Pull(_, _, keys) = output {
                asked += keys.len();
            }
        }
    }
    assert_eq!(asked, 4 * 512, "four pulls are in flight, whatever is offered");
}

#[test]
fn what_several_peers_offer_is_pulled_once() {
    let mut side = Side::new(9, Set::new());
    let offered: Vec<_> = (0..4_000).map(|n| (ItemKey::from_bytes(item(n, 0).0), 1)).collect();
    let mut asked = BTreeMap::<_, usize>::new();
    for peer in 1..=3 {
        let peer = ServerId(Uuid::from_u128(peer << 96));
        side.engine.handle(Duration::ZERO, Input::PeerUp(peer));
        let offer = Message::Offer(Items::new(&offered));
        for output in side.engine.handle(Duration::ZERO, Input::Message(peer, offer)) {
            if let Output::Pull(_, _, keys) = output {
                keys.into_iter().for_each(|key| *asked.entry(key).or_default() += 1);
            }
        }
    }
    assert_eq!(asked.len(), 4_000, "three peers have room for them all");
    assert!(asked.values().all(|times| *times == 1));
}
