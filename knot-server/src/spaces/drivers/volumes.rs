//! Volumes as they are found on an engine.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    Owner,
    instance::{CLUSTER, VOLUME},
};

/// A volume that a server of this cluster made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVolume {
    /// The id in its labels.
    pub id: Uuid,
    /// The server that made it.
    pub maker: Uuid,
    /// The engine's own name for it.
    pub name: String,
}

impl FoundVolume {
    /// What carries `labels`, if it is a volume of this cluster.
    pub(super) fn from_labels(
        cluster: Uuid,
        name: String,
        labels: &HashMap<String, String>,
    ) -> Option<Self> {
        let id = Uuid::try_parse(labels.get(VOLUME)?).ok()?;
        let maker = Owner::of_volume(id, labels).filter(|maker| maker.cluster == cluster)?;
        Some(Self { id, maker: maker.home, name })
    }
}

/// The filter that an engine's list takes for all volumes of a cluster.
pub(super) fn filters(cluster: Uuid) -> [String; 2] {
    [format!("{CLUSTER}={cluster}"), VOLUME.to_owned()]
}
