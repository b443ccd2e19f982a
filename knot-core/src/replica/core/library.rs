//! Documents in memory, in a bounded cache of the store, and answers from them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::{Core, cut, wire_size};
use crate::{
    doc::{AtRest, Document, Layering, Stored, StoredChange, wall, wall::Checked},
    id::{ChangeHash, DocId, ServerId},
    store::{Error as StoreError, Record, Store},
    sync::{Answer, DocChanges, ItemKey, Message, Want},
};

/// The most documents that stay in memory between batches; one of more than a plain change costs
/// 17 KB and more.
const CACHED: usize = 256;
/// How many bytes are sent in answer to one `Pull`; what is left over is asked for again.
const ANSWER: usize = 2 << 20;

/// What is held under one key of the fingerprint tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Document(DocId),
    Record(DocId, ServerId),
}

impl Item {
    pub(super) fn of(record: &Record) -> Self {
        Self::Record(record.subject, record.server)
    }
}

pub(super) struct Library {
    layering: Layering,
    documents: HashMap<DocId, (Document, u64)>,
    uses: u64,
    /// Documents that are not what they were when they were stored: what is shown of them is wrong.
    damaged: BTreeSet<DocId>,
    /// What an item's key stands for: keys are hashes, and peers ask by key.
    names: HashMap<ItemKey, Item>,
}

impl Library {
    pub(super) fn new(layering: Layering) -> Self {
        let (documents, damaged, names) = Default::default();
        Self { layering, documents, uses: 0, damaged, names }
    }

    /// The key of an item, which is remembered.
    pub(super) fn name(&mut self, item: Item) -> ItemKey {
        let key = match item {
            Item::Document(doc) => ItemKey::document(doc),
            Item::Record(subject, server) => ItemKey::record(subject, server),
        };
        self.names.insert(key, item);
        key
    }

    /// The document, from memory or from what is stored of it; empty where nothing is. `shown` are
    /// the heads that it should have.
    pub(super) fn get(
        &mut self,
        store: &mut dyn Store,
        doc: DocId,
        shown: Option<&[ChangeHash]>,
    ) -> Result<&mut Document, StoreError> {
        if !self.documents.contains_key(&doc) {
            // What is not shown is not stored.
            let document = match shown {
                Some(_) => self.read(store, doc, shown, false)?,
                None => Document::new(self.layering),
            };
            self.documents.insert(doc, (document, 0));
        }
        self.uses += 1;
        let (document, used) = self.documents.entry(doc).or_default();
        *used = self.uses;
        Ok(document)
    }

    /// The document, with all its layers where these changes touch layers that rest.
    pub(super) fn get_for(
        &mut self,
        store: &mut dyn Store,
        doc: DocId,
        shown: Option<&[ChangeHash]>,
        changes: &[Checked],
    ) -> Result<&mut Document, StoreError> {
        if !self.get(store, doc, shown)?.can_receive(changes) {
            let document = self.read(store, doc, shown, true)?;
            self.documents.insert(doc, (document, self.uses));
        }
        self.get(store, doc, shown)
    }

    /// Whether a document that is in memory can receive these changes as it is there.
    pub(super) fn can_receive(&self, doc: DocId, changes: &[Checked]) -> bool {
        self.documents.get(&doc).is_none_or(|(document, _)| document.can_receive(changes))
    }

    /// Reads what is stored of a document, whatever is in memory.
    pub(super) fn read(
        &mut self,
        store: &mut dyn Store,
        doc: DocId,
        shown: Option<&[ChangeHash]>,
        whole: bool,
    ) -> Result<Document, StoreError> {
        let (document, damaged) = Document::load(&store.load(doc, whole)?, self.layering);
        let lost = shown.is_some_and(|shown| *shown != *document.heads());
        if damaged || lost {
            tracing::error!(%doc, "stored changes are damaged: peers will be asked");
            self.damaged.insert(doc);
        }
        Ok(document)
    }

    /// Reads a document only to see whether it is damaged: what is left of one that is will be
    /// shown. Whether something of its layers at rest is missing, which nothing shows.
    pub(super) fn scrub(
        &mut self,
        store: &mut dyn Store,
        doc: DocId,
        shown: &[ChangeHash],
    ) -> Result<bool, StoreError> {
        let document = self.read(store, doc, Some(shown), false)?;
        if self.damaged.contains(&doc) {
            self.keep(doc, document);
            return Ok(false);
        }
        Ok(store.load(doc, true)?.damaged)
    }

    /// Keeps a document in memory.
    pub(super) fn keep(&mut self, doc: DocId, document: Document) {
        self.uses += 1;
        self.documents.insert(doc, (document, self.uses));
    }

    /// The documents that were found damaged since this was last asked.
    pub(super) fn damaged(&mut self) -> BTreeSet<DocId> {
        std::mem::take(&mut self.damaged)
    }

    /// Drops what is in memory of a document.
    pub(super) fn forget(&mut self, doc: DocId) {
        self.documents.remove(&doc);
    }

    /// Drops the documents that were not used for longest, down to the bound.
    pub(super) fn trim(&mut self) {
        let excess = self.documents.len().saturating_sub(CACHED);
        if excess == 0 {
            return;
        }
        let mut used: Vec<_> = self.documents.values().map(|(_, used)| *used).collect();
        used.sort_unstable();
        if let Some(last) = used.get(excess - 1) {
            self.documents.retain(|_, (_, used)| *used > *last);
        }
    }
}

