//! Spaces as containers of a Docker engine, or of Podman through its socket that speaks the same.
//!
//! A container has the agent as its first process, put in from outside, so any image will do. It is
//! created, then given the agent, then started; a server that is killed in between leaves a created
//! container, which the next start of the same generation finishes.

mod container;
mod failure;
mod flavour;
mod image;
mod pull;
mod volume;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    models::{
        ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
        ContainerSummary, ContainerSummaryStateEnum as Summary,
    },
    query_parameters::{
        ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, future::BoxFuture};
use tracing::warn;
use uuid::Uuid;

use self::{
    failure::{Asked, ask, is_status},
    flavour::{Client, Flavour},
};
use super::{
    Driver, Ended, Engine, Error, ForgetError, FoundVolume, Instance, InstanceId, Labels, MAX_LOG,
    Owner, Platform, Progress, Run, StartError, State, StopError, Stopped, VolumeError, VolumeSpec,
    fence::settle, locks::Locks,
};

/// How long an engine may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take to do a thing: on a busy disk, creating and removing take their time.
const WORK: Duration = Duration::from_secs(120);
/// How long a removal that something else began may take to end.
const REMOVAL: Duration = Duration::from_secs(30);
/// How long a container whose name is given away may take to be shown.
const SHOWN: Duration = Duration::from_secs(10);
/// The pause between two looks at what the engine is about to do.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest grace that a stop can be given.
const MAX_GRACE: Duration = Duration::from_secs(3600);

/// A Docker or Podman engine, as one server uses it.
pub struct Docker {
    flavour: Flavour,
    owner: Owner,
    host: Option<String>,
    agent: &'static [u8],
    /// Made at first use, and anew at each probe: an engine can be upgraded under us.
    client: Mutex<Option<Client>>,
    locks: Locks,
}

impl Docker {
    /// A driver for the engine at `host` (`unix:///path`, `tcp://host:port`), or else this machine's
    /// own. Nothing is asked of the engine yet. `agent` is the static program put into containers.
    #[must_use]
    pub fn new(owner: Owner, host: Option<String>, agent: &'static [u8]) -> Self {
        Self::of(Flavour::Docker, owner, host, agent)
    }

    /// The same for Podman: its service at `host`, or else this user's or this machine's own.
    #[must_use]
    pub fn podman(owner: Owner, host: Option<String>, agent: &'static [u8]) -> Self {
        Self::of(Flavour::Podman, owner, host, agent)
    }

    fn of(flavour: Flavour, owner: Owner, host: Option<String>, agent: &'static [u8]) -> Self {
        Self { flavour, owner, host, agent, client: Mutex::new(None), locks: Locks::default() }
    }

