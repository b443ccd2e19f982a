//! An engine that servers share which may not hear each other: what each of them sees on it, and how
//! they agree on who may change what.
//!
//! What runs there for a space is one job. It names the change of the space's `desired` that it
//! serves, and a server changes it only if it holds that change. The change that a server itself acts
//! on is the last writer of the field, and who holds more never names an earlier one: so of two servers
//! that hold each other's change both act on the same, and none undoes what another has done.

use futures_util::future::BoxFuture;
use knot_core::id::ChangeHash;
use uuid::Uuid;

use super::{Instance, InstanceId, Labels, State};

/// What one look at an engine shows.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What carries this server's labels.
    pub instances: Vec<Instance>,
    /// On an engine that servers share, the jobs of all spaces of the cluster.
    pub jobs: Vec<Job>,
}

/// What a shared engine has of a space, whichever server made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The engine's name for it.
    pub id: InstanceId,
    /// Whose it is.
    pub labels: Labels,
    /// The change of `desired` that it serves, [`ChangeHash::DEAD`] for the space's grave.
    pub serves: Option<ChangeHash>,
    /// What it does; `None` where it has been stopped and nothing of it runs any more.
    pub state: Option<State>,
    /// The engine's number for the last thing that happened to it.
    pub index: u64,
}

impl Job {
    /// What there is of it that could be ended.
    #[must_use]
    pub fn instance(&self) -> Option<Instance> {
        let state = self.state.clone()?;
        Some(Instance { id: self.id.clone(), labels: self.labels.clone(), state })
    }

    /// Whether it runs or is about to.
    #[must_use]
    pub fn lives(&self) -> bool {
        matches!(self.state, Some(State::Created | State::Running))
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Labels { owner, generation, .. } = &self.labels;
        write!(f, "generation {generation} of server {}", owner.home)?;
        match self.serves {
            Some(ChangeHash::DEAD) => f.write_str(", for a deletion"),
            Some(change) => {
                let change = change.to_string();
                write!(f, ", for change {}", change.get(..8).unwrap_or(&change))
            }
            None => Ok(()),
        }
    }
}

/// What this server holds of the changes that say whether spaces should run.
pub trait Wishes: Send + Sync {
    /// The change of the space's `desired` that counts here, [`ChangeHash::DEAD`] once it is dead;
    /// `None` where nothing of it is held, or nobody has ever said.
    fn newest(&self, space: Uuid) -> BoxFuture<'_, Option<ChangeHash>>;

    /// Whether a change is held. Whoever knows of the grave holds all that it buries.
    fn holds(&self, space: Uuid, change: ChangeHash) -> BoxFuture<'_, bool>;
}
