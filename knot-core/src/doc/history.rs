//! A document's history: who changed what and when, and what could be read at any time.

use std::collections::HashSet;

use automerge::legacy::{Key, OpType};

use super::{Document, Stored, layer::Node, view::from_scalar};
use crate::{
    clock::Millis,
    doc::View,
    id::{Author, ChangeHash, Kind},
    schema::{Scalar, Schema},
};

/// One change of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its hash: with [`History::at`], the state right after it.
    pub hash: ChangeHash,
    /// Who made it; `None` where it does not say.
    pub author: Option<Author>,
    /// When, by the clock of the server that took it.
    pub time: Millis,
    /// The changes that its author had seen last.
    pub parents: Vec<ChangeHash>,
    /// What it put, by key; null where something was removed.
    pub fields: Vec<(String, Scalar)>,
    /// Whether it counts: one that this version cannot apply does not.
    pub applied: bool,
}

/// Heads were asked for that are not held here. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server does not hold the change {0}: it may not have heard of it yet")]
pub struct UnknownHeads(pub ChangeHash);

/// Everything that is held of a document.
#[derive(Clone, Debug)]
pub struct History {
    document: Document,
}

impl History {
    /// Reads all that is stored of a document, its layers at rest included: some milliseconds for
    /// each thousand changes.
    pub(crate) fn read(stored: &Stored) -> Self {
        Self { document: Document::load(stored, super::Layering::default()).0 }
    }

    /// How many changes are held.
    pub fn len(&self) -> usize {
        self.document.layers.values().map(super::layer::Layer::len).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.document.is_empty()
    }

    /// How many layers its changes lie in.
    #[cfg(feature = "sim")]
    pub fn layers(&self) -> usize {
        self.document.layers.len()
    }

    /// The heads of the newest state.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.document.heads()
    }

    /// At most `limit` changes, a change always before those that it depends on: the newest, or
    /// those that come after `last` of an earlier page.
    ///
    /// # Errors
    /// `last` is not held.
    pub fn page(
        &self,
        last: Option<ChangeHash>,
        limit: usize,
    ) -> Result<Vec<Change>, UnknownHeads> {
        let layers = self.document.layers.values().rev();
        let mut nodes = layers.flat_map(|layer| layer.nodes().iter().rev());
        if let Some(last) = last
            && !nodes.any(|node| node.hash == last)
        {
            return Err(UnknownHeads(last));
        }
        Ok(nodes.take(limit).map(Change::of).collect())
    }

    /// One change that is held, without reading the others.
    pub fn change(&self, hash: &ChangeHash) -> Option<Change> {
        self.document.node(hash).map(Change::of)
    }

    /// The changes whose hashes, in lower-case hexadecimal digits, begin with these, in no order.
    pub fn starting(&self, digits: &str) -> Vec<ChangeHash> {
        let nodes = self.document.layers.values().flat_map(|layer| layer.nodes());
        let hashes = nodes.map(|node| node.hash);
        hashes.filter(|hash| hash.to_string().starts_with(digits)).collect()
    }

    /// All changes that count, the highest (layer, operation count, hash) first: an order that is the
    /// same on every server that holds the same, in which a change comes before those it depends on.
    pub fn ranked(&self) -> Vec<ChangeHash> {
        let mut ranks: Vec<_> = self
            .document
            .layers
            .iter()
            .flat_map(|(number, layer)| layer.nodes().iter().map(move |node| (number, node)))
            .filter(|(_, node)| node.applied)
            .map(|(number, node)| (*number, node.change.max_op(), node.hash))
            .collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        ranks.into_iter().map(|(_, _, hash)| hash).collect()
    }

    /// The change that the value of a register comes from. Of all held changes that write the key it
    /// is the one of the highest (layer, operation): who holds more never names a lower one.
    pub fn last_writer(&self, key: &str) -> Option<ChangeHash> {
        self.document.last_writer(key)
    }

    /// What was read of the document when its heads were these.
    ///
    /// # Errors
    /// Some of them are not held.
    pub fn at(
        &self,
        heads: &[ChangeHash],
        kind: Kind,
        schema: &Schema,
    ) -> Result<View, UnknownHeads> {
        let mut known = HashSet::new();
        let mut next = heads.to_vec();
        while let Some(hash) = next.pop() {
            if known.insert(hash) {
                let node = self.document.node(&hash).ok_or(UnknownHeads(hash))?;
                next.extend(&node.parents);
            }
        }
        let mut then = Document::default();
        let nodes = self.document.layers.values().flat_map(|layer| layer.nodes());
        let changes = nodes.filter(|node| known.contains(&node.hash));
        let checked = changes.filter_map(|node| super::Checked::trusted(node.change.clone()));
        then.receive(checked.collect());
        Ok(then.view(kind, schema))
    }
}

impl Change {
    fn of(node: &Node) -> Self {
        let (author, time) = node.written();
        let mut fields: Vec<(String, Scalar)> = Vec::new();
        for operation in node.change.decode().operations {
            if let (Key::Map(key), OpType::Put(value)) = (operation.key, operation.action)
                && let Some(value) = from_scalar(&value)
            {
                fields.push((key.to_string(), value));
            }
        }
        let (hash, parents, applied) = (node.hash, node.parents.clone(), node.applied);
        Self { hash, author, time, parents, fields, applied }
    }
}
