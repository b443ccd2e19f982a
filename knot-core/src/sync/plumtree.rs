//! How news spreads where there are too many servers to send it to each: along a tree of links that
//! repairs itself (Leitão, Pereira and Rodrigues, "Epidemic Broadcast Trees", 2007).
//!
//! News is pushed to a few *eager* peers, which push it on; a few others hear its name only, in an
//! [`IHave`](super::Message::IHave), and ask for what did not come the other way, with a
//! [`Graft`](super::Message::Graft), which makes their link eager. Who gets news twice over and over
//! makes the worst of its links lazy, with a [`Prune`](super::Message::Prune). Three things differ
//! from the paper, since every server is linked to every other and any of them begins news:
//!
//! - Eager links are to *near* peers, by round-trip time. Where news begins it also goes to some
//!   *seeds*, spread over all that are farther, so that it crosses the long links once.
//! - A duplicate alone is no reason to prune: a link that is useless for one origin carries another's
//!   news first. A server prunes while more than a share of what it gets is duplicate.
//! - `IHave` goes to a few peers, drawn anew each time, not to all: reconciliation is behind it.
//!
//! Pure: `now` and the seed of the randomness come in, and what is to be sent comes out.

mod missing;
mod recent;
mod view;

use std::{collections::BTreeMap, time::Duration};

use missing::Missing;
use rand::{SeedableRng as _, rngs::StdRng};
use recent::Recent;
use view::Link;

use super::{message::Message, packed::Items, tree::ItemKey};
use crate::id::ServerId;

/// What one piece of news is known by: its item, and 64 bits of the hash of the change, or of the
/// item's digest.
pub type NewsId = (ItemKey, u64);

/// Up to so many linked peers, news goes from where it begins straight to each.
const DIRECT: usize = 30;
/// How long names are gathered for an `IHave`.
const GATHER: Duration = Duration::from_millis(5);
/// The most names in one `IHave`.
const NAMES: usize = 4_096;
/// The most names that wait for the next `IHave`: what is beyond, reconciliation finds.
const GATHERED: usize = 16_384;
/// What is waited for a peer whose round-trip time is not known.
const UNKNOWN: Duration = Duration::from_millis(100);
/// The share of duplicates to first receptions above which a server prunes, in percent.
const REDUNDANT: u64 = 100;
/// A server prunes at most one link in so many first receptions.
const MEASURED: u64 = 16;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this to that peer.
    Send(ServerId, Message),
    /// Send that peer a `Graft` for these items, saying what is held of each.
    Graft(ServerId, Vec<ItemKey>),
    /// Asking was in vain: tell that peer the root.
    Probe(ServerId),
}

/// The links of one server along which news spreads, and what is known of news that has not come.
#[derive(Debug)]
pub struct Plumtree {
    direct: usize,
    /// There are many links, or a peer that has many has pushed news here.
    is_used: bool,
    rng: StdRng,
    links: BTreeMap<ServerId, Link>,
    /// Links have come or gone, or their round-trip times, since eager peers and seeds were chosen.
    stale: Option<Duration>,
    /// How many near peers there were when eager ones were last drawn.
    drawn_from: usize,
    /// What is to be sent at the next tick.
    outbox: Vec<Output>,
    recent: Recent,
    missing: Missing,
    gathered: Vec<NewsId>,
    gathered_since: Option<Duration>,
    /// News that came first, and again: both halved now and then.
    firsts: u64,
    duplicates: u64,
}

