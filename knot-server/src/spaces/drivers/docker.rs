//! Spaces as containers of a Docker engine, or of Podman through its socket that speaks the same.
//!
//! A container has the agent as its first process, put in from outside, so any image will do. It is
//! created, then given the agent, then started; a server that is killed in between leaves a created
//! container, which the next start of the same generation finishes.

mod container;
mod failure;
mod find;
mod flavour;
mod image;
mod pull;
mod start;
mod stop;
mod volume;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::{StreamExt, future::BoxFuture};
use uuid::Uuid;

use self::{
    failure::{Asked, ask, is_status},
    flavour::{Client, Flavour},
};
use super::{
    Driver, Engine, Error, ForgetError, FoundVolume, Instance, Labels, MAX_LOG, Owner, Platform,
    Progress, Run, StartError, StopError, Stopped, VolumeError, VolumeSpec, locks::Locks,
};

/// How long an engine may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take to do a thing: on a busy disk, creating and removing take their time.
const WORK: Duration = Duration::from_secs(120);
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
                find::find(&client, Labels::filters_by_owner(self.owner)).await
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
