//! Bringing a generation of a space up.

use std::{sync::Arc, time::Duration};

use knot_core::{
    agent::{Launch, ServerAddress},
    clock::Millis,
    generation::Generation,
    id::ChangeHash,
    model::{Desired, Observed, Space, SpaceStatus, Template},
    net::{KeyPair, server_addresses},
    replica::{Doc, EditError, Token},
    schema::Entity as _,
};
use tokio::time::timeout;

use super::{Failure, WAITS, Worker, platform};
use crate::spaces::{
    current::{Current, Invalid, current},
    drivers::{Driver, Folder, Instance, MilliCpus, Platform, Progress, Run, StartError},
    fill::{Chosen, fill},
    logs::Kind,
    volumes, wishes,
};

/// How long the template edit that a start was asked with may take to arrive.
const TEMPLATE_DEADLINE: Duration = Duration::from_secs(30);

impl Worker {
    /// Brings a generation up and writes down each state it goes through.
    pub(super) async fn start(
        &mut self,
        space: &Doc<Space>,
        generation: Generation,
    ) -> Result<(), EditError> {
        let key = match KeyPair::generate() {
            Ok(key) => key,
            Err(error) => return Err(EditError::Refused(error.to_string())),
        };
        self.home.trusted.settle(&self.home.replica).await;
        if !self.is_wanted() {
            return Ok(());
        }
        let template = tokio::select! {
            template = self.template(space) => template,
            () = self.unwanted() => return Ok(()),
        };
        let before = self.status();
        let again = before.state == Observed::Failed || before.state == Observed::Stopping;
        let again = again && before.retry.is_some() && space.restart < before.generation;
        let status = SpaceStatus {
            state: Observed::Provisioning,
            generation,
            started: Millis::now(),
            restarts: if again { before.restarts.saturating_add(1) } else { 0 },
            schedule: before.schedule,
            note: None,
            has_shutdown: template.as_ref().is_ok_and(|one| !one.shutdown_script.is_empty()),
            revision: template.as_ref().map(|template| template.revision()).unwrap_or_default(),
            driver: template.as_ref().map(|one| one.platform.clone()).unwrap_or_default(),
            agent: Some(key.public()),
            ..SpaceStatus::default()
        };
        self.begun = Some(generation);
        self.write(status.clone()).await?;
        let started = match template {
            Ok(template) => self.provision_in_time(space, &template, generation, &key).await,
            Err(failure) => Err(failure),
        };
        if let (false, Some(on)) = (matches!(started, Ok(Some(_))), platform(&status.driver)) {
            self.home.engines.look_again(on, self.space.uuid()).await;
        }
        match started {
            Ok(Some((platform, instance))) => {
                self.home.engines.note(platform, &instance, true);
                let by_hand = platform == Platform::Manual;
                let note = by_hand
                    .then(|| format!("{WAITS}its agent: `knot space launch` says how to start it"));
                self.write(SpaceStatus { state: Observed::Starting, note, ..status }).await
            }
            // Not wanted any more; what it left has been seen.
            Ok(None) => Ok(()),
            Err(Failure(why)) => {
                tracing::warn!(space = %self.space, %generation, why, "a start failed");
                self.home.logs.open(self.space.uuid(), generation, Kind::Provision).line(&why);
                let failed = SpaceStatus { state: Observed::Failed, cause: Some(why), ..status };
                self.write(failed).await
            }
        }
    }

    /// The template with the edit in it that the taker of the start had seen.
    async fn template(&self, space: &Doc<Space>) -> Result<Chosen, Failure> {
        let heads: Vec<ChangeHash> =
            space.template_heads.iter().filter_map(|head| head.parse().ok()).collect();
        let mut changes = self.home.replica.watch(&[Template::KIND]);
        let arrived = async {
            while !self.home.replica.holds(space.template, &heads).await.unwrap_or(true) {
                changes.next().await;
            }
        };
        timeout(TEMPLATE_DEADLINE, arrived).await.map_err(|_| {
            Failure(
                "the template edit that was made before this start has not reached the space's \
                 home: start it again once the servers can reach each other"
                    .to_owned(),
            )
        })?;
        let seen = Token::from_text(&space.variables_seen).unwrap_or_default();
        self.home.replica.wait_for(&seen, TEMPLATE_DEADLINE).await.map_err(|_| {
            Failure(
                "a variable that was set before this start has not reached the space's home: start it \
                 again once the servers can reach each other"
                    .to_owned(),
            )
        })?;
        let template = self.home.replica.get(space.template).ok_or_else(|| {
            Failure("its template was deleted: choose another template".to_owned())
        })?;
        let Current { template: used, invalid } = current(&self.home.replica, &template).await?;
        if let Some(Invalid { broken, used }) = invalid {
            let why = broken.first().map(ToString::to_string);
            tracing::warn!(space = %self.space, %used, why, "a start uses an older revision");
        }
        Ok(Chosen::new(template.id(), used))
    }

