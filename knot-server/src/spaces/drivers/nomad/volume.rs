//! Volumes of Nomad: those of CSI plugins, and folders that its nodes make themselves.
//!
//! Neither carries labels. The id, which has the cluster's in it, says whose it is: the cluster's.
//! Its data belongs to the space, and follows the space to whichever server is its home.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    api::{Api, Asked, Failure, found},
    job::{self, put},
    model::Allocation,
};
use crate::spaces::drivers::{Owner, VolumeError, VolumeSpec};

/// The first pause between two looks at a claim, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The plugin of Nomad's own that makes folders.
const MKDIR: &str = "mkdir";

/// What makes a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder of a node, made by a plugin on it.
    Host,
    /// A CSI plugin.
    Csi(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    allocations: Option<Vec<Allocation>>,
    #[serde(default)]
    read_allocs: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    write_allocs: Option<serde_json::Map<String, Value>>,
}

impl Kind {
    /// What a template says, or else a folder of a node.
    pub(super) fn of(spec: &VolumeSpec) -> Self {
        match spec.kind.as_deref().and_then(|kind| kind.strip_prefix("csi:")) {
            Some(plugin) => Self::Csi(plugin.to_owned()),
            None => Self::Host,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Csi(_) => "csi",
        }
    }

    /// The volume as a job's group asks for it.
    pub(super) fn request(&self, source: &str) -> Value {
        let mut request = json!({
            "Type": self.word(), "Source": source, "ReadOnly": false,
            "AccessMode": "single-node-writer", "AttachmentMode": "file-system",
        });
        if *self == Self::Host {
            // A host volume is found by name, and stays on its node.
            put(&mut request, "Sticky", json!(true));
        }
        request
    }
}

/// Nomad's name for a volume; its id too where a CSI plugin makes it.
pub(super) fn name(owner: Owner, volume: Uuid) -> String {
    format!("{}{volume}", job::prefix(owner.cluster))
}

/// Makes a volume, or finds it.
pub(super) async fn ensure(
    api: &Api,
    owner: Owner,
    namespace: &str,
    spec: &VolumeSpec,
) -> Result<(), VolumeError> {
    let asked = |failure: Failure| VolumeError::from(failure.on("make a volume"));
    if find(api, owner, spec.id).await.map_err(asked)?.is_some() {
        return Ok(());
    }
    let name = name(owner, spec.id);
    let capabilities =
        json!([{ "AccessMode": "single-node-writer", "AttachmentMode": "file-system" }]);
    let mut volume = json!({
        "Name": name, "Namespace": namespace, "RequestedCapabilities": capabilities,
    });
    if let Some(size) = spec.size {
        put(&mut volume, "RequestedCapacityMin", json!(size));
        put(&mut volume, "RequestedCapacityMax", json!(size));
    }
    let query = [("namespace", namespace)];
    let made: Asked<Value> = match Kind::of(spec) {
        Kind::Csi(plugin) => {
            put(&mut volume, "ID", json!(name));
            put(&mut volume, "PluginID", json!(plugin));
            let body = json!({ "Volumes": [volume] });
            api.send(Method::PUT, &format!("v1/volume/csi/{name}/create"), &query, &body).await
        }
        Kind::Host => {
            put(&mut volume, "PluginID", json!(MKDIR));
            let body = json!({ "Volume": volume });
            api.send(Method::PUT, "v1/volume/host/create", &query, &body).await
        }
    };
    match made {
        Ok(_) => Ok(()),
        // Another was quicker.
        Err(failure) => match find(api, owner, spec.id).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(asked(failure)),
        },
    }
}

