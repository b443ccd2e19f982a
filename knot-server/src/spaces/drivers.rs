//! Drivers: what brings the containers of spaces up and down on one kind of engine.
//!
//! A driver does things to an engine and returns what happened. It writes no document, knows nothing
//! of the replica, decides nothing, and retries nothing: the home's reconciler calls it, under a
//! deadline of its own, and may drop any call half way. Whatever a dropped call or a killed server
//! left behind is finished by the next `start` of the same generation or taken away by `stop`.
//!
//! Each thing that a driver makes carries [`Labels`]. A driver lists only what carries its own
//! [`Owner`], and ends a thing only if its labels are, all of them, those that the caller names:
//! several servers of one cluster may share an engine.

mod docker;
mod error;
mod fence;
mod instance;
mod local;
mod locks;
mod manual;
mod nomad;
mod run;
mod shared;
mod volumes;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use uuid::Uuid;

pub use knot_core::model::Platform;

pub use self::{
    docker::Docker,
    error::{Error, ForgetError, StartError, StopError, VolumeError},
    instance::{Ended, Instance, InstanceId, Labels, Owner, State, Stopped},
    local::Local,
    manual::Manual,
    nomad::{Archive, Nomad, Settings as NomadSettings},
    run::{Folder, InvalidRun, MilliCpus, Mount, RUN_VARIABLE, RegistryAuth, Run, VolumeSpec},
    shared::{Job, Survey, Wishes},
    volumes::FoundVolume,
};

/// The most bytes that [`Driver::logs`] returns, whatever was asked for.
pub const MAX_LOG: usize = 1 << 20;

/// One engine, as one server uses it.
pub trait Driver: Send + Sync {
    /// Which kind of engine this is.
    fn platform(&self) -> Platform;

    /// Asks the engine who it is. Waits half a minute at most.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where it does not answer.
    fn probe(&self) -> BoxFuture<'_, Result<Engine, Error>>;

    /// Brings up one generation of a space: image, volumes, container, agent, start.
    ///
    /// Idempotent: what is there of the same generation and revision is adopted, or finished where
    /// only some of the steps were done. Fetching an image has no bound but that it must not stall,
    /// so the caller sets a deadline and drops the call.
    ///
    /// # Errors
    /// One for each cause that a person would mend in another way. A container that was created by
    /// this call and that the engine then refused to start is removed again.
    fn start<'a>(
        &'a self,
        run: &'a Run,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Instance, StartError>>;

