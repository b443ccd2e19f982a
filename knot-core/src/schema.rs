//! Declared document types: flat, typed, and merged by a rule per field.
//!
//! A document is a map from keys to scalars. [`entity!`](crate::entity) declares a type once and
//! gives it a struct to read into and a typed descriptor for each field to write with. A field is a
//! [`Field`] (one key), a [`Set`] (`name/<element>`, true or null) or a [`Map`] (`name/<key>`). A key
//! that a type does not declare is kept untouched: it is a field of a later version.

mod edit;
mod value;

use std::{collections::BTreeMap, fmt, marker::PhantomData};

pub use edit::Edit;
pub(crate) use value::by_text;
pub use value::{FieldValue, Fields, Key, Scalar};

use crate::id::{DocId, Id, Kind};

/// How concurrent values of one key become the one that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The same arbitrary one everywhere; the others are shown as a conflict.
    Register,
    /// A removal (null) beats any concurrent value: shares, permissions, keys, tokens.
    RemovalWins,
    /// The largest; smaller ones are no conflict: counters that are only ever raised.
    LargestWins,
}

/// A declared document type; implemented by [`entity!`](crate::entity).
pub trait Entity: Clone + fmt::Debug + Send + Sync + Sized + 'static {
    /// The kind of its documents.
    const KIND: Kind;
    /// Raised with every change of the declaration: views made by another number are rebuilt.
    const VERSION: u32;
    /// The fields whose rule is not [`Rule::Register`], by their name.
    fn rules() -> Vec<(&'static str, Rule)>;
    /// Reads the declared fields; one that is missing or of another type has its default.
    fn read(fields: &Fields) -> Self;
}

impl<E: Entity> From<Id<E>> for DocId {
    fn from(id: Id<E>) -> Self {
        Self { kind: E::KIND, uuid: id.uuid() }
    }
}

/// A field that is one key.
pub struct Field<E, T> {
    name: &'static str,
    types: PhantomData<fn() -> (E, T)>,
}

/// A field that is a set: its elements are keys `name/<element>`.
pub struct Set<E, K> {
    name: &'static str,
    types: PhantomData<fn() -> (E, K)>,
}

/// A field that is a map: its entries are keys `name/<key>`.
pub struct Map<E, K, T> {
    name: &'static str,
    entity: PhantomData<fn() -> E>,
    entry: PhantomData<fn() -> (K, T)>,
}

impl<E, K> Clone for Set<E, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, K> Copy for Set<E, K> {}

impl<E, T> Field<E, T> {
    /// The field stored under `name`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The key that it is stored under.
    pub(crate) const fn key(&self) -> &'static str {
        self.name
    }
}

impl<E, K> Set<E, K> {
    /// The set stored under `name/`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }
}

impl<E, K, T> Map<E, K, T> {
    /// The map stored under `name/`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, entity: PhantomData, entry: PhantomData }
    }
}

/// The document types that a replica knows. Documents of other kinds are kept and passed on.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    kinds: BTreeMap<Kind, KindSchema>,
}

#[derive(Clone, Debug)]
struct KindSchema {
    version: u32,
    rules: Vec<(&'static str, Rule)>,
}

impl Schema {
    /// Knows no type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows `E` too.
    #[must_use]
    pub fn with<E: Entity>(mut self) -> Self {
        let kind = KindSchema { version: E::VERSION, rules: E::rules() };
        self.kinds.insert(E::KIND, kind);
        self
    }

    /// The number of the declaration that views of `kind` are made by; 0 for an unknown kind.
    pub(crate) fn version(&self, kind: Kind) -> u32 {
        self.kinds.get(&kind).map_or(0, |kind| kind.version)
    }

    /// The rule of a key: that of the declared field it belongs to.
    pub(crate) fn rule(&self, kind: Kind, key: &str) -> Rule {
        let name = key.split_once('/').map_or(key, |(name, _)| name);
        self.kinds
            .get(&kind)
            .and_then(|kind| kind.rules.iter().find(|(field, _)| *field == name))
            .map_or(Rule::Register, |(_, rule)| *rule)
    }

    /// Whether documents of this kind have a type here.
    pub(crate) fn knows(&self, kind: Kind) -> bool {
        self.kinds.contains_key(&kind)
    }
}

/// Declares a document type.
///
/// ```
/// knot_core::entity! {
///     /// A thing to do.
///     pub struct Task("task", 1) {
///         /// What is to be done.
///         title: Field<String>,
///         /// Who has been asked.
///         asked: Set<String> [RemovalWins],
///         /// Notes by topic.
///         notes: Map<String, String>,
///     }
/// }
/// let task = Task { title: "write".to_owned(), ..Task::default() };
/// assert!(task.notes.is_empty());
/// ```
///
/// The struct has a public field for each (`T`, `BTreeSet<K>`, `BTreeMap<K, T>`), and an associated
/// constant of the same name that an [`Edit`](crate::schema::Edit) writes with.
#[macro_export]
macro_rules! entity {
    (
        $(#[$doc:meta])*
        pub struct $name:ident($kind:literal, $version:literal) {
            $( $(#[$field_doc:meta])* $field:ident : $shape:ident<$($part:ty),+> $([$rule:ident])? ),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $crate::entity!(@type $shape<$($part),+>), )+
        }

        #[allow(non_upper_case_globals)]
        impl $name {
            $(
                $(#[$field_doc])*
                pub const $field: $crate::schema::$shape<$name, $($part),+> =
                    $crate::schema::$shape::new(stringify!($field));
            )+
        }

        impl $crate::schema::Entity for $name {
            const KIND: $crate::id::Kind = $crate::id::Kind::new($kind);
            const VERSION: u32 = $version;

            fn rules() -> Vec<(&'static str, $crate::schema::Rule)> {
                vec![$( $( (stringify!($field), $crate::schema::Rule::$rule), )? )+]
            }

            fn read(fields: &$crate::schema::Fields) -> Self {
                Self { $( $field: Self::$field.read(fields), )+ }
            }
        }
    };
    (@type Field<$type:ty>) => { $type };
    (@type Set<$key:ty>) => { std::collections::BTreeSet<$key> };
    (@type Map<$key:ty, $type:ty>) => { std::collections::BTreeMap<$key, $type> };
}
