//! Bringing a space's job down.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Nomad,
    api::{Asked, Failure, Indexed},
    found::{Found, newest, next_index},
    job,
};
use crate::spaces::drivers::{Instance, State, StopError, Stopped};

/// How often a job is read anew because another server was quicker.
const RACES: u32 = 4;
/// How long a killed task may take to be seen as ended.
const KILLED: Duration = Duration::from_secs(60);
/// The pause between two questions that Nomad answers at once.
const PAUSE: Duration = Duration::from_millis(100);

impl Nomad {
    /// Registers the job as stopped, for the newest change that this server holds: who has not heard
    /// of it does not start the job again.
    pub(super) async fn register_stopped(&self, found: &Found) -> Asked<()> {
        let mut job = found.whole.clone();
        let newest = self.wishes.newest(found.meta.labels.space).await;
        job::stop(&mut job, newest.or(found.meta.serves));
        self.api.register(&found.namespace, &job, found.index).await.map(drop)
    }

    pub(super) async fn bring_down(
        &self,
        instance: &Instance,
        grace: Duration,
    ) -> Result<Stopped, StopError> {
        let labels = &instance.labels;
        let _turn = self.locks.lock(labels.space).await;
        let asked = |failure: Failure| StopError::from(failure.on("stop the job"));
        for _ in 0..RACES {
            let Some(found) = self.find(labels.space).await.map_err(asked)? else {
                return Ok(Stopped::Gone);
            };
            instance.expect(Some(&found.meta.labels))?;
            let Some(there) = found.instance() else { return Ok(Stopped::Gone) };
            self.may_change(&found).await.map_err(|by| StopError::Driven { by })?;
            if !found.stopped {
                match self.register_stopped(&found).await {
                    Ok(()) => {}
                    Err(Failure::Raced) => continue,
                    Err(failure) => return Err(asked(failure)),
                }
            }
            if let State::Ended(ended) = there.state {
                return Ok(Stopped::Ended(ended));
            }
            return self.wait_for_end(&found, grace).await;
        }
        Err(StopError::Driven { by: "other servers change its job again and again".to_owned() })
    }

    /// Waits until no allocation can run any more; after the grace, has what is left killed.
    pub(super) async fn wait_for_end(
        &self,
        found: &Found,
        grace: Duration,
    ) -> Result<Stopped, StopError> {
        let asked = |failure: Failure| StopError::from(failure.on("stop the job"));
        let (id, task) = (found.id().0, found.meta.task.clone());
        let (begin, mut killed, mut beyond) = (Instant::now(), false, None);
        loop {
            let asked_at = Instant::now();
            let left = (grace + KILLED).saturating_sub(begin.elapsed());
            let wait = if killed { left } else { left.min(grace.saturating_sub(begin.elapsed())) };
            let question = self.api.allocations(&found.namespace, &id, beyond);
            let Indexed { value, index } = match tokio::time::timeout(wait, question).await {
                Ok(answer) => answer.map_err(asked)?,
                // The grace is over, or all of it.
                Err(_) => self.api.allocations(&found.namespace, &id, None).await.map_err(asked)?,
            };
            beyond = next_index(beyond, index);
            let running: Vec<_> = value.iter().filter(|one| !one.is_over()).collect();
            if running.is_empty() {
                let last = newest(&found.meta, value);
                return Ok(match last.map(|last| last.state(&task)) {
                    Some(State::Ended(ended)) => Stopped::Ended(ended),
                    _ => Stopped::NeverStarted,
                });
            }
            if begin.elapsed() >= grace + KILLED {
                let left = running.iter().map(|one| one.id.as_str()).collect::<Vec<_>>();
                return Err(StopError::Survived {
                    left: format!("allocation {}", left.join(", ")),
                });
            }
            if begin.elapsed() >= grace && !killed {
                killed = true;
                for one in running {
                    let sent = self.api.signal(&found.namespace, &one.id, &task, "SIGKILL").await;
                    if let Err(failure) = sent {
                        tracing::debug!(allocation = one.id, ?failure, "a kill was not taken");
                    }
                }
            }
            tokio::time::sleep_until(asked_at + PAUSE).await;
        }
    }
}