    /// Returns once a [`Driver::start`] of the space whose call was dropped does nothing more on this
    /// machine: what is listed from then on is what it has left.
    fn settled(&self, _space: Uuid) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Ends an instance and removes it: SIGTERM to its agent, and after `grace` SIGKILL to all of it.
    ///
    /// Idempotent: one that is gone is [`Stopped::Gone`]. Volumes stay.
    ///
    /// # Errors
    /// [`StopError::Foreign`] if what has that id does not carry exactly `instance.labels`.
    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        grace: Duration,
    ) -> BoxFuture<'a, Result<Stopped, StopError>>;

    /// Every instance on the engine that carries this cluster's and this home's labels.
    ///
    /// # Errors
    /// Where the engine does not answer. An instance that cannot be read is left out and reported in
    /// the log of the server.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, Error>>;

    /// [`Driver::list`], and on an engine that servers share what there is of every space of the
    /// cluster.
    ///
    /// # Errors
    /// As [`Driver::list`].
    fn survey(&self) -> BoxFuture<'_, Result<Survey, Error>> {
        Box::pin(async {
            let instances = self.list().await?;
            Ok(Survey { instances, jobs: Vec::new() })
        })
    }

    /// Makes a volume if it is not there.
    ///
    /// One that another home of the same cluster made on a shared engine is used as it is: the data
    /// belongs to the space, and follows it.
    ///
    /// # Errors
    /// [`VolumeError::Foreign`] if something of that name is not of this cluster.
    fn ensure_volume<'a>(
        &'a self,
        volume: &'a VolumeSpec,
    ) -> BoxFuture<'a, Result<(), VolumeError>>;

    /// Removes a volume and all that is in it. One that is not there is removed already.
    ///
    /// # Errors
    /// [`VolumeError::InUse`] while an instance, running or not, has it;
    /// [`VolumeError::Foreign`] if another cluster made it. One that another server of this cluster
    /// made is removed: a space that has moved takes its volumes along, and its home removes them.
    fn remove_volume(&self, volume: Uuid) -> BoxFuture<'_, Result<(), VolumeError>>;

    /// Removes all else that the platform keeps for a space which is gone, such as its home folder.
    /// Volumes stay. Idempotent.
    ///
    /// # Errors
    /// [`ForgetError::InUse`] while an instance of the space is there.
    fn forget(&self, space: Uuid) -> BoxFuture<'_, Result<(), ForgetError>>;

    /// Every volume on the engine that carries this cluster's labels, whichever of its servers made
    /// it; `None` where the engine cannot list them.
    ///
    /// # Errors
    /// Where the engine does not answer.
    fn list_volumes(&self) -> BoxFuture<'_, Result<Option<Vec<FoundVolume>>, Error>> {
        Box::pin(async { Ok(None) })
    }

    /// Gives a volume the size that `volume` names.
    ///
    /// # Errors
    /// [`VolumeError::CannotResize`] where the engine bounds no volume's size, or not after it is made.
    fn resize_volume<'a>(
        &'a self,
        volume: &'a VolumeSpec,
    ) -> BoxFuture<'a, Result<(), VolumeError>> {
        let refused = VolumeError::CannotResize { volume: volume.id, platform: self.platform() };
        Box::pin(async { Err(refused) })
    }

    /// Puts what the platform itself keeps of a space, such as its home folder, away under a name
    /// that no start finds: `term` is that of the last run here. Volumes are not meant. Where nothing
    /// is kept there is nothing to do.
    ///
    /// # Errors
    /// [`ForgetError::InUse`] while an instance of the space is there.
    fn set_aside(&self, _space: Uuid, _term: u64) -> BoxFuture<'_, Result<(), ForgetError>> {
        Box::pin(async { Ok(()) })
    }

    /// Who the engine is: servers whose engines give the same answer share it, and with it all that
    /// is on it. `None` where the engine is this server's alone, or does not say.
    ///
    /// # Errors
    /// Where the engine does not answer.
    fn identity(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async { Ok(None) })
    }

    /// The last bytes that the instance wrote, at most `bytes` and at most [`MAX_LOG`]; nothing if
    /// it is gone.
    ///
    /// # Errors
    /// Where the engine does not answer.
    fn logs<'a>(
        &'a self,
        instance: &'a Instance,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, Error>>;

    /// The line for a shell that starts the agent of a space which a person has to start. Secret:
    /// the agent's key is in it. None where the engine starts it, or nothing is to be started.
    ///
    /// # Errors
    /// What is kept of the space cannot be read.
    fn launch_line(&self, _space: Uuid) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async { Ok(None) })
    }

    /// Asks the engine whether it can read a job. Engines that run none say yes.
    ///
    /// # Errors
    /// [`StartError::Job`] with what the engine says of it.
    fn check_job<'a>(&'a self, _job: &'a str) -> BoxFuture<'a, Result<(), StartError>> {
        Box::pin(async { Ok(()) })
    }
}

/// An engine that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its name, for people.
    pub name: String,
    /// Its version, for people.
    pub version: String,
}

/// Where a start says what it is doing, one line for each step. Must return at once.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Calls `hear` with each line, which has no line end. It may be called from any thread.
    pub fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Nobody listens.
    #[must_use]
    pub fn unheard() -> Self {
        Self::new(|_| ())
    }

    fn line(&self, text: impl AsRef<str>) {
        (self.0)(text.as_ref());
    }
}
