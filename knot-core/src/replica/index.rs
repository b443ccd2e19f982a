//! What is committed, in memory, for readers: documents as read, graves, records, presence.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use super::recent::Recent;
use crate::{
    clock::Millis,
    doc::View,
    id::{ChangeHash, DocId, Kind, ServerId},
    schema::{Entity, Schema},
    store::{Grave, Record, StoredDocument},
};

/// One living document as it was last committed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) heads: Arc<[ChangeHash]>,
    pub(crate) view: Arc<View>,
    /// The typed value, once somebody has read it; `None` for a kind that the schema does not know.
    value: Option<Arc<OnceLock<Arc<dyn Any + Send + Sync>>>>,
}

impl Entry {
    pub(super) fn new(
        kind: Kind,
        schema: &Schema,
        heads: Vec<ChangeHash>,
        view: impl Into<Arc<View>>,
    ) -> Self {
        let value = schema.knows(kind).then(Arc::default);
        Self { heads: heads.into(), view: view.into(), value }
    }

    /// The document as its type has it.
    pub(super) fn read<E: Entity>(&self) -> Option<Arc<E>> {
        let read = || Arc::new(E::read(&self.view.fields)) as Arc<dyn Any + Send + Sync>;
        let value = self.value.as_ref()?.get_or_init(read);
        Arc::downcast(Arc::clone(value)).ok()
    }

    pub(super) fn to_stored(&self, doc: DocId, schema: &Schema) -> StoredDocument {
        StoredDocument {
            doc,
            heads: self.heads.to_vec(),
            view: Some(Arc::clone(&self.view)),
            schema: schema.version(doc.kind),
        }
    }
}

/// How many dead documents can be read: beyond that, those that died first are forgotten early.
const REMAINS: usize = 65_536;

/// By subject and observing server.
pub(super) type Records = BTreeMap<(DocId, ServerId), Record>;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) documents: BTreeMap<DocId, Entry>,
    /// What documents were when they died, until they are purged, and since when they are dead.
    pub(super) remains: BTreeMap<DocId, (Entry, Millis)>,
    died: BTreeSet<(Millis, DocId)>,
    pub(super) graves: HashMap<DocId, Grave>,
    pub(super) records: Records,
    pub(super) presence: Records,
    pub(super) recent: Recent,
}

impl Index {
    /// Whether what is remembered of the dead is within its bound.
    #[cfg(feature = "sim")]
    pub(super) fn is_bounded(&self) -> bool {
        self.died.len() <= REMAINS && self.remains.len() <= self.died.len()
    }

    /// A document dies; what it was can still be read for a while.
    pub(super) fn bury(&mut self, grave: Grave, now: Millis) {
        self.graves.insert(grave.doc, grave);
        if let Some(entry) = self.documents.remove(&grave.doc) {
            self.remain(grave.doc, entry, now);
        }
    }

    /// Something is left of a dead document.
    pub(super) fn remain(&mut self, doc: DocId, entry: Entry, since: Millis) {
        self.remains.insert(doc, (entry, since));
        self.died.insert((since, doc));
        if self.died.len() > REMAINS
            && let Some((_, oldest)) = self.died.pop_first()
        {
            self.remains.remove(&oldest);
        }
    }

    /// The documents that are dead since before `time` and of which something is left.
    pub(super) fn dead_before(&self, time: Millis) -> Vec<DocId> {
        let long_dead = self.died.iter().take_while(|(since, _)| *since < time);
        long_dead.map(|(_, doc)| *doc).collect()
    }

    /// Nothing is left of a dead document.
    pub(super) fn purge(&mut self, doc: &DocId) {
        if let Some((_, since)) = self.remains.remove(doc) {
            self.died.remove(&(since, *doc));
        }
    }
}
