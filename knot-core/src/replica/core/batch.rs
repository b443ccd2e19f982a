//! One batch: what will be written in one transaction, and who waits for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::{CommitError, Core, Effects, cut, wire_size};
use crate::{
    clock::Millis,
    doc::{Compaction, Held, StoredChange, View, wall},
    id::{Author, ChangeHash, DocId, ServerId},
    replica::{EditError, index::Entry},
    schema::{Scalar, Schema},
    store::{Grave, Record, Transaction},
    sync::{Answer, DocChanges, ItemKey, Message, Want, plumtree::NewsId},
};

/// Reads the document as it stands and says what to put; or refuses.
pub(crate) type EditFn =
    Box<dyn FnOnce(Option<&Entry>) -> Result<BTreeMap<String, Scalar>, EditError> + Send>;

/// Told the heads of the document once they are durable.
pub(crate) type Reply = Box<dyn FnOnce(Result<Vec<ChangeHash>, EditError>) + Send>;

/// What a batch will write. Readers see nothing of it before it is committed; later inputs of the
/// same batch do.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<(DocId, Held)>,
    pub(super) entries: BTreeMap<DocId, Entry>,
    pub(super) graves: BTreeMap<DocId, Grave>,
    compactions: BTreeMap<DocId, Compaction>,
    pub(super) purges: Vec<DocId>,
    /// With the peer each came from; `None` for our own.
    pub(super) records: BTreeMap<(DocId, ServerId), (Record, Option<ServerId>)>,
    /// Changes and graves that began here.
    own_changes: Vec<(DocId, Bytes)>,
    own_graves: Vec<Grave>,
    /// Documents of which a peer sent changes whose dependencies are not held.
    pub(super) missing: BTreeSet<(ServerId, DocId)>,
    /// From whom each piece of pushed news came first, after how many hops.
    pub(super) heard: HashMap<NewsId, (ServerId, u8)>,
    replies: Vec<(Reply, Result<Vec<ChangeHash>, EditError>)>,
}

impl Batch {
    pub(super) fn reply(&mut self, reply: Reply, outcome: Result<Vec<ChangeHash>, EditError>) {
        self.replies.push((reply, outcome));
    }

    /// Writes a record, if it is newer than what the batch has.
    pub(super) fn record(&mut self, record: Record, from: Option<ServerId>) {
        let key = (record.subject, record.server);
        let newer = self.records.get(&key).is_none_or(|(known, _)| order(known) < order(&record));
        if newer {
            self.records.insert(key, (record, from));
        }
    }

    pub(super) fn transaction(&self, schema: &Schema, now: Millis) -> Transaction {
        let lives = |doc: &DocId| !self.graves.contains_key(doc);
        let changes = self.changes.iter().filter(|(doc, _)| lives(doc));
        let compactions = self.compactions.iter().filter(|(doc, _)| lives(doc));
        Transaction {
            changes: changes.map(|(doc, held)| (*doc, StoredChange::from(held))).collect(),
            documents: self
                .entries
                .iter()
                .map(|(doc, entry)| entry.to_stored(*doc, schema))
                .collect(),
            compactions: compactions.map(|(doc, one)| (*doc, one.clone())).collect(),
            graves: self.graves.values().map(|grave| (*grave, now)).collect(),
            records: self.records.values().map(|(record, _)| record.clone()).collect(),
            purges: self.purges.clone(),
        }
    }

    /// What began here, cut into frames.
    pub(super) fn own_news(&self) -> Vec<Answer> {
        let living = self.own_changes.iter().filter(|(doc, _)| !self.graves.contains_key(doc));
        let changes = living.map(|(doc, bytes)| {
            let changes = vec![DocChanges { doc: *doc, changes: vec![bytes.clone()] }];
            (bytes.len() + 64, Answer { changes, ..Answer::default() })
        });
        let graves = self
            .own_graves
            .iter()
            .map(|grave| (96, Answer { graves: vec![*grave], ..Answer::default() }));
        let own = self.records.values().filter(|(_, from)| from.is_none());
        let records = own.map(|(record, _)| {
            let size = wire_size(record);
            (size, Answer { records: vec![record.clone()], ..Answer::default() })
        });
        cut(changes.chain(graves).chain(records))
    }