impl Plumtree {
    /// No links, and nothing heard.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            direct: DIRECT,
            is_used: false,
            rng: StdRng::from_seed(seed),
            links: BTreeMap::new(),
            stale: None,
            drawn_from: 0,
            outbox: Vec::new(),
            recent: Recent::default(),
            missing: Missing::default(),
            gathered: Vec::new(),
            gathered_since: None,
            firsts: 0,
            duplicates: 0,
        }
    }

    /// Up to so many linked peers, news that begins here is for each of them, without a tree.
    pub fn set_direct(&mut self, peers: usize) {
        self.direct = peers;
        self.is_used |= !self.is_direct();
    }

    /// Whether news that begins here is for each linked peer.
    pub fn is_direct(&self) -> bool {
        self.links.len() <= self.direct
    }

    /// A peer is linked.
    pub fn peer_up(&mut self, now: Duration, id: ServerId) {
        self.links.insert(id, Link::default());
        self.is_used |= !self.is_direct();
        self.stale.get_or_insert(now);
    }

    /// The link to a peer is gone.
    pub fn peer_down(&mut self, now: Duration, id: ServerId) {
        self.links.remove(&id);
        self.missing.forget(id);
        self.stale.get_or_insert(now);
    }

    /// The round-trip time to a peer, as last measured.
    pub fn round_trip(&mut self, now: Duration, id: ServerId, time: Duration) {
        if let Some(link) = self.links.get_mut(&id) {
            let differs = |before: Duration| time > 2 * before || before > 2 * time;
            if link.round_trip.replace(time).is_none_or(differs) {
                self.stale.get_or_insert(now);
            }
        }
    }

    /// Whether news is held, as far as is remembered: if so, it need not be looked at again.
    pub fn knows(&self, id: &NewsId) -> bool {
        self.recent.holds(id)
    }

    /// News that began here is held now. Returns whom to push it to.
    pub fn began(&mut self, now: Duration, news: &[NewsId]) -> Vec<ServerId> {
        self.choose(now);
        self.hold(now, news);
        self.targets(|link| link.is_eager || link.is_seed)
    }

    /// News that was pushed by a peer is held now. Returns whom to push it to.
    pub fn came(&mut self, now: Duration, from: ServerId, news: &[NewsId]) -> Vec<ServerId> {
        self.is_used = true;
        let count = u64::try_from(news.len()).unwrap_or(u64::MAX);
        self.firsts = self.firsts.saturating_add(count);
        if let Some(link) = self.links.get_mut(&from) {
            link.useful(count);
        }
        self.halve();
        self.choose(now);
        self.hold(now, news);
        let mut targets = self.targets(|link| link.is_eager);
        targets.retain(|target| *target != from);
        targets
    }

    /// Something is held now that came another way: it is passed on by reconciliation.
    pub fn holds(&mut self, id: NewsId) {
        self.recent.insert(id);
        self.missing.came(&id);
    }

    /// A peer pushed so much that was held already.
    pub fn came_again(&mut self, now: Duration, from: ServerId, count: u64) -> Vec<Output> {
        self.duplicates = self.duplicates.saturating_add(count);
        let redundant = self.duplicates * 100 > self.firsts.saturating_mul(REDUNDANT);
        self.halve();
        let eager = self.links.values().filter(|link| link.is_eager).count();
        let Some(link) = self.links.get_mut(&from) else { return Vec::new() };
        link.useless(count);
        if !redundant
            || self.firsts < MEASURED
            || eager <= view::KEPT
            || !link.is_eager
            || !link.is_poor()
        {
            return Vec::new();
        }
        link.set_eager(false);
        // What it saves has to show before another is pruned.
        (self.firsts, self.duplicates) = (0, 0);
        self.stale.get_or_insert(now);
        vec![Output::Send(from, Message::Prune)]
    }

    /// A peer has news of these names.
    pub fn i_have(&mut self, now: Duration, from: ServerId, names: &Items) {
        let Some(link) = self.links.get(&from) else { return };
        let round_trip = link.round_trip.unwrap_or(UNKNOWN);
        for name in names.read(NAMES).filter(|name| !self.recent.holds(name)) {
            self.missing.heard(now, from, round_trip, name);
        }
    }

    /// A peer asks to be pushed to.
    pub fn graft(&mut self, id: ServerId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.set_eager(true);
        }
    }

    /// A peer asks not to be pushed to.
    pub fn prune(&mut self, now: Duration, id: ServerId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.set_eager(false);
            self.stale.get_or_insert(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Output> {
        self.choose(now);
        let mut outputs = std::mem::take(&mut self.outbox);
        if self.gathered_since.is_some_and(|since| now >= since + GATHER) {
            self.gathered_since = None;
            let names = std::mem::take(&mut self.gathered);
            let to = self.listeners();
            for names in names.chunks(NAMES) {
                let message = Message::IHave(Items::new(names));
                outputs.extend(to.iter().map(|to| Output::Send(*to, message.clone())));
            }
        }
        for (id, keys) in self.missing.due(now) {
            match self.links.get_mut(&id) {
                Some(link) if !keys.is_empty() => {
                    link.set_eager(true);
                    outputs.push(Output::Graft(id, keys));
                }
                Some(_) => outputs.push(Output::Probe(id)),
                None => {}
            }
        }
        outputs
    }

    /// When [`Plumtree::tick`] has something to do, at the latest.
    pub fn wake(&self) -> Option<Duration> {
        let gathered = self.gathered_since.map(|since| since + GATHER);
        let stale = self.stale.filter(|_| self.is_used).map(|since| since + view::SETTLE);
        let outbox = (!self.outbox.is_empty()).then_some(Duration::ZERO);
        [outbox, gathered, stale, self.missing.next()].into_iter().flatten().min()
    }

    fn hold(&mut self, now: Duration, news: &[NewsId]) {
        for id in news {
            self.recent.insert(*id);
            self.missing.came(id);
        }
        let room = GATHERED.saturating_sub(self.gathered.len());
        self.gathered.extend(news.iter().take(room));
        self.gathered_since.get_or_insert(now);
    }

    fn targets(&self, chosen: impl Fn(&Link) -> bool) -> Vec<ServerId> {
        self.links.iter().filter(|(_, link)| chosen(link)).map(|(id, _)| *id).collect()
    }

    fn halve(&mut self) {
        if self.firsts + self.duplicates > 128 {
            self.firsts /= 2;
            self.duplicates /= 2;
        }
    }
}

#[cfg(test)]
mod tests;
