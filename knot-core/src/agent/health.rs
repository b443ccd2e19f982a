//! What an agent asks to see whether its space is well.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// Seconds that there may be between two checks.
pub const INTERVALS: RangeInclusive<u64> = 1..=3_600;
/// Seconds that a check may be allowed to take.
pub const TIMEOUTS: RangeInclusive<u64> = 1..=300;
/// How many failures in a row may be needed.
pub const FAILURES: RangeInclusive<u64> = 1..=100;
/// Seconds between two checks, seconds that one may take, and failures in a row, where a template does
/// not say.
const DEFAULTS: (u64, u64, u64) = (30, 5, 3);

/// What is asked, how often, and when its answers count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Seconds between two checks, of [`INTERVALS`].
    pub interval: u64,
    /// Seconds that one check may take, of [`TIMEOUTS`].
    pub timeout: u64,
    /// How many checks in a row fail before the space counts as unwell, of [`FAILURES`].
    pub failures: u64,
}

/// One question to the space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Does this port take connections? `tcp:5432`
    Tcp(u16),
    /// Is a GET answered with a status below 400? `http://localhost:8080/ready`
    Http {
        /// Whether over TLS, with any certificate.
        tls: bool,
        /// The port.
        port: u16,
        /// Path and query, from the slash.
        path: String,
    },
    /// Does this command of `/bin/sh` end with status 0? `exec:pg_isready`
    Exec(String),
}

/// A text is no health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a health check is tcp:PORT, http://localhost:PORT/PATH, https://localhost:PORT/PATH, or exec: and \
     a shell command"
)]
pub struct ParseProbeError;

impl HealthCheck {
    /// A check of this probe; what is not given is the default, and what is out of bounds the nearest
    /// that is allowed.
    pub fn new(
        probe: Probe,
        interval: Option<u64>,
        timeout: Option<u64>,
        failures: Option<u64>,
    ) -> Self {
        let bounded = |value: Option<u64>, default: u64, allowed: RangeInclusive<u64>| {
            value.unwrap_or(default).clamp(*allowed.start(), *allowed.end())
        };
        let (each, limit, tolerated) = DEFAULTS;
        Self {
            probe,
            interval: bounded(interval, each, INTERVALS),
            timeout: bounded(timeout, limit, TIMEOUTS),
            failures: bounded(failures, tolerated, FAILURES),
        }
    }
}

impl FromStr for Probe {
    type Err = ParseProbeError;

    fn from_str(text: &str) -> Result<Self, ParseProbeError> {
        let text = text.trim();
        if let Some(port) = text.strip_prefix("tcp:") {
            return Ok(Self::Tcp(number(port)?));
        }
        if let Some(command) = text.strip_prefix("exec:") {
            let command = command.trim();
            let whole = !command.is_empty() && !command.contains('\0');
            return whole.then(|| Self::Exec(command.to_owned())).ok_or(ParseProbeError);
        }
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(ParseProbeError),
        };
        let (authority, path) = match rest.split_at_checked(rest.find('/').unwrap_or(rest.len())) {
            Some((authority, "")) => (authority, "/"),
            Some(parts) => parts,
            None => return Err(ParseProbeError),
        };
        // What is asked is the space itself: no other host.
        let port = ["localhost", "127.0.0.1", "[::1]", ""].iter().find_map(|host| {
            let port = authority.strip_prefix(host)?;
            if port.is_empty() && !host.is_empty() {
                return Some(Ok(if tls { 443 } else { 80 }));
            }
            Some(number(port.strip_prefix(':')?))
        });
        let clean = path.bytes().all(|byte| byte.is_ascii_graphic());
        let port = port.filter(|_| clean).ok_or(ParseProbeError)??;
        Ok(Self::Http { tls, port, path: path.to_owned() })
    }
}

fn number(text: &str) -> Result<u16, ParseProbeError> {
    text.trim().parse().ok().filter(|port| *port > 0).ok_or(ParseProbeError)
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Http { tls, port, path } => {
                write!(f, "http{}://localhost:{port}{path}", if *tls { "s" } else { "" })
            }
            Self::Exec(command) => write!(f, "exec:{command}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_asked() {
        for (text, shown) in [
            ("tcp:5432", "tcp:5432"),
            ("http://localhost:8080", "http://localhost:8080/"),
            ("http://:8080/ready?full=1", "http://localhost:8080/ready?full=1"),
            ("https://127.0.0.1/x", "https://localhost:443/x"),
            ("http://[::1]:81/", "http://localhost:81/"),
            ("exec: test -f /tmp/ok ", "exec:test -f /tmp/ok"),
        ] {
            let probe: Probe = text.parse().unwrap();
            assert_eq!(probe.to_string(), shown);
            assert_eq!(shown.parse::<Probe>().unwrap(), probe);
        }
        for text in [
            "",
            "tcp:",
            "tcp:0",
            "tcp:65536",
            "exec:",
            "ftp://localhost",
            "http://example.org/",
            "http://localhost.example.org/",
            "http://localhost:8080/a b",
            "http:///",
            "8080",
        ] {
            assert_eq!(text.parse::<Probe>(), Err(ParseProbeError), "{text}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_brought_within() {
        let check = HealthCheck::new(Probe::Tcp(1), Some(0), Some(9_999), None);
        assert_eq!((check.interval, check.timeout, check.failures), (1, 300, 3));
    }
}
