//! What this server holds of the changes that say whether spaces should run, for engines that servers
//! share.

use futures_util::future::BoxFuture;
use knot_core::{
    id::{ChangeHash, Id},
    model::Space,
    replica::Replica,
};
use uuid::Uuid;

use super::drivers::Wishes;

/// The wishes that a replica holds.
pub(crate) struct HeldWishes(pub(crate) Replica);

impl Wishes for HeldWishes {
    fn newest(&self, space: Uuid) -> BoxFuture<'_, Option<ChangeHash>> {
        Box::pin(newest(&self.0, Id::from_uuid(space)))
    }

    fn holds(&self, space: Uuid, change: ChangeHash) -> BoxFuture<'_, bool> {
        Box::pin(holds(&self.0, Id::from_uuid(space), change))
    }
}

/// The change of the space's `desired` that counts here.
pub(super) async fn newest(replica: &Replica, space: Id<Space>) -> Option<ChangeHash> {
    if replica.grave(space).is_some() {
        return Some(ChangeHash::DEAD);
    }
    match replica.last_writer(space, Space::desired).await {
        Ok(change) => change,
        Err(error) => {
            tracing::warn!(%space, %error, "who last said whether it should run is not known");
            None
        }
    }
}

/// Whether a change of a space is held.
pub(super) async fn holds(replica: &Replica, space: Id<Space>, change: ChangeHash) -> bool {
    replica.holds(space, &[change]).await.unwrap_or(false)
}
