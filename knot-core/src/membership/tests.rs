//! Two or three memberships that hand each other their packets, and bytes that nobody meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use foca::{Header, Member, Message, State};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Input, MAX_DATAGRAM, MAX_PACKET, Malformed, Membership, Output, Refused, Root, datagram,
    name::Name, packet::Packet,
};
use crate::id::ServerId;

fn id(n: u128) -> ServerId {
    ServerId(Uuid::from_u128(n))
}

fn ids(servers: &[u128]) -> BTreeSet<ServerId> {
    servers.iter().map(|n| id(*n)).collect()
}

/// Memberships whose packets all arrive at once, over links between all of them.
struct Cluster {
    now: Duration,
    servers: BTreeMap<ServerId, Membership>,
}

impl Cluster {
    /// Servers 1 to `count`, each in run 5.
    fn new(count: u128) -> Self {
        let mut cluster = Self { now: Duration::ZERO, servers: BTreeMap::new() };
        (1..=count).for_each(|n| cluster.start(n, 5));
        let all: Vec<_> = (1..=count).collect();
        for n in 1..=count {
            cluster.give(n, Input::Belong(ids(&all)));
            for peer in all.iter().filter(|peer| **peer != n) {
                cluster.give(n, Input::Linked { peer: id(*peer), run: 5 });
            }
        }
        cluster.pass(3_000);
        cluster
    }

    fn start(&mut self, n: u128, run: u64) {
        self.servers.insert(id(n), Membership::new(id(n), run, [n as u8; 32]));
    }

    fn give(&mut self, n: u128, input: Input) -> Vec<Output> {
        let now = self.now;
        let outputs = self.servers.get_mut(&id(n)).unwrap().handle(now, input);
        self.follow(id(n), outputs.clone());
        outputs
    }

