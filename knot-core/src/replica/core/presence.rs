//! Peers that come and go, and what linked servers say they observe now.

use std::{collections::BTreeSet, time::Duration};

use super::{Changed, Core, Effects, EngineInput};
use crate::{
    id::{DocId, ServerId},
    store::Record,
    sync::Message,
};

/// How many records are told in one message: more might not fit into a frame.
const AT_ONCE: usize = 512;

impl Core {
    pub(super) fn peer_up(&mut self, now: Duration, peer: ServerId, effects: &mut Effects) {
        self.gossip.peer_up(now, peer);
        self.engine_input(now, EngineInput::PeerUp(peer), effects);
        let own: Vec<_> = self.read(|index| {
            index.presence.values().filter(|one| one.server == self.me).cloned().collect()
        });
        for some in own.chunks(AT_ONCE) {
            effects.sends.push((vec![peer], Message::Presence(some.to_vec())));
        }
        self.holder_up(peer, effects);
    }

    /// A peer that is not linked observes nothing that we could rely on.
    pub(super) fn peer_down(&mut self, now: Duration, peer: ServerId, effects: &mut Effects) {
        self.gossip.peer_down(now, peer);
        self.engine_input(now, EngineInput::PeerDown(peer), effects);
        self.holder_down(peer);
        let mut changed = BTreeSet::new();
        self.write(|index| {
            index.presence.retain(|(subject, server), _| {
                if *server == peer {
                    changed.insert(Changed::Record(*subject));
                }
                *server != peer
            });
        });
        self.shown.watches.tell(&changed);
    }

    pub(super) fn present(
        &mut self,
        subject: DocId,
        value: Option<bytes::Bytes>,
        effects: &mut Effects,
    ) {
        let record = self.own_record(subject, value);
        let peers: Vec<_> = self.engine.peers().collect();
        effects.sends.push((peers, Message::Presence(vec![record.clone()])));
        self.show_presence(vec![record]);
    }

    /// Presence is taken from the server itself only: it is never passed on.
    pub(super) fn hear_presence(&mut self, peer: ServerId, records: Vec<Record>) {
        self.show_presence(records.into_iter().filter(|one| one.server == peer).collect());
    }

    fn show_presence(&mut self, records: Vec<Record>) {
        let changed = records.iter().map(|record| Changed::Record(record.subject)).collect();
        self.write(|index| {
            for record in records {
                let key = (record.subject, record.server);
                if record.value.is_some() {
                    index.presence.insert(key, record);
                } else {
                    index.presence.remove(&key);
                }
            }
        });
        self.shown.watches.tell(&changed);
    }

    pub(super) fn own_record(&mut self, subject: DocId, value: Option<bytes::Bytes>) -> Record {
        self.number += 1;
        Record { subject, server: self.me, run: self.run, n: self.number, value }
    }
}
