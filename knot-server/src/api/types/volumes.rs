//! Volumes, and what may be asked of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A volume: storage that outlives the stops of its space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// The volume's identifier.
    pub id: String,
    /// The name that the template gives it, or its maker.
    pub name: String,
    /// The name of its space; empty for none.
    pub space: String,
    /// The identifier of its space; empty for none.
    pub space_id: String,
    /// The name of its owner.
    #[serde(default)]
    pub owner: String,
    /// Where it is mounted inside the space.
    pub path: String,
    /// The kind of engine that keeps it.
    pub platform: String,
    /// Whether it is there: `wanted`, `present`, `missing`, `removed` or `aside`, for one that was set
    /// aside when its space went on elsewhere with another.
    pub state: String,
    /// What the engine calls it.
    pub engine_id: String,
    /// The name of the server whose engine keeps it.
    pub server: String,
    /// Its size in bytes, where it has one.
    #[serde(default)]
    pub size: Option<u64>,
    /// Whether it stays when its space is deleted.
    #[serde(default)]
    pub keep: bool,
    /// Why it is not as it should be, where it is not.
    #[serde(default)]
    pub cause: Option<String>,
}

/// A volume on an engine that no document knows, though a server of this cluster made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// The name of the server that found it.
    pub server: String,
    /// The kind of engine.
    pub platform: String,
    /// What the engine calls it.
    pub engine_id: String,
}

/// All volumes that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volumes {
    /// The volumes, by space and name.
    pub volumes: Vec<Volume>,
    /// For admins: what is on engines and of no document.
    #[serde(default)]
    pub orphans: Vec<Orphan>,
}

/// A volume to make that is no space's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateVolume {
    /// Its name.
    pub name: String,
    /// The name or identifier of the server whose engine is to hold it.
    pub server: String,
    /// The kind of engine.
    pub platform: String,
    /// Its size in bytes, where the engine bounds sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What is to be changed of a volume; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditVolume {
    /// Whether it stays when its space is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<bool>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Where a volume is to be attached, from its space's next start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachVolume {
    /// The name or identifier of the space.
    pub space: String,
    /// The absolute path inside the space.
    pub path: String,
}

/// Something that was set aside and is to be removed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiscardVolume {
    /// What its engine calls it.
    pub engine_id: String,
}

/// Something that was set aside and is to be its space's volume again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdoptVolume {
    /// What its engine calls it; may be left out where one was set aside only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
}
