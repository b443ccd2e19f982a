//! Volumes as folders.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{at, failed, files};
use crate::spaces::drivers::{FoundVolume, Owner, VolumeError};

fn folder(data: &Path, volume: Uuid) -> PathBuf {
    data.join("volumes").join(volume.to_string())
}

/// Where a volume's data is.
pub(super) fn data(data: &Path, volume: Uuid) -> PathBuf {
    folder(data, volume).join("data")
}

/// Makes a volume, or finds it.
pub(super) fn ensure(root: &Path, owner: Owner, volume: Uuid) -> Result<(), VolumeError> {
    let failed = failed("make a volume");
    let labels = folder(root, volume).join("labels.json");
    files::make_private(&data(root, volume)).map_err(failed)?;
    if !is_labelled(&labels, owner, volume)? {
        files::write_json(&labels, &owner.volume_labels(volume)).map_err(failed)?;
    }
    Ok(())
}

/// Takes a volume of this cluster out of sight, and says where it waits to be removed. That
/// nothing uses it, the caller has seen.
pub(super) fn set_aside(root: &Path, owner: Owner, volume: Uuid) -> Result<PathBuf, VolumeError> {
    let failed = failed("remove a volume");
    let folder = folder(root, volume);
    let aside = folder.with_file_name(format!("removed-{volume}"));
    if folder.exists() {
        is_labelled(&folder.join("labels.json"), owner, volume)?;
        files::remove_all(&aside).map_err(failed)?;
        fs::rename(&folder, &aside).map_err(at(&folder)).map_err(failed)?;
    }
    Ok(aside)
}

/// Every volume of the cluster.
pub(super) fn list(root: &Path, cluster: Uuid) -> io::Result<Vec<FoundVolume>> {
    let mut found = Vec::new();
    for id in files::ids_in(&root.join("volumes"))? {
        let labels: Option<HashMap<String, String>> =
            files::read_json(&folder(root, id).join("labels.json"))?;
        let name = format!("volumes/{id}");
        found.extend(labels.and_then(|labels| FoundVolume::from_labels(cluster, name, &labels)));
    }
    Ok(found)
}

/// Gives the home folder of a space, which nothing uses, a name that no start finds.
pub(super) fn set_home_aside(root: &Path, space: Uuid, term: u64) -> io::Result<()> {
    let home = root.join("spaces").join(space.to_string()).join("home");
    if !home.exists() {
        return Ok(());
    }
    let aside = root.join("aside");
    files::make_private(&aside)?;
    let mut to = aside.join(format!("{space}-{term}"));
    for again in 2_u32.. {
        if !to.exists() {
            break;
        }
        to = aside.join(format!("{space}-{term}-{again}"));
    }
    fs::rename(&home, &to).map_err(at(&home))
}

/// Whether a volume that is there may be used; whether it says who made it.
fn is_labelled(labels: &Path, owner: Owner, volume: Uuid) -> Result<bool, VolumeError> {
    let read: io::Result<Option<HashMap<String, String>>> = files::read_json(labels);
    match read.map_err(failed("look who made a volume"))? {
        // New, or left by a server that was killed before it wrote that down.
        None => Ok(false),
        Some(labels) => {
            owner.must_share(volume, Owner::of_volume(volume, &labels))?;
            Ok(true)
        }
    }
}
