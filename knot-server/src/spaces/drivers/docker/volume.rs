//! Volumes of the engine, known by their labels.

use std::collections::HashMap;

use bollard::{
    models::{Volume, VolumeCreateRequest},
    query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions},
};
use uuid::Uuid;

use super::{
    ANSWER, WORK,
    failure::{Asked, ask, is_status, said},
    flavour::Client,
};
use crate::spaces::drivers::{FoundVolume, Owner, VolumeError, VolumeSpec, volumes};

/// The engine's name for a volume.
pub(super) fn name(owner: Owner, volume: Uuid) -> String {
    let cluster = owner.cluster.simple().to_string();
    let short = cluster.get(24..).unwrap_or(&cluster);
    format!("knot-{short}-{volume}")
}

/// Makes a volume, or finds it.
pub(super) async fn ensure(
    client: &Client,
    owner: Owner,
    spec: &VolumeSpec,
) -> Result<(), VolumeError> {
    let volume = spec.id;
    spec.only_of_the_platform(client.flavour.platform())?;
    let request = VolumeCreateRequest {
        name: Some(name(owner, volume)),
        labels: Some(owner.volume_labels(volume)),
        ..VolumeCreateRequest::default()
    };
    // Creating one that is there changes nothing, and answers with what is there.
    let found = ask(WORK, client.api.create_volume(request))
        .await
        .map_err(|failure| client.flavour.engine("make a volume", failure))?;
    owner.must_share(volume, Owner::of_volume(volume, &found.labels))
}

/// Removes a volume that a server of this cluster made.
pub(super) async fn remove(client: &Client, owner: Owner, volume: Uuid) -> Result<(), VolumeError> {
    let name = name(owner, volume);
    let asked = |failure| client.flavour.engine("remove a volume", failure);
    let Some(found) = inspect(client, &name).await.map_err(asked)? else { return Ok(()) };
    owner.must_share(volume, Owner::of_volume(volume, &found.labels))?;
    match ask(WORK, client.api.remove_volume(&name, None::<RemoveVolumeOptions>)).await {
        Ok(()) => Ok(()),
        Err(failure) if is_status(&failure, 404) => Ok(()),
        Err(failure) if is_status(&failure, 409) => {
            Err(VolumeError::InUse { volume, by: said(&failure) })
        }
        Err(failure) => Err(asked(failure).into()),
    }
}

/// Every volume of the cluster.
pub(super) async fn list(client: &Client, cluster: Uuid) -> Asked<Vec<FoundVolume>> {
    let filters = HashMap::from([("label", volumes::filters(cluster).to_vec())]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let found = ask(ANSWER, client.api.list_volumes(Some(options))).await?;
    let read = |found: Volume| FoundVolume::from_labels(cluster, found.name, &found.labels);
    Ok(found.volumes.unwrap_or_default().into_iter().filter_map(read).collect())
}

/// Who the engine is.
pub(super) async fn identity(client: &Client) -> Asked<Option<String>> {
    Ok(ask(ANSWER, client.api.info()).await?.id.filter(|id| !id.is_empty()))
}

async fn inspect(client: &Client, name: &str) -> Asked<Option<Volume>> {
    match ask(ANSWER, client.api.inspect_volume(name)).await {
        Ok(volume) => Ok(Some(volume)),
        Err(failure) if is_status(&failure, 404) => Ok(None),
        Err(failure) => Err(failure),
    }
}
