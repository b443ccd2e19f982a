//! Virtual links: ordered streams that break and come again, or, to prove that nothing depends on
//! order, single messages that are lost, doubled and reordered.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use rand::{RngExt as _, rngs::StdRng};

use super::Failure;
use crate::{sync::Message, wire};

/// How the network carries messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The delay of a message, in milliseconds.
    pub delay: RangeInclusive<u64>,
    /// How links carry messages.
    pub carriage: Carriage,
}

/// How links carry messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carriage {
    /// As QUIC streams do: in order and complete, until the link breaks.
    Ordered,
    /// Each message by itself, in any order.
    Loose {
        /// The share of messages that are lost, in percent; none once the world is healed.
        loss: u8,
        /// The share of messages that arrive twice, in percent.
        twice: u8,
    },
}

impl Default for Network {
    fn default() -> Self {
        Self { delay: 1..=20, carriage: Carriage::Ordered }
    }
}

/// Messages and bytes that were sent, by the name of the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Number and bytes, by the name of the message.
    pub by_message: BTreeMap<&'static str, (u64, u64)>,
}

impl Traffic {
    /// All bytes, frame headers counted.
    pub fn bytes(&self) -> u64 {
        self.by_message.values().map(|(_, bytes)| bytes).sum()
    }

    /// The bytes of messages other than roots, which are always exchanged.
    pub fn bytes_beyond_roots(&self) -> u64 {
        self.bytes() - self.by_message.get("Root").map_or(0, |(_, bytes)| *bytes)
    }

    /// How many messages of a name were sent.
    pub fn messages(&self, name: &str) -> u64 {
        self.by_message.get(name).map_or(0, |(count, _)| *count)
    }

    fn count(&mut self, message: &Message, bytes: usize) {
        let (count, sum) = self.by_message.entry(message.name()).or_default();
        *count += 1;
        *sum += u64::try_from(bytes).unwrap_or(u64::MAX);
    }
}

/// Two servers by their places, the lower first.
pub(super) type Pair = (usize, usize);

pub(super) fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

/// One link between two servers.
#[derive(Debug, Default)]
struct Link {
    /// The number of the connection; what was sent over an earlier one never arrives.
    epoch: u64,
    /// Whether the connection lives. Its ends learn of both later.
    alive: bool,
    ends: [End; 2],
}

#[derive(Debug, Default)]
struct End {
    /// The connection that the server at this end counts as its link.
    epoch: Option<u64>,
    /// When this end learns of the living connection.
    learns: Duration,
    /// When the last ordered message to this end arrives.
    last: Duration,
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) epoch: u64,
    pub(super) frame: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Links {
    network: Network,
    links: BTreeMap<Pair, Link>,
    cut: BTreeSet<Pair>,
    lossless: bool,
    pub(super) traffic: Traffic,
}

impl Links {
    pub(super) fn new(network: Network) -> Self {
        let (links, cut, traffic) = Default::default();
        Self { network, links, cut, lossless: false, traffic }
    }

