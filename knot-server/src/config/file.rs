//! The configuration file: its keys, reading it, and writing what a server runs with.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Config, Error, FILE, nomad};

/// The file's content; every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) http: Http,
    pub(super) quic: Quic,
    pub(super) ssh: Ssh,
    pub(super) ports: Ports,
    pub(super) local: Local,
    pub(super) manual: Local,
    pub(super) docker: Docker,
    pub(super) podman: Docker,
    pub(super) nomad: nomad::File,
    pub(super) spaces: Spaces,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) listen: Option<SocketAddr>,
    pub(super) url: Option<String>,
    pub(super) plain: Option<bool>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quic {
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ssh {
    pub(super) enabled: Option<bool>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ports {
    pub(super) domain: Option<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Local {
    pub(super) enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Docker {
    pub(super) enabled: Option<bool>,
    pub(super) host: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spaces {
    pub(super) start_deadline_seconds: Option<u64>,
    pub(super) stop_grace_seconds: Option<u64>,
    pub(super) volume_grace_hours: Option<u64>,
    pub(super) stop_on_exit: Option<bool>,
}

/// Reads the file that was named, or that of the data folder, which may be missing.
pub(super) fn read(named: Option<&Path>, data: &Path) -> Result<File, Error> {
    let path = named.map_or_else(|| data.join(FILE), Path::to_owned);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok(File::default());
        }
        Err(source) => return Err(Error::Unreadable { path, source }),
    };
    toml::from_str(&text).map_err(|error| Error::Wrong { path, why: error.to_string() })
}

impl Config {
    /// Writes the configuration into its data folder, if the folder has none: so that a server runs
    /// with what it was made with. Whether it did.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self) -> io::Result<bool> {
        let path = self.data.join(FILE);
        if path.exists() {
            return Ok(false);
        }
        std::fs::write(path, self.to_toml()).map(|()| true)
    }

    /// The configuration as the file would have it, every key with its value.
    pub fn to_toml(&self) -> String {
        let file = File {
            name: Some(self.name.clone()),
            zone: Some(self.zone.clone()),
            http: Http {
                listen: Some(self.http_listen),
                url: Some(self.http_url.clone()),
                plain: Some(self.https.is_none() && !self.http_listen.ip().is_loopback()),
                certificate: self.https.as_ref().map(|files| files.certificate.clone()),
                key: self.https.as_ref().map(|files| files.key.clone()),
            },
            quic: Quic {
                listen: Some(self.quic_listen),
                advertise: Some(self.quic_advertise.clone()),
            },
            ssh: Ssh {
                enabled: Some(self.ssh),
                listen: Some(self.ssh_listen),
                advertise: Some(self.ssh_advertise.clone()),
            },
            ports: Ports {
                domain: self.ports_domain.clone(),
                listen: self.ports_listen,
                url: self.ports_url.clone(),
            },
            local: Local { enabled: Some(self.local) },
            docker: Docker { enabled: Some(self.docker), host: self.docker_host.clone() },
            podman: Docker { enabled: Some(self.podman), host: self.podman_host.clone() },
            nomad: self.nomad.as_ref().map(nomad::Nomad::to_file).unwrap_or_default(),
            manual: Local { enabled: Some(self.manual) },
            spaces: Spaces {
                start_deadline_seconds: Some(self.spaces.start_deadline.as_secs()),
                stop_grace_seconds: Some(self.spaces.stop_grace.as_secs()),
                volume_grace_hours: Some(self.spaces.volume_grace.as_secs() / 3_600),
                stop_on_exit: Some(self.spaces.stop_on_exit),
            },
        };
        toml::to_string(&file).unwrap_or_default()
    }
}
