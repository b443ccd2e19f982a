//! What there is on the engine: containers by their labels, and what they do.

use std::collections::HashMap;

use bollard::{
    models::{
        ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
        ContainerSummary, ContainerSummaryStateEnum as Summary,
    },
    query_parameters::ListContainersOptionsBuilder,
};
use tracing::warn;

use super::{
    ANSWER,
    failure::{Asked, ask, is_status},
    flavour::Client,
};
use crate::spaces::drivers::{Ended, Instance, InstanceId, Labels, State};

/// Containers that carry all the label filters and whose labels can be read.
pub(super) async fn find(client: &Client, filters: [String; 2]) -> Asked<Vec<Instance>> {
    let filters = HashMap::from([("label", filters.to_vec())]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let mut found = Vec::new();
    for summary in ask(ANSWER, client.api.list_containers(Some(options))).await? {
        let Some(id) = summary.id.clone() else { continue };
        let Some(labels) = summary.labels.as_ref().and_then(Labels::from_map) else {
            warn!(container = id, "labels cannot be read, container left alone");
            continue;
        };
        let state = match at_a_glance(&summary) {
            Some(state) => state,
            // One that is removed in between is not there.
            None => match inspect(client, &id).await?.and_then(|details| details.state) {
                Some(details) => state(details),
                None => continue,
            },
        };
        found.push(Instance { id: InstanceId(id), labels, state });
    }
    Ok(found)
}

/// What the engine knows of a container; none if it is not there.
pub(super) async fn inspect(client: &Client, id: &str) -> Asked<Option<ContainerInspectResponse>> {
    match ask(ANSWER, client.api.inspect_container(id, None)).await {
        Ok(details) => Ok(Some(details)),
        Err(failure) if is_status(&failure, 404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(super) fn instance(id: &str, details: ContainerInspectResponse) -> Option<Instance> {
    let labels = Labels::from_map(&details.config?.labels?)?;
    let id = InstanceId(details.id.unwrap_or_else(|| id.to_owned()));
    Some(Instance { id, labels, state: state(details.state?) })
}

/// The state where the engine's list tells it: there is no exit status in a list.
fn at_a_glance(summary: &ContainerSummary) -> Option<State> {
    match summary.state? {
        Summary::CREATED => Some(State::Created),
        Summary::RUNNING | Summary::PAUSED => Some(State::Running),
        _ => None,
    }
}

pub(super) fn state(state: ContainerState) -> State {
    match state.status {
        // A start that the engine refused leaves its container created, with the reason noted.
        Some(Status::CREATED) => State::Created,
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING) => {
            State::Running
        }
        // One that is being removed can still have processes, and does not run again.
        Some(Status::EXITED | Status::DEAD | Status::REMOVING | Status::EMPTY) | None => {
            State::Ended(Ended {
                status: state.exit_code.and_then(|code| i32::try_from(code).ok()),
                out_of_memory: state.oom_killed.unwrap_or(false),
                detail: state.error.filter(|text| !text.is_empty()),
            })
        }
    }
}
