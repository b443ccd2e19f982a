//! What is committed, in memory, for readers: documents as read, graves, records, presence.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

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

/// By subject and observing server.
pub(super) type Records = BTreeMap<(DocId, ServerId), Record>;

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) documents: BTreeMap<DocId, Entry>,
    pub(super) graves: HashMap<DocId, Grave>,
    pub(super) records: Records,
    pub(super) presence: Records,
}
