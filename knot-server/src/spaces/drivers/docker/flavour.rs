//! Which of the engines that speak Docker's protocol it is, and how that one is reached.

use std::path::PathBuf;

use super::failure::Asked;
use crate::spaces::drivers::Platform;

/// Podman's socket where root runs its service.
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// One of the engines that speak Docker's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Docker's own.
    Docker,
    /// Podman, whose service speaks it beside its own.
    Podman,
}

/// A connection to an engine of a known flavour.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) api: bollard::Docker,
    pub(super) flavour: Flavour,
}

impl Flavour {
    /// The platform that it is.
    pub(super) fn platform(self) -> Platform {
        match self {
            Self::Docker => Platform::Docker,
            Self::Podman => Platform::Podman,
        }
    }

    /// Its name, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }

    /// A client for the engine of this machine. Nothing is asked of it yet.
    pub(super) fn connect(self) -> Asked<bollard::Docker> {
        match self {
            Self::Docker => bollard::Docker::connect_with_local_defaults(),
            Self::Podman => bollard::Docker::connect_with_host(&podman_socket()),
        }
    }
}

/// The socket of this user's own service where there is one, or else that of root's.
fn podman_socket() -> String {
    let own = std::env::var_os("XDG_RUNTIME_DIR")
        .map(|folder| PathBuf::from(folder).join("podman/podman.sock"))
        .filter(|socket| socket.exists());
    let socket = own.unwrap_or_else(|| PathBuf::from(PODMAN_SOCKET));
    format!("unix://{}", socket.display())
}
