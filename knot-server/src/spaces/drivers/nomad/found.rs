//! What there is of a space in Nomad: its job, and the allocations of that.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{
    Nomad,
    api::{Asked, Failure},
    job::{self, Meta},
    model::Allocation,
};
use crate::spaces::drivers::{Instance, InstanceId, Job, Labels, State};

/// A job of this cluster, with what is read of it.
pub(super) struct Found {
    pub(super) namespace: String,
    pub(super) whole: Value,
    /// The job's index, for the next registration to enforce.
    pub(super) index: u64,
    pub(super) stopped: bool,
    pub(super) meta: Meta,
    /// The newest allocation of its generation.
    pub(super) allocation: Option<Allocation>,
}

impl Nomad {
    /// The job of a space, in whichever namespace it is.
    pub(super) async fn find(&self, space: Uuid) -> Asked<Option<Found>> {
        let id = job::id(self.owner.cluster, space);
        let stubs = self.api.jobs(&id).await?;
        let Some(stub) = stubs.into_iter().find(|stub| stub.id == id) else { return Ok(None) };
        let Some(whole) = self.api.job(&stub.namespace, &id).await? else { return Ok(None) };
        let Some(meta) = Meta::of_job(&whole) else {
            return Err(Failure::Said(format!("job {id} is there, and does not say whose it is")));
        };
        let allocations = self.api.allocations(&stub.namespace, &id, None).await?.value;
        let index = whole.get("JobModifyIndex").and_then(Value::as_u64).unwrap_or(0);
        let stopped = whole.get("Stop").and_then(Value::as_bool).unwrap_or(false);
        let allocation = newest(&meta, allocations);
        Ok(Some(Found { namespace: stub.namespace, whole, index, stopped, meta, allocation }))
    }

    /// The jobs of all spaces of the cluster, by two questions.
    pub(super) async fn all(&self) -> Asked<Vec<Job>> {
        let prefix = job::prefix(self.owner.cluster);
        let jobs = self.api.jobs(&prefix).await?;
        let mut by_job: HashMap<String, Vec<Allocation>> = HashMap::new();
        for allocation in self.api.allocations_of_jobs(&prefix).await? {
            by_job.entry(allocation.job_id.clone()).or_default().push(allocation);
        }
        let mut found = Vec::new();
        for stub in jobs {
            let meta = stub.meta.as_ref().and_then(Meta::read);
            let Some(meta) = meta else {
                tracing::warn!(job = stub.id, "metadata cannot be read, job left alone");
                continue;
            };
            let allocation = newest(&meta, by_job.remove(&stub.id).unwrap_or_default());
            let state = state(stub.stop, &meta, allocation.as_ref());
            let of_allocation = allocation.map_or(0, |allocation| allocation.modify_index);
            let index = stub.job_modify_index.max(of_allocation);
            let Meta { labels, serves, .. } = meta;
            found.push(Job { id: InstanceId(stub.id), labels, serves, state, index });
        }
        Ok(found)
    }

    /// Those of these jobs that are this server's.
    pub(super) fn own(&self, jobs: &[Job]) -> Vec<Instance> {
        let own = jobs.iter().filter(|job| job.labels.owner == self.owner);
        own.filter_map(Job::instance).collect()
    }

    /// Whether this server holds the change that the job serves; if not, who drives it.
    pub(super) async fn may_change(&self, found: &Found) -> Result<(), String> {
        let Meta { labels, serves, .. } = &found.meta;
        match serves {
            Some(change) if !self.wishes.holds(labels.space, *change).await => {
                Err(labels.to_string())
            }
            _ => Ok(()),
        }
    }
}

impl Found {
    pub(super) fn id(&self) -> InstanceId {
        let Labels { owner, space, .. } = &self.meta.labels;
        InstanceId(job::id(owner.cluster, *space))
    }

    /// Whether another home has it running still, or about to.
    pub(super) fn is_anothers(&self, labels: &Labels) -> bool {
        let lives = self.instance().is_some_and(|one| !matches!(one.state, State::Ended(_)));
        self.meta.labels.owner != labels.owner && lives
    }

    /// What is there of it; none where it has been stopped and nothing of it runs.
    pub(super) fn instance(&self) -> Option<Instance> {
        let state = state(self.stopped, &self.meta, self.allocation.as_ref())?;
        Some(Instance { id: self.id(), labels: self.meta.labels.clone(), state })
    }
}

fn state(stopped: bool, meta: &Meta, allocation: Option<&Allocation>) -> Option<State> {
    match allocation.map(|allocation| allocation.state(&meta.task)) {
        None if stopped => None,
        Some(State::Ended(_)) if stopped => None,
        None => Some(State::Created),
        state => state,
    }
}

/// The newest allocation of the generation that the job is of now.
pub(super) fn newest(meta: &Meta, allocations: Vec<Allocation>) -> Option<Allocation> {
    let group = job::group(meta.labels.generation);
    let of_this = allocations.into_iter().filter(|one| one.task_group == group);
    of_this.max_by_key(|one| one.create_index)
}

/// The index to wait beyond: Nomad says to begin anew where it has gone back.
pub(super) fn next_index(before: Option<u64>, answered: u64) -> Option<u64> {
    (answered > 0 && before.is_none_or(|before| before <= answered)).then_some(answered)
}
