//! Spaces as jobs of a Nomad cluster.
//!
//! A Nomad cluster is shared by servers that may not hear each other. So a job says which changes of
//! its space it was made for, a server changes a job only if it holds those, and each change is a
//! registration with `EnforceIndex`: of two servers that want different things the slower one is
//! told. Nomad's own way to stop a job has no compare-and-set, so a stop is a registration too, with
//! `Stop` in it. The stopped job stays until its space is forgotten or Nomad collects it.

mod api;
mod archive;
mod cause;
mod job;
mod model;
mod volume;

use std::{collections::HashMap, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

pub use self::archive::Archive;
use self::{
    api::{Api, Asked, Failure, Indexed},
    job::Meta,
    model::Allocation,
};
use super::{
    Driver, Ended, Engine, Error, ForgetError, Held, Instance, InstanceId, Labels, MAX_LOG, Owner,
    Platform, Progress, Run, StartError, State, StopError, Stopped, VolumeError, VolumeSpec,
    fence::settle, locks::Locks,
};

/// How often a job is read anew because another server was quicker.
const RACES: u32 = 4;
/// How long what has no place is left waiting for one.
const PLACING: Duration = Duration::from_secs(30);
/// How long what an old home left running has to end by itself.
const ANOTHERS_GRACE: Duration = Duration::from_secs(10);
/// How long a killed task may take to be seen as ended.
const KILLED: Duration = Duration::from_secs(60);
/// The pause between two questions that Nomad answers at once.
const PAUSE: Duration = Duration::from_millis(100);

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
    held: Held,
    api: Api,
    locks: Locks,
}

/// A job of this cluster, with what is read of it.
struct Found {
    namespace: String,
    whole: Value,
    index: u64,
    stopped: bool,
    meta: Meta,
    /// The newest allocation of its generation.
    allocation: Option<Allocation>,
}

