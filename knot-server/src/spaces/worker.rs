//! The worker of one space on its home: asks [`plan::next`] what to do, does it, writes down what
//! came of it, and asks again.

use std::{sync::Arc, time::Duration};

use knot_core::{
    agent::Launch,
    clock::Millis,
    generation::Generation,
    id::{Author, ChangeHash, Id, ServerId},
    model::{Desired, Observed, Space, SpaceStatus, Template, Volume, VolumeStatus},
    net::{KeyPair, Net, server_addresses},
    replica::{Doc, EditError, Replica, Token},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    current::{Current, Invalid, current},
    drivers::{Driver, Folder, Instance, MilliCpus, Mount, Platform, Progress, Run, VolumeSpec},
    engines::Engines,
    fill::{Chosen, fill},
    plan::{self, Cause, Step, World},
};
use crate::causes::with_causes;

/// How long the template edit that a start was asked with may take to arrive.
const TEMPLATE_DEADLINE: Duration = Duration::from_secs(30);
/// After a step that could not be written down, how long to wait before trying again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How much of a container's output is quoted in a cause, in bytes.
const QUOTED: usize = 600;

/// What all workers of a server share.
pub(super) struct Home {
    pub(super) me: ServerId,
    pub(super) options: Options,
    pub(super) replica: Replica,
    pub(super) net: Net,
    pub(super) engines: Engines,
    /// Bounds how many spaces are provisioned at a time.
    pub(super) starts: Semaphore,
    pub(super) stop: CancellationToken,
}

/// The worker of one space.
pub(super) struct Worker {
    home: Arc<Home>,
    space: Id<Space>,
    wake: Arc<Notify>,
    /// The generation that this process has begun.
    begun: Option<Generation>,
}

/// A step failed, and what to tell the user.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(with_causes(&error))
    }
}

impl Worker {
    pub(super) fn new(home: Arc<Home>, space: Id<Space>, wake: Arc<Notify>) -> Self {
        Self { home, space, wake, begun: None }
    }

    /// Works until there is nothing left to do here for good, or the server stops.
    pub(super) async fn run(mut self) {
        let stop = self.home.stop.clone();
        while let Some(true) = stop.run_until_cancelled(self.step()).await {}
    }

    /// One step, or a wait; `false` once the space is no more of this server's business.
    async fn step(&mut self) -> bool {
        let wake = Arc::clone(&self.wake);
        let woken = wake.notified();
        let space = self.home.replica.get(self.space);
        let status = self.status();
        let Some(found) = self.home.engines.see(self.space.uuid(), platform(&status.driver)) else {
            woken.await;
            return true;
        };
        let instances: Vec<_> = found.iter().map(|(_, instance)| instance.clone()).collect();
        let dead = self.home.replica.grave(self.space).is_some();
        let step = plan::next(&World {
            me: self.home.me,
            space: space.as_deref(),
            dead,
            status: &status,
            instances: &instances,
            linked: self.home.net.agents().generation(self.space),
            begun_here: self.begun == Some(status.generation),
            now: Millis::now(),
        });
        match step {
            Step::Rest => {
                let ours = space.is_some_and(|space| space.placement.server == self.home.me);
                if !ours && instances.is_empty() && (dead || status.generation.n == 0) {
                    return false;
                }
                woken.await;
            }
            Step::RestFor(most) => drop(timeout(most, woken).await),
            step => {
                if let Err(error) = self.carry_out(step, space, status, &found).await {
                    tracing::error!(space = %self.space, %error, "a step could not be written down");
                    drop(timeout(TRY_AGAIN, woken).await);
                }
            }
        }
        true
    }