    /// Separates the groups; a server in none of them stands alone.
    pub(super) fn cut(&mut self, servers: usize, groups: &[&[usize]]) {
        let group = |at: usize| groups.iter().position(|group| group.contains(&at));
        self.cut.clear();
        for a in 0..servers {
            for b in a + 1..servers {
                if group(a).is_none() || group(a) != group(b) {
                    self.cut.insert((a, b));
                }
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// From now on nothing is lost, whatever the network.
    pub(super) fn set_lossless(&mut self, lossless: bool) {
        self.lossless = lossless;
    }

    pub(super) fn is_cut(&self, pair: Pair) -> bool {
        self.cut.contains(&pair)
    }

    pub(super) fn is_alive(&self, pair: Pair) -> bool {
        self.links.get(&pair).is_some_and(|link| link.alive)
    }

    /// Makes a connection; returns its number and when each end learns of it.
    pub(super) fn connect(
        &mut self,
        pair: Pair,
        now: Duration,
        rng: &mut StdRng,
    ) -> (u64, [Duration; 2]) {
        let link = self.links.entry(pair).or_default();
        link.epoch += 1;
        link.alive = true;
        for end in &mut link.ends {
            end.learns = now + Duration::from_millis(rng.random_range(1..=30));
            end.last = end.learns;
        }
        let [a, b] = &link.ends;
        (link.epoch, [a.learns, b.learns])
    }

    /// Ends the connection; its ends do not know yet. Returns its number if there was one.
    pub(super) fn disconnect(&mut self, pair: Pair) -> Option<u64> {
        let link = self.links.get_mut(&pair).filter(|link| link.alive)?;
        link.alive = false;
        Some(link.epoch)
    }

    /// An end learns of a connection. Returns whether it counts, and whether it replaces one that
    /// the end still counted on.
    pub(super) fn learn_up(&mut self, at: usize, peer: usize, epoch: u64) -> (bool, bool) {
        let Some(end) = self.end(at, peer) else { return (false, false) };
        if end.epoch.is_some_and(|known| known >= epoch) {
            return (false, false);
        }
        (true, end.epoch.replace(epoch).is_some())
    }

    /// An end learns that a connection has ended. Returns whether it had counted on that one.
    pub(super) fn learn_down(&mut self, at: usize, peer: usize, epoch: u64) -> bool {
        let Some(end) = self.end(at, peer) else { return false };
        let counts = end.epoch == Some(epoch);
        if counts {
            end.epoch = None;
        }
        counts
    }

    /// A server that has crashed knows of no connection.
    pub(super) fn forget(&mut self, at: usize) {
        for ((a, b), link) in &mut self.links {
            let [first, second] = &mut link.ends;
            if *a == at {
                first.epoch = None;
            } else if *b == at {
                second.epoch = None;
            }
        }
    }

    /// Sends a message; returns the copies that are on their way and when each arrives.
    pub(super) fn send(
        &mut self,
        now: Duration,
        (from, to): (usize, usize),
        message: &Message,
        rng: &mut StdRng,
    ) -> Result<Vec<(Duration, Parcel)>, Failure> {
        let Some(epoch) = self.end(from, to).and_then(|end| end.epoch) else {
            return Ok(Vec::new());
        };
        let frame = wire::encode_frame(message, wire::MAX_PEER_FRAME)
            .map_err(|error| Failure::new(format!("a message cannot be sent: {error}")))?;
        self.traffic.count(message, frame.len());
        let Some(link) = self.links.get_mut(&pair(from, to)) else { return Ok(Vec::new()) };
        if !link.alive || link.epoch != epoch {
            return Ok(Vec::new());
        }
        let [first, second] = &mut link.ends;
        let end = if to < from { first } else { second };
        let mut delay = || Duration::from_millis(rng.random_range(self.network.delay.clone()));
        let parcel = Parcel { from, to, epoch, frame };
        let Carriage::Loose { loss, twice } = self.network.carriage else {
            let arrives = (now + delay()).max(end.last);
            end.last = arrives;
            return Ok(vec![(arrives, parcel)]);
        };
        let (first, second) = ((now + delay()).max(end.learns), (now + delay()).max(end.learns));
        let lost = !self.lossless && rng.random_range(0..100) < loss;
        let doubled = rng.random_range(0..100) < twice;
        Ok(match (lost, doubled) {
            (true, _) => Vec::new(),
            (false, false) => vec![(first, parcel)],
            (false, true) => vec![(first, parcel.clone()), (second, parcel)],
        })
    }

    /// The message of a parcel that arrives, if its connection still counts.
    pub(super) fn arrive(&mut self, parcel: &Parcel) -> Result<Option<Message>, Failure> {
        let alive = self
            .links
            .get(&pair(parcel.from, parcel.to))
            .is_some_and(|link| link.alive && link.epoch == parcel.epoch);
        let known = self.end(parcel.to, parcel.from).and_then(|end| end.epoch);
        if !alive || known != Some(parcel.epoch) {
            return Ok(None);
        }
        wire::decode(parcel.frame.get(4..).unwrap_or_default())
            .map(Some)
            .map_err(|error| Failure::new(format!("a message cannot be read: {error}")))
    }

    fn end(&mut self, at: usize, peer: usize) -> Option<&mut End> {
        let link = self.links.get_mut(&pair(at, peer))?;
        let [first, second] = &mut link.ends;
        Some(if at < peer { first } else { second })
    }
}
