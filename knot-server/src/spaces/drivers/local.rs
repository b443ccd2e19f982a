//! Spaces as child processes of the server: nothing need be installed, and nothing is walled off.
//!
//! All of it is below one data folder, and nothing outside that folder is ever written:
//!
//! ```text
//! agent/knot-agent-<hash>    the agent, written once
//! spaces/<id>/state.json     whose it is and which process it is
//! spaces/<id>/ended.json     how it ended, if this server saw it
//! spaces/<id>/log            what the agent wrote, the last part
//! spaces/<id>/home/          the space's home folder; it stays until the space is forgotten
//! aside/<id>-<term>/         the home folder of a space that went on elsewhere without it
//! volumes/<id>/data/         a volume, seen in a home through a symbolic link: a mount at
//!                            `/work` is `~/work`
//! ```
//!
//! A space outlives the server: its agent leads a process group of its own and writes to a file, and
//! a server that comes back knows it by process id, start time and boot id together. Image, network
//! and limits mean nothing here. An agent's descendants are found by parentage and by
//! [`RUN_VARIABLE`](super::RUN_VARIABLE); one that leaves its family and also clears its environment
//! is out of sight.

mod agent;
pub(super) mod files;
mod log;
mod mounts;
mod process;
mod reaper;
mod volumes;

use crate::spaces::drivers::error::Blame as _;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tracing::error;
use uuid::Uuid;

use self::{
    files::{Record, SpaceFolder},
    process::Process,
    reaper::Reaper,
};
use super::{
    Driver, Ended, Engine, Error, ForgetError, FoundVolume, Instance, Labels, MAX_LOG, Owner,
    Platform, Progress, Run, StartError, State, StopError, Stopped, VolumeError, VolumeSpec,
    fence::settle, locks::Locks, run::mark,
};

/// How long a killed process may take to be gone.
const KILLED: Duration = Duration::from_secs(5);

/// The processes of one server's spaces.
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    owner: Owner,
    data: PathBuf,
    agent: &'static [u8],
    reaper: Reaper,
    locks: Locks,
    /// Held from making a volume until a record names it, and while one that none names is removed.
    volumes: Mutex<()>,
}

impl Local {
    /// A driver that keeps everything below `data`, a folder that no other program uses. It must be
    /// absolute; it is made at first use. `agent` is the program that each space runs.
    #[must_use]
    pub fn new(owner: Owner, data: PathBuf, agent: &'static [u8]) -> Self {
        let (reaper, locks) = (Reaper::default(), Locks::default());
        Self {
            inner: Arc::new(Inner { owner, data, agent, reaper, locks, volumes: Mutex::default() }),
        }
    }

    /// Runs `work` where it may block. It runs to its end even if the caller goes away.
    async fn blocking<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|failure| Err(Platform::Local.unknown(action, failure).into()))
    }

    async fn bring_down(&self, instance: &Instance, grace: Duration) -> Result<Stopped, StopError> {
        let wanted = instance.labels.clone();
        let guard = self.inner.locks.lock(wanted.space).await;
        let folder = self.inner.space(wanted.space);
        let read = folder.clone();
        let action = "look for the space";
        let found = self
            .blocking(action, move |inner| {
                inner.refresh(&read).map_err(|error| StopError::from(failed(action)(error)))
            })
            .await?;
        let Some(found) = found else { return Ok(Stopped::Gone) };
        instance.expect(Some(&found.labels))?;
        let left = process::end(found.process.as_ref(), &mark(&wanted), grace, KILLED)
            .await
            .map_err(failed("end the space's processes"))?;
        if !left.is_empty() {
            return Err(StopError::Survived { left: format!("processes {left:?}") });
        }
        let stopped = match &found.process {
            None => Stopped::NeverStarted,
            Some(_) => {
                Stopped::Ended(self.inner.reaper.seen(&folder, &wanted).await.unwrap_or_default())
            }
        };
        self.inner.reaper.forget(&wanted);
        self.blocking("remove the state of the space", move |_| {
            let _guard = guard;
            folder.clear().map_err(failed("remove the state of the space"))
        })
        .await?;
        Ok(stopped)
    }

    async fn find(&self) -> Result<Vec<Instance>, Error> {
        let records = self.blocking("list spaces", |inner| inner.records()).await?;
        let mut found = Vec::with_capacity(records.len());
        for (folder, record) in records {
            if record.labels.owner == self.inner.owner {
                found.push(self.inner.instance(&folder, record).await?);
            }
        }
        Ok(found)
    }

    async fn bring_up(&self, run: &Run, progress: &Progress) -> Result<Instance, StartError> {
        run.check()?;
        refuse_what_needs_an_engine(run)?;
        mounts::check(&run.mounts)?;
        let labels = run.labels(self.inner.owner);
        let guard = self.inner.locks.lock(labels.space).await;
        let folder = self.inner.space(labels.space);
        let looked = failed("look for the space");
        let present = match self.inner.refresh(&folder).map_err(looked)? {
            Some(record) => vec![self.inner.instance(&folder, record).await?],
            None => Vec::new(),
        };
        if let Some(there) = settle(&labels, present)? {
            if there.state == State::Running {
                progress.line("the agent is running already");
                return Ok(there);
            }
            progress.line("the space is there, and was never started");
        }
        let (run, progress) = (run.clone(), progress.clone());
        self.blocking("start the space", move |inner| {
            let _guard = guard;
            inner.launch(&folder, &run, labels, &progress)
        })
        .await
    }
}

