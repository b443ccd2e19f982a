//! What is left in memory of the layers at rest: their heads, and what is read of them.
//!
//! Layers rest where every change above them knows all of them. So a key that was written above is
//! read from there, one that was not is read from here, and nothing else of them is needed until a
//! change comes late, or somebody asks for history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    id::{Author, ChangeHash},
    schema::Scalar,
};

/// One of the values of a key that nobody has knowingly overwritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) value: Scalar,
    pub(super) author: Option<Author>,
    pub(super) time: Millis,
}

/// What is known of the layers below the lowest that is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// The number of the lowest layer that does not rest; 0 where none rests.
    pub(super) first: u32,
    /// The heads of the layers at rest.
    pub(super) heads: Vec<ChangeHash>,
    /// How many changes rest.
    pub(super) changes: u64,
    /// How many of them are held and not applied.
    pub(super) unapplied: usize,
    /// The values of each key, as [`super::Document::values`] orders them.
    pub(super) written: BTreeMap<String, Vec<Written>>,
}
