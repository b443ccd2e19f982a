//! The worker of one space on its home: asks [`plan::next`] what to do, does it, writes down what
//! came of it, and asks again.

use std::{sync::Arc, time::Duration};

use knot_core::{
    agent::{Launch, MAX_SCRIPT, SHUTDOWN_LIMIT},
    clock::Millis,
    generation::Generation,
    id::{Author, ChangeHash, Id, ServerId},
    model::{Desired, Move, Observed, Placement, Space, SpaceHealth, SpaceStatus, Template},
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
    drivers::{Driver, Folder, Instance, MilliCpus, Platform, Progress, Run, StartError},
    engines::Engines,
    fill::{Chosen, fill, seen},
    logs::{Kind, Logs},
    plan::{self, Cause, Step, World},
    policy::{self, Act},
    restart,
    trust::{Trust, Trusted},
    usage::Usages,
    volumes,
};
use crate::causes::with_causes;

/// How long the template edit that a start was asked with may take to arrive.
const TEMPLATE_DEADLINE: Duration = Duration::from_secs(30);
/// After a step that could not be written down, how long to wait before trying again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How much of a container's output is quoted in a cause, in bytes.
const QUOTED: usize = 600;
/// How much of it is kept when it ends, in bytes.
const KEPT: usize = 256 << 10;
/// How long an engine may take beyond the grace that it was given, and to say what was written.
const ENGINE: Duration = Duration::from_secs(30);
/// How often a start looks again whether what it waits for runs, beside when it hears of it.
const LOOK: Duration = Duration::from_secs(5);

/// What all workers of a server share.
pub(super) struct Home {
    pub(super) me: ServerId,
    pub(super) options: Options,
    pub(super) replica: Replica,
    pub(super) net: Net,
    pub(super) engines: Engines,
    pub(super) logs: Logs,
    pub(super) usages: Usages,
    pub(super) trusted: Trusted,
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
    /// Since when it waits for an engine to answer, or for other spaces to run.
    waiting: Option<Millis>,
    /// Since when it looks at the space.
    looking: Millis,
    /// For which time of beginning anew what was here has been set aside.
    set_aside: Option<Placement>,
}

/// A step failed, and what to tell the user.
pub(super) struct Failure(pub(super) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(with_causes(&error))
    }
}

impl Worker {
    pub(super) fn new(home: Arc<Home>, space: Id<Space>, wake: Arc<Notify>) -> Self {
        let (looking, waiting) = (Millis::now(), None);
        Self { home, space, wake, begun: None, waiting, looking, set_aside: None }
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
        let dead = self.home.replica.grave(self.space).is_some();
        let ours = space.as_ref().filter(|space| space.placement.server == self.home.me);
        let trust = self.home.trusted.now();
        let template = ours.and_then(|space| self.home.replica.get(space.template));
        let report = self.home.net.agents().report(self.space, status.generation);
        let now = Millis::now();
        let mut due = None;
        // A database that may be old, and a home that is to hand the space over, begin nothing.
        let acts = |space: &&Doc<Space>| trust != Trust::Restored && space.moving_to().is_none();
        if let Some(space) = ours.filter(acts) {
            let owner = self.home.replica.get(space.owner);
            let act = policy::decide(&policy::World {
                space,
                status: &status,
                template: template.as_deref(),
                zone: owner.as_ref().map_or("", |owner| &owner.time_zone),
                report: report.as_ref(),
                now,
            });
            match act {
                Act::Wait(until) => due = until,
                act => {
                    if let Err(error) = self.act(act, status).await {
                        tracing::error!(space = %self.space, %error, "what the home does of itself \
                            could not be written down");
                        drop(timeout(TRY_AGAIN, woken).await);
                    }
                    return true;
                }
            }
        }
        let seen = self.home.engines.see(self.space.uuid(), platform(&status.driver));
        let blind = seen.is_none();
        let found = seen.unwrap_or_default();
        let instances: Vec<_> = found.iter().map(|(_, instance)| instance.clone()).collect();
        let step = plan::next(&World {
            me: self.home.me,
            space: space.as_deref(),
            dead,
            status: &status,
            instances: &instances,
            linked: self.home.net.agents().generation(self.space),
            report: report.as_ref(),
            restarts: template.and_then(|template| template.health_restarts).unwrap_or(0),
            waits_for: &ours.map(|space| self.waits_for(space)).unwrap_or_default(),
            looking: self.looking,
            waiting: self.waiting.unwrap_or(now),
            blind,
            begun_here: self.begun == Some(status.generation),
            trust,
            set_aside: self.set_aside == space.as_ref().map(|space| space.emptied),
            now,
        });
        let waits = matches!(step, Step::WaitFor(_)) || (blind && matches!(step, Step::RestFor(_)));
        self.waiting = if waits { self.waiting.or(Some(now)) } else { None };
        let until_due =
            due.map(|due| Duration::from_millis((due.0 - now.0).try_into().unwrap_or(0)));
        match step {
            Step::Rest => {
                if ours.is_none()
                    && !blind
                    && instances.is_empty()
                    && (dead || status.generation.n == 0)
                {
                    return false;
                }
                match until_due {
                    None => woken.await,
                    Some(most) => drop(timeout(most, woken).await),
                }
            }
            Step::RestFor(most) => {
                drop(timeout(until_due.map_or(most, |due| due.min(most)), woken).await);
            }
            Step::WaitFor(most) => self.wait_for_others(most.min(LOOK), status, woken).await,
            step => {
                if let Err(error) = self.carry_out(step, space, status, &found).await {
                    tracing::error!(space = %self.space, %error, "a step could not be written down");
                    drop(timeout(TRY_AGAIN, woken).await);
                }
            }
        }
        true
    }