impl Core {
    /// What to say when asking for these items.
    pub(super) fn wants(&mut self, keys: Vec<ItemKey>) -> Vec<Want> {
        let want = |key| {
            let have = match self.library.names.get(&key).copied() {
                Some(Item::Document(doc)) => self.have(doc),
                Some(Item::Record(..)) | None => Vec::new(),
            };
            Want { key, have }
        };
        keys.into_iter().map(want).collect()
    }

    /// What is held of a document, in short.
    pub(super) fn have(&mut self, doc: DocId) -> Vec<ChangeHash> {
        let Some(shown) = self.heads_shown(doc) else { return Vec::new() };
        self.library
            .get(&mut *self.store, doc, Some(&shown))
            .map(|document| document.sample())
            .unwrap_or_default()
    }

    fn heads_shown(&self, doc: DocId) -> Option<Arc<[ChangeHash]>> {
        self.read(|index| Some(Arc::clone(&index.documents.get(&doc)?.heads)))
    }

    /// Whether all of these changes are held, or the document is dead.
    pub(super) fn holds(&mut self, doc: DocId, heads: &[ChangeHash]) -> bool {
        if heads.is_empty() || self.read(|index| index.graves.contains_key(&doc)) {
            return true;
        }
        let Some(shown) = self.heads_shown(doc) else { return false };
        if heads.iter().all(|head| shown.contains(head)) {
            return true;
        }
        let all = |document: &Document| -> Result<bool, AtRest> {
            heads.iter().try_fold(true, |all, head| Ok(all && document.holds(head)?))
        };
        let Self { library, store, .. } = self;
        let Ok(document) = library.get(&mut **store, doc, Some(&shown)) else { return false };
        all(document).unwrap_or_else(|AtRest| {
            let whole = library.read(&mut **store, doc, Some(&shown), true);
            whole.is_ok_and(|document| all(&document) == Ok(true))
        })
    }

    /// The messages that answer a `Pull`.
    pub(super) fn answer(&mut self, number: u32, wants: Vec<Want>) -> Vec<Message> {
        let (mut answers, mut rest, mut sent) = (Vec::new(), Vec::new(), 0);
        for want in wants {
            if sent >= ANSWER {
                rest.push(want.key);
                continue;
            }
            for (size, answer) in self.find(&want) {
                sent += size;
                answers.push((size, answer));
            }
        }
        let mut messages: Vec<_> = cut(answers).into_iter().map(Message::News).collect();
        messages.push(Message::Pulled { number, rest });
        messages
    }

    /// What is held of an item beyond what the asker has, in pieces with their sizes. What the asker
    /// has and is not held here, the walk finds: were it asked for now, two that cannot keep what
    /// they get would ask each other without end.
    fn find(&mut self, want: &Want) -> Vec<(usize, Answer)> {
        let doc = match self.library.names.get(&want.key).copied() {
            Some(Item::Document(doc)) => doc,
            Some(Item::Record(subject, server)) => {
                let record = self.read(|index| index.records.get(&(subject, server)).cloned());
                let answer = |record| {
                    let size = wire_size(&record);
                    (size, Answer { records: vec![record], ..Answer::default() })
                };
                return record.map(answer).into_iter().collect();
            }
            None => return Vec::new(),
        };
        if let Some(grave) = self.read(|index| index.graves.get(&doc).copied()) {
            return vec![(96, Answer { graves: vec![grave], ..Answer::default() })];
        }
        match self.changes_since(doc, &want.have) {
            Ok(changes) => {
                let pieces = changes.into_iter().map(|bytes| {
                    let size = bytes.len() + 64;
                    let changes = vec![DocChanges { doc, changes: vec![bytes] }];
                    (size, Answer { changes, ..Answer::default() })
                });
                pieces.collect()
            }
            Err(error) => {
                tracing::error!(%doc, %error, "a peer's request could not be answered");
                Vec::new()
            }
        }
    }

    /// The changes of a document that are held here and that whoever has these lacks.
    fn changes_since(&mut self, doc: DocId, have: &[ChangeHash]) -> Result<Vec<Bytes>, StoreError> {
        let shown = self.heads_shown(doc);
        let Self { library, store, .. } = self;
        if have.is_empty()
            && !library.documents.contains_key(&doc)
            && let Some(changes) = single_changes(store.load(doc, true)?)
        {
            return Ok(changes);
        }
        let document = library.get(&mut **store, doc, shown.as_deref())?;
        document.changes_since(have).or_else(|AtRest| {
            let whole = library.read(&mut **store, doc, shown.as_deref(), true)?;
            Ok(whole.changes_since(have).unwrap_or_default())
        })
    }
}

/// All changes of a document as they are stored, where each stands by itself and is whole: whoever
/// has nothing of it can be sent them without automerge being asked.
fn single_changes(stored: Stored) -> Option<Vec<Bytes>> {
    let whole = |change: &StoredChange| wall::is_whole(&change.bytes);
    if !stored.chunks.is_empty() || stored.damaged || !stored.changes.iter().all(whole) {
        return None;
    }
    Some(stored.changes.into_iter().map(|change| change.bytes).collect())
}
