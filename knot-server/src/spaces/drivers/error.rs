//! What can go wrong on an engine, told apart by what a person would do about it.

use std::{fmt, io};

use uuid::Uuid;

use super::{Ended, Instance, InvalidRun, Labels, Platform};

/// An engine could not do what was asked. Every operation can fail in these ways.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer, or not in time. What was asked may or may not have been done.
    #[error(
        "{platform} does not answer ({cause}): see that it is running and that this server may use it"
    )]
    Unreachable {
        /// Which engine.
        platform: Platform,
        /// What was seen.
        cause: String,
    },
    /// Its disk is full.
    #[error("the disk that {platform} uses is full ({cause}): free space on it and try again")]
    DiskFull {
        /// Which engine.
        platform: Platform,
        /// What it said.
        cause: String,
    },
    /// It refused for a reason that is not known here.
    #[error("{platform} could not {action} ({cause}): its own log may say more")]
    Unknown {
        /// Which engine.
        platform: Platform,
        /// What it was asked to do.
        action: &'static str,
        /// What it said.
        cause: String,
    },
}

/// What a driver makes of the errors of others.
pub(super) trait Blame: Copy {
    /// That the platform could not do something, for a cause that is not known here.
    fn unknown(self, action: &'static str, cause: impl fmt::Display) -> Error;

    /// An operating system's error, as an error of the platform.
    fn failed(self, action: &'static str) -> impl Fn(io::Error) -> Error + Copy;
}

impl Blame for Platform {
    fn unknown(self, action: &'static str, cause: impl fmt::Display) -> Error {
        Error::Unknown { platform: self, action, cause: cause.to_string() }
    }

    fn failed(self, action: &'static str) -> impl Fn(io::Error) -> Error + Copy {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { platform: self, cause: error.to_string() }
            }
            _ => self.unknown(action, error),
        }
    }
}

/// A generation could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] Error),
    /// A volume could not be had.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// What was asked for can be run nowhere. Nothing was touched.
    #[error(transparent)]
    Invalid(#[from] InvalidRun),
    /// The image is not on the engine and could not be fetched.
    #[error(
        "the image {image} is not on this machine and could not be fetched ({cause}): \
         check its name, or put it there by hand"
    )]
    Image {
        /// Its full name.
        image: String,
        /// What the engine said.
        cause: String,
    },
    /// Something else on the engine has the name.
    #[error("something that is not of this cluster is named {name}: remove or rename it")]
    NameTaken {
        /// The name of the container that was to be created.
        name: String,
    },
    /// A port is taken.
    #[error(
        "a port that the space wants is taken ({cause}): end what uses it, or choose another port"
    )]
    PortTaken {
        /// What the engine said.
        cause: String,
    },
    /// The engine does not take these limits.
    #[error(
        "the engine does not take the memory or processor limit ({cause}): change it in the template"
    )]
    Limits {
        /// What the engine said.
        cause: String,
    },
    /// A volume cannot be mounted there.
    #[error("a volume cannot be mounted ({cause}): change its path in the template")]
    Mount {
        /// What stands in the way.
        cause: String,
    },
    /// The network cannot be used.
    #[error("the network cannot be used ({cause})")]
    Network {
        /// What is wrong with it, and what to do.
        cause: String,
    },
    /// The engine has the container and cannot run the agent in it.
    #[error("the agent could not be run ({cause}): see that this machine may run programs there")]
    Agent {
        /// What the engine said.
        cause: String,
    },
    /// The template's job cannot be used.
    #[error("the Nomad job cannot be used ({cause}): change it in the template")]
    Job {
        /// What is wrong with it.
        cause: String,
    },
    /// No machine of the engine has room for it.
    #[error("Nomad has no place for it ({cause}): free something there, or ask for less")]
    NoRoom {
        /// What the engine said.
        cause: String,
    },
    /// Servers that this one does not hear drive the space on a shared engine. Nothing was touched.
    #[error(
        "a part of the cluster out of reach drives the space ({by}): it goes on once the servers \
         reach each other"
    )]
    Driven {
        /// What is there, made for changes that this server does not hold.
        by: String,
    },
    /// An older generation of the space is there. Nothing was touched.
    #[error("{} is still there: stop it first", .0.labels)]
    Older(Box<Instance>),
    /// A later generation is there than was asked for: the caller's data is old. Nothing was touched.
    #[error("{} is there, which is later: this server's data is old, and waits for its peers", .0.labels)]
    Newer(Box<Instance>),
    /// Another server runs the space on the same engine. Nothing was touched.
    #[error("{} runs on the same engine: it ends once that server hears of the new term", .0.labels)]
    Elsewhere(Box<Instance>),
    /// This generation has run already, and ended. Nothing was touched.
    #[error("this generation {ended}: stop it, and start the next one")]
    Ended {
        /// How it ended.
        ended: Ended,
    },
    /// The generation is there, made from another revision. Nothing was touched.
    #[error("this generation is there with revision {found}, not {wanted}: start the next one")]
    Revision {
        /// The revision that was to be started.
        wanted: String,
        /// The revision of what is there.
        found: String,
    },
}

