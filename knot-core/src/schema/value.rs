//! Scalars, and the Rust types that stand in a document as one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Field, Map, Set};
use crate::{clock::Millis, generation::Generation, id::Id, net::PublicKey};

/// One value of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scalar {
    /// Removed, or never there.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
}

/// What is read of a document: a scalar for each key that has one. Null stands for no entry.
pub type Fields = BTreeMap<String, Scalar>;

/// A Rust type that stands in a document as one scalar.
pub trait FieldValue: Default {
    /// The value as it is stored; null where it is the same as an absent one.
    fn to_scalar(&self) -> Scalar;
    /// The value of a scalar; `None` where it is of another type or breaks the type's rules.
    fn from_scalar(scalar: &Scalar) -> Option<Self>;
}

/// A Rust type that names an element of a [`Set`] or an entry of a [`Map`].
pub trait Key: Ord + Sized {
    /// The key as it stands behind the field's name.
    fn to_key(&self) -> String;
    /// Reads what [`Key::to_key`] wrote.
    fn from_key(key: &str) -> Option<Self>;
}

impl FieldValue for String {
    fn to_scalar(&self) -> Scalar {
        Scalar::Text(self.clone())
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FieldValue for bool {
    fn to_scalar(&self) -> Scalar {
        Scalar::Bool(*self)
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl FieldValue for u64 {
    /// Numbers past `i64::MAX` are stored as that.
    fn to_scalar(&self) -> Scalar {
        Scalar::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Int(value) => Self::try_from(*value).ok(),
            _ => None,
        }
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn to_scalar(&self) -> Scalar {
        self.as_ref().map_or(Scalar::Null, T::to_scalar)
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Null => Some(None),
            scalar => T::from_scalar(scalar).map(Some),
        }
    }
}

/// A list is one register: two concurrent edits of it are a conflict of whole lists.
impl FieldValue for Vec<String> {
    fn to_scalar(&self) -> Scalar {
        let mut text = String::new();
        for item in self {
            for c in item.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('\n');
        }
        Scalar::Text(text)
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        let Scalar::Text(text) = scalar else { return None };
        let mut items = Self::new();
        let mut item = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\n' => items.push(std::mem::take(&mut item)),
                '\\' => item.push(if chars.next()? == 'n' { '\n' } else { '\\' }),
                c => item.push(c),
            }
        }
        item.is_empty().then_some(items)
    }
}

/// Types that are written by their text form; an unreadable text reads as absent.
macro_rules! by_text {
    ($([$($generic:ident)?] $type:ty),+) => {$(
        impl<$($generic)?> $crate::schema::FieldValue for $type {
            fn to_scalar(&self) -> $crate::schema::Scalar {
                $crate::schema::Scalar::Text(self.to_string())
            }

            fn from_scalar(scalar: &$crate::schema::Scalar) -> Option<Self> {
                match scalar {
                    $crate::schema::Scalar::Text(text) => text.parse().ok(),
                    _ => None,
                }
            }
        }
    )+};
}

pub(crate) use by_text;

by_text!([] Uuid, [] PublicKey, [E] Id<E>);

/// Written with leading zeros, so that the order of the texts is that of the generations.
impl FieldValue for Generation {
    fn to_scalar(&self) -> Scalar {
        Scalar::Text(format!("{:020}.{:020}", self.term, self.n))
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl FieldValue for Millis {
    fn to_scalar(&self) -> Scalar {
        Scalar::Int(self.0)
    }

    fn from_scalar(scalar: &Scalar) -> Option<Self> {
        match scalar {
            Scalar::Int(millis) => Some(Self(*millis)),
            _ => None,
        }
    }
}

impl Key for String {
    fn to_key(&self) -> String {
        self.clone()
    }

    fn from_key(key: &str) -> Option<Self> {
        Some(key.to_owned())
    }
}

impl Key for PublicKey {
    fn to_key(&self) -> String {
        self.to_string()
    }

    fn from_key(key: &str) -> Option<Self> {
        key.parse().ok()
    }
}

impl<E> Key for Id<E> {
    fn to_key(&self) -> String {
        self.to_string()
    }

    fn from_key(key: &str) -> Option<Self> {
        key.parse().ok()
    }
}

impl<E, T: FieldValue> Field<E, T> {
    /// The field's value; the default where it is absent or unreadable.
    pub fn read(&self, fields: &Fields) -> T {
        fields.get(self.name).and_then(T::from_scalar).unwrap_or_default()
    }
}

impl<E, K: Key> Set<E, K> {
    /// The elements that are in the set.
    pub fn read(&self, fields: &Fields) -> BTreeSet<K> {
        entries(fields, self.name)
            .filter(|(_, value)| **value == Scalar::Bool(true))
            .filter_map(|(key, _)| K::from_key(key))
            .collect()
    }
}

impl<E, K: Key, T: FieldValue> Map<E, K, T> {
    /// The entries; an unreadable one is left out.
    pub fn read(&self, fields: &Fields) -> BTreeMap<K, T> {
        entries(fields, self.name)
            .filter_map(|(key, value)| Some((K::from_key(key)?, T::from_scalar(value)?)))
            .collect()
    }
}

/// The entries of the keys `name/…`, without that prefix.
fn entries<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = (&'a str, &'a Scalar)> {
    let start = format!("{name}/");
    fields
        .range(start..)
        .map_while(move |(key, value)| Some((key.strip_prefix(name)?.strip_prefix('/')?, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_any_text() {
        for list in
            [vec![], vec![""], vec!["sh", "-c", "echo a\nb\n"], vec!["\\", "n", "\\n", "a\\\nb"]]
        {
            let list: Vec<String> = list.into_iter().map(str::to_owned).collect();
            assert_eq!(Vec::from_scalar(&list.to_scalar()), Some(list));
        }
    }

    #[test]
    fn generations_are_ordered_as_stored() {
        let older = Generation { term: 9, n: 100 };
        let newer = Generation { term: 10, n: 1 };
        assert!(older.to_scalar() < newer.to_scalar());
        assert_eq!(Generation::from_scalar(&newer.to_scalar()), Some(newer));
    }
}
