//! The automerge document of a layer, made when it is first needed, and what is read of a layer.

use std::{collections::HashMap, sync::Arc};

use automerge::{ActorId, Automerge, ROOT, ReadDoc};

use super::{Layer, Node};
use crate::{
    doc::{view::from_automerge, wall::Operation},
    id::ChangeHash,
    schema::Scalar,
};

/// automerge's name of an operation: its counter and actor.
type OperationId = (u64, ActorId);

/// A layer that is not read from one plain change.
#[derive(Clone, Debug, Default)]
pub(super) struct Full {
    pub(super) automerge: Automerge,
    /// The held operations: the place of the change, and the key.
    pub(super) operations: HashMap<OperationId, Vec<(usize, Arc<str>)>>,
}

/// Where in its layer a value comes from.
#[derive(Clone, Debug)]
pub(in crate::doc) enum Origin {
    /// Its only change.
    Only,
    /// This operation.
    Operation(automerge::ObjId),
}

impl Layer {
    /// Makes the automerge document where there is none.
    pub(in crate::doc) fn unfold(&mut self) {
        if self.full.is_some() {
            return;
        }
        self.full = Some(Box::default());
        let operations = std::mem::take(&mut self.plain);
        let Some(Node { change, applied, .. }) = self.nodes.first().cloned() else { return };
        self.hold_operations(0, &change, operations, &[]);
        if applied && !self.try_apply(&[0]) {
            self.nodes.iter_mut().for_each(|only| only.applied = false);
            self.clear();
        }
    }

    pub(super) fn full(&mut self) -> &mut Full {
        self.unfold();
        self.full.get_or_insert_default()
    }

    /// Begins with an empty automerge document.
    pub(super) fn clear(&mut self) {
        if let Some(full) = &mut self.full {
            full.automerge = Automerge::new();
        }
    }

    /// What is read of the layer's one plain change, where that is all.
    pub(in crate::doc) fn plain(&self) -> Option<&[Operation]> {
        let applied = self.nodes.first().is_some_and(|only| only.applied);
        (applied && self.full.is_none()).then_some(&self.plain)
    }

    fn automerge(&self) -> Option<&Automerge> {
        self.full.as_ref().map(|full| &full.automerge)
    }

    /// The keys that have a value here.
    pub(in crate::doc) fn keys(&self) -> impl Iterator<Item = String> {
        let plain = self.plain().into_iter().flatten().map(|one| one.key.to_string());
        plain.chain(self.automerge().into_iter().flat_map(|automerge| automerge.keys(ROOT)))
    }

    /// The concurrent values of a key, automerge's winner last, each with where it comes from.
    pub(in crate::doc) fn values(&self, key: &str) -> Vec<(Scalar, Origin)> {
        if let Some(plain) = self.plain() {
            let found = plain.binary_search_by(|one| (*one.key).cmp(key)).ok();
            let value = found.and_then(|at| plain.get(at)?.value.clone());
            return value.into_iter().map(|value| (value, Origin::Only)).collect();
        }
        let Some(automerge) = self.automerge() else { return Vec::new() };
        let values = automerge.get_all(ROOT, key).unwrap_or_default().into_iter();
        let ours = |(value, id)| Some((from_automerge(&value)?, Origin::Operation(id)));
        values.filter_map(ours).collect()
    }

    /// The change that a value comes from.
    pub(in crate::doc) fn writer(&self, origin: &Origin) -> Option<&Node> {
        match origin {
            Origin::Only => self.nodes.first(),
            Origin::Operation(id) => {
                let hash = self.automerge()?.hash_for_opid(id)?;
                self.node(&ChangeHash(hash.0))
            }
        }
    }
}
