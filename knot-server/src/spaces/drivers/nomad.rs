//! Spaces as jobs of a Nomad cluster.
//!
//! A Nomad cluster is shared by servers that may not hear each other. So a job says which change of
//! what is wanted of its space it serves, a server changes a job only if it holds that one, and what it
//! does is a registration with `EnforceIndex`: of two servers that want different things the slower one is
//! told. Nomad's own way to stop a job has no compare-and-set, so a stop is a registration too, with
//! `Stop` in it. The stopped job stays until its space is forgotten or Nomad collects it.

mod api;
mod archive;
mod cause;
mod found;
mod identity;
mod job;
mod model;
mod start;
mod stop;
mod volume;

use crate::spaces::drivers::error::Blame as _;
use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::Url;
use uuid::Uuid;

pub use self::archive::Archive;
use self::{
    api::{Api, Asked, Failure},
    job::Meta,
};
use super::{
    Driver, Engine, Error, ForgetError, Instance, Labels, MAX_LOG, Owner, Platform, Progress, Run,
    StartError, StopError, Stopped, Survey, VolumeError, VolumeSpec, Wishes, locks::Locks,
};

/// How a server uses Nomad.
#[derive(Clone)]
pub struct Settings {
    /// The URL of its HTTP API.
    pub address: Url,
    /// The token that is shown to it.
    pub token: Option<String>,
    /// The region; the one of the server at `address` where none is given.
    pub region: Option<String>,
    /// The datacenters that jobs made from fields may run in.
    pub datacenters: Vec<String>,
    /// The namespace of all jobs and volumes.
    pub namespace: String,
    /// Whether each user's are in a namespace of their own instead, made where it is not there.
    pub namespace_per_user: bool,
    /// The URL of this server by which Nomad's nodes fetch the agent.
    pub agent_url: String,
    /// How long a volume's claim may take to be let go of once nothing uses it.
    pub release: Duration,
}

/// A Nomad cluster, as one server uses it.
pub struct Nomad {
    owner: Owner,
    settings: Settings,
    agent: Archive,
    wishes: Arc<dyn Wishes>,
    api: Api,
    locks: Locks,
}

impl Nomad {
    /// A driver for the cluster that the settings name. Nothing is asked of it yet. `wishes` says
    /// what this server holds of what is wanted of spaces.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        owner: Owner,
        settings: Settings,
        agent: Archive,
        wishes: Arc<dyn Wishes>,
    ) -> Result<Self, Error> {
        let mut http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        if settings.address.scheme() != "https" {
            // A machine without any CA certificates can still use plain HTTP.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| Platform::Nomad.unknown("set up TLS", error))?;
        let (address, token) = (settings.address.clone(), settings.token.clone());
        let api = Api::new(http, address, token, settings.region.clone());
        Ok(Self { owner, settings, agent, wishes, api, locks: Locks::default() })
    }

    fn namespace(&self, run: &Run) -> String {
        match run.user.filter(|_| self.settings.namespace_per_user) {
            Some(user) => format!("knot-{user}"),
            None => self.settings.namespace.clone(),
        }
    }

    async fn read_log(&self, instance: &Instance, bytes: usize) -> Asked<Vec<u8>> {
        let bytes = bytes.min(MAX_LOG);
        let Some(found) = self.find(instance.labels.space).await? else { return Ok(Vec::new()) };
        let is_it = found.meta.labels == instance.labels && found.instance().is_some();
        let Some(allocation) = found.allocation.as_ref().filter(|_| is_it) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for output in ["stdout", "stderr"] {
            let task = &found.meta.task;
            let read = self.api.log(&found.namespace, &allocation.id, task, output, bytes).await;
            all.extend(api::found(read)?.unwrap_or_default());
        }
        all.drain(..all.len().saturating_sub(bytes));
        Ok(all)
    }

    async fn user_of(&self, volume: Uuid) -> Asked<Option<Labels>> {
        let jobs = self.api.jobs(&job::prefix(self.owner.cluster)).await?;
        let metas = jobs.iter().filter(|job| !job.stop).filter_map(|job| job.meta.as_ref());
        let mut users = metas.filter_map(Meta::read).filter(|meta| meta.volumes.contains(&volume));
        Ok(users.next().map(|meta| meta.labels))
    }

    async fn purge(&self, space: Uuid) -> Result<(), ForgetError> {
        let asked = |failure: Failure| ForgetError::from(failure.on("remove the job"));
        let Some(found) = self.find(space).await.map_err(asked)? else { return Ok(()) };
        if found.instance().is_some() {
            return Err(ForgetError::InUse(Box::new(found.meta.labels)));
        }
        let purged = self.api.purge(&found.namespace, &found.id().0).await;
        api::found(purged).map(drop).map_err(asked)
    }
}

impl Driver for Nomad {
    fn platform(&self) -> Platform {
        Platform::Nomad
    }

    fn probe(&self) -> BoxFuture<'_, Result<Engine, Error>> {
        Box::pin(async {
            let version = self.api.version().await.map_err(|f| f.on("say who it is"))?;
            Ok(Engine { name: "Nomad".to_owned(), version })
        })
    }

    fn check_job<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), StartError>> {
        Box::pin(async { self.parse(&self.settings.namespace, job).await.map(drop) })
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
        Box::pin(self.bring_down(instance, grace))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(async {
            let jobs = self.all().await.map_err(|failure| failure.on("list jobs"))?;
            Ok(self.own(&jobs))
        })
    }

    fn survey(&self) -> BoxFuture<'_, Result<Survey, Error>> {
        Box::pin(async {
            let jobs = self.all().await.map_err(|failure| failure.on("list jobs"))?;
            Ok(Survey { instances: self.own(&jobs), jobs })
        })
    }

    fn identity(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async {
            let namespace = &self.settings.namespace;
            let known = identity::of(&self.api, namespace).await;
            known.map_err(|failure| failure.on("say who it is"))
        })
    }

    /// Where each user has a namespace, the start makes it: only that knows whose it is.
    fn ensure_volume<'a>(
        &'a self,
        volume: &'a VolumeSpec,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async move {
            if self.settings.namespace_per_user {
                return Ok(());
            }
            volume::ensure(&self.api, self.owner, &self.settings.namespace, volume).await
        })
    }

    fn remove_volume(&self, volume: Uuid) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async move {
            let asked = |failure: Failure| failure.on("see who uses a volume");
            if let Some(labels) = self.user_of(volume).await.map_err(asked)? {
                return Err(VolumeError::InUse { volume, by: labels.to_string() });
            }
            volume::remove(&self.api, self.owner, volume, self.settings.release).await
        })
    }

    fn forget(&self, space: Uuid) -> BoxFuture<'_, Result<(), ForgetError>> {
        Box::pin(async move {
            let _turn = self.locks.lock(space).await;
            self.purge(space).await
        })
    }

    fn logs<'a>(
        &'a self,
        instance: &'a Instance,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(async move {
            let read = self.read_log(instance, bytes).await;
            read.map_err(|failure| failure.on("read a task's output"))
        })
    }
}
