//! The kinds of engine, by the words that templates and settings use for them.

use std::str::FromStr;

use crate::model::words;

words! {
    /// A kind of engine.
    pub enum Platform {
        /// A person starts the agent.
        #[default]
        Manual = "manual",
        /// Child processes of the server itself.
        Local = "local",
        /// A Docker engine.
        Docker = "docker",
        /// A Podman service.
        Podman = "podman",
        /// A Nomad cluster.
        Nomad = "nomad",
    }
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

    /// Whether it runs containers, and not processes of the server's or a person's.
    #[must_use]
    pub fn runs_containers(self) -> bool {
        match self {
            Self::Docker | Self::Podman | Self::Nomad => true,
            Self::Manual | Self::Local => false,
        }
    }
}

/// The word names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform: it is one of {words}", words = Platform::ALL.map(Platform::as_str).join(", "))]
pub struct ParsePlatformError(String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(word: &str) -> Result<Self, ParsePlatformError> {
        Self::from_word(word).ok_or_else(|| ParsePlatformError(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn every_platform_is_read_back_from_its_word() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
        }
        let refused = "Docker".parse::<Platform>().unwrap_err().to_string();
        assert!(refused.ends_with("manual, local, docker, podman, nomad"), "{refused}");
    }
}