/// Waits until a CSI volume that nothing uses can be claimed again.
///
/// Nomad lets go of a claim some time after the allocation that had it is over, or never where the
/// node was lost; it is asked once to detach what no living allocation has.
pub(super) async fn wait_for_release(
    api: &Api,
    owner: Owner,
    namespace: &str,
    spec: &VolumeSpec,
    patience: Duration,
) -> Result<(), VolumeError> {
    if Kind::of(spec) == Kind::Host {
        return Ok(());
    }
    let (begin, mut pause, mut detached) = (Instant::now(), PAUSE.0, false);
    loop {
        let asked = |failure: Failure| VolumeError::from(failure.on("look at a volume"));
        let claims = claims(api, owner, namespace, spec.id).await.map_err(asked)?;
        let Some(claim) = claims.first() else { return Ok(()) };
        if begin.elapsed() + pause > patience {
            return Err(VolumeError::Claimed { volume: spec.id, by: claim.said() });
        }
        if !detached && begin.elapsed() > patience / 4 {
            detached = true;
            let name = name(owner, spec.id);
            for claim in claims.iter().filter(|claim| claim.over && !claim.node.is_empty()) {
                let path = format!("v1/volume/csi/{name}/detach");
                let query = [("namespace", namespace), ("node", claim.node.as_str())];
                if let Err(failure) = api.delete(&path, &query).await {
                    tracing::warn!(volume = %spec.id, ?failure, "a claim could not be detached");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Removes a volume and its data.
pub(super) async fn remove(
    api: &Api,
    owner: Owner,
    volume: Uuid,
    patience: Duration,
) -> Result<(), VolumeError> {
    let asked = |failure: Failure| VolumeError::from(failure.on("remove a volume"));
    let Some((kind, found)) = find(api, owner, volume).await.map_err(asked)? else {
        return Ok(());
    };
    let path = match kind {
        "csi" => format!("v1/volume/csi/{}/delete", found.id),
        _ => format!("v1/volume/host/{}/delete", found.id),
    };
    let (begin, mut pause) = (Instant::now(), PAUSE.0);
    loop {
        match api.delete(&path, &[("namespace", found.namespace.as_str())]).await {
            Ok(()) | Err(Failure::NotFound) => return Ok(()),
            Err(Failure::Said(by)) if by.contains("in use") || by.contains("claim") => {
                if begin.elapsed() + pause > patience {
                    return Err(VolumeError::Claimed { volume, by });
                }
            }
            Err(failure) => return Err(asked(failure)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// The volume, in whichever namespace and of whichever kind it is.
async fn find(api: &Api, owner: Owner, volume: Uuid) -> Asked<Option<(&'static str, Found)>> {
    let name = name(owner, volume);
    for kind in ["csi", "host"] {
        let query = [("type", kind), ("namespace", "*"), ("prefix", name.as_str())];
        let listed: Option<Vec<Found>> = match api.get("v1/volumes", &query).await {
            // The prefix of a host volume is one of its id: all are listed, and looked through.
            Ok(listed) if kind == "csi" => listed,
            Ok(_) => api.get("v1/volumes", &[("type", kind), ("namespace", "*")]).await?,
            Err(Failure::NotFound) => None,
            Err(failure) => return Err(failure),
        };
        let is_it = |one: &Found| if kind == "csi" { one.id == name } else { one.name == name };
        if let Some(found) = listed.into_iter().flatten().find(is_it) {
            return Ok(Some((kind, found)));
        }
    }
    Ok(None)
}

struct Claim {
    allocation: String,
    node: String,
    over: bool,
}

impl Claim {
    fn said(&self) -> String {
        let how = if self.over { "which is over" } else { "which is not over" };
        format!("by allocation {}, {how}, on node {}", self.allocation, self.node)
    }
}

async fn claims(api: &Api, owner: Owner, namespace: &str, volume: Uuid) -> Asked<Vec<Claim>> {
    let path = format!("v1/volume/csi/{}", name(owner, volume));
    let asked = api.get::<Found>(&path, &[("namespace", namespace)]).await;
    let Some(volume) = found(asked)? else { return Ok(Vec::new()) };
    let known = volume.allocations.unwrap_or_default();
    let ids = volume.write_allocs.unwrap_or_default().into_iter();
    let ids = ids.chain(volume.read_allocs.unwrap_or_default()).map(|(id, _)| id);
    let claim = |id: String| {
        let allocation = known.iter().find(|one| one.id == id);
        Claim {
            node: allocation.map(|one| one.node_id.clone()).unwrap_or_default(),
            // One that Nomad has forgotten is over.
            over: allocation.is_none_or(Allocation::is_over),
            allocation: id,
        }
    };
    Ok(ids.map(claim).collect())
}
