//! The kinds of engine, by the words that templates and settings use for them.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Error;

/// A kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// A person starts the agent.
    Manual,
    /// Child processes of the server itself.
    Local,
    /// A Docker engine.
    Docker,
    /// A Podman service.
    Podman,
    /// A Nomad cluster.
    Nomad,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Manual, Self::Local, Self::Docker, Self::Podman, Self::Nomad];

    /// Whether its engine bounds how much a volume holds.
    #[must_use]
    pub fn bounds_volumes(self) -> bool {
        match self {
            Self::Nomad => true,
            Self::Manual | Self::Local | Self::Docker | Self::Podman => false,
        }
    }

    /// Whether servers that do not hear each other may act on one engine of it at once.
    #[must_use]
    pub fn is_shared(self) -> bool {
        self == Self::Nomad
    }

    /// That it could not do something, for a cause that is not known here.
    pub(super) fn unknown(self, action: &'static str, cause: impl fmt::Display) -> Error {
        Error::Unknown { platform: self, action, cause: cause.to_string() }
    }

    /// An operating system's error, as an error of the platform.
    pub(super) fn failed(self, action: &'static str) -> impl Fn(io::Error) -> Error + Copy {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { platform: self, cause: error.to_string() }
            }
            _ => self.unknown(action, error),
        }
    }

    /// The word for it, as it is stored and typed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nomad => "nomad",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The word names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform: one of manual, local, docker, podman or nomad is wanted")]
pub struct ParsePlatformError(String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(word: &str) -> Result<Self, ParsePlatformError> {
        Self::ALL
            .into_iter()
            .find(|platform| platform.word() == word)
            .ok_or_else(|| ParsePlatformError(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn every_platform_is_read_back_from_its_word() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
            let json = serde_json::to_string(&platform).unwrap();
            assert_eq!(json, format!("\"{platform}\""));
        }
        assert!("Docker".parse::<Platform>().is_err());
    }
}
