//! Bringing a container up.

use std::time::Duration;

use bollard::query_parameters::UploadToContainerOptionsBuilder;
use tracing::warn;

use super::{
    Docker, PAUSE, WORK, container,
    failure::ask,
    find::{find, inspect, instance, state},
    flavour::Client,
    image,
    stop::remove,
    volume,
};
use crate::spaces::drivers::{
    Error, Instance, InstanceId, Labels, Progress, Run, StartError, State, VolumeError,
    fence::settle,
};

/// How long a container whose name is given away may take to be shown.
const SHOWN: Duration = Duration::from_secs(10);

impl Docker {
    pub(super) async fn bring_up(
        &self,
        run: &Run,
        progress: &Progress,
    ) -> Result<Instance, StartError> {
        run.check()?;
        let network = container::network(run)?;
        let labels = run.labels(self.owner);
        let _turn = self.locks.lock(labels.space).await;
        let asked = |failure| StartError::from(self.flavour.engine("look for the space", failure));
        let client = self.client().await.map_err(asked)?;
        let present =
            || find(&client, Labels::filters_by_space(labels.owner.cluster, labels.space));
        let created = match settle(&labels, present().await.map_err(asked)?)? {
            Some(running) if running.state == State::Running => {
                progress.line("the container is running already");
                return Ok(running);
            }
            Some(created) => {
                progress.line("the container is there, and was never started");
                self.ensure_volumes(&client, run).await?;
                created.id
            }
            None => {
                image::ensure(&client, run, progress).await?;
                self.ensure_volumes(&client, run).await?;
                progress.line("image and volumes are ready");
                match container::create(&client, run, &labels, &network).await? {
                    container::Created::New(id) => id,
                    container::Created::NameTaken(name) => {
                        self.find_taken(&client, &labels, name).await?
                    }
                }
            }
        };
        progress.line("the container is created");
        let started = self.finish(&client, &created.0, progress).await;
        if let Err(error) = &started
            && !matches!(error, StartError::Engine(Error::Unreachable { .. }))
        {
            remove_unstarted(&client, &created.0).await;
        }
        started
    }

    async fn ensure_volumes(&self, client: &Client, run: &Run) -> Result<(), VolumeError> {
        for mount in &run.mounts {
            volume::ensure(client, self.owner, &mount.volume).await?;
        }
        Ok(())
    }

    /// What has the name of the container that was to be created, if it is what was to be created:
    /// a server may have been killed while it created it. The engine gives the name away before it
    /// shows the container.
    async fn find_taken(
        &self,
        client: &Client,
        labels: &Labels,
        name: String,
    ) -> Result<InstanceId, StartError> {
        let asked = |failure| self.flavour.engine("look for the space", failure);
        let shown = async {
            loop {
                if let Some(details) = inspect(client, &name).await.map_err(asked)? {
                    let found = instance(&name, details);
                    let present = found.filter(|found| found.labels == *labels);
                    return Ok(settle(labels, present.into_iter().collect())?.map(|found| found.id));
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let found: Result<_, StartError> =
            tokio::time::timeout(SHOWN, shown).await.unwrap_or(Ok(None));
        found?.ok_or(StartError::NameTaken { name })
    }

    /// Puts the agent in and starts it.
    async fn finish(
        &self,
        client: &Client,
        id: &str,
        progress: &Progress,
    ) -> Result<Instance, StartError> {
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let tar = container::agent_tar(self.flavour, self.agent)?;
        ask(WORK, client.api.upload_to_container(id, Some(options), bollard::body_full(tar)))
            .await
            .map_err(|failure| self.flavour.engine("put the agent into the container", failure))?;
        progress.line("the agent is in the container");
        ask(WORK, client.api.start_container(id, None))
            .await
            .map_err(|failure| self.flavour.start(failure))?;
        progress.line("the container is started");
        inspect(client, id)
            .await
            .map_err(|failure| self.flavour.engine("look at the started container", failure))?
            .and_then(|details| instance(id, details))
            .ok_or_else(|| {
                self.flavour
                    .unknown("start the container", "it was removed at once".to_owned())
                    .into()
            })
    }
}

/// Takes away what a refused start left. If that fails too, the next stop does it.
async fn remove_unstarted(client: &Client, id: &str) {
    let never_started = match inspect(client, id).await {
        Ok(Some(details)) => details.state.map(state) == Some(State::Created),
        Ok(None) => false,
        Err(_) => false,
    };
    if never_started && let Err(failure) = remove(client, id).await {
        warn!(container = id, %failure, "container that could not be started is left behind");
    }
}
