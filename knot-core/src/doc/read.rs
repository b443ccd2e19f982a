//! Reading a document: the values of its keys over all layers, and what of its history another has
//! not.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;

use super::{
    AtRest, Document,
    base::Written,
    layer::{Node, Origin},
    view::View,
    wall::Operation,
};
use crate::{
    id::{ChangeHash, Kind},
    schema::{Scalar, Schema},
};

/// The most hashes of a sample.
const SAMPLE: usize = 64;

/// The write that a value comes from.
#[derive(Clone, Debug)]
enum Source {
    /// A change of a layer.
    Open(u32, Origin),
    /// A layer at rest.
    Rests(usize),
}

impl Document {
    /// What is read of the document: each key's value by its rule.
    pub fn view(&self, kind: Kind, schema: &Schema) -> View {
        let mut view = View { unapplied: self.unapplied(), ..View::default() };
        if let Some(plain) = self.plain() {
            // Every rule reads the only value of a key.
            let set = plain.iter().filter_map(|one| Some((&one.key, one.value.as_ref()?)));
            let fields = set.filter(|(_, value)| **value != Scalar::Null);
            view.fields = fields.map(|(key, value)| (key.to_string(), value.clone())).collect();
            return view;
        }
        for key in self.keys() {
            self.read_key(kind, schema, &key, &mut view);
        }
        view
    }

    /// The view with only these keys read again.
    pub fn refreshed<'a>(
        &self,
        kind: Kind,
        schema: &Schema,
        mut view: View,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> View {
        view.unapplied = self.unapplied();
        for key in keys {
            view.fields.remove(key);
            view.conflicts.remove(key);
            self.read_key(kind, schema, key, &mut view);
        }
        view
    }

    /// What all that is held puts, where that is one plain change.
    fn plain(&self) -> Option<&[Operation]> {
        let (_, only) = self.layers.first_key_value()?;
        let alone = self.layers.len() == 1 && self.base.first == 0;
        only.plain().filter(|_| alone)
    }

    fn read_key(&self, kind: Kind, schema: &Schema, key: &str, view: &mut View) {
        let values = self.values(key, u32::MAX);
        view.put(key, schema.rule(kind, key), values, |source| {
            let written = self.written(key, source)?;
            Some((written.author, written.time))
        });
    }

    /// Every key that has ever been written.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let open = self.layers.values().flat_map(|layer| layer.keys());
        open.chain(self.base.written.keys().cloned()).collect()
    }

    /// Whether putting `value` is a change: it is another one, or settles a conflict.
    pub(super) fn differs(&self, key: &str, value: &Scalar) -> bool {
        match self.values(key, u32::MAX).as_slice() {
            [] => *value != Scalar::Null,
            [(only, _)] => only != value,
            _ => true,
        }
    }

    /// The values of a key, of the layers up to `top`, that nobody has knowingly overwritten: those
    /// of lower layers first, and of the values of one layer automerge's winner last.
    fn values(&self, key: &str, top: u32) -> Vec<(Scalar, Source)> {
        let layers = self.layers.range(..=top).map(|(number, layer)| (number, layer.values(key)));
        let found: Vec<_> = layers.filter(|(_, values)| !values.is_empty()).collect();
        if found.is_empty() {
            let rest = self.base.written.get(key).into_iter().flatten().enumerate();
            return rest.map(|(at, one)| (one.value.clone(), Source::Rests(at))).collect();
        }
        let in_order = found.len() == 1;
        let all = found.into_iter().flat_map(|(number, values)| {
            values.into_iter().map(move |(value, id)| (value, Source::Open(*number, id)))
        });
        let mut all: Vec<_> = all.collect();
        if !in_order {
            let sources: Vec<_> = all.iter().map(|(_, source)| source.clone()).collect();
            all.retain(|(_, source)| !self.is_overwritten(source, &sources));
        }
        all
    }

    /// The change that wrote the value which a register of this key shows; `None` where nobody has
    /// written one, or only in a layer at rest.
    pub(super) fn last_writer(&self, key: &str) -> Option<ChangeHash> {
        let (_, source) = self.values(key, u32::MAX).pop()?;
        Some(self.writer(&source)?.hash)
    }

    /// Whether one of these writes stands in a higher layer and knows this one.
    fn is_overwritten(&self, source: &Source, others: &[Source]) -> bool {
        let Source::Open(layer, _) = source else { return false };
        let Some(node) = self.writer(source) else { return false };
        let above = |other: &&Source| matches!(other, Source::Open(number, _) if number > layer);
        let mut writers = others.iter().filter(above).filter_map(|other| self.writer(other));
        writers.any(|writer| self.knows(writer, &node.hash))
    }

    fn writer(&self, source: &Source) -> Option<&Node> {
        match source {
            Source::Open(number, id) => self.layers.get(number)?.writer(id),
            Source::Rests(_) => None,
        }
    }

    /// Whether a change is an ancestor of `node`, both in layers that are open.
    fn knows(&self, node: &Node, ancestor: &ChangeHash) -> bool {
        let (mut seen, mut next) = (HashSet::new(), vec![node]);
        while let Some(node) = next.pop() {
            for parent in &node.parents {
                if parent == ancestor {
                    return true;
                }
                if seen.insert(parent) {
                    next.extend(self.node(parent));
                }
            }
        }
        false
    }

    fn written(&self, key: &str, source: &Source) -> Option<Written> {
        match source {
            Source::Rests(at) => self.base.written.get(key)?.get(*at).cloned(),
            Source::Open(..) => {
                let (author, time) = self.writer(source)?.written();
                Some(Written { value: Scalar::Null, author, time })
            }
        }
    }

    /// The values of a key in layers up to `top`, to be kept when those rest.
    pub(super) fn rest_of(&self, key: &str, top: u32) -> Vec<Written> {
        let values = self.values(key, top).into_iter();
        let keep = |(value, source): (Scalar, Source)| {
            let written = self.written(key, &source)?;
            Some(Written { value, ..written })
        };
        values.filter_map(keep).collect()
    }

    /// Hashes at doubling distance back from the newest, heads first: at most 64.
    pub fn sample(&self) -> Vec<ChangeHash> {
        let mut sample: Vec<_> = self.heads.iter().copied().take(SAMPLE / 2).collect();
        let nodes: Vec<_> = self.layers.values().flat_map(|layer| layer.nodes()).collect();
        let mut back = 2;
        while let Some(node) = nodes.len().checked_sub(back).and_then(|at| nodes.get(at)) {
            sample.push(node.hash);
            back *= 2;
        }
        sample.extend(&self.base.heads);
        sample.truncate(SAMPLE);
        sample
    }

    /// The held changes that are no ancestors of `have`, dependencies first.
    ///
    /// # Errors
    /// Some of them may be in layers at rest.
    pub fn changes_since(&self, have: &[ChangeHash]) -> Result<Vec<Bytes>, AtRest> {
        let mut known = HashSet::new();
        let mut next = have.to_vec();
        while let Some(hash) = next.pop() {
            if known.insert(hash) {
                next.extend(self.node(&hash).into_iter().flat_map(|node| &node.parents));
            }
        }
        if !self.base.heads.iter().all(|head| known.contains(head)) {
            return Err(AtRest);
        }
        let nodes = self.layers.values().flat_map(|layer| layer.nodes());
        Ok(nodes.filter(|node| !known.contains(&node.hash)).map(Node::bytes).collect())
    }
}