    /// What a document's changes are to be kept as, once those of this batch are kept.
    fn compact(&mut self, doc: DocId, compaction: Compaction) {
        if compaction.is_empty() {
            return;
        }
        let all = self.compactions.entry(doc).or_default();
        all.chunks.extend(compaction.chunks);
        all.base = compaction.base.or(all.base.take());
    }

    /// Tells everybody who waits.
    pub(super) fn answer(self, committed: Result<(), CommitError>) {
        for (reply, outcome) in self.replies {
            reply(match &committed {
                Ok(()) => outcome,
                Err(error) => outcome.and(Err(EditError::Commit(error.clone()))),
            });
        }
    }
}

impl Core {
    pub(super) fn edit(
        &mut self,
        batch: &mut Batch,
        doc: DocId,
        must_exist: bool,
        author: Author,
        time: Millis,
        edit: EditFn,
    ) -> Result<Vec<ChangeHash>, EditError> {
        if self.is_dead(batch, doc) {
            return Err(EditError::Dead(doc));
        }
        let entry = self.entry(batch, doc);
        if must_exist && entry.is_none() {
            return Err(EditError::Unknown(doc));
        }
        let puts = edit(entry.as_ref())?;
        let keys: Vec<String> = puts.keys().cloned().collect();
        let shown = entry.as_ref().map(|entry| &*entry.heads);
        let Self { library, store, rng, schema, .. } = self;
        let document = library
            .get(&mut **store, doc, shown)
            .map_err(|error| EditError::Commit(error.into()))?;
        let held = document.edit(puts, author, time, || Self::random(rng))?;
        let Some(held) = held else { return Ok(document.heads()) };
        let view = entry.map_or_else(View::default, |entry| (*entry.view).clone());
        let view = document.refreshed(doc.kind, schema, view, keys.iter().map(String::as_str));
        let heads = document.heads();
        batch.compact(doc, document.compact());
        batch.own_changes.push((doc, held.bytes.clone()));
        batch.changes.push((doc, held));
        batch.entries.insert(doc, Entry::new(doc.kind, schema, heads.clone(), view));
        Ok(heads)
    }

    pub(super) fn delete(
        &mut self,
        batch: &mut Batch,
        doc: DocId,
        by: Author,
        at: Millis,
    ) -> Result<Vec<ChangeHash>, EditError> {
        if self.is_dead(batch, doc) {
            return Ok(Vec::new());
        }
        if self.entry(batch, doc).is_none() {
            return Err(EditError::Unknown(doc));
        }
        let grave = Grave { doc, by, at };
        batch.own_graves.push(grave);
        bury(batch, grave);
        Ok(Vec::new())
    }

    /// Takes what a peer has sent: it is held, stored and shown with the batch's commit.
    pub(super) fn receive(
        &mut self,
        batch: &mut Batch,
        peer: ServerId,
        news: Answer,
        effects: &mut Effects,
    ) {
        for grave in news.graves {
            if !self.is_dead(batch, grave.doc) {
                bury(batch, grave);
            }
        }
        for record in news.records {
            self.receive_record(batch, peer, record);
        }
        let mut by_document: BTreeMap<DocId, Vec<Bytes>> = BTreeMap::new();
        for DocChanges { doc, changes } in news.changes {
            by_document.entry(doc).or_default().extend(changes);
        }
        for (doc, changes) in by_document {
            let (sound, bad): (Vec<_>, Vec<_>) =
                changes.iter().map(wall::inspect).partition(Result::is_ok);
            if let Some(malformed) = bad.into_iter().find_map(Result::err) {
                effects.offenders.push((peer, format!("{doc}: {malformed}")));
            }
            self.receive_changes(batch, peer, doc, sound.into_iter().flatten().collect());
        }
    }