    async fn carry_out(
        &mut self,
        step: Step,
        space: Option<Doc<Space>>,
        status: SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<(), EditError> {
        match step {
            Step::Rest | Step::RestFor(_) => Ok(()),
            Step::Become(state) => self.write(SpaceStatus { state, cause: None, ..status }).await,
            Step::Start(generation) => match space {
                Some(space) => self.start(&space, generation).await,
                None => Ok(()),
            },
            Step::Stop(instance) => match self.end(&instance, found).await {
                Ok(()) => Ok(()),
                Err(Failure(why)) => {
                    let why = format!("the container could not be stopped: {why}");
                    self.write(SpaceStatus { cause: Some(why), ..status }).await?;
                    tokio::time::sleep(TRY_AGAIN).await;
                    Ok(())
                }
            },
            Step::Fail(cause) => self.fail(cause, status, found).await,
            Step::Forget => self.forget(status).await,
        }
    }

    /// Brings a generation up and writes down each state it goes through.
    async fn start(&mut self, space: &Doc<Space>, generation: Generation) -> Result<(), EditError> {
        let key = match KeyPair::generate() {
            Ok(key) => key,
            Err(error) => return Err(EditError::Refused(error.to_string())),
        };
        let template = self.template(space).await;
        let status = SpaceStatus {
            state: Observed::Provisioning,
            generation,
            revision: template.as_ref().map(|template| template.revision()).unwrap_or_default(),
            driver: template.as_ref().map(|one| one.platform.clone()).unwrap_or_default(),
            agent: Some(key.public()),
            ..SpaceStatus::default()
        };
        self.begun = Some(generation);
        self.write(status.clone()).await?;
        let started = match template {
            Ok(template) => self.provision(space, &template, generation, &key).await,
            Err(failure) => Err(failure),
        };
        match started {
            Ok(Some((platform, instance))) => {
                self.home.engines.note(platform, &instance, true);
                self.write(SpaceStatus { state: Observed::Starting, ..status }).await
            }
            // Not wanted any more; what it left is found on the engine.
            Ok(None) => Ok(()),
            Err(Failure(why)) => {
                tracing::warn!(space = %self.space, %generation, why, "a start failed");
                let failed = SpaceStatus { state: Observed::Failed, cause: Some(why), ..status };
                self.write(failed).await
            }
        }
    }

    /// The template with the edit in it that the taker of the start had seen.
    async fn template(&self, space: &Doc<Space>) -> Result<Chosen, Failure> {
        let heads: Vec<_> =
            space.template_heads.iter().filter_map(|head| parse_head(head)).collect();
        let mut changes = self.home.replica.watch(&[<Template as knot_core::schema::Entity>::KIND]);
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
    async fn provision(
        &self,
        space: &Doc<Space>,
        template: &Chosen,
        generation: Generation,
        key: &KeyPair,
    ) -> Result<Option<(Platform, Instance)>, Failure> {
        let template = &fill(self.home.net.keyring(), space, template, generation)?;
        let driver = self.driver(&template.platform)?;
        let _turn = self.home.starts.acquire().await?;
        let mounts = self.volumes(space, template, &**driver).await?;
        let launch = Launch {
            space: self.space.uuid(),
            name: space.name.clone(),
            generation,
            key: key.to_base64(),
            servers: self.servers().await,
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
        };
        let id = self.space;
        let progress = Progress::new(move |line| tracing::info!(space = %id, %generation, line));
        let limit = self.home.options.start_deadline;
        tokio::select! {
            started = timeout(limit, driver.start(&run, &progress)) => match started {
                Ok(started) => Ok(Some((driver.platform(), started?))),
                Err(_) => Err(Failure(format!(
                    "the container was not up within {} s: look at the engine, and try again",
                    limit.as_secs()
                ))),
            },
            () = self.unwanted() => Ok(None),
        }
    }

    fn driver(&self, platform_word: &str) -> Result<&Arc<dyn Driver>, Failure> {
        platform(platform_word).and_then(|platform| self.home.engines.driver(platform)).ok_or_else(|| {
            Failure(format!(
                "its home has no engine for platform `{platform_word}`: change the template, or \
                 create the space on a server that has one"
            ))
        })
    }

    /// The volumes that the template declares, made where they are not there yet.
    async fn volumes(
        &self,
        space: &Doc<Space>,
        template: &Template,
        driver: &dyn Driver,
    ) -> Result<Vec<Mount>, Failure> {
        let mut mounts = Vec::new();
        for (name, path) in &template.volumes {
            let id = Volume::id_of(self.space, name);
            let spec = VolumeSpec {
                id: id.uuid(),
                name: name.clone(),
                size: template.volume_sizes.get(name).copied(),
                kind: template.volume_kinds.get(name).cloned(),
            };
            driver.ensure_volume(&spec).await?;
            let (volume, owner, of) = (name.clone(), space.owner, self.space);
            let on = template.platform.clone();
            let put = self.home.replica.put(id, Author::Server(self.home.me), move |edit| {
                edit.set(Volume::name, volume);
                edit.set(Volume::space, of);
                edit.set(Volume::owner, owner);
                edit.set(Volume::platform, on);
                Ok(())
            });
            put.await?;
            let status = VolumeStatus { engine_id: Some(id.to_string()) };
            if self.home.replica.observed(id, self.home.me) != Some(status.clone()) {
                self.home.replica.observe(id, &status).await?;
            }
            mounts.push(Mount { volume: spec, path: path.clone() });
        }
        Ok(mounts)
    }

    /// Where the agent may dial, this server first.
    async fn servers(&self) -> Vec<knot_core::agent::ServerAddress> {
        let mut servers = server_addresses(&self.home.replica).await;
        servers.sort_by_key(|server| server.id != self.home.me.0);
        servers
    }

    /// Returns once the space should not run any more.
    async fn unwanted(&self) {
        loop {
            let woken = self.wake.notified();
            let space = self.home.replica.get(self.space);
            let wanted = space.is_some_and(|space| {
                space.desired == Desired::Running && space.placement.server == self.home.me
            });
            if !wanted {
                return;
            }
            woken.await;
        }
    }

    async fn end(
        &self,
        instance: &Instance,
        found: &[(Platform, Instance)],
    ) -> Result<(), Failure> {
        let on = found.iter().find(|(_, one)| one.id == instance.id).map(|(platform, _)| *platform);
        let Some(driver) = on.and_then(|platform| self.home.engines.driver(platform)) else {
            return Ok(());
        };
        driver.stop(instance, self.home.options.stop_grace).await?;
        self.home.engines.note(driver.platform(), instance, false);
        Ok(())
    }

    async fn fail(
        &self,
        cause: Cause,
        status: SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<(), EditError> {
        let mut why = match cause {
            Cause::Ended(how) => format!("its container {how}"),
            Cause::Vanished => "its container is gone, and not by this server's doing".to_owned(),
            Cause::NoAgent => format!(
                "its agent did not reach a server within {} s: can the container reach the servers' \
                 QUIC addresses?",
                plan::LINK_DEADLINE.as_secs()
            ),
        };
        for (on, instance) in found {
            if let Some(driver) = self.home.engines.driver(*on) {
                let output = driver.logs(instance, QUOTED).await.unwrap_or_default();
                let output = String::from_utf8_lossy(&output);
                if let Some(last) = output.lines().rev().find(|line| !line.trim().is_empty()) {
                    why.push_str(&format!(" (its last words: {})", last.trim()));
                }
            }
            if let Err(Failure(error)) = self.end(instance, found).await {
                why.push_str(&format!("; it could not be removed: {error}"));
            }
        }
        tracing::warn!(space = %self.space, why, "a space failed");
        self.write(SpaceStatus { state: Observed::Failed, cause: Some(why), ..status }).await
    }

    async fn forget(&self, status: SpaceStatus) -> Result<(), EditError> {
        if let Ok(driver) = self.driver(&status.driver)
            && let Err(error) = driver.forget(self.space.uuid()).await
        {
            tracing::warn!(space = %self.space, %error, "a dead space left something behind");
        }
        self.write(SpaceStatus { state: Observed::Gone, cause: None, ..status }).await
    }

    fn status(&self) -> SpaceStatus {
        self.home.replica.observed(self.space, self.home.me).unwrap_or_default()
    }

    async fn write(&self, status: SpaceStatus) -> Result<(), EditError> {
        tracing::info!(space = %self.space, state = %status.state, generation = %status.generation);
        let status = SpaceStatus { since: Millis::now(), ..status };
        self.home.replica.observe(self.space, &status).await
    }
}

fn folder(path: &str, source: &str) -> Folder {
    let (source, read_only) = match source.strip_suffix(":ro") {
        Some(source) => (source, true),
        None => (source, false),
    };
    Folder { source: source.to_owned(), path: path.to_owned(), read_only }
}

fn platform(word: &str) -> Option<Platform> {
    word.parse().ok()
}

/// A head as `Space::template_heads` has it: 64 hexadecimal digits.
fn parse_head(text: &str) -> Option<ChangeHash> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(ChangeHash(hash))
}
