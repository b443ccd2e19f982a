//! Documents in memory, in a bounded cache of the store, and answers from them.

use std::collections::{BTreeSet, HashMap};

use super::{Core, cut, wire_size};
use crate::{
    doc::Document,
    id::{ChangeHash, DocId, ServerId},
    store::{Error as StoreError, Record, Store},
    sync::{Answer, DocChanges, ItemKey, Message, Want},
};

/// The most documents that stay in memory between batches; one costs 17 KB and more.
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

#[derive(Default)]
pub(super) struct Library {
    documents: HashMap<DocId, (Document, u64)>,
    uses: u64,
    /// Documents that are not what they were when they were stored: what is shown of them is wrong.
    damaged: BTreeSet<DocId>,
    /// What an item's key stands for: keys are hashes, and peers ask by key.
    names: HashMap<ItemKey, Item>,
}

impl Library {
    /// The key of an item, which is remembered.
    pub(super) fn name(&mut self, item: Item) -> ItemKey {
        let key = match item {
            Item::Document(doc) => ItemKey::document(doc),
            Item::Record(subject, server) => ItemKey::record(subject, server),
        };
        self.names.insert(key, item);
        key
    }

    /// The document, from memory or from its stored changes; empty where nothing is stored.
    pub(super) fn get(
        &mut self,
        store: &mut dyn Store,
        doc: DocId,
    ) -> Result<&mut Document, StoreError> {
        if !self.documents.contains_key(&doc) {
            self.load(store, doc)?;
        }
        self.uses += 1;
        let (document, used) = self.documents.entry(doc).or_default();
        *used = self.uses;
        Ok(document)
    }

    /// Reads the document's stored changes, whatever is in memory.
    pub(super) fn load(
        &mut self,
        store: &mut dyn Store,
        doc: DocId,
    ) -> Result<&Document, StoreError> {
        let (document, damaged) = Document::load(store.changes(doc)?);
        if !damaged.is_empty() {
            tracing::error!(%doc, ?damaged, "stored changes are damaged: peers will be asked");
            self.damaged.insert(doc);
        }
        self.uses += 1;
        let slot = self.documents.entry(doc).insert_entry((document, self.uses));
        Ok(&slot.into_mut().0)
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
        if !self.read(|index| index.documents.contains_key(&doc)) {
            return Vec::new();
        }
        self.library
            .get(&mut *self.store, doc)
            .map(|document| document.sample())
            .unwrap_or_default()
    }

    /// Whether all of these changes are held, or the document is dead.
    pub(super) fn holds(&mut self, doc: DocId, heads: &[ChangeHash]) -> bool {
        let (dead, heads_now) = self.read(|index| {
            let entry = index.documents.get(&doc);
            (index.graves.contains_key(&doc), entry.map(|entry| entry.heads.clone()))
        });
        if dead || heads.is_empty() {
            return true;
        }
        let Some(heads_now) = heads_now else { return false };
        if heads.iter().all(|head| heads_now.contains(head)) {
            return true;
        }
        let document = self.library.get(&mut *self.store, doc);
        document.is_ok_and(|document| heads.iter().all(|head| document.holds(head)))
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
        match self.library.get(&mut *self.store, doc) {
            Ok(document) => {
                let (changes, _) = document.changes_since(&want.have);
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
}