impl StartError {
    /// A short stable word for the cause, to keep in records and to tell programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) | Self::Volume(VolumeError::Engine(error)) => match error {
                Error::Unreachable { .. } => "engine-unreachable",
                Error::DiskFull { .. } => "disk-full",
                Error::Unknown { .. } => "engine",
            },
            Self::Volume(VolumeError::Claimed { .. }) => "volume-claimed",
            Self::Volume(_) => "volume",
            Self::Invalid(_) => "invalid",
            Self::Image { .. } => "image",
            Self::NameTaken { .. } => "name-taken",
            Self::PortTaken { .. } => "port-taken",
            Self::Limits { .. } => "limits",
            Self::Mount { .. } => "mount",
            Self::Network { .. } => "network",
            Self::Agent { .. } => "agent",
            Self::Job { .. } => "job",
            Self::NoRoom { .. } => "no-room",
            Self::Driven { .. } => "driven-elsewhere",
            Self::Older(_) => "older-generation",
            Self::Newer(_) => "newer-generation",
            Self::Elsewhere(_) => "runs-elsewhere",
            Self::Ended { .. } => "ended",
            Self::Revision { .. } => "revision",
        }
    }
}

/// An instance could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The engine failed. It may or may not have ended.
    #[error(transparent)]
    Engine(#[from] Error),
    /// What has that id is not what the caller means. Nothing was touched.
    #[error("{id} is not {wanted}, and is left alone: list again")]
    Foreign {
        /// The engine's name for it.
        id: String,
        /// What the caller means.
        wanted: Box<Labels>,
    },
    /// Servers that this one does not hear drive the space on a shared engine. Nothing was touched.
    #[error(
        "a part of the cluster out of reach drives the space ({by}): it goes on once the servers \
         reach each other"
    )]
    Driven {
        /// What is there, made for changes that this server does not hold.
        by: String,
    },
    /// It is there after SIGKILL.
    #[error("{left} did not end when killed: a disk or the kernel may be stuck")]
    Survived {
        /// What is left.
        left: String,
    },
}

/// A volume could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] Error),
    /// An instance has it. Nothing was touched.
    #[error("volume {volume} is in use ({by}): stop what uses it first")]
    InUse {
        /// The volume.
        volume: Uuid,
        /// What uses it, as far as the engine says.
        by: String,
    },
    /// The platform does not make volumes of that kind. Nothing was touched.
    #[error(
        "{platform} makes no volume of kind `{kind}`, which `{name}` is to be: change it in the template"
    )]
    Kind {
        /// The volume's name.
        name: String,
        /// What was asked for.
        kind: String,
        /// Which engine.
        platform: Platform,
    },
    /// Something still holds it, which should have let go of it. Nothing was touched.
    #[error(
        "volume {volume} is still claimed ({by}): look at the node that had it and at the volume's \
         plugin, or detach it there by hand, and try again"
    )]
    Claimed {
        /// The volume.
        volume: Uuid,
        /// What claims it, as far as the engine says.
        by: String,
    },
    /// It is not this cluster's. Nothing was touched.
    #[error("volume {volume} was made by {maker}, not by this cluster, and is left alone")]
    Foreign {
        /// The volume.
        volume: Uuid,
        /// Who made it, as far as its labels say.
        maker: String,
    },
    /// The engine cannot change the size of what is there. Nothing was touched.
    #[error(
        "the engine of platform {platform} cannot change the size of volume {volume}: make another \
         volume and copy what is in it"
    )]
    CannotResize {
        /// The volume.
        volume: Uuid,
        /// The platform.
        platform: Platform,
    },
}

/// What is kept for a space could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] Error),
    /// An instance is there. Nothing was touched.
    #[error("{0} is still there: stop it first")]
    InUse(Box<Labels>),
}