impl Nomad {
    /// A driver for the cluster that the settings name. Nothing is asked of it yet. `held` says
    /// whether this server holds changes of a space.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        owner: Owner,
        settings: Settings,
        agent: Archive,
        held: Held,
    ) -> Result<Self, Error> {
        let mut http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        if settings.address.scheme() != "https" {
            // A machine without any CA certificates can still use plain HTTP.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| unknown("set up TLS", error.to_string()))?;
        let (address, token) = (settings.address.clone(), settings.token.clone());
        let api = Api::new(http, address, token, settings.region.clone());
        Ok(Self { owner, settings, agent, held, api, locks: Locks::default() })
    }

    fn namespace(&self, run: &Run) -> String {
        match run.user.filter(|_| self.settings.namespace_per_user) {
            Some(user) => format!("knot-{user}"),
            None => self.settings.namespace.clone(),
        }
    }

    /// The job of a space, in whichever namespace it is.
    async fn find(&self, space: Uuid) -> Asked<Option<Found>> {
        let id = job::id(self.owner.cluster, space);
        let stubs = self.api.jobs(&id).await?;
        let Some(stub) = stubs.into_iter().find(|stub| stub.id == id) else { return Ok(None) };
        let Some(whole) = self.api.job(&stub.namespace, &id).await? else { return Ok(None) };
        let Some(meta) = Meta::of_job(&whole) else {
            return Err(Failure::Said(format!("job {id} is there, and does not say whose it is")));
        };
        let allocations = self.api.allocations(&stub.namespace, &id, None).await?.value;
        let index = whole.get("JobModifyIndex").and_then(Value::as_u64).unwrap_or(0);
        let stopped = whole.get("Stop").and_then(Value::as_bool).unwrap_or(false);
        let allocation = newest(&meta, allocations);
        Ok(Some(Found { namespace: stub.namespace, whole, index, stopped, meta, allocation }))
    }

    async fn all(&self) -> Asked<Vec<Instance>> {
        let prefix = job::prefix(self.owner.cluster);
        let jobs = self.api.jobs(&prefix).await?;
        let mut by_job: HashMap<String, Vec<Allocation>> = HashMap::new();
        for allocation in self.api.allocations_of_jobs(&prefix).await? {
            by_job.entry(allocation.job_id.clone()).or_default().push(allocation);
        }
        let mut found = Vec::new();
        for stub in jobs {
            let meta = stub.meta.as_ref().and_then(Meta::read);
            let Some(meta) = meta else {
                tracing::warn!(job = stub.id, "metadata cannot be read, job left alone");
                continue;
            };
            let allocation = newest(&meta, by_job.remove(&stub.id).unwrap_or_default());
            let labels = meta.labels.clone();
            if labels.owner == self.owner
                && let Some(state) = state(stub.stop, &meta, allocation.as_ref())
            {
                found.push(Instance { id: InstanceId(stub.id), labels, state });
            }
        }
        Ok(found)
    }

    async fn bring_up(&self, run: &Run, progress: &Progress) -> Result<Instance, StartError> {
        run.check()?;
        let labels = run.labels(self.owner);
        let _turn = self.locks.lock(labels.space).await;
        let asked = |failure: Failure| StartError::from(failure.on("look for the space"));
        for _ in 0..RACES {
            let found = self.find(labels.space).await.map_err(asked)?;
            if let Some(found) = &found {
                self.may_change(found).await.map_err(|by| StartError::Driven { by })?;
            }
            let before = self.settle(&labels, found.as_ref())?;
            if let Some(found) = found.as_ref().filter(|found| found.is_anothers(&labels)) {
                progress.line("what the space's old home left running is stopped");
                self.end_anothers(found).await?;
                continue;
            }
            let (namespace, index) = match before {
                Some(running) if running.state == State::Running => {
                    progress.line("the job is running already");
                    return Ok(running);
                }
                Some(_) => {
                    progress.line("the job is there, and its task has not come up yet");
                    let found = found.as_ref();
                    let namespace = found.map(|found| found.namespace.clone());
                    (namespace.unwrap_or_default(), found.map_or(0, |found| found.index))
                }
                None => {
                    let namespace = match &found {
                        Some(found) => found.namespace.clone(),
                        None => self.namespace(run),
                    };
                    self.prepare(run, &namespace, progress).await?;
                    let job = self.job(run, &namespace).await?;
                    let expected = found.as_ref().map_or(0, |found| found.index);
                    match self.api.register(&namespace, &job, expected).await {
                        Ok(registered) => {
                            progress.line("the job is registered");
                            (namespace, registered.job_modify_index)
                        }
                        Err(Failure::Raced) => continue,
                        Err(Failure::Said(cause)) if !cause.contains("no space left") => {
                            return Err(StartError::Job { cause });
                        }
                        Err(failure) => return Err(failure.on("register the job").into()),
                    }
                }
            };
            let came_up = self.watch(run, &labels, &namespace, index, progress).await;
            if let Err(error) = &came_up
                && !matches!(error, StartError::Engine(Error::Unreachable { .. }))
            {
                self.give_up(&labels).await;
            }
            return came_up;
        }
        Err(StartError::Driven { by: "other servers change its job again and again".to_owned() })
    }

    /// What a start should adopt. A job of another home is taken over once it is held what that
    /// home knew: this server's data places the space here.
    fn settle(
        &self,
        labels: &Labels,
        found: Option<&Found>,
    ) -> Result<Option<Instance>, StartError> {
        let Some(found) = found else { return Ok(None) };
        let there = found.instance();
        if found.meta.labels.generation > labels.generation {
            let gone = State::Ended(Ended::default());
            let state = there.map_or(gone, |there| there.state);
            let (id, labels) = (found.id(), found.meta.labels.clone());
            return Err(StartError::Newer(Box::new(Instance { id, labels, state })));
        }
        let taken_over = found.meta.labels.owner != labels.owner
            && found.meta.labels.generation < labels.generation;
        settle(labels, there.filter(|_| !taken_over).into_iter().collect())
    }

    /// Ends what the space's old home has running, before the new generation comes up: a job that is
    /// changed in one step would run both for a while.
    async fn end_anothers(&self, found: &Found) -> Result<(), StartError> {
        let action = "stop what the old home left running";
        if !found.stopped {
            match self.register_stopped(found).await {
                Ok(()) => {}
                Err(Failure::Raced) => return Ok(()),
                Err(failure) => return Err(failure.on(action).into()),
            }
        }
        match self.wait_for_end(found, ANOTHERS_GRACE).await {
            Ok(_) => Ok(()),
            Err(StopError::Engine(error)) => Err(error.into()),
            Err(error) => Err(unknown(action, error.to_string()).into()),
        }
    }

    /// Whether this server holds all that the job was made for; if not, who drives it.
    async fn may_change(&self, found: &Found) -> Result<(), String> {
        let Meta { labels, serves, .. } = &found.meta;
        if self.held.holds(labels.space, serves.clone()).await {
            return Ok(());
        }
        Err(labels.to_string())
    }

    /// Namespace and volumes.
    async fn prepare(
        &self,
        run: &Run,
        namespace: &str,
        progress: &Progress,
    ) -> Result<(), StartError> {
        if self.settings.namespace_per_user && run.user.is_some() {
            let description = "Spaces of one user of knot";
            let put = self.api.put_namespace(namespace, description).await;
            put.map_err(|failure| failure.on("make the user's namespace"))?;
            progress.line(format!("the namespace {namespace} is ready"));
        }
        for mount in &run.mounts {
            volume::ensure(&self.api, self.owner, namespace, &mount.volume).await?;
        }
        progress.line("the volumes are there");
        for mount in &run.mounts {
            let patience = self.settings.release;
            volume::wait_for_release(&self.api, self.owner, namespace, &mount.volume, patience)
                .await?;
        }
        progress.line("nothing else has the volumes");
        Ok(())
    }

    async fn parse(&self, namespace: &str, hcl: &str) -> Result<Value, StartError> {
        self.api.parse(namespace, hcl).await.map_err(|failure| match failure {
            Failure::Said(cause) => StartError::Job { cause },
            failure => failure.on("parse the job").into(),
        })
    }

    async fn job(&self, run: &Run, namespace: &str) -> Result<Value, StartError> {
        let parsed = match &run.job {
            None => None,
            Some(hcl) => Some(self.parse(namespace, hcl).await?),
        };
        job::make(run, self.owner, namespace, &self.settings, &self.agent, parsed)
    }

    /// Waits until the task runs, and says what happens to it on the way.
    async fn watch(
        &self,
        run: &Run,
        labels: &Labels,
        namespace: &str,
        index: u64,
        progress: &Progress,
    ) -> Result<Instance, StartError> {
        let asked = |failure: Failure| StartError::from(failure.on("follow the job"));
        let id = job::id(self.owner.cluster, labels.space);
        let whole = self.api.job(namespace, &id).await.map_err(asked)?;
        let meta = whole.as_ref().and_then(Meta::of_job).filter(|meta| meta.labels == *labels);
        let Some(meta) = meta else {
            return Err(StartError::Driven { by: "another server changed its job".to_owned() });
        };
        let (begin, mut told, mut beyond) = (Instant::now(), 0, None);
        loop {
            let asked_at = Instant::now();
            let answer = self.api.allocations(namespace, &id, beyond).await.map_err(asked)?;
            beyond = next_index(beyond, answer.index);
            let Some(allocation) = newest(&meta, answer.value) else {
                let evaluations = self.api.evaluations(namespace, &id).await.map_err(asked)?;
                let why = cause::of_placing(run, index, &evaluations);
                if let Some(why) = why.filter(|_| begin.elapsed() > self.placing()) {
                    return Err(why);
                }
                // A query without news comes back at once where the index is not Nomad's last.
                beyond = None;
                tokio::time::sleep_until(asked_at + PAUSE).await;
                continue;
            };
            let events = allocation.events(&meta.task);
            for event in events.get(told..).unwrap_or_default() {
                progress.line(format!("{}: {}", event.kind, event.said()));
            }
            told = events.len();
            match allocation.state(&meta.task) {
                State::Running => {
                    progress.line("the task runs");
                    let (id, labels) = (InstanceId(id), labels.clone());
                    return Ok(Instance { id, labels, state: State::Running });
                }
                State::Ended(_) => return Err(cause::of_task(run, &allocation, &meta.task)),
                State::Created => tokio::time::sleep_until(asked_at + PAUSE).await,
            }
        }
    }

    /// How long the scheduler is given: a claim that is being let go of takes as long as any.
    fn placing(&self) -> Duration {
        PLACING.min(self.settings.release)
    }

    /// Takes back what could not be brought up. If that fails too, the next stop does it.
    async fn give_up(&self, labels: &Labels) {
        let found = match self.find(labels.space).await {
            Ok(Some(found)) if found.meta.labels == *labels && !found.stopped => found,
            Ok(_) => return,
            Err(failure) => {
                tracing::warn!(space = %labels.space, ?failure, "a failed start is left behind");
                return;
            }
        };
        if let Err(failure) = self.register_stopped(&found).await {
            tracing::warn!(space = %labels.space, ?failure, "a failed start is left behind");
        }
    }

    async fn register_stopped(&self, found: &Found) -> Asked<()> {
        let mut job = found.whole.clone();
        if let Some(job) = job.as_object_mut() {
            job.insert("Stop".to_owned(), json!(true));
        }
        self.api.register(&found.namespace, &job, found.index).await.map(drop)
    }

    async fn bring_down(&self, instance: &Instance, grace: Duration) -> Result<Stopped, StopError> {
        let labels = &instance.labels;
        let _turn = self.locks.lock(labels.space).await;
        let asked = |failure: Failure| StopError::from(failure.on("stop the job"));
        for _ in 0..RACES {
            let Some(found) = self.find(labels.space).await.map_err(asked)? else {
                return Ok(Stopped::Gone);
            };
            if found.meta.labels != *labels {
                let (id, wanted) = (found.id().0, Box::new(labels.clone()));
                return Err(StopError::Foreign { id, wanted });
            }
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
    async fn wait_for_end(&self, found: &Found, grace: Duration) -> Result<Stopped, StopError> {
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

impl Found {
    fn id(&self) -> InstanceId {
        let Labels { owner, space, .. } = &self.meta.labels;
        InstanceId(job::id(owner.cluster, *space))
    }

    /// Whether another home has it running still, or about to.
    fn is_anothers(&self, labels: &Labels) -> bool {
        let lives = self.instance().is_some_and(|one| !matches!(one.state, State::Ended(_)));
        self.meta.labels.owner != labels.owner && lives
    }

    /// What is there of it; none where it has been stopped and nothing of it runs.
    fn instance(&self) -> Option<Instance> {
        let state = state(self.stopped, &self.meta, self.allocation.as_ref())?;
        Some(Instance { id: self.id(), labels: self.meta.labels.clone(), state })
    }
}

fn state(stopped: bool, meta: &Meta, allocation: Option<&Allocation>) -> Option<State> {
    match allocation.map(|allocation| allocation.state(&meta.task)) {
        None if stopped => None,
        Some(State::Ended(_)) if stopped => None,
        None => Some(State::Created),
        state => state,
    }
}

/// The newest allocation of the generation that the job is of now.
fn newest(meta: &Meta, allocations: Vec<Allocation>) -> Option<Allocation> {
    let group = job::group(meta.labels.generation);
    let of_this = allocations.into_iter().filter(|one| one.task_group == group);
    of_this.max_by_key(|one| one.create_index)
}

/// The index to wait beyond: Nomad says to begin anew where it has gone back.
fn next_index(before: Option<u64>, answered: u64) -> Option<u64> {
    (answered > 0 && before.is_none_or(|before| before <= answered)).then_some(answered)
}

fn unknown(action: &'static str, cause: String) -> Error {
    Error::Unknown { platform: Platform::Nomad, action, cause }
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
        Box::pin(async { self.all().await.map_err(|failure| failure.on("list jobs")) })
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