    fn follow(&mut self, from: ServerId, outputs: Vec<Output>) {
        for output in outputs {
            let Output::Send(to, packet) = output else { continue };
            let now = self.now;
            let Some(server) = self.servers.get_mut(&to) else { continue };
            // One that does not count the sender as belonging refuses it.
            if let Ok(outputs) = server.receive(now, from, &packet) {
                self.follow(to, outputs);
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now += Duration::from_millis(10);
            for n in self.servers.keys().copied().collect::<Vec<_>>() {
                let now = self.now;
                let server = self.servers.get_mut(&n).unwrap();
                if server.deadline().is_some_and(|at| at <= now) {
                    let outputs = server.handle(now, Input::Due);
                    self.follow(n, outputs);
                }
            }
        }
    }

    fn up(&self, n: u128) -> Vec<u128> {
        self.servers[&id(n)].up().iter().map(|server| server.0.as_u128()).collect()
    }

    fn name(&self, n: u128) -> Name {
        *self.servers[&id(n)].foca.identity()
    }
}

fn packet(from: Name, to: Name, message: Message<Name>, members: Vec<Member<Name>>) -> Vec<u8> {
    let header = Header { src: from, src_incarnation: 0, dst: to, message };
    Packet { header, members }.to_bytes().unwrap()
}

#[test]
fn linked_servers_find_each_other_and_those_they_are_not_linked_to() {
    let cluster = Cluster::new(3);
    assert_eq!((cluster.up(1), cluster.up(2), cluster.up(3)), (vec![2, 3], vec![1, 3], vec![1, 2]));

    let mut chain = Cluster { now: Duration::ZERO, servers: BTreeMap::new() };
    for n in [1, 2, 3] {
        chain.start(n, 5);
        chain.give(n, Input::Belong(ids(&[1, 2, 3])));
    }
    for (n, peer) in [(1, 2), (2, 1), (2, 3), (3, 2)] {
        chain.give(n, Input::Linked { peer: id(peer), run: 5 });
    }
    chain.pass(2_000);
    assert_eq!((chain.up(1), chain.up(3)), (vec![2, 3], vec![1, 2]));
}

#[test]
fn a_peer_is_told_again_until_it_is_a_member() {
    let mut cluster = Cluster { now: Duration::ZERO, servers: BTreeMap::new() };
    cluster.start(1, 5);
    cluster.give(1, Input::Belong(ids(&[1, 2])));
    // It does not hear yet, or what is sent is lost.
    cluster.give(1, Input::Linked { peer: id(2), run: 5 });
    cluster.pass(10_000);
    assert_eq!(cluster.up(1), []);
    cluster.start(2, 5);
    cluster.give(2, Input::Belong(ids(&[1, 2])));
    cluster.pass(1_000);
    assert_eq!((cluster.up(1), cluster.up(2)), (vec![2], vec![1]));
}

#[test]
fn who_is_wrongly_called_down_returns_under_a_higher_name() {
    let mut cluster = Cluster::new(3);
    let before = cluster.name(3);
    let outputs = cluster.give(1, Input::Unreached { peer: id(3), run: 5 });
    assert!(outputs.contains(&Output::Down(id(3))));
    cluster.pass(2_000);
    assert!(cluster.name(3).is_after(&before));
    assert_eq!((cluster.up(1), cluster.up(2), cluster.up(3)), (vec![2, 3], vec![1, 3], vec![1, 2]));
}

#[test]
fn a_later_run_is_not_called_down_for_an_earlier() {
    let mut cluster = Cluster::new(2);
    assert_eq!(cluster.give(1, Input::Unreached { peer: id(2), run: 4 }), []);
    assert_eq!(cluster.up(1), [2]);
}

#[test]
fn the_dead_are_found_without_a_hint_too_and_still_belong() {
    let mut cluster = Cluster::new(3);
    cluster.servers.remove(&id(3));
    cluster.pass(15_000);
    assert_eq!((cluster.up(1), cluster.up(2)), (vec![2], vec![1]));
    cluster.start(3, 6);
    cluster.give(3, Input::Belong(ids(&[1, 2, 3])));
    cluster.give(3, Input::Linked { peer: id(1), run: 5 });
    cluster.pass(2_000);
    assert_eq!((cluster.up(1), cluster.up(2), cluster.up(3)), (vec![2, 3], vec![1, 3], vec![1, 2]));
}

#[test]
fn a_server_that_lost_count_of_its_runs_is_heard_again() {
    let mut cluster = Cluster::new(3);
    // An old copy of its database: the others know it by run 5.
    cluster.start(3, 2);
    cluster.give(3, Input::Belong(ids(&[1, 2, 3])));
    for peer in [1, 2] {
        cluster.give(3, Input::Linked { peer: id(peer), run: 5 });
    }
    cluster.pass(3_000);
    assert!(cluster.name(3).is_after(&Name::new(id(3), 5)));
    assert_eq!((cluster.up(1), cluster.up(2), cluster.up(3)), (vec![2, 3], vec![1, 3], vec![1, 2]));
}

#[test]
fn a_removed_server_is_dropped_and_never_heard_again() {
    let mut cluster = Cluster::new(3);
    let removed = cluster.name(3);
    for n in [1, 2] {
        cluster.give(n, Input::Belong(ids(&[1, 2])));
    }
    assert_eq!((cluster.up(1), cluster.up(2)), (vec![2], vec![1]));
    cluster.pass(5_000);
    assert_eq!((cluster.up(1), cluster.up(2)), (vec![2], vec![1]));
    // Neither by its own word nor by that of one who has not heard of its removal.
    let (one, two) = (cluster.name(1), cluster.name(2));
    let now = cluster.now;
    let server = cluster.servers.get_mut(&id(1)).unwrap();
    let own = packet(removed, one, Message::Announce, vec![]);
    assert_eq!(server.receive(now, id(3), &own), Err(Refused::Stranger(id(3))));
    let rumour = vec![Member::new(Name::new(id(3), 9), 0, State::Alive)];
    let rumour = packet(two, one, Message::Gossip, rumour);
    assert_eq!(server.receive(now, id(2), &rumour), Ok(vec![]));
    assert_eq!(cluster.up(1), [2]);
}

#[test]
fn a_peer_speaks_for_itself_alone() {
    let mut cluster = Cluster::new(3);
    let (one, two, three) = (cluster.name(1), cluster.name(2), cluster.name(3));
    let now = cluster.now;
    let server = cluster.servers.get_mut(&id(1)).unwrap();
    let before = format!("{server:?}");
    let forged = packet(two, one, Message::Gossip, vec![]);
    assert_eq!(server.receive(now, id(3), &forged), Err(Refused::Sender(id(3))));
    let strayed = packet(three, two, Message::Gossip, vec![]);
    assert_eq!(server.receive(now, id(3), &strayed), Err(Refused::Receiver(id(2))));
    let circle = Message::PingReq { target: one, probe_number: 1 };
    let circle = packet(three, one, circle, vec![]);
    assert_eq!(server.receive(now, id(3), &circle), Err(Refused::Circle));
    assert_eq!(format!("{server:?}"), before);
}

#[test]
fn a_full_packet_with_its_root_fits_a_fresh_connection() {
    let bytes = datagram::encode(Root::default(), &[0; MAX_PACKET]);
    assert_eq!(bytes.len(), MAX_DATAGRAM);
    assert!(bytes.len() <= 1_162);
    assert_eq!(datagram::decode([&bytes[..], &[0]].concat().into()), Err(Malformed::Long));
    assert_eq!(datagram::decode(bytes.slice(..40)), Err(Malformed::Short));
    assert_eq!(datagram::decode(Bytes::from_static(&[2; 60])), Err(Malformed::Unknown(2)));
}

fn names() -> impl Strategy<Value = Name> {
    let server = (1..4_u128).prop_map(id);
    (server, any::<u64>(), any::<u32>()).prop_map(|(server, run, renewal)| Name {
        server,
        run,
        renewal,
    })
}

fn messages() -> impl Strategy<Value = Message<Name>> {
    prop_oneof![
        any::<u8>().prop_map(Message::Ping),
        any::<u8>().prop_map(Message::Ack),
        (names(), any::<u8>())
            .prop_map(|(target, probe_number)| Message::PingReq { target, probe_number }),
        (names(), any::<u8>())
            .prop_map(|(origin, probe_number)| Message::IndirectPing { origin, probe_number }),
        (names(), any::<u8>())
            .prop_map(|(target, probe_number)| Message::IndirectAck { target, probe_number }),
        (names(), any::<u8>())
            .prop_map(|(origin, probe_number)| Message::ForwardedAck { origin, probe_number }),
        Just(Message::Announce),
        Just(Message::Feed),
        Just(Message::Gossip),
        Just(Message::TurnUndead),
    ]
}

fn members() -> impl Strategy<Value = Vec<Member<Name>>> {
    let state = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
    let member = (names(), any::<u16>(), state);
    let member =
        member.prop_map(|(name, incarnation, state)| Member::new(name, incarnation, state));
    prop::collection::vec(member, 0..20)
}

proptest! {
    #[test]
    fn a_packet_comes_back_as_it_went(
        (src, dst, message) in (names(), names(), messages()),
        src_incarnation: u16,
        members in members(),
    ) {
        let header = Header { src, src_incarnation, dst, message };
        let empty = matches!(header.message, Message::Announce | Message::TurnUndead);
        let sent = Packet { header, members: if empty { vec![] } else { members } };
        let bytes = sent.to_bytes().unwrap();
        prop_assert_eq!(Packet::parse(&bytes), Ok(sent));
        for cut in 0..bytes.len() {
            prop_assert!(Packet::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn bytes_that_are_no_packet_change_nothing(junk in prop::collection::vec(any::<u8>(), 0..1_300)) {
        let mut cluster = Cluster::new(2);
        let server = cluster.servers.get_mut(&id(1)).unwrap();
        let before = format!("{server:?}");
        prop_assert!(server.receive(cluster.now, id(2), &junk).is_err());
        prop_assert_eq!(format!("{server:?}"), before);
    }

    /// Whatever a peer says, this server goes on and is a member again soon.
    #[test]
    fn any_packet_of_a_peer_is_survived(
        said in prop::collection::vec((messages(), members(), any::<u32>()), 1..20),
    ) {
        let mut cluster = Cluster::new(3);
        for (message, members, renewal) in said {
            let src = Name { renewal, ..cluster.name(2) };
            let empty = matches!(message, Message::Announce | Message::TurnUndead);
            let bytes = packet(src, cluster.name(1), message, if empty { vec![] } else { members });
            let now = cluster.now;
            let server = cluster.servers.get_mut(&id(1)).unwrap();
            let outputs = server.receive(now, id(2), &bytes).unwrap_or_default();
            cluster.follow(id(1), outputs);
            cluster.pass(50);
            let timers = cluster.servers[&id(1)].timers.len();
            prop_assert!(timers <= 5 + 3, "{timers} timers");
        }
        cluster.pass(10_000);
        for (n, others) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
            prop_assert_eq!(cluster.up(n), others);
        }
    }
}
