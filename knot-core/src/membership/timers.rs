//! The timers that foca has armed: at most one of each sort, and one of suspicion for each server.

use std::{collections::BTreeMap, time::Duration};

use foca::Timer;

use super::name::Name;
use crate::id::ServerId;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Probe,
    Indirect,
    Announce,
    AnnounceDown,
    Gossip,
    Suspicion(ServerId),
    Removal(ServerId),
}

impl Sort {
    fn of(timer: &Timer<Name>) -> Self {
        match timer {
            Timer::ProbeRandomMember(_) => Self::Probe,
            Timer::SendIndirectProbe { .. } => Self::Indirect,
            Timer::PeriodicAnnounce(_) => Self::Announce,
            Timer::PeriodicAnnounceDown(_) => Self::AnnounceDown,
            Timer::PeriodicGossip(_) => Self::Gossip,
            Timer::ChangeSuspectToDown { member_id, .. } => Self::Suspicion(member_id.server),
            Timer::RemoveDown(name) => Self::Removal(name.server),
        }
    }
}

/// Armed timers. foca counts a token up whenever it starts over, and what it armed before is void:
/// so a newer timer of a sort takes the place of an older, and their number stays bounded.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<Sort, (Duration, Timer<Name>)>);

impl Timers {
    pub(super) fn arm(&mut self, at: Duration, timer: Timer<Name>) {
        let sort = Sort::of(&timer);
        // A suspicion that is repeated does not begin anew.
        if self.0.get(&sort).is_none_or(|(_, armed)| *armed != timer) {
            self.0.insert(sort, (at, timer));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.values().map(|(at, _)| *at).min()
    }

    /// Takes out what is due, in the order that foca wants where several are late.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Timer<Name>> {
        let due = self.0.extract_if(.., |_, (at, _)| *at <= now);
        let mut due: Vec<_> = due.map(|(_, (_, timer))| timer).collect();
        due.sort_unstable();
        due
    }
}