impl Inner {
    fn space(&self, space: Uuid) -> SpaceFolder {
        SpaceFolder::new(self.data.join("spaces").join(space.to_string()))
    }

    /// Every record below the data folder, whoever made it, as far as it can be read.
    fn records(&self) -> Result<Vec<(SpaceFolder, Record)>, Error> {
        let mut found = Vec::new();
        let spaces = self.data.join("spaces");
        for id in files::ids_in(&spaces).map_err(failed("list spaces"))? {
            let folder = self.space(id);
            match folder.record() {
                Ok(Some(record)) => {
                    // While a start or a stop is under way, that one writes.
                    let guard = self.locks.try_lock(id);
                    let fresh = if guard.is_some() {
                        self.refresh(&folder)
                    } else {
                        self.freshen(&folder, record).map(Some)
                    };
                    let fresh = fresh.map_err(failed("list spaces"))?;
                    found.extend(fresh.map(|record| (folder.clone(), record)));
                }
                Ok(None) => {}
                Err(failure) => {
                    error!(space = %id, %failure, "state cannot be read, space left alone")
                }
            }
            log::trim(&folder.log());
        }
        Ok(found)
    }

    /// The record of a space whose lock is held, with what was missing in it written down.
    fn refresh(&self, folder: &SpaceFolder) -> io::Result<Option<Record>> {
        let Some(record) = folder.record()? else { return Ok(None) };
        let fresh = self.freshen(folder, record.clone())?;
        if fresh != record {
            folder.write(&fresh)?;
        }
        Ok(Some(fresh))
    }

    /// Adds the process that a server started and was killed before it could write down.
    fn freshen(&self, folder: &SpaceFolder, mut record: Record) -> io::Result<Record> {
        if record.process.is_none() {
            let found = process::find(&mark(&record.labels), &fs::canonicalize(&self.data)?)?;
            // A start of this server may have written it in the meantime.
            let written = folder.record()?.filter(|written| written.labels == record.labels);
            record.process = found.or(written.and_then(|written| written.process));
        }
        Ok(record)
    }

    async fn instance(&self, folder: &SpaceFolder, record: Record) -> Result<Instance, Error> {
        let looked = failed("look for the agent");
        let state = match &record.process {
            None => State::Created,
            Some(process) if process.is_alive().map_err(looked)? => State::Running,
            Some(_) => {
                State::Ended(self.reaper.seen(folder, &record.labels).await.unwrap_or_default())
            }
        };
        let id = record.labels.instance_id();
        Ok(Instance { id, labels: record.labels, state })
    }

    fn launch(
        self: &Arc<Self>,
        folder: &SpaceFolder,
        run: &Run,
        labels: Labels,
        progress: &Progress,
    ) -> Result<Instance, StartError> {
        if run.memory.is_some() || run.cpus.is_some() {
            progress.line("the local platform sets no memory or processor limit");
        }
        if !(run.published.is_empty() && run.capabilities.is_empty() && run.devices.is_empty()) {
            progress
                .line("the local platform publishes no ports and gives no capabilities or devices");
        }
        let program =
            agent::put(&self.data.join("agent"), self.agent).map_err(failed("write the agent"))?;
        let naming = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        for mount in &run.mounts {
            volumes::ensure(&self.data, self.owner, mount.volume.id)?;
        }
        progress.line("agent and volumes are ready");
        let failed_to_prepare = failed("prepare the space's folder");
        let home = folder.make().map_err(failed_to_prepare)?;
        let volumes = run.mounts.iter().map(|mount| mount.volume.id).collect();
        let mut record = Record { labels, volumes, process: None };
        folder.write(&record).map_err(failed_to_prepare)?;
        drop(naming);
        progress.line("the space's folder is ready");
        let started = mounts::link(&self.data, &home, &run.mounts)
            .and_then(|()| agent::spawn(&program, folder, &home, run, self.owner));
        let (child, process) = match started {
            Ok(started) => started,
            Err(error) => {
                // Nothing runs, so nothing need be left. If this fails the next stop does it.
                if let Err(failure) = folder.clear() {
                    error!(space = %record.labels.space, %failure, "state cannot be removed");
                }
                return Err(error);
            }
        };
        progress.line(format!("the agent is started as process {}", process.id()));
        record.process = Some(process.clone());
        self.reaper.watch(child, process, folder, &record.labels);
        folder.write(&record).map_err(failed("write down the started process"))?;
        progress.line("the space is running");
        let id = record.labels.instance_id();
        Ok(Instance { id, labels: record.labels, state: State::Running })
    }
}

