//! A look into a core, for a simulator to judge it by.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, Index};
use crate::{
    doc::View,
    id::{ChangeHash, DocId, ServerId},
    store::Record,
    sync::Fingerprint,
};

/// Everything that a core holds, as readers and peers see it.
#[derive(Debug, PartialEq)]
pub(crate) struct Look {
    pub(crate) documents: BTreeMap<DocId, (Vec<ChangeHash>, View)>,
    pub(crate) graves: BTreeSet<DocId>,
    pub(crate) records: BTreeMap<(DocId, ServerId), Record>,
    pub(crate) root: Fingerprint,
}

impl Core {
    pub(crate) fn look(&self) -> Look {
        let root = self.root();
        self.read(|index| Look {
            documents: index
                .documents
                .iter()
                .map(|(doc, entry)| (*doc, (entry.heads.to_vec(), (*entry.view).clone())))
                .collect(),
            graves: index.graves.keys().copied().collect(),
            records: index.records.clone(),
            root,
        })
    }

    /// One living document, as readers see it.
    pub(crate) fn look_at(&self, doc: DocId) -> Option<(Vec<ChangeHash>, View)> {
        self.read(|index| {
            let entry = index.documents.get(&doc)?;
            Some((entry.heads.to_vec(), (*entry.view).clone()))
        })
    }

    /// Whether a document is known to be dead.
    pub(crate) fn buried(&self, doc: DocId) -> bool {
        self.read(|index| index.graves.contains_key(&doc))
    }

    /// The fingerprint of everything held.
    pub(crate) fn root(&self) -> Fingerprint {
        self.engine.root()
    }

    /// Whether everything that waits is within its bounds.
    pub(crate) fn is_bounded(&self) -> bool {
        self.pending.is_bounded()
            && self.engine.is_bounded()
            && self.holding.is_bounded()
            && self.read(Index::is_bounded)
    }
}