    fn receive_changes(
        &mut self,
        batch: &mut Batch,
        peer: ServerId,
        doc: DocId,
        mut changes: Vec<wall::Checked>,
    ) {
        if self.is_dead(batch, doc) {
            return;
        }
        changes.extend(self.pending.take(doc));
        let entry = self.entry(batch, doc);
        let shown = entry.as_ref().map(|entry| &*entry.heads);
        let Self { library, store, schema, pending, .. } = self;
        // What rests is read from the store, which does not have this batch yet.
        let unstored = batch.entries.contains_key(&doc);
        if unstored && !library.can_receive(doc, &changes) {
            if pending.keep(doc, changes) {
                batch.missing.insert((peer, doc));
            }
            return;
        }
        let document = match library.get_for(&mut **store, doc, shown, &changes) {
            Ok(document) => document,
            Err(error) => {
                tracing::error!(%doc, %error, "changes were dropped: the document cannot be read");
                return;
            }
        };
        let receipt = document.receive(changes);
        if !receipt.forks.is_empty() {
            let forks = &receipt.forks;
            tracing::error!(%doc, %peer, ?forks, "changes with one actor and number: two servers run on copies of one disk, or one was restored while it ran");
        }
        if !receipt.waiting.is_empty() && pending.keep(doc, receipt.waiting) {
            batch.missing.insert((peer, doc));
        }
        if receipt.held.is_empty() {
            return;
        }
        let view = document.view(doc.kind, schema);
        batch.entries.insert(doc, Entry::new(doc.kind, schema, document.heads(), view));
        batch.compact(doc, document.compact());
        batch.changes.extend(receipt.held.into_iter().map(|held| (doc, held)));
    }

    /// Asks peers for what the changes that they sent depend on.
    pub(super) fn ask_for_missing(
        &mut self,
        missing: BTreeSet<(ServerId, DocId)>,
        effects: &mut Effects,
    ) {
        for (peer, doc) in missing {
            let key = ItemKey::document(doc);
            let want = Want { key, have: self.have(doc) };
            effects.sends.push((vec![peer], Message::Pull { number: 0, wants: vec![want] }));
        }
    }

    fn receive_record(&mut self, batch: &mut Batch, peer: ServerId, record: Record) {
        let key = (record.subject, record.server);
        let in_batch = batch.records.get(&key).map(|(record, _)| record.clone());
        let known = in_batch.or_else(|| self.read(|index| index.records.get(&key).cloned()));
        if record.server != self.me {
            if known.is_none_or(|known| order(&known) < order(&record)) {
                batch.record(record, Some(peer));
            }
            return;
        }
        // Our own word from a life that this database does not remember: say anew what was said in
        // this life, or else what was heard, which is later than what the database has.
        let number = (record.run, record.n);
        let forgotten = |known: &Record| (known.run, known.n) <= number && *known != record;
        if !known.as_ref().is_none_or(forgotten) {
            return;
        }
        self.run = self.run.max(record.run.saturating_add(1));
        let said = known.filter(|known| known.run >= self.first_run);
        let value = said.map_or(record.value, |known| known.value);
        let renewed = self.own_record(record.subject, value);
        batch.record(renewed, None);
    }

    fn is_dead(&self, batch: &Batch, doc: DocId) -> bool {
        batch.graves.contains_key(&doc) || self.read(|index| index.graves.contains_key(&doc))
    }

    /// The document as the batch leaves it so far.
    pub(super) fn entry(&self, batch: &Batch, doc: DocId) -> Option<Entry> {
        let in_batch = batch.entries.get(&doc).cloned();
        in_batch.or_else(|| self.read(|index| index.documents.get(&doc).cloned()))
    }
}

/// Which of two records of one server replaces the other. Two with one number come from two lives of
/// a server whose database was restored: any order will do, if it is the same everywhere.
fn order(record: &Record) -> (u64, u64, Option<&[u8]>) {
    (record.run, record.n, record.value.as_deref())
}

fn bury(batch: &mut Batch, grave: Grave) {
    batch.entries.remove(&grave.doc);
    batch.graves.insert(grave.doc, grave);
}
