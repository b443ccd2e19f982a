//! One at a time for each space: a start and a stop of it never interleave within one server.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

/// Spaces are spread over this many locks by id, so that there is a bound to them.
const COUNT: usize = 64;

/// The locks of one driver.
pub(super) struct Locks(Vec<Arc<Mutex<()>>>);

impl Default for Locks {
    fn default() -> Self {
        Self((0..COUNT).map(|_| Arc::default()).collect())
    }
}

impl Locks {
    /// Waits for the space's turn.
    pub(super) async fn lock(&self, space: Uuid) -> OwnedMutexGuard<()> {
        self.of(space).lock_owned().await
    }

    /// The space's turn, if nobody has it.
    pub(super) fn try_lock(&self, space: Uuid) -> Option<OwnedMutexGuard<()>> {
        self.of(space).try_lock_owned().ok()
    }

    fn of(&self, space: Uuid) -> Arc<Mutex<()>> {
        // The end of an id is the random part.
        let index = usize::try_from(space.as_u128() % COUNT as u128).unwrap_or(0);
        self.0.get(index).cloned().unwrap_or_default()
    }
}
