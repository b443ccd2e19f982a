//! What is committed, in memory, for readers: documents as read, graves, records, presence.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::recent::Recent;
use crate::{
    doc::View,
    id::{ChangeHash, DocId, Kind, ServerId},
    schema::Schema,
    store::{Grave, Record, StoredDocument},
};

/// One living document as it was last committed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) heads: Arc<[ChangeHash]>,
    pub(crate) view: Arc<View>,
    /// The typed value; `None` for a kind that the schema does not know.
    pub(crate) value: Option<Arc<dyn Any + Send + Sync>>,
}

impl Entry {
    pub(super) fn new(kind: Kind, schema: &Schema, heads: Vec<ChangeHash>, view: View) -> Self {
        let value = schema.read(kind, &view.fields);
        Self { heads: heads.into(), view: Arc::new(view), value }
    }

    pub(super) fn to_stored(&self, doc: DocId, schema: &Schema) -> StoredDocument {
        StoredDocument {
            doc,
            heads: self.heads.to_vec(),
            view: Some((*self.view).clone()),
            schema: schema.version(doc.kind),
        }
    }
}

/// How many dead documents are remembered.
const REMAINS: usize = 1_024;

/// By subject and observing server.
pub(super) type Records = BTreeMap<(DocId, ServerId), Record>;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) documents: BTreeMap<DocId, Entry>,
    /// What documents were when they died, for as long as this process remembers: at most
    /// [`REMAINS`], the newest.
    pub(super) remains: BTreeMap<DocId, Entry>,
    died: VecDeque<DocId>,
    pub(super) graves: HashMap<DocId, Grave>,
    pub(super) records: Records,
    pub(super) presence: Records,
    pub(super) recent: Recent,
}

impl Index {
    /// A document dies; what it was can still be read for a while.
    pub(super) fn bury(&mut self, grave: Grave) {
        self.graves.insert(grave.doc, grave);
        let Some(entry) = self.documents.remove(&grave.doc) else { return };
        self.remains.insert(grave.doc, entry);
        self.died.push_back(grave.doc);
        if self.died.len() > REMAINS {
            let oldest = self.died.pop_front();
            oldest.map(|doc| self.remains.remove(&doc));
        }
    }
}
