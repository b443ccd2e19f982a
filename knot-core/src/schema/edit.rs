//! Writing a document: a list of targeted puts, made against what is there now.

use std::{collections::BTreeMap, ops::Deref};

use super::{Entity, Field, FieldValue, Key, Map, Scalar, Set};
use crate::doc::View;

/// One edit of a document, as the closure given to [`Replica::edit`](crate::replica::Replica::edit)
/// sees it: the document as it stands, and setters. Nothing is written before the closure returns.
///
/// Setting a field to the value it has is no change, unless concurrent values of it are in
/// conflict: then it settles them.
#[derive(Debug)]
pub struct Edit<'a, E> {
    current: &'a E,
    view: Option<&'a View>,
    puts: BTreeMap<String, Scalar>,
}

impl<'a, E: Entity> Edit<'a, E> {
    /// An edit of what is read of a document, `view`; of a new one there is none.
    pub(crate) fn new(current: &'a E, view: Option<&'a View>) -> Self {
        Self { current, view, puts: BTreeMap::new() }
    }

    pub(crate) fn into_puts(self) -> BTreeMap<String, Scalar> {
        self.puts
    }

    /// Sets a field.
    pub fn set<T: FieldValue>(&mut self, field: Field<E, T>, value: T) {
        self.puts.insert(field.name.to_owned(), value.to_scalar());
    }

    /// Sets a field, unless it was never written and reads the same for that. For a document that is
    /// written as a whole: its history then names the fields that say something, not all there are.
    pub fn set_sparse<T: FieldValue>(&mut self, field: Field<E, T>, value: T) {
        let written = self.view.is_some_and(|view| {
            view.fields.contains_key(field.name) || view.conflicts.contains_key(field.name)
        });
        if written || value.to_scalar() != T::default().to_scalar() {
            self.set(field, value);
        }
    }

    /// Puts an element into a set.
    pub fn insert<K: Key>(&mut self, set: Set<E, K>, element: &K) {
        self.puts.insert(format!("{}/{}", set.name, element.to_key()), Scalar::Bool(true));
    }

    /// Takes an element out of a set. One that is not there is no change.
    pub fn remove<K: Key>(&mut self, set: Set<E, K>, element: &K) {
        self.puts.insert(format!("{}/{}", set.name, element.to_key()), Scalar::Null);
    }

    /// Sets an entry of a map.
    pub fn put<K: Key, T: FieldValue>(&mut self, map: Map<E, K, T>, key: &K, value: T) {
        self.puts.insert(format!("{}/{}", map.name, key.to_key()), value.to_scalar());
    }

    /// Takes an entry out of a map. One that is not there is no change.
    pub fn take<K: Key, T>(&mut self, map: Map<E, K, T>, key: &K) {
        self.puts.insert(format!("{}/{}", map.name, key.to_key()), Scalar::Null);
    }

    /// Makes a map equal to `wanted` by setting and taking single entries.
    pub fn replace<K, T>(
        &mut self,
        map: Map<E, K, T>,
        current: &BTreeMap<K, T>,
        wanted: &BTreeMap<K, T>,
    ) where
        K: Key,
        T: FieldValue + PartialEq + Clone,
    {
        for key in current.keys().filter(|key| !wanted.contains_key(key)) {
            self.puts.insert(format!("{}/{}", map.name, key.to_key()), Scalar::Null);
        }
        for (key, value) in wanted {
            self.puts.insert(format!("{}/{}", map.name, key.to_key()), value.to_scalar());
        }
    }
}

/// The document before the edit.
impl<E> Deref for Edit<'_, E> {
    type Target = E;

    fn deref(&self) -> &E {
        self.current
    }
}
