//! Which Nomad cluster a server uses, and how.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{Error, Flags, check::value};
use crate::spaces::drivers::NomadSettings;

/// How long a volume's claim may take to be let go of.
const RELEASE: Duration = Duration::from_secs(60);

/// A Nomad cluster, every value there.
#[derive(Clone)]
pub struct Nomad {
    settings: NomadSettings,
    token_file: Option<PathBuf>,
    own_agent_url: Option<String>,
}

impl std::fmt::Debug for Nomad {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nomad")
            .field("address", &self.settings.address.as_str())
            .finish_non_exhaustive()
    }
}

/// The part of the file. The token itself is in no file that is written here.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    address: Option<String>,
    token_file: Option<PathBuf>,
    region: Option<String>,
    datacenters: Option<Vec<String>>,
    namespace: Option<String>,
    namespace_per_user: Option<bool>,
    agent_url: Option<String>,
}

/// Puts flags, file and defaults together; none where no address is given.
pub(super) fn load(flags: &Flags, file: File, http_url: &str) -> Result<Option<Nomad>, Error> {
    let Some(address) = flags.nomad_address.clone().or(file.address) else { return Ok(None) };
    // What is joined to it is put below its last slash.
    let address = match Url::parse(&format!("{}/", address.trim_end_matches('/'))) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => {
            let why = format!("{address} is no http:// or https:// URL");
            return Err(Error::Value { key: "nomad.address", why });
        }
    };
    let mut token = flags.nomad_token.clone();
    if let (None, Some(path)) = (&token, &file.token_file) {
        match std::fs::read_to_string(path) {
            Ok(text) => token = Some(text.trim().to_owned()),
            Err(error) => {
                value("nomad.token_file", format!("{}: {error}", path.display()))?;
            }
        }
    }
    let settings = NomadSettings {
        address,
        token,
        region: file.region,
        datacenters: file.datacenters.unwrap_or_else(|| vec!["*".to_owned()]),
        namespace: file.namespace.unwrap_or_else(|| "default".to_owned()),
        namespace_per_user: file.namespace_per_user.unwrap_or(false),
        agent_url: file.agent_url.clone().unwrap_or_else(|| http_url.to_owned()),
        release: RELEASE,
    };
    Ok(Some(Nomad { settings, token_file: file.token_file, own_agent_url: file.agent_url }))
}

impl Nomad {
    /// As the driver takes it.
    pub fn settings(&self) -> NomadSettings {
        self.settings.clone()
    }

    pub(super) fn to_file(&self) -> File {
        File {
            address: Some(self.settings.address.as_str().trim_end_matches('/').to_owned()),
            token_file: self.token_file.clone(),
            region: self.settings.region.clone(),
            datacenters: Some(self.settings.datacenters.clone()),
            namespace: Some(self.settings.namespace.clone()),
            namespace_per_user: Some(self.settings.namespace_per_user),
            agent_url: self.own_agent_url.clone(),
        }
    }
}