    /// Does what the home does of its own accord. What is wanted is written first: if this is cut
    /// short it is done again, and changes nothing.
    async fn act(&self, act: Act, status: SpaceStatus) -> Result<(), EditError> {
        let (desired, why, schedule) = match act {
            Act::Wait(_) => return Ok(()),
            Act::Mark(schedule) => {
                return self.write(SpaceStatus { schedule, ..status }).await;
            }
            Act::Stop(why, schedule) => (Desired::Stopped, why, schedule),
            Act::Start(why, schedule) => (Desired::Running, why, schedule),
        };
        tracing::info!(space = %self.space, why, "the home acts");
        let template = self.home.replica.get(self.space).map(|space| space.template);
        let template = template.and_then(|template| self.home.replica.get(template));
        let seen = template.map(|template| {
            let heads: Vec<_> = template.heads().iter().map(ChangeHash::to_string).collect();
            (heads, seen(&self.home.replica, &template))
        });
        let again = (status.state == Observed::Failed).then_some(status.generation);
        let by = Author::Server(self.home.me);
        let edit = self.home.replica.edit(self.space, by, move |space| {
            space.set(Space::desired, desired);
            if desired == Desired::Running {
                if let Some((heads, variables)) = seen {
                    space.set(Space::template_heads, heads);
                    space.set(Space::variables_seen, variables);
                }
                if let Some(generation) = again {
                    space.set(Space::restart, generation.max(space.restart));
                }
            }
            Ok(())
        });
        edit.await?;
        self.write(SpaceStatus { schedule, note: Some(why), ..status }).await
    }

    /// The names of the spaces that have to run before this one, and do not.
    fn waits_for(&self, space: &Doc<Space>) -> Vec<String> {
        let others = space.depends_on.iter().filter(|other| **other != self.space);
        let missing = others.filter_map(|other| {
            // One that is dead is not waited for.
            let other = self.home.replica.get(*other)?;
            let status: Option<SpaceStatus> =
                self.home.replica.observed(other.id(), other.placement.server);
            let runs = status.is_some_and(|status| status.state == Observed::Running);
            // Edits in two parts of the cluster can make a circle: nobody waits in one.
            let in_turn = other.depends_on.contains(&self.space);
            (!runs && !in_turn).then(|| other.name.clone())
        });
        missing.collect()
    }

    async fn wait_for_others(
        &self,
        most: Duration,
        status: SpaceStatus,
        woken: impl Future<Output = ()>,
    ) {
        let mut changes = self.home.replica.watch(&[<Space as knot_core::schema::Entity>::KIND]);
        let names = self.home.replica.get(self.space).map(|space| self.waits_for(&space));
        let note = Some(format!("waits for {}", names.unwrap_or_default().join(", ")));
        if note != status.note
            && let Err(error) = self.write(SpaceStatus { note, ..status }).await
        {
            tracing::error!(space = %self.space, %error, "a wait could not be written down");
        }
        let changed = async {
            tokio::select! {
                () = woken => {}
                _ = changes.next() => {}
            }
        };
        drop(timeout(most, changed).await);
    }

