//! What the engine's answers mean. It tells causes apart in prose only, so the prose is read here.

use crate::spaces::drivers::error::Blame as _;
use std::time::Duration;

use bollard::errors::Error as Failure;

use super::flavour::Flavour;
use crate::{
    causes::with_causes,
    spaces::drivers::{Error, StartError},
};

/// The answer to one question to the engine.
pub(super) type Asked<T> = Result<T, Failure>;

/// Waits for an answer, headers and body both, no longer than `patience`.
pub(super) async fn ask<T>(
    patience: Duration,
    question: impl Future<Output = Asked<T>>,
) -> Asked<T> {
    tokio::time::timeout(patience, question).await.unwrap_or(Err(Failure::RequestTimeoutError))
}

/// Whether the engine answered with this HTTP status.
pub(super) fn is_status(failure: &Failure, status: u16) -> bool {
    matches!(failure, Failure::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// What the engine said, without the client's own words around it.
pub(super) fn said(failure: &Failure) -> String {
    match failure {
        Failure::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Failure::DockerStreamError { error } => error.trim().to_owned(),
        other => with_causes(other),
    }
}

impl Flavour {
    /// The causes that any operation can have.
    pub(super) fn engine(self, action: &'static str, failure: Failure) -> Error {
        let cause = said(&failure);
        match failure {
            Failure::DockerResponseServerError { .. } | Failure::DockerStreamError { .. } => {
                if cause.contains("no space left on device") {
                    Error::DiskFull { platform: self.platform(), cause }
                } else {
                    self.unknown(action, cause)
                }
            }
            Failure::RequestTimeoutError
            | Failure::IOError { .. }
            | Failure::HyperResponseError { .. }
            | Failure::HyperLegacyError { .. }
            | Failure::SocketNotFoundError(_) => {
                Error::Unreachable { platform: self.platform(), cause }
            }
            _ => self.unknown(action, cause),
        }
    }

    pub(super) fn unknown(self, action: &'static str, cause: String) -> Error {
        self.platform().unknown(action, cause)
    }

    /// The causes that creating a container can have, but for a name or an image.
    pub(super) fn create(self, failure: Failure) -> StartError {
        self.by_cause(failure, "create the container")
    }

    /// The causes that starting a container can have.
    pub(super) fn start(self, failure: Failure) -> StartError {
        self.by_cause(failure, "start the container")
    }

    fn by_cause(self, failure: Failure, action: &'static str) -> StartError {
        let cause = said(&failure);
        let has = |words: &[&str]| {
            let cause = cause.to_ascii_lowercase();
            words.iter().any(|word| cause.contains(word))
        };
        let answered = matches!(failure, Failure::DockerResponseServerError { .. });
        if !answered || has(&["no space left on device"]) {
            self.engine(action, failure).into()
        } else if has(&["port is already allocated", "address already in use"]) {
            StartError::PortTaken { cause }
        } else if has(&[
            "minimum memory limit",
            "range of cpus",
            "memory.limit",
            "memory.max",
            "cpu.max",
        ]) {
            StartError::Limits { cause }
        } else if has(&[
            "mount config",
            "mount point",
            "mount path",
            "error mounting",
            "mounting \"",
            "statfs ",
        ]) {
            StartError::Mount { cause }
        } else if has(&["network", "hostname"]) {
            StartError::Network {
                cause: format!("{cause}; name another in the template, or make it"),
            }
        } else if has(&["exec format error", "/.knot/agent", "permission denied"]) {
            StartError::Agent { cause }
        } else {
            self.unknown(action, cause).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(message: &str) -> &'static str {
        let message = message.to_owned();
        let failure = Failure::DockerResponseServerError { status_code: 500, message };
        Flavour::Docker.start(failure).code()
    }

    #[test]
    fn causes_are_told_apart_by_what_engines_write() {
        for (message, wanted) in [
            ("write /var/lib/docker/x: no space left on device", "disk-full"),
            (
                "driver failed programming external connectivity on endpoint x: Bind for \
                 0.0.0.0:80 failed: port is already allocated",
                "port-taken",
            ),
            ("Minimum memory limit allowed is 6MB", "limits"),
            ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "limits"),
            ("network knot-x not found", "network"),
            ("OCI runtime create failed: exec: \"/.knot/agent\": exec format error", "agent"),
            ("invalid mount config for type \"volume\": invalid mount path", "mount"),
            (
                "cannot listen on the TCP port: listen tcp4 :8081: bind: address already in use",
                "port-taken",
            ),
            ("statfs /nowhere: no such file or directory", "mount"),
            ("unable to find network with name or ID knot-x: network not found", "network"),
            ("something new", "engine"),
        ] {
            assert_eq!(code(message), wanted, "{message}");
        }
        assert_eq!(
            Flavour::Docker.start(Failure::RequestTimeoutError).code(),
            "engine-unreachable"
        );
    }
}