    /// `None` where the start was no longer wanted before it was done.
    async fn provision_in_time(
        &self,
        space: &Doc<Space>,
        template: &Chosen,
        generation: Generation,
        key: &KeyPair,
    ) -> Result<Option<(Platform, Instance)>, Failure> {
        let limit = self.home.options.start_deadline;
        // Whoever is dropped half way may have told an engine already.
        let give_up = || {
            if let Some(platform) = platform(&template.platform) {
                self.home.engines.doubt(platform, self.space.uuid());
            }
        };
        let started = async {
            // What waits for its turn takes none of its time.
            let _turn = self.home.starts.acquire().await?;
            let provision = self.provision(space, template, generation, key);
            timeout(limit, provision).await.unwrap_or_else(|_| {
                give_up();
                Err(Failure(format!(
                    "the container was not up within {} s: look at the engine, and try again",
                    limit.as_secs()
                )))
            })
        };
        tokio::select! {
            started = started => started.map(Some),
            () = self.unwanted() => {
                give_up();
                Ok(None)
            }
        }
    }

    async fn provision(
        &self,
        space: &Doc<Space>,
        template: &Chosen,
        generation: Generation,
        key: &KeyPair,
    ) -> Result<(Platform, Instance), Failure> {
        let template = &fill(self.home.net.keyring(), space, template, generation)?;
        let driver = self.driver(&template.platform)?;
        let mounts = volumes::mounts(&self.home, space, template, &**driver).await?;
        let launch = Launch {
            space: self.space.uuid(),
            name: space.name.clone(),
            generation,
            key: key.to_base64(),
            servers: self.servers().await,
            startup_script: template.startup_script.clone(),
            shutdown_script: template.shutdown_script.clone(),
        };
        let run = Run {
            launch,
            revision: template.revision(),
            image: template.image.clone(),
            command: template.command.clone(),
            environment: template.environment.clone(),
            network: Some(template.network.clone()).filter(|network| !network.is_empty()),
            memory: template.memory,
            cpus: template.millicpus.map(|cpus| MilliCpus(u32::try_from(cpus).unwrap_or(u32::MAX))),
            mounts,
            folders: template.mounts.iter().map(|(path, source)| folder(path, source)).collect(),
            published: template
                .ports
                .values()
                .filter(|port| port.published.is_some())
                .copied()
                .collect(),
            capabilities: template.capabilities.iter().cloned().collect(),
            devices: template.devices.iter().cloned().collect(),
            registry: template.registry.clone(),
            job: Some(template.job.clone()).filter(|job| !job.is_empty()),
            serves: wishes::newest(&self.home.replica, self.space).await,
            user: Some(space.owner.uuid()),
        };
        let id = self.space;
        let log = self.home.logs.open(id.uuid(), generation, Kind::Provision);
        let progress = Progress::new(move |line| {
            tracing::info!(space = %id, %generation, line);
            log.line(line);
        });
        Ok((driver.platform(), self.launch(&**driver, &run, &progress).await?))
    }

    /// Starts a generation. Where another server of the cluster runs an earlier term of the space on
    /// the same engine, that one is ended first: this server holds the document that ended the term.
    async fn launch(
        &self,
        driver: &dyn Driver,
        run: &Run,
        progress: &Progress,
    ) -> Result<Instance, StartError> {
        loop {
            match driver.start(run, progress).await {
                Err(StartError::Elsewhere(past))
                    if past.labels.generation.term < run.launch.generation.term =>
                {
                    tracing::info!(space = %self.space, past = %past.labels, "an earlier term is ended");
                    let ended = driver.stop(&past, self.home.options.stop_grace).await;
                    // What it fails on the start says, too.
                    if ended.is_err() {
                        return Err(StartError::Elsewhere(past));
                    }
                }
                started => return started,
            }
        }
    }

    pub(super) fn driver(&self, platform_word: &str) -> Result<&Arc<dyn Driver>, Failure> {
        platform(platform_word).and_then(|platform| self.home.engines.driver(platform)).ok_or_else(|| {
            Failure(format!(
                "its home has no engine for platform `{platform_word}`: change the template, or \
                 create the space on a server that has one"
            ))
        })
    }

    /// Where the agent may dial, this server first.
    async fn servers(&self) -> Vec<ServerAddress> {
        let mut servers = server_addresses(&self.home.replica).await;
        servers.sort_by_key(|server| server.id != self.home.me.0);
        servers
    }

    /// Whether the space should run, here.
    fn is_wanted(&self) -> bool {
        self.home.replica.get(self.space).is_some_and(|space| {
            space.desired == Desired::Running
                && space.placement.server == self.home.me
                && space.moving_to().is_none()
        })
    }

    /// Returns once the space should not run any more.
    async fn unwanted(&self) {
        loop {
            let woken = self.wake.notified();
            if !self.is_wanted() {
                return;
            }
            woken.await;
        }
    }
}

fn folder(path: &str, source: &str) -> Folder {
    let (source, read_only) = match source.strip_suffix(":ro") {
        Some(source) => (source, true),
        None => (source, false),
    };
    Folder { source: source.to_owned(), path: path.to_owned(), read_only }
}
