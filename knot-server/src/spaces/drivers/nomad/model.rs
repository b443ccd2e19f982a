//! What Nomad answers with, as far as it is read.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::spaces::drivers::{Ended, State};

/// A job in a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct JobStub {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) stop: bool,
    #[serde(default)]
    pub(super) meta: Option<HashMap<String, String>>,
    #[serde(default)]
    pub(super) job_modify_index: u64,
}

/// What a registration did.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Registered {
    #[serde(default)]
    pub(super) job_modify_index: u64,
}

/// One placing of a job's group on a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Allocation {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "JobID", default)]
    pub(super) job_id: String,
    #[serde(default)]
    pub(super) task_group: String,
    #[serde(rename = "NodeID", default)]
    pub(super) node_id: String,
    #[serde(default)]
    pub(super) client_status: String,
    #[serde(default)]
    pub(super) client_description: String,
    #[serde(default)]
    pub(super) task_states: Option<BTreeMap<String, TaskState>>,
    #[serde(default)]
    pub(super) create_index: u64,
    #[serde(default)]
    pub(super) modify_index: u64,
}

/// What a task does on its node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskState {
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) events: Option<Vec<TaskEvent>>,
}

/// One thing that happened to a task.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskEvent {
    #[serde(rename = "Type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) display_message: String,
    #[serde(default)]
    pub(super) fails_task: bool,
    #[serde(default)]
    pub(super) exit_code: i32,
    #[serde(default)]
    pub(super) signal: i32,
    #[serde(default)]
    pub(super) driver_error: String,
    #[serde(default)]
    pub(super) setup_error: String,
    #[serde(default)]
    pub(super) download_error: String,
    #[serde(default)]
    pub(super) validation_error: String,
    #[serde(default)]
    pub(super) details: Option<BTreeMap<String, String>>,
}

/// What the scheduler made of a job.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Evaluation {
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) status_description: String,
    #[serde(default)]
    pub(super) job_modify_index: u64,
    #[serde(default)]
    pub(super) create_index: u64,
    #[serde(rename = "FailedTGAllocs", default)]
    pub(super) failed: Option<HashMap<String, Metric>>,
}

/// Why no node would do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Metric {
    #[serde(default)]
    pub(super) nodes_evaluated: u64,
    #[serde(default)]
    pub(super) constraint_filtered: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    pub(super) dimension_exhausted: Option<BTreeMap<String, u64>>,
}

impl Allocation {
    /// Whether nothing of it can run any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.client_status.as_str(), "complete" | "failed" | "lost")
    }

    /// The events of a task, oldest first.
    pub(super) fn events(&self, task: &str) -> &[TaskEvent] {
        let task = self.task_states.as_ref().and_then(|tasks| tasks.get(task));
        task.and_then(|task| task.events.as_deref()).unwrap_or_default()
    }

    /// What it does, by the state of the task that has the agent in it.
    pub(super) fn state(&self, task: &str) -> State {
        let running = self
            .task_states
            .as_ref()
            .and_then(|tasks| tasks.get(task))
            .is_some_and(|task| task.state == "running");
        match self.client_status.as_str() {
            "complete" | "failed" | "lost" => State::Ended(self.ended(task)),
            // A node that is out of reach may run it still.
            "unknown" => State::Running,
            _ if running => State::Running,
            _ => State::Created,
        }
    }

    fn ended(&self, task: &str) -> Ended {
        let events = self.events(task);
        let terminated = events.iter().rev().find(|event| event.kind == "Terminated");
        let status = terminated.map(|event| match event.signal {
            0 => event.exit_code,
            signal => 128 + signal,
        });
        let killed_for_memory = |event: &TaskEvent| {
            let detail = event.details.as_ref().and_then(|details| details.get("oom_killed"));
            detail.is_some_and(|killed| killed == "true")
        };
        let said = events.iter().rev().find(|event| event.fails_task).map(TaskEvent::said);
        let detail = said.or_else(|| {
            let lost = self.client_status == "lost" && !self.client_description.is_empty();
            lost.then(|| self.client_description.clone())
        });
        Ended {
            status,
            out_of_memory: terminated.is_some_and(killed_for_memory),
            detail: detail.filter(|detail| !detail.is_empty() && status.is_none()),
        }
    }
}

impl TaskEvent {
    /// What it says, the error first.
    pub(super) fn said(&self) -> String {
        let errors = [
            &self.driver_error,
            &self.setup_error,
            &self.download_error,
            &self.validation_error,
            &self.display_message,
        ];
        let said = errors.into_iter().find(|said| !said.is_empty());
        said.unwrap_or(&self.kind).clone()
    }
}