    async fn client(&self) -> Asked<Client> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(client) => Ok(client),
            None => self.connect().await,
        }
    }

    /// A client that speaks the engine's version of the protocol.
    async fn connect(&self) -> Asked<Client> {
        let client = match &self.host {
            Some(host) => bollard::Docker::connect_with_host(host)?,
            None => self.flavour.connect()?,
        };
        let api = ask(ANSWER, client.negotiate_version()).await?;
        let client = Client { api, flavour: self.flavour };
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    async fn ask_who(&self) -> Asked<Engine> {
        let client = self.connect().await?;
        let version = ask(ANSWER, client.api.version()).await?;
        let number = version.version.unwrap_or_else(|| "of unknown version".to_owned());
        let api = client.api.client_version();
        Ok(Engine {
            name: self.flavour.name().to_owned(),
            version: format!("{number} (API {}.{})", api.major_version, api.minor_version),
        })
    }

    /// Containers that carry all the label filters and whose labels can be read.
    async fn find(&self, client: &Client, filters: [String; 2]) -> Asked<Vec<Instance>> {
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

    async fn bring_up(&self, run: &Run, progress: &Progress) -> Result<Instance, StartError> {
        run.check()?;
        let network = container::network(run)?;
        let labels = run.labels(self.owner);
        let _turn = self.locks.lock(labels.space).await;
        let asked = |failure| StartError::from(self.flavour.engine("look for the space", failure));
        let client = self.client().await.map_err(asked)?;
        let present =
            || self.find(&client, Labels::filters_by_space(labels.owner.cluster, labels.space));
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

    async fn bring_down(&self, instance: &Instance, grace: Duration) -> Result<Stopped, StopError> {
        let id = instance.id.0.as_str();
        let _turn = self.locks.lock(instance.labels.space).await;
        let asked = |failure| StopError::from(self.flavour.engine("stop the container", failure));
        let client = self.client().await.map_err(asked)?;
        let Some(details) = inspect(&client, id).await.map_err(asked)? else {
            return Ok(Stopped::Gone);
        };
        let found = self::instance(id, details);
        if found.as_ref().map(|found| &found.labels) != Some(&instance.labels) {
            return Err(StopError::Foreign {
                id: id.to_owned(),
                wanted: Box::new(instance.labels.clone()),
            });
        }
        let stopped = match found.map(|found| found.state) {
            Some(State::Running) => end(&client, id, grace).await.map_err(asked)?,
            Some(State::Created) | None => Stopped::NeverStarted,
            Some(State::Ended(ended)) => Stopped::Ended(ended),
        };
        remove(&client, id).await.map_err(asked)?;
        Ok(stopped)
    }

    async fn read_log(&self, instance: &Instance, bytes: usize) -> Asked<Vec<u8>> {
        let bytes = bytes.min(MAX_LOG);
        let client = self.client().await?;
        // The last so many bytes are within the last so many lines.
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true);
        let options = options.tail(&bytes.to_string()).build();
        let mut output = Box::pin(client.api.logs(&instance.id.0, Some(options)));
        let mut last = VecDeque::new();
        while let Some(piece) = ask(ANSWER, async { output.next().await.transpose() })
            .await
            .or_else(|failure| if is_status(&failure, 404) { Ok(None) } else { Err(failure) })?
        {
            last.extend(piece.as_ref());
            last.drain(..last.len().saturating_sub(bytes));
        }
        Ok(last.into())
    }
}

impl Driver for Docker {
    fn platform(&self) -> Platform {
        self.flavour.platform()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Engine, Error>> {
        Box::pin(async {
            self.ask_who().await.map_err(|failure| self.flavour.engine("say who it is", failure))
        })
    }

    fn start<'a>(
        &'a self,
        run: &'a Run,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Instance, StartError>> {
        Box::pin(self.bring_up(run, progress))
    }

    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        grace: Duration,
    ) -> BoxFuture<'a, Result<Stopped, StopError>> {
        Box::pin(self.bring_down(instance, grace.min(MAX_GRACE)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(async {
            let found = async {
                let client = self.client().await?;
                self.find(&client, Labels::filters_by_owner(self.owner)).await
            };
            found.await.map_err(|failure| self.flavour.engine("list containers", failure))
        })
    }

    fn ensure_volume<'a>(
        &'a self,
        volume: &'a VolumeSpec,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async move {
            let client =
                self.client().await.map_err(|f| self.flavour.engine("make a volume", f))?;
            volume::ensure(&client, self.owner, volume).await
        })
    }

    fn remove_volume(&self, volume: Uuid) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async move {
            let client =
                self.client().await.map_err(|f| self.flavour.engine("remove a volume", f))?;
            volume::remove(&client, self.owner, volume).await
        })
    }

    fn list_volumes(&self) -> BoxFuture<'_, Result<Option<Vec<FoundVolume>>, Error>> {
        Box::pin(async {
            let found = async { volume::list(&self.client().await?, self.owner.cluster).await };
            found.await.map(Some).map_err(|failure| self.flavour.engine("list volumes", failure))
        })
    }

    fn identity(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async {
            let said = async { volume::identity(&self.client().await?).await };
            said.await.map_err(|failure| self.flavour.engine("say who it is", failure))
        })
    }

    fn forget(&self, space: Uuid) -> BoxFuture<'_, Result<(), ForgetError>> {
        Box::pin(async move {
            // A container keeps nothing once it is removed, so there is only to see that it is.
            let mut left = self.list().await?.into_iter().map(|instance| instance.labels);
            match left.find(|labels| labels.space == space) {
                Some(labels) => Err(ForgetError::InUse(Box::new(labels))),
                None => Ok(()),
            }
        })
    }

    fn logs<'a>(
        &'a self,
        instance: &'a Instance,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(async move {
            let read = self.read_log(instance, bytes).await;
            read.map_err(|failure| self.flavour.engine("read a container's output", failure))
        })
    }
}

/// What the engine knows of a container; none if it is not there.
async fn inspect(client: &Client, id: &str) -> Asked<Option<ContainerInspectResponse>> {
    match ask(ANSWER, client.api.inspect_container(id, None)).await {
        Ok(details) => Ok(Some(details)),
        Err(failure) if is_status(&failure, 404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn instance(id: &str, details: ContainerInspectResponse) -> Option<Instance> {
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

fn state(state: ContainerState) -> State {
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
async fn remove(client: &Client, id: &str) -> Asked<()> {
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
