//! Waits for the children of this server, so that none stays behind as a zombie, and notes how they
//! ended.

use std::{
    collections::HashMap,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};
use tracing::{error, warn};

use super::{files::SpaceFolder, process::Process};
use crate::spaces::drivers::{Ended, Labels};

/// How long the note of an end may follow the end itself.
const NOTED: Duration = Duration::from_secs(2);

/// The children that this server started. One task each, which ends with the child; all end with
/// the reaper, and the children live on.
#[derive(Default)]
pub(super) struct Reaper {
    tasks: Mutex<JoinSet<()>>,
    ends: Mutex<HashMap<Labels, watch::Receiver<Option<Ended>>>>,
}

impl Reaper {
    /// Waits for a child from now on. Must be called where a runtime is.
    pub(super) fn watch(
        &self,
        mut child: Child,
        process: Process,
        folder: &SpaceFolder,
        labels: &Labels,
    ) {
        let (tell, told) = watch::channel(None);
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(labels.clone(), told);
        let (folder, labels) = (folder.clone(), labels.clone());
        let wait = async move {
            let ended = match process.hold_child() {
                Ok(Some(held)) => held.ended().await,
                other => other.map(drop),
            };
            if let Err(failure) = ended {
                error!(space = %labels.space, %failure, "the agent cannot be waited for");
                return;
            }
            // It has ended, so this does not block.
            let ended = match child.wait() {
                Ok(status) => to_ended(status),
                Err(failure) => {
                    warn!(space = %labels.space, %failure, "the agent's status cannot be had");
                    Ended::default()
                }
            };
            if let Err(failure) = folder.write_ended(&labels, ended.clone()) {
                warn!(space = %labels.space, %failure, "the agent's end cannot be noted");
            }
            tell.send_replace(Some(ended));
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(wait, &tokio::runtime::Handle::current());
    }

    /// How a run that has ended did so, if this server or one before it saw.
    pub(super) async fn seen(&self, folder: &SpaceFolder, labels: &Labels) -> Option<Ended> {
        let told = self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(labels).cloned();
        if let Some(mut told) = told
            && let Ok(Ok(ended)) = tokio::time::timeout(NOTED, told.wait_for(Option::is_some)).await
        {
            return ended.clone();
        }
        folder.ended(labels)
    }

    /// The run has been removed.
    pub(super) fn forget(&self, labels: &Labels) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).remove(labels);
    }
}

fn to_ended(status: ExitStatus) -> Ended {
    let by_signal = || status.signal().map(|signal| signal.saturating_add(128));
    Ended { status: status.code().or_else(by_signal), ..Ended::default() }
}
