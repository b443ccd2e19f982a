//! Which news was held lately, in two generations: when one is full, the older is forgotten.

use std::collections::HashSet;

use super::NewsId;

/// The most names in one generation.
const GENERATION: usize = 32_768;

#[derive(Debug, Default)]
pub(super) struct Recent {
    young: HashSet<NewsId>,
    old: HashSet<NewsId>,
}

impl Recent {
    pub(super) fn holds(&self, id: &NewsId) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(super) fn insert(&mut self, id: NewsId) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }
}