    async fn carry_out(
        &mut self,
        step: Step,
        space: Option<Doc<Space>>,
        status: SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<(), EditError> {
        match step {
            Step::Rest | Step::RestFor(_) | Step::WaitFor(_) => Ok(()),
            Step::Become(state) => self.become_state(state, status).await,
            Step::Health(seen) => {
                let since = Millis::now();
                let health = seen.map(|(well, words)| SpaceHealth { well, since, words });
                self.write(SpaceStatus { health, ..status }).await
            }
            Step::Forgive => self.write(SpaceStatus { restarts: 0, ..status }).await,
            Step::Start(generation) => match space {
                Some(space) => self.start(&space, generation).await,
                None => Ok(()),
            },
            Step::Stop(instance) => match self.end(&instance, &status, found).await {
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
            Step::Place(wanted) => self.place(wanted).await,
            Step::SetAside => match space {
                Some(space) => self.put_aside(&space, &status).await,
                None => Ok(()),
            },
        }
    }

    /// Brings a generation up and writes down each state it goes through.
    async fn start(&mut self, space: &Doc<Space>, generation: Generation) -> Result<(), EditError> {
        let key = match KeyPair::generate() {
            Ok(key) => key,
            Err(error) => return Err(EditError::Refused(error.to_string())),
        };
        self.home.trusted.settle(&self.home.replica).await;
        if !self.is_wanted() {
            return Ok(());
        }
        let template = self.template(space).await;
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
        match started {
            Ok(Some((platform, instance))) => {
                self.home.engines.note(platform, &instance, true);
                let by_hand = "waits for its agent: `knot space launch` says how to start it";
                let note = (platform == Platform::Manual).then(|| by_hand.to_owned());
                self.write(SpaceStatus { state: Observed::Starting, note, ..status }).await
            }
            // Not wanted any more; what it left is found on the engine.
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
    async fn provision_in_time(
        &self,
        space: &Doc<Space>,
        template: &Chosen,
        generation: Generation,
        key: &KeyPair,
    ) -> Result<Option<(Platform, Instance)>, Failure> {
        let limit = self.home.options.start_deadline;
        let provision = self.provision(space, template, generation, key);
        tokio::select! {
            started = timeout(limit, provision) => match started {
                Ok(started) => started.map(Some),
                Err(_) => Err(Failure(format!(
                    "the container was not up within {} s: look at the engine, and try again",
                    limit.as_secs()
                ))),
            },
            () = self.unwanted() => Ok(None),
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
        let scripts = [&template.startup_script, &template.shutdown_script];
        if scripts.iter().any(|script| script.len() > MAX_SCRIPT) {
            return Err(Failure(format!(
                "a script of its template has more than {MAX_SCRIPT} bytes: put it into the image, or \
                 fetch it from a short one"
            )));
        }
        let _turn = self.home.starts.acquire().await?;
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
            serves: space.heads().to_vec(),
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

    fn driver(&self, platform_word: &str) -> Result<&Arc<dyn Driver>, Failure> {
        platform(platform_word).and_then(|platform| self.home.engines.driver(platform)).ok_or_else(|| {
            Failure(format!(
                "its home has no engine for platform `{platform_word}`: change the template, or \
                 create the space on a server that has one"
            ))
        })
    }

    /// Where the agent may dial, this server first.
    async fn servers(&self) -> Vec<knot_core::agent::ServerAddress> {
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

    async fn become_state(&self, state: Observed, status: SpaceStatus) -> Result<(), EditError> {
        let status = SpaceStatus { state, cause: None, ..status };
        let status = match state {
            Observed::Stopped => SpaceStatus { health: None, retry: None, restarts: 0, ..status },
            Observed::Running => SpaceStatus { retry: None, note: None, ..status },
            _ => status,
        };
        self.write(status).await
    }

    /// Ends and removes an instance; what it has written is kept.
    async fn end(
        &self,
        instance: &Instance,
        status: &SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<(), Failure> {
        let on = found.iter().find(|(_, one)| one.id == instance.id).map(|(platform, _)| *platform);
        let Some(driver) = on.and_then(|platform| self.home.engines.driver(platform)) else {
            return Ok(());
        };
        let mut grace = self.home.options.stop_grace;
        if status.has_shutdown {
            grace = grace.saturating_add(SHUTDOWN_LIMIT);
        }
        let limit = grace.saturating_add(ENGINE);
        self.keep_output(&**driver, instance).await;
        match timeout(limit, driver.stop(instance, grace)).await {
            Ok(stopped) => stopped.map(drop)?,
            Err(_) => {
                let seconds = limit.as_secs();
                return Err(Failure(format!("its engine had not done so after {seconds} s")));
            }
        }
        self.home.engines.note(driver.platform(), instance, false);
        Ok(())
    }

    /// Keeps what a container has written, and gives its last words.
    async fn keep_output(&self, driver: &dyn Driver, instance: &Instance) -> Option<String> {
        let output = timeout(ENGINE, driver.logs(instance, KEPT)).await.ok()?.ok()?;
        let log =
            self.home.logs.replace(self.space.uuid(), instance.labels.generation, Kind::Container);
        log.write(&output);
        let last = output.get(output.len().saturating_sub(QUOTED)..).unwrap_or_default();
        let last = String::from_utf8_lossy(last);
        let line = last.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }

    async fn fail(
        &self,
        cause: Cause,
        status: SpaceStatus,
        found: &[(Platform, Instance)],
    ) -> Result<(), EditError> {
        let mut why = describe(&cause, &status);
        if cause.ends() {
            for (on, instance) in found {
                if let Some(driver) = self.home.engines.driver(*on)
                    && let Some(last) = self.keep_output(&**driver, instance).await
                    && cause.is_crash()
                {
                    why.push_str(&format!(" (its last words: {last})"));
                }
                if let Err(Failure(error)) = self.end(instance, &status, found).await {
                    why.push_str(&format!("; it could not be removed: {error}"));
                }
            }
        }
        let space = self.home.replica.get(self.space);
        let template = space.and_then(|space| self.home.replica.get(space.template));
        let allowed = template.and_then(|template| template.health_restarts).unwrap_or(0);
        let (retry, then) = restart::after(&cause, &status, allowed, Millis::now());
        why.push_str(&then);
        tracing::warn!(space = %self.space, why, "a space failed");
        let generation = match cause {
            Cause::WaitedFor(generation, _) => generation,
            _ => status.generation,
        };
        let status = SpaceStatus { generation, retry, note: None, ..status };
        self.write(SpaceStatus { state: Observed::Failed, cause: Some(why), ..status }).await
    }

    /// Hands the space over: nothing of it runs here any more.
    async fn place(&self, wanted: Move) -> Result<(), EditError> {
        let Move { placement, empty } = wanted;
        let me = self.home.me;
        let placed = self.home.replica.edit(self.space, Author::Server(me), move |edit| {
            // What was asked for meanwhile is looked at anew.
            if edit.placement.server == me && edit.moving_to() == Some(wanted) {
                edit.set(Space::placement, placement);
                if empty {
                    edit.set(Space::emptied, placement);
                }
            }
            Ok(())
        });
        placed.await?;
        tracing::info!(space = %self.space, to = %placement.server, term = placement.term, "handed over");
        Ok(())
    }

    /// Sets aside what the space left here before it began anew elsewhere, or here.
    async fn put_aside(
        &mut self,
        space: &Doc<Space>,
        status: &SpaceStatus,
    ) -> Result<(), EditError> {
        volumes::set_aside(&self.home, space).await?;
        if let Some(driver) = platform(&status.driver).and_then(|on| self.home.engines.driver(on)) {
            let before = status.generation.term;
            if let Err(error) = driver.set_aside(self.space.uuid(), before).await {
                tracing::warn!(space = %self.space, %error, "what a space left here is not set aside");
                tokio::time::sleep(TRY_AGAIN).await;
                return Ok(());
            }
        }
        self.set_aside = Some(space.emptied);
        Ok(())
    }

    async fn forget(&self, status: SpaceStatus) -> Result<(), EditError> {
        if let Ok(driver) = self.driver(&status.driver)
            && let Err(error) = driver.forget(self.space.uuid()).await
        {
            // A folder that stays is named, and costs no more than room.
            tracing::warn!(space = %self.space, %error, "a dead space left something behind");
        }
        self.home.logs.forget(self.space.uuid());
        self.home.usages.forget(self.space.uuid());
        self.write(SpaceStatus { state: Observed::Gone, cause: None, ..status }).await
    }

    fn status(&self) -> SpaceStatus {
        self.home.replica.observed(self.space, self.home.me).unwrap_or_default()
    }

    async fn write(&self, status: SpaceStatus) -> Result<(), EditError> {
        tracing::info!(space = %self.space, state = %status.state, generation = %status.generation);
        let before = self.status();
        let same = (before.state, before.generation) == (status.state, status.generation);
        let since = if same { before.since } else { Millis::now() };
        let status = SpaceStatus { since, ..status };
        self.home.replica.observe(self.space, &status).await
    }
}

/// Why a space has failed, for people.
fn describe(cause: &Cause, status: &SpaceStatus) -> String {
    match cause {
        Cause::Ended(how) => format!("its container {how}"),
        Cause::Vanished => "its container is gone, and not by this server's doing".to_owned(),
        Cause::NoAgent => format!(
            "its agent did not reach a server within {} s: can the container reach the servers' QUIC \
             addresses?",
            plan::link_deadline(status).as_secs()
        ),
        Cause::Unwell(words) => format!("its health check fails: {words}"),
        Cause::Startup(how) => format!("its startup script failed: {how}"),
        Cause::SlowStartup => "its startup script did not end in time".to_owned(),
        Cause::Blind => format!(
            "the engine for platform `{}` did not answer for {} s",
            status.driver,
            plan::ENGINE_DEADLINE.as_secs()
        ),
        Cause::CannotStop => {
            let last = status.cause.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let minutes = plan::STOP_DEADLINE.as_secs() / 60;
            format!("its container was not gone after {minutes} min{last}")
        }
        Cause::WaitedFor(_, spaces) => format!(
            "it has to wait for {}, and did for {} min: start what it needs first",
            spaces.join(", "),
            plan::DEPENDENCY_DEADLINE.as_secs() / 60
        ),
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
