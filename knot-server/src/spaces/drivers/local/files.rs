//! Files below the data folder: written whole or not at all, and for this user's eyes only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{Ended, Labels, Process, at};

/// What is known of a space that has been started, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Whose it is, and which run.
    pub(super) labels: Labels,
    /// The volumes that it has.
    pub(super) volumes: Vec<Uuid>,
    /// Its agent; none before it is started.
    pub(super) process: Option<Process>,
}

#[derive(Serialize, Deserialize)]
struct EndRecord {
    labels: Labels,
    ended: Ended,
}

/// One space's folder.
#[derive(Clone, Debug)]
pub(super) struct SpaceFolder(PathBuf);

impl SpaceFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes it, and returns the home folder in it.
    pub(super) fn make(&self) -> io::Result<PathBuf> {
        let home = self.0.join("home");
        make_private(&home)?;
        Ok(home)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(super) fn record(&self) -> io::Result<Option<Record>> {
        read_json(&self.0.join("state.json"))
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        write_json(&self.0.join("state.json"), record)
    }

    /// How that run ended, if it was seen.
    pub(super) fn ended(&self, labels: &Labels) -> Option<Ended> {
        let end: EndRecord = read_json(&self.0.join("ended.json")).ok()??;
        (end.labels == *labels).then_some(end.ended)
    }

    pub(super) fn write_ended(&self, labels: &Labels, ended: Ended) -> io::Result<()> {
        write_json(&self.0.join("ended.json"), &EndRecord { labels: labels.clone(), ended })
    }

    /// Nothing of a run is left but its output, and the home folder.
    pub(super) fn clear(&self) -> io::Result<()> {
        for name in ["ended.json", "state.json"] {
            gone_is_fine(fs::remove_file(self.0.join(name)))?;
        }
        Ok(())
    }

    /// Nothing is left of it at all.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_all(&self.0)
    }
}

/// Makes a folder, with those above it, that only this user can look into.
pub(in crate::spaces::drivers) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// The entries of a folder whose names are ids; none if it is not there.
pub(super) fn ids_in(folder: &Path) -> io::Result<Vec<Uuid>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(folder))?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok()));
    }
    Ok(ids)
}

/// Reads a file, if it is there.
pub(in crate::spaces::drivers) fn read_json<T: DeserializeOwned>(
    path: &Path,
) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => Ok(Some(serde_json::from_slice(&bytes.map_err(at(path))?).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        })?)),
    }
}

pub(in crate::spaces::drivers) fn write_json(
    path: &Path,
    value: &impl Serialize,
) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec_pretty(value)?, 0o600)
}

/// Puts a file in place at once, on disk before it is seen.
pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let write = || {
        let beside = path.with_added_extension("new");
        gone_is_fine(fs::remove_file(&beside))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        // The mode given at creation is cut by the umask.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        drop(file);
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(at(path))
}

/// Removes a folder with all in it, following no link. One that is not there is removed already.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    match gone_is_fine(fs::remove_dir_all(path)) {
        // Some tools write-protect the folders of their caches.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unprotect(path)?;
            gone_is_fine(fs::remove_dir_all(path)).map_err(at(path))
        }
        done => done.map_err(at(path)),
    }
}

fn unprotect(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(at(&folder))?;
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_protected_tree_is_removed_and_what_a_link_in_it_shows_is_not() {
        let world = tempfile::tempdir().unwrap();
        let (tree, outside) = (world.path().join("tree"), world.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_all(&tree).unwrap();
        remove_all(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_asked_for() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("file");
        fs::write(path.with_added_extension("new"), "left by a crash").unwrap();
        write_whole(&path, b"one", 0o755).unwrap();
        write_whole(&path, b"two", 0o755).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 1);
    }
}