impl Driver for Local {
    fn platform(&self) -> Platform {
        Platform::Local
    }

    fn probe(&self) -> BoxFuture<'_, Result<Engine, Error>> {
        Box::pin(self.blocking("use its data folder", |inner| {
            let unusable = |cause: String| Error::Unreachable { platform: Platform::Local, cause };
            files::make_private(&inner.data)
                .map_err(|error| unusable(format!("{}: {error}", inner.data.display())))?;
            let version = process::kernel()
                .map_err(|error| unusable(format!("it needs Linux with /proc: {error}")))?;
            Ok(Engine { name: "this machine".to_owned(), version })
        }))
    }

    fn start<'a>(
        &'a self,
        run: &'a Run,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Instance, StartError>> {
        Box::pin(self.bring_up(run, progress))
    }

    fn settled(&self, space: Uuid) -> BoxFuture<'_, ()> {
        // What runs where it may block has the space's turn, and keeps it to its end.
        Box::pin(async move { drop(self.inner.locks.lock(space).await) })
    }

    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        grace: Duration,
    ) -> BoxFuture<'a, Result<Stopped, StopError>> {
        Box::pin(self.bring_down(instance, grace))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(self.find())
    }

    fn ensure_volume<'a>(
        &'a self,
        volume: &'a VolumeSpec,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        let asked = volume.only_of_the_platform(Platform::Local);
        let volume = volume.id;
        Box::pin(self.blocking("make a volume", move |inner| {
            asked?;
            volumes::ensure(&inner.data, inner.owner, volume)
        }))
    }

    fn remove_volume(&self, volume: Uuid) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(self.blocking("remove a volume", move |inner| {
            let naming = inner.volumes.lock().unwrap_or_else(PoisonError::into_inner);
            let user = inner.records()?.into_iter().find(|(_, r)| r.volumes.contains(&volume));
            if let Some((_, record)) = user {
                return Err(VolumeError::InUse { volume, by: record.labels.to_string() });
            }
            let aside = volumes::set_aside(&inner.data, inner.owner, volume)?;
            drop(naming);
            // A large one takes long.
            files::remove_all(&aside).map_err(|error| failed("remove a volume")(error).into())
        }))
    }

    fn forget(&self, space: Uuid) -> BoxFuture<'_, Result<(), ForgetError>> {
        Box::pin(async move {
            let guard = self.inner.locks.lock(space).await;
            self.blocking("remove the space's folder", move |inner| {
                let _guard = guard;
                let folder = inner.space(space);
                match folder.record().map_err(failed("read the state of the space"))? {
                    Some(record) => Err(ForgetError::InUse(Box::new(record.labels))),
                    None => Ok(folder.remove().map_err(failed("remove the space's folder"))?),
                }
            })
            .await
        })
    }

    fn list_volumes(&self) -> BoxFuture<'_, Result<Option<Vec<FoundVolume>>, Error>> {
        Box::pin(self.blocking("list volumes", |inner| {
            let found = volumes::list(&inner.data, inner.owner.cluster);
            found.map(Some).map_err(failed("list volumes"))
        }))
    }

    fn set_aside(&self, space: Uuid, term: u64) -> BoxFuture<'_, Result<(), ForgetError>> {
        Box::pin(async move {
            let guard = self.inner.locks.lock(space).await;
            self.blocking("set the space's folder aside", move |inner| {
                let _guard = guard;
                let failed = failed("set the space's folder aside");
                match inner.space(space).record().map_err(failed)? {
                    Some(record) => Err(ForgetError::InUse(Box::new(record.labels))),
                    None => Ok(volumes::set_home_aside(&inner.data, space, term).map_err(failed)?),
                }
            })
            .await
        })
    }

    fn logs<'a>(
        &'a self,
        instance: &'a Instance,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        let labels = instance.labels.clone();
        Box::pin(self.blocking("read the agent's output", move |inner| {
            let folder = inner.space(labels.space);
            let action = failed("read the agent's output");
            match folder.record().map_err(action)? {
                Some(record) if record.labels == labels => {
                    log::last(&folder.log(), bytes.min(MAX_LOG)).map_err(action)
                }
                _ => Ok(Vec::new()),
            }
        }))
    }
}

/// What a process of this machine cannot be given.
fn refuse_what_needs_an_engine(run: &Run) -> Result<(), StartError> {
    for mount in &run.mounts {
        mount.volume.only_of_the_platform(Platform::Local)?;
    }
    match run.folders.first() {
        None => Ok(()),
        Some(folder) => Err(StartError::Mount {
            cause: format!(
                "a space on the local platform is not walled off and sees {} as it is: it cannot be \
                 shown at {}",
                folder.source, folder.path
            ),
        }),
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> Error + Copy {
    Platform::Local.failed(action)
}

/// Names the file in an error of the operating system.
fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
