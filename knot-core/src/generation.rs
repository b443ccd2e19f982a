//! The number of one run of a space.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One run of a space: the term of its placement, and a number that its home raises at each start.
///
/// Ordered by term first, so that a run at a newly appointed home is later than all at the old one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation {
    /// The term of the placement that the run belongs to.
    pub term: u64,
    /// The number within the term; 0 before the first start.
    pub n: u64,
}

impl Generation {
    /// The generation of the next start under `term`.
    #[must_use]
    pub fn next(self, term: u64) -> Self {
        Self { term, n: self.n.saturating_add(1) }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.n)
    }
}

/// The text is not two numbers with a dot between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no generation: two numbers with a dot between are wanted")]
pub struct ParseError(String);

impl FromStr for Generation {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.split_once('.')
            .and_then(|(term, n)| Some(Self { term: term.parse().ok()?, n: n.parse().ok()? }))
            .ok_or_else(|| ParseError(text.to_owned()))
    }
}
