//! How news leaves this server, and what is passed on of what comes: see [`crate::sync::plumtree`].

use std::{collections::BTreeMap, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{Batch, Core, Effects, EngineInput, cut, wire_size};
use crate::{
    id::ServerId,
    store::{Grave, Record},
    sync::{
        Answer, DocChanges, ItemKey, Message, Want, dead_digest,
        plumtree::{NewsId, Output},
        record_digest, short_digest,
    },
};

/// What answers a `Graft` has been passed on once at least.
const GRAFTED: u8 = 1;

/// A piece of news, with its size.
type Piece = (usize, Answer);

impl Core {
    /// Of news that a peer pushes, what is not known to be held; where each piece came from first is
    /// kept with the batch.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        batch: &mut Batch,
        peer: ServerId,
        mut news: Answer,
        effects: &mut Effects,
    ) -> Answer {
        self.engine_input(now, EngineInput::News(peer), effects);
        let Some(hops) = news.hops else { return news };
        self.engine_input(now, EngineInput::Spreading, effects);
        let mut again = 0;
        let mut is_first = |id| {
            let known = self.gossip.knows(&id) || batch.heard.contains_key(&id);
            if known {
                again += 1;
            } else {
                batch.heard.insert(id, (peer, hops));
            }
            !known
        };
        for DocChanges { doc, changes } in &mut news.changes {
            let key = ItemKey::document(*doc);
            changes.retain(|change| is_first(change_id(key, change)));
        }
        news.changes.retain(|doc| !doc.changes.is_empty());
        news.graves.retain(|grave| is_first(grave_id(grave)));
        news.records.retain(|record| is_first(record_id(record)));
        if again > 0 {
            let outputs = self.gossip.came_again(now, peer, again);
            self.gossip_outputs(now, outputs, effects);
        }
        news
    }

    /// Passes on what was pushed here and is held now, once its batch is committed.
    pub(super) fn pass_on(&mut self, now: Duration, batch: &Batch, effects: &mut Effects) {
        let mut pushed: BTreeMap<(ServerId, u8), Vec<(NewsId, Piece)>> = BTreeMap::new();
        // A piece is made only of what goes on: in a small cluster nothing does.
        batch.each_new(|id, piece| match batch.heard.get(&id) {
            Some(from) => pushed.entry(*from).or_default().push((id, piece())),
            None => self.gossip.holds(id),
        });
        for ((peer, hops), news) in pushed {
            let (ids, pieces): (Vec<_>, Vec<_>) = news.into_iter().unzip();
            let targets = self.gossip.came(now, peer, &ids);
            self.push(now, &targets, hops.saturating_add(1), cut(pieces), effects);
        }
    }

    /// Sends what began here on its way.
    pub(super) fn begin(&mut self, now: Duration, batch: &Batch, effects: &mut Effects) {
        let own = batch.own_news();
        let ids: Vec<_> = own.iter().flat_map(ids).collect();
        let targets = self.gossip.began(now, &ids);
        self.push(now, &targets, 0, own, effects);
    }

    fn push(
        &mut self,
        now: Duration,
        targets: &[ServerId],
        hops: u8,
        news: Vec<Answer>,
        effects: &mut Effects,
    ) {
        self.engine_input(now, EngineInput::Spreading, effects);
        for answer in news.into_iter().filter(|_| !targets.is_empty()) {
            let message = Message::News(Answer { hops: Some(hops), ..answer });
            effects.sends.push((targets.to_vec(), message));
        }
    }

    /// A peer asks for what we named, and to be pushed to.
    pub(super) fn grafted(&mut self, peer: ServerId, wants: Vec<Want>, effects: &mut Effects) {
        self.gossip.graft(peer);
        for message in self.answer(0, wants) {
            if let Message::News(answer) = message {
                let message = Message::News(Answer { hops: Some(GRAFTED), ..answer });
                effects.sends.push((vec![peer], message));
            }
        }
    }

    pub(super) fn gossip_outputs(
        &mut self,
        now: Duration,
        outputs: Vec<Output>,
        effects: &mut Effects,
    ) {
        for output in outputs {
            match output {
                Output::Send(peer, message) => effects.sends.push((vec![peer], message)),
                Output::Graft(peer, keys) => {
                    let wants = self.wants(keys);
                    effects.sends.push((vec![peer], Message::Graft(wants)));
                }
                Output::Probe(peer) => self.engine_input(now, EngineInput::Missed(peer), effects),
            }
        }
    }
}

impl Batch {
    /// Tells of everything that the batch adds to what is held, and how to make a piece of it.
    fn each_new(&self, mut tell: impl FnMut(NewsId, &dyn Fn() -> Piece)) {
        let living = self.changes.iter().filter(|(doc, _)| !self.graves.contains_key(doc));
        for (doc, held) in living {
            tell(change_id(ItemKey::document(*doc), &held.bytes), &|| {
                let changes = vec![DocChanges { doc: *doc, changes: vec![held.bytes.clone()] }];
                (held.bytes.len() + 64, Answer { changes, ..Answer::default() })
            });
        }
        for grave in self.graves.values() {
            tell(grave_id(grave), &|| (96, Answer { graves: vec![*grave], ..Answer::default() }));
        }
        for (record, _) in self.records.values() {
            tell(record_id(record), &|| {
                let piece = Answer { records: vec![record.clone()], ..Answer::default() };
                (wire_size(record), piece)
            });
        }
    }
}

/// What the pieces of an answer are known by.
fn ids(answer: &Answer) -> impl Iterator<Item = NewsId> {
    let changes = answer.changes.iter().flat_map(|DocChanges { doc, changes }| {
        let key = ItemKey::document(*doc);
        changes.iter().map(move |change| change_id(key, change))
    });
    let graves = answer.graves.iter().map(grave_id);
    changes.chain(graves).chain(answer.records.iter().map(record_id))
}

/// By the change's hash, which is that of its bytes after the magic and the checksum.
fn change_id(key: ItemKey, change: &[u8]) -> NewsId {
    let hash = Sha256::digest(change.get(8..).unwrap_or_default());
    (key, short_digest(&hash.into()))
}

fn grave_id(grave: &Grave) -> NewsId {
    (ItemKey::document(grave.doc), short_digest(&dead_digest()))
}

fn record_id(record: &Record) -> NewsId {
    (ItemKey::record(record.subject, record.server), short_digest(&record_digest(record)))
}
