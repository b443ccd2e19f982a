//! A batch becomes durable, and only then known to readers, watches and peers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Batch, Changed, CommitError, Core, Effects, EngineInput, Item};
use crate::sync::{Message, dead_digest, heads_digest, record_digest};

impl Core {
    /// Makes a batch durable and then known; where that fails, forgets it.
    pub(super) fn commit(&mut self, now: Duration, batch: Batch, effects: &mut Effects) {
        let transaction = batch.transaction(&self.schema, self.wall);
        let result = if transaction.is_empty() { Ok(()) } else { self.store.commit(&transaction) };
        match result {
            Ok(()) => {
                self.publish(now, &batch, effects);
                batch.answer(Ok(()));
            }
            Err(error) => {
                let error = CommitError::Store(Arc::new(error));
                tracing::error!(%error, "a commit failed: nothing of it is acknowledged or sent");
                self.recover(now, &batch, effects);
                batch.answer(Err(error));
            }
        }
    }

    /// Shows a committed batch to readers and watches, and sends what is ours in it.
    pub(super) fn publish(&mut self, now: Duration, batch: &Batch, effects: &mut Effects) {
        let mut changed = BTreeSet::new();
        self.write(|index| {
            for doc in &batch.purges {
                index.purge(doc);
            }
            for doc in batch.graves.keys().chain(batch.entries.keys()) {
                index.recent.note(now, *doc);
            }
            for grave in batch.graves.values() {
                index.bury(*grave, self.wall);
                changed.insert(Changed::Document(grave.doc));
            }
            for (doc, entry) in &batch.entries {
                index.documents.insert(*doc, entry.clone());
                changed.insert(Changed::Document(*doc));
            }
            for (record, _) in batch.records.values() {
                index.records.insert((record.subject, record.server), record.clone());
                changed.insert(Changed::Record(record.subject));
            }
        });
        for grave in batch.graves.values() {
            self.put_item(Item::Document(grave.doc), dead_digest());
            self.library.forget(grave.doc);
            self.pending.forget(grave.doc);
        }
        for (doc, entry) in &batch.entries {
            self.put_item(Item::Document(*doc), heads_digest(&entry.heads));
        }
        for (record, _) in batch.records.values() {
            self.put_item(Item::of(record), record_digest(record));
        }
        self.show_root();
        self.holding.committed(batch.entries.keys().chain(batch.graves.keys()));
        self.shown.watches.tell(&changed);
        self.send_news(now, batch, effects);
        self.pass_on(now, batch, effects);
    }

    /// What began here goes straight to every peer, or where they are many, on its way to them.
    fn send_news(&mut self, now: Duration, batch: &Batch, effects: &mut Effects) {
        let peers: Vec<_> = self.engine.peers().collect();
        if !self.gossip.is_direct() {
            return self.begin(now, batch, effects);
        }
        for answer in batch.own_news() {
            effects.sends.push((peers.clone(), Message::News(answer)));
            for peer in &peers {
                self.engine_input(now, EngineInput::News(*peer), effects);
            }
        }
    }
}
