//! Why Nomad could not bring a job up, read from its scheduler's and its tasks' own words.

use super::model::{Allocation, Evaluation, Metric};
use crate::spaces::drivers::{Ended, Error, Platform, Run, StartError, State, VolumeError};

/// Why a task that should have come up has ended.
pub(super) fn of_task(run: &Run, allocation: &Allocation, task: &str) -> StartError {
    let failed = allocation.events(task).iter().rev().find(|event| event.fails_task);
    let Some(event) = failed else {
        let ended = match allocation.state(task) {
            State::Ended(ended) => ended,
            State::Created | State::Running => Ended::default(),
        };
        return StartError::Ended { ended };
    };
    let cause = event.said();
    let small = cause.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| small.contains(word));
    if has(&["no space left on device"]) {
        Error::DiskFull { platform: Platform::Nomad, cause }.into()
    } else if !event.download_error.is_empty() || event.kind == "Failed Artifact Download" {
        StartError::Agent {
            cause: format!(
                "the node could not fetch it: {cause}; set nomad.agent_url to a URL of this server \
                 that Nomad's nodes reach"
            ),
        }
    } else if has(&["failed to pull", "pull access denied", "manifest unknown", "no such image"]) {
        StartError::Image { image: run.image.clone(), cause }
    } else if has(&["port is already allocated", "address already in use"]) {
        StartError::PortTaken { cause }
    } else if has(&["exec format error", "knot/agent"]) {
        StartError::Agent { cause }
    } else if has(&["mount"]) {
        StartError::Mount { cause }
    } else if has(&["network"]) {
        StartError::Network { cause }
    } else {
        let action = "start the task";
        Error::Unknown { platform: Platform::Nomad, action, cause }.into()
    }
}

/// Why the scheduler has found no place for what was registered at `index`; none where it has not
/// said so.
pub(super) fn of_placing(run: &Run, index: u64, evaluations: &[Evaluation]) -> Option<StartError> {
    let of_this = evaluations.iter().filter(|one| one.job_modify_index >= index);
    let newest = of_this.max_by_key(|one| one.create_index)?;
    if newest.status == "failed" {
        let cause = newest.status_description.clone();
        return Some(StartError::NoRoom { cause });
    }
    let metric = newest.failed.as_ref()?.values().next()?;
    let cause = described(metric);
    let claimed = run.mounts.iter().find(|mount| {
        let id = mount.volume.id.to_string();
        cause.contains(&id) && cause.contains("claim")
    });
    Some(match claimed {
        Some(mount) => VolumeError::Claimed { volume: mount.volume.id, by: cause }.into(),
        None if cause.contains("reserved port collision") => StartError::PortTaken { cause },
        None => StartError::NoRoom { cause },
    })
}

fn described(metric: &Metric) -> String {
    let exhausted = metric.dimension_exhausted.iter().flatten();
    let filtered = metric.constraint_filtered.iter().flatten();
    let reasons: Vec<_> =
        exhausted.chain(filtered).map(|(what, nodes)| format!("{what} on {nodes}")).collect();
    if reasons.is_empty() {
        return format!("{} nodes were looked at", metric.nodes_evaluated);
    }
    format!("of {} nodes: {}", metric.nodes_evaluated, reasons.join("; "))
}
