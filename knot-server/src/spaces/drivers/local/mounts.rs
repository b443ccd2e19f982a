//! Volumes seen in a home folder.
//!
//! Whoever uses a space can put links anywhere in its home, so a path below it is walked one folder
//! at a time and no link is followed: nothing outside the home is written.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, readlinkat, symlinkat, unlinkat},
    io::Errno,
};

use super::{failed, volumes};
use crate::spaces::drivers::{Mount, StartError};

const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Refuses what links cannot show: a volume inside another.
pub(super) fn check(mounts: &[Mount]) -> Result<(), StartError> {
    for (outer, inner) in mounts.iter().flat_map(|a| mounts.iter().map(move |b| (a, b))) {
        if inner.path.strip_prefix(&outer.path).is_some_and(|rest| rest.starts_with('/')) {
            return Err(StartError::Mount {
                cause: format!(
                    "{} is inside {}, and the local platform cannot show one volume in another",
                    inner.path, outer.path
                ),
            });
        }
    }
    Ok(())
}

/// Puts a link to each volume where its path is, below the home.
pub(super) fn link(data: &Path, home: &Path, mounts: &[Mount]) -> Result<(), StartError> {
    for mount in mounts {
        link_one(data, home, mount)?;
    }
    Ok(())
}

fn link_one(data: &Path, home: &Path, mount: &Mount) -> Result<(), StartError> {
    let in_the_way = |name: &str| StartError::Mount {
        cause: format!(
            "for volume {} at {}, `{name}` in the space's home is there and is no empty folder: move \
             it away, or",
            mount.volume.name, mount.path
        ),
    };
    let failed = |error: Errno| failed("link a volume into the space's home")(error.into());
    let path = mount.path.trim_start_matches('/');
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut folder = openat(CWD, home, FOLDER, Mode::empty()).map_err(failed)?;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        folder = match enter(&folder, part) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(in_the_way(part)),
            entered => entered.map_err(failed)?,
        };
    }
    let target = volumes::data(data, mount.volume.id);
    match readlinkat(&folder, name, Vec::new()) {
        Ok(there) if Path::new(&*there.to_string_lossy()) == target => return Ok(()),
        // One that an earlier revision of the template put there.
        Ok(there)
            if there.to_string_lossy().starts_with(&*data.join("volumes").to_string_lossy()) =>
        {
            unlinkat(&folder, name, AtFlags::empty()).map_err(failed)?;
        }
        Ok(_) => return Err(in_the_way(name)),
        Err(Errno::NOENT) => {}
        Err(Errno::INVAL) => match unlinkat(&folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => return Err(in_the_way(name)),
            removed => removed.map_err(failed)?,
        },
        Err(error) => return Err(failed(error).into()),
    }
    symlinkat(&target, &folder, name).map_err(|error| failed(error).into())
}

fn enter(folder: &OwnedFd, part: &str) -> rustix::io::Result<OwnedFd> {
    match openat(folder, part, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => {
            mkdirat(folder, part, Mode::RWXU)?;
            openat(folder, part, FOLDER, Mode::empty())
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use uuid::Uuid;

    use super::*;
    use crate::spaces::drivers::VolumeSpec;

    fn mount(path: &str) -> Mount {
        let volume = VolumeSpec { id: Uuid::from_u128(1), ..VolumeSpec::default() };
        Mount { volume, path: path.to_owned() }
    }

    #[test]
    fn a_volume_is_seen_at_its_path_and_again_at_the_next_start() {
        let world = tempfile::tempdir().unwrap();
        let home = world.path().join("home");
        fs::create_dir_all(home.join("empty")).unwrap();
        fs::create_dir_all(volumes::data(world.path(), Uuid::from_u128(1))).unwrap();
        let mounts = [mount("/deep/er/work"), mount("/empty")];
        for _ in 0..2 {
            link(world.path(), &home, &mounts).unwrap();
        }
        fs::write(home.join("deep/er/work/file"), "x").unwrap();
        assert_eq!(fs::read(home.join("empty/file")).unwrap(), b"x");
        let other = Mount {
            volume: VolumeSpec { id: Uuid::from_u128(2), ..VolumeSpec::default() },
            ..mount("/empty")
        };
        link(world.path(), &home, &[other]).unwrap();
        assert!(fs::read(home.join("empty/file")).is_err(), "another volume is there now");
    }

    #[test]
    fn nothing_is_written_outside_the_home_and_nothing_of_the_users_is_replaced() {
        let world = tempfile::tempdir().unwrap();
        let (home, outside) = (world.path().join("home"), world.path().join("outside"));
        fs::create_dir_all(home.join("full/x")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(home.join("file"), "").unwrap();
        symlink(&outside, home.join("away")).unwrap();
        for path in ["/away/work", "/away", "/full", "/file", "/file/work"] {
            let refused = link(world.path(), &home, &[mount(path)]).unwrap_err();
            assert_eq!(refused.code(), "mount", "{path}: {refused}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_volume_in_another_is_refused() {
        assert!(check(&[mount("/work"), mount("/workshop")]).is_ok());
        assert!(check(&[mount("/work/cache"), mount("/work")]).is_err());
    }
}
