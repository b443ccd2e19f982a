//! Spaces whose agent a person starts, on a machine that knot has no engine on.
//!
//! There is nothing to ask: a generation that was begun counts as running until it is stopped, its
//! agent's link says the rest, and once it is stopped no server takes its key any more. Kept is one
//! file for each, below `manual/` of the data folder, with what the person needs to start the agent.

use crate::spaces::drivers::error::Blame as _;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Driver, Ended, Engine, Error, ForgetError, Instance, Labels, Owner, Platform, Progress, Run,
    StartError, State, StopError, Stopped, VolumeError, VolumeSpec, fence::settle, local::files,
};

/// The spaces of one server that people start by hand.
pub struct Manual {
    inner: Arc<Inner>,
}

struct Inner {
    owner: Owner,
    folder: PathBuf,
    /// Held while a file is looked at and then changed.
    turn: Mutex<()>,
}

/// What is kept of one that was begun.
#[derive(Serialize, Deserialize)]
struct Record {
    labels: Labels,
    /// Secret: the agent's key is in it.
    line: String,
}

impl Manual {
    /// A driver that keeps its files below `data`. Nothing is written yet.
    #[must_use]
    pub fn new(owner: Owner, data: &Path) -> Self {
        let (folder, turn) = (data.join("manual"), Mutex::default());
        Self { inner: Arc::new(Inner { owner, folder, turn }) }
    }

    async fn blocking<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or_else(|failure| {
            Err(failed(action)(io::Error::other(failure.to_string())).into())
        })
    }
}

impl Inner {
    fn path(&self, space: Uuid) -> PathBuf {
        self.folder.join(format!("{space}.json"))
    }

    fn read(&self, space: Uuid) -> io::Result<Option<Record>> {
        files::read_json(&self.path(space))
    }

    fn list(&self) -> io::Result<Vec<Instance>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let space = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(Ok(space)) = space.map(Uuid::try_parse) else { continue };
            match self.read(space) {
                Ok(Some(record)) if record.labels.owner == self.owner => {
                    found.push(instance(record.labels));
                }
                Ok(_) => {}
                Err(failure) => {
                    tracing::error!(%space, %failure, "state cannot be read, space left alone");
                }
            }
        }
        Ok(found)
    }

    fn begin(&self, run: &Run) -> Result<Instance, StartError> {
        let labels = run.labels(self.owner);
        let failed = failed("write what the agent is started with");
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.read(labels.space).map_err(failed)?.map(|one| instance(one.labels));
        if let Some(there) = settle(&labels, present.into_iter().collect())? {
            return Ok(there);
        }
        let line = line(run, self.owner).map_err(failed)?;
        files::make_private(&self.folder).map_err(failed)?;
        let record = Record { labels, line };
        files::write_json(&self.path(record.labels.space), &record).map_err(failed)?;
        Ok(instance(record.labels))
    }

    fn end(&self, instance: &Instance) -> Result<Stopped, StopError> {
        let failed = failed("remove what the agent was started with");
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = self.read(instance.labels.space).map_err(failed)? else {
            return Ok(Stopped::Gone);
        };
        instance.expect(Some(&record.labels))?;
        fs::remove_file(self.path(record.labels.space)).map_err(failed)?;
        Ok(Stopped::Ended(Ended::default()))
    }
}

fn instance(labels: Labels) -> Instance {
    Instance { id: labels.instance_id(), labels, state: State::Running }
}

/// A line for a shell that starts the agent.
fn line(run: &Run, owner: Owner) -> io::Result<String> {
    let mut line = String::new();
    for (name, value) in run.full_environment(owner)? {
        let value = shlex::try_quote(&value).map_err(io::Error::other)?;
        line.push_str(&format!("{name}={value} "));
    }
    line.push_str("./knot-agent");
    Ok(line)
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> Error + Copy {
    Platform::Manual.failed(action)
}

fn no_volumes(volume: &VolumeSpec) -> VolumeError {
    VolumeError::Kind {
        name: volume.name.clone(),
        kind: volume.kind.clone().unwrap_or_else(|| "any".to_owned()),
        platform: Platform::Manual,
    }
}

impl Driver for Manual {
    fn platform(&self) -> Platform {
        Platform::Manual
    }

    fn probe(&self) -> BoxFuture<'_, Result<Engine, Error>> {
        Box::pin(async {
            Ok(Engine { name: "people".to_owned(), version: "of any kind".to_owned() })
        })
    }

    fn start<'a>(
        &'a self,
        run: &'a Run,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            run.check()?;
            if let Some(mount) = run.mounts.first() {
                return Err(no_volumes(&mount.volume).into());
            }
            let run = run.clone();
            let begun = self.blocking("begin the space", move |inner| inner.begin(&run)).await?;
            progress.line("the agent can be started by hand now");
            Ok(begun)
        })
    }

    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        _grace: Duration,
    ) -> BoxFuture<'a, Result<Stopped, StopError>> {
        let instance = instance.clone();
        Box::pin(self.blocking("end the space", move |inner| inner.end(&instance)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(self.blocking("list spaces", |inner| inner.list().map_err(failed("list spaces"))))
    }

    fn ensure_volume<'a>(
        &'a self,
        volume: &'a VolumeSpec,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        Box::pin(async move { Err(no_volumes(volume)) })
    }

    fn remove_volume(&self, _volume: Uuid) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async { Ok(()) })
    }

    fn forget(&self, space: Uuid) -> BoxFuture<'_, Result<(), ForgetError>> {
        Box::pin(self.blocking("forget the space", move |inner| {
            match inner.read(space).map_err(failed("read the state of the space"))? {
                Some(record) => Err(ForgetError::InUse(Box::new(record.labels))),
                None => Ok(()),
            }
        }))
    }

    fn logs<'a>(
        &'a self,
        _instance: &'a Instance,
        _bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn launch_line(&self, space: Uuid) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(self.blocking("read what the agent is started with", move |inner| {
            let read = inner.read(space).map_err(failed("read what the agent is started with"));
            Ok(read?.filter(|one| one.labels.owner == inner.owner).map(|record| record.line))
        }))
    }
}
