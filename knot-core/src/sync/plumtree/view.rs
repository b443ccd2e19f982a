//! Which links are eager, which are seeds, and who hears names.

use std::time::Duration;

use rand::{RngExt as _, seq::SliceRandom as _};

use super::{Output, Plumtree};
use crate::{id::ServerId, sync::message::Message};

/// How many near peers a server makes eager of itself. As many of others make it theirs.
pub(super) const NEAR: usize = 3;
/// So many eager links are never pruned.
pub(super) const KEPT: usize = 2;
/// How many farther peers get news where it begins.
const SEEDS: usize = 16;
/// How many near peers and how many farther ones hear each name.
const NEAR_LISTENERS: usize = 5;
const FAR_LISTENERS: usize = 1;
/// Links come and go together: so long is waited before eager peers are chosen anew.
pub(super) const SETTLE: Duration = Duration::from_millis(100);
/// After so much useless news, more than what was useful, a link is poor.
const POOR: u64 = 4;

/// What is known of one link.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) round_trip: Option<Duration>,
    /// News is pushed over it.
    pub(super) is_eager: bool,
    /// News that begins here is pushed over it.
    pub(super) is_seed: bool,
    is_near: bool,
    /// This server made it eager, when it drew its eager peers.
    is_drawn: bool,
    /// News that came over it first, and news that was held already: both halved now and then.
    firsts: u64,
    duplicates: u64,
}

impl Link {
    pub(super) fn set_eager(&mut self, eager: bool) {
        self.is_eager = eager;
        self.is_drawn &= eager;
        (self.firsts, self.duplicates) = (0, 0);
    }

    pub(super) fn useful(&mut self, count: u64) {
        self.firsts = self.firsts.saturating_add(count);
        self.halve();
    }

    pub(super) fn useless(&mut self, count: u64) {
        self.duplicates = self.duplicates.saturating_add(count);
        self.halve();
    }

    /// Whether most of what comes over it is duplicate.
    pub(super) fn is_poor(&self) -> bool {
        self.duplicates >= POOR && self.duplicates >= 2 * self.firsts
    }

    fn halve(&mut self) {
        if self.firsts + self.duplicates > 32 {
            self.firsts /= 2;
            self.duplicates /= 2;
        }
    }
}

impl Plumtree {
    /// Chooses eager peers and seeds, if links have changed and that is a while ago, or none is eager.
    pub(super) fn choose(&mut self, now: Duration) {
        if !self.is_used {
            return;
        }
        let none = !self.links.values().any(|link| link.is_eager);
        if self.stale.is_none_or(|since| now < since + SETTLE && !none) {
            return;
        }
        self.stale = None;
        let (near, far) = self.by_distance();
        for (ids, is_near) in [(&near, true), (&far, false)] {
            for id in ids {
                if let Some(link) = self.links.get_mut(id) {
                    (link.is_near, link.is_seed) = (is_near, false);
                }
            }
        }
        self.choose_seeds(&far);
        self.choose_eager(near);
    }

    /// Whom to tell the names of news.
    pub(super) fn listeners(&mut self) -> Vec<ServerId> {
        let mut near = self.targets(|link| link.is_near && !link.is_eager);
        let mut far = self.targets(|link| !link.is_near && !link.is_eager);
        near.shuffle(&mut self.rng);
        far.shuffle(&mut self.rng);
        near.into_iter().take(NEAR_LISTENERS).chain(far.into_iter().take(FAR_LISTENERS)).collect()
    }

    /// Peers in the order of their distance, cut where the near ones end: near is what is not much
    /// farther than the nearest few.
    fn by_distance(&mut self) -> (Vec<ServerId>, Vec<ServerId>) {
        let time = |link: &Link| link.round_trip.unwrap_or_default();
        let mut near: Vec<_> = self.links.iter().map(|(id, link)| (time(link), *id)).collect();
        near.shuffle(&mut self.rng);
        near.sort_by_key(|(time, _)| *time);
        let close = near.get(2).map_or(Duration::MAX, |(time, _)| *time * 3);
        let close = close.saturating_add(Duration::from_millis(4));
        let at_least = near.len().min(NEAR + NEAR_LISTENERS);
        let end = near.partition_point(|(time, _)| *time <= close).max(at_least);
        let far = near.split_off(end);
        let ids = |peers: Vec<(Duration, ServerId)>| peers.into_iter().map(|(_, id)| id).collect();
        (ids(near), ids(far))
    }

    /// One seed of each of so many equal parts of the far peers, by distance: that is to say, of each
    /// zone some.
    fn choose_seeds(&mut self, far: &[ServerId]) {
        let seeds = SEEDS.min(far.len());
        for nth in 0..seeds {
            let part = far.get(nth * far.len() / seeds..(nth + 1) * far.len() / seeds);
            let part = part.unwrap_or_default();
            let id = part.get(self.rng.random_range(0..part.len().max(1)));
            if let Some(link) = id.and_then(|id| self.links.get_mut(id)) {
                link.is_seed = true;
            }
        }
    }

    /// Draws eager peers where there are none, where those drawn before have turned out to be far, and
    /// where there are many more to draw from than before.
    fn choose_eager(&mut self, mut near: Vec<ServerId>) {
        let mut draw = near.len() > 2 * self.drawn_from;
        for (id, link) in &mut self.links {
            if link.is_drawn && link.is_eager && !link.is_near {
                link.set_eager(false);
                self.outbox.push(Output::Send(*id, Message::Prune));
                draw = true;
            }
        }
        let eager = |id: &ServerId| self.links.get(id).is_some_and(|link| link.is_eager);
        let drawn = self.links.values().filter(|link| link.is_drawn && link.is_eager).count();
        if !draw && near.iter().any(eager) {
            return;
        }
        self.drawn_from = near.len();
        near.retain(|id| !eager(id));
        near.shuffle(&mut self.rng);
        for id in near.into_iter().take(NEAR.saturating_sub(drawn)) {
            if let Some(link) = self.links.get_mut(&id) {
                link.set_eager(true);
                link.is_drawn = true;
                self.outbox.push(Output::Send(id, Message::Graft(Vec::new())));
            }
        }
    }
}
