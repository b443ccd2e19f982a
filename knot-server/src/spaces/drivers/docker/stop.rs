//! Bringing a container down, and removing it.

use std::time::Duration;

use bollard::query_parameters::{RemoveContainerOptionsBuilder, StopContainerOptionsBuilder};

use super::{
    Docker, PAUSE, WORK,
    failure::{Asked, ask, is_status},
    find::{self, inspect, state},
    flavour::Client,
};
use crate::spaces::drivers::{Ended, Instance, State, StopError, Stopped};

/// How long a removal that something else began may take to end.
const REMOVAL: Duration = Duration::from_secs(30);

impl Docker {
    pub(super) async fn bring_down(
        &self,
        instance: &Instance,
        grace: Duration,
    ) -> Result<Stopped, StopError> {
        let id = instance.id.0.as_str();
        let _turn = self.locks.lock(instance.labels.space).await;
        let asked = |failure| StopError::from(self.flavour.engine("stop the container", failure));
        let client = self.client().await.map_err(asked)?;
        let Some(details) = inspect(&client, id).await.map_err(asked)? else {
            return Ok(Stopped::Gone);
        };
        let found = find::instance(id, details);
        instance.expect(found.as_ref().map(|found| &found.labels))?;
        let stopped = match found.map(|found| found.state) {
            Some(State::Running) => end(&client, id, grace).await.map_err(asked)?,
            Some(State::Created) | None => Stopped::NeverStarted,
            Some(State::Ended(ended)) => Stopped::Ended(ended),
        };
        remove(&client, id).await.map_err(asked)?;
        Ok(stopped)
    }
}

/// Ends what runs: the engine waits for the grace, and then kills.
async fn end(client: &Client, id: &str, grace: Duration) -> Asked<Stopped> {
    let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::new().t(seconds).build();
    let patience = grace + WORK;
    let patient = client.api.clone().with_timeout(patience);
    if let Err(failure) = ask(patience, patient.stop_container(id, Some(options.clone()))).await {
        if is_status(&failure, 404) {
            return Ok(Stopped::Gone);
        }
        // The signals of a paused one would wait, and some engines refuse to stop it.
        ask(WORK, client.api.unpause_container(id)).await.map_err(|_| failure)?;
        ask(patience, patient.stop_container(id, Some(options))).await?;
    }
    Ok(match inspect(client, id).await?.and_then(|details| details.state).map(state) {
        Some(State::Ended(ended)) => Stopped::Ended(ended),
        // What the engine calls stopped and then shows running is killed by the removal.
        Some(State::Running | State::Created) => Stopped::Ended(Ended::default()),
        None => Stopped::Gone,
    })
}

/// Removes a container and the nameless volumes that its image asked for, never a named one.
pub(super) async fn remove(client: &Client, id: &str) -> Asked<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match ask(WORK, client.api.remove_container(id, Some(options))).await {
        Err(failure) if is_status(&failure, 404) => Ok(()),
        // Something else is removing it already.
        Err(failure) if is_status(&failure, 409) => {
            let gone = async {
                while inspect(client, id).await?.is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            };
            tokio::time::timeout(REMOVAL, gone).await.unwrap_or(Err(failure))
        }
        done => done,
    }
}
