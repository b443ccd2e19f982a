//! Bringing a space's job up.

use crate::spaces::drivers::error::Blame as _;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    Nomad,
    api::Failure,
    cause,
    found::{Found, newest, next_index},
    job::{self, Meta},
    volume,
};
use crate::spaces::drivers::{
    Ended, Error, Instance, InstanceId, Labels, Platform, Progress, Run, StartError, State,
    StopError, fence::settle,
};

/// How often a job is read anew because another server was quicker.
const RACES: u32 = 4;
/// How long what has no place is left waiting for one.
const PLACING: Duration = Duration::from_secs(30);
/// How long what an old home left running has to end by itself.
const ANOTHERS_GRACE: Duration = Duration::from_secs(10);
/// The pause between two questions that Nomad answers at once.
const PAUSE: Duration = Duration::from_millis(100);

impl Nomad {
    pub(super) async fn bring_up(
        &self,
        run: &Run,
        progress: &Progress,
    ) -> Result<Instance, StartError> {
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
            Err(error) => Err(Platform::Nomad.unknown(action, error).into()),
        }
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

    pub(super) async fn parse(&self, namespace: &str, hcl: &str) -> Result<Value, StartError> {
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
}
