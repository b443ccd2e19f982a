//! What is read of a document, as it is stored beside the changes.

use std::collections::BTreeMap;

use automerge::{ScalarValue, Value};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    id::Author,
    schema::{Fields, Rule, Scalar},
};

/// A document as it is read: the winning value of each key, and the losers where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The value of each key that has one.
    pub fields: Fields,
    /// The keys with several concurrent values, until a write settles them.
    pub conflicts: BTreeMap<String, Conflict>,
    /// Changes that are held and could not be applied: while there are any, the fields are behind.
    pub unapplied: usize,
}

/// The concurrent values of a key, the one that is read first.
pub type Conflict = Vec<Contender>;

/// One of several concurrent values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contender {
    /// The value.
    pub value: Scalar,
    /// Who wrote it; `None` where the change does not say.
    pub author: Option<Author>,
    /// When, by the clock of the server that took it.
    pub time: Millis,
}

impl View {
    /// Puts what is read of one key: `values` are all that are concurrent, the winner of registers
    /// last.
    pub(super) fn put<I>(
        &mut self,
        key: &str,
        rule: Rule,
        mut values: Vec<(Scalar, I)>,
        written: impl Fn(&I) -> Option<(Option<Author>, Millis)>,
    ) {
        let Some(winner) = winner(rule, &values) else { return };
        let (value, id) = values.swap_remove(winner);
        let others = values.iter().any(|(other, _)| *other != value);
        if others && rule == Rule::Register {
            let contender = |(value, id): (Scalar, I)| {
                let (author, time) = written(&id).unwrap_or_default();
                Contender { value, author, time }
            };
            let mut conflict = vec![contender((value.clone(), id))];
            for other in values {
                if !conflict.iter().any(|contender| contender.value == other.0) {
                    conflict.push(contender(other));
                }
            }
            self.conflicts.insert(key.to_owned(), conflict);
        }
        if value != Scalar::Null {
            self.fields.insert(key.to_owned(), value);
        }
    }
}

fn winner<I>(rule: Rule, values: &[(Scalar, I)]) -> Option<usize> {
    let last = values.len().checked_sub(1)?;
    Some(match rule {
        Rule::Register => last,
        Rule::RemovalWins => {
            values.iter().position(|(value, _)| *value == Scalar::Null).unwrap_or(last)
        }
        Rule::LargestWins => {
            let largest = values.iter().enumerate().max_by_key(|(_, (value, _))| value);
            largest.map_or(last, |(at, _)| at)
        }
    })
}

/// A scalar of automerge's that is one of ours; others are fields of another program.
pub(super) fn from_automerge(value: &Value<'_>) -> Option<Scalar> {
    let Value::Scalar(value) = value else { return None };
    from_scalar(value)
}

/// The same, where it is known to be a scalar.
pub(super) fn from_scalar(value: &ScalarValue) -> Option<Scalar> {
    match value {
        ScalarValue::Null => Some(Scalar::Null),
        ScalarValue::Boolean(value) => Some(Scalar::Bool(*value)),
        ScalarValue::Int(value) => Some(Scalar::Int(*value)),
        ScalarValue::Str(text) => Some(Scalar::Text(text.to_string())),
        _ => None,
    }
}

pub(super) fn to_automerge(value: Scalar) -> ScalarValue {
    match value {
        Scalar::Null => ScalarValue::Null,
        Scalar::Bool(value) => ScalarValue::Boolean(value),
        Scalar::Int(value) => ScalarValue::Int(value),
        Scalar::Text(text) => ScalarValue::Str(text.into()),
    }
}
