//! From a space to here.

use std::fs::{FileTimes, OpenOptions, Permissions};
use std::io::SeekFrom;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use russh_sftp::protocol::FileAttributes;
use tokio::io::AsyncSeekExt;

use super::place::{apart, below};
use super::sftp::{Files, failed, known};
use super::{Copied, Known, pour};
use crate::cli::failure::Failure;

/// Copies a file or folder to a path, or into it where that is a folder.
pub(super) async fn copy(
    files: &Files,
    from: &str,
    to: &Path,
    recursive: bool,
    copied: &mut Copied,
) -> Result<(), Failure> {
    let found = files.session.metadata(from).await.map_err(|error| failed(from, &error))?;
    let whole = files.session.canonicalize(from).await.map_err(|error| failed(from, &error))?;
    let to = match apart(&whole).1 {
        name if to.is_dir() && is_name(name) => to.join(name),
        _ => to.to_owned(),
    };
    if !found.is_dir() {
        return file(files, from, &found, &to, copied).await;
    }
    if !recursive {
        return Err(Failure::usage(format!("{from} is a folder: add -r to copy it")));
    }
    let mut waiting = vec![(from.to_owned(), found, to)];
    let mut made = Vec::new();
    while let Some((from, found, to)) = waiting.pop() {
        if !to.is_dir() {
            std::fs::create_dir(&to).map_err(|error| local(&to, &error))?;
        }
        let entries = files.session.read_dir(&from).await;
        for entry in entries.map_err(|error| failed(&from, &error))? {
            let (name, inner) = (entry.file_name(), entry.metadata());
            // A space could send whatever it likes as a name.
            if !is_name(&name) {
                copied.skip(&name);
                continue;
            }
            let (path, target) = (below(&from, &name), to.join(&name));
            if inner.is_dir() {
                waiting.push((path, inner, target));
            } else if inner.is_regular() {
                file(files, &path, &inner, &target, copied).await?;
            } else {
                copied.skip(&path);
            }
        }
        made.push((to, found));
    }
    for (path, found) in made.iter().rev() {
        let folder = std::fs::File::open(path).map_err(|error| local(path, &error))?;
        keep(&folder, found).map_err(|error| local(path, &error))?;
    }
    Ok(())
}

async fn file(
    files: &Files,
    from: &str,
    found: &FileAttributes,
    to: &Path,
    copied: &mut Copied,
) -> Result<(), Failure> {
    let source = known(found);
    if here(to).is_some_and(|here| here == source) {
        copied.unchanged += 1;
        return Ok(());
    }
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let part: PathBuf = to.with_file_name(source.part(&name));
    let at = here(&part).map(|here| here.size).filter(|size| *size <= source.size);
    let at = at.unwrap_or_default();
    copied.resumed += u64::from(at > 0);
    let opened =
        OpenOptions::new().write(true).create(true).truncate(at == 0).mode(0o600).open(&part);
    let opened = opened.map_err(|error| local(&part, &error))?;
    let mut target = tokio::fs::File::from_std(opened);
    let mut remote = files.session.open(from).await.map_err(|error| failed(from, &error))?;
    if at > 0 {
        target.seek(SeekFrom::Start(at)).await.map_err(|error| local(&part, &error))?;
        remote.seek(SeekFrom::Start(at)).await.map_err(|error| local(&part, &error))?;
    }
    pour(remote, &mut target, (from, at, source), copied).await?;
    let now = files.session.metadata(from).await.map_err(|error| failed(from, &error))?;
    if known(&now) != source {
        let why = format!("{from} was changed while it was copied: copy it again");
        return Err(Failure::operation(why));
    }
    let target = target.into_std().await;
    keep(&target, found)
        .and_then(|()| std::fs::rename(&part, to))
        .map_err(|error| local(to, &error))?;
    copied.files += 1;
    Ok(())
}

/// A file that is here, as its source would be known.
fn here(path: &Path) -> Option<Known> {
    let found = std::fs::metadata(path).ok().filter(|found| found.is_file())?;
    let changed = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(Known { size: found.len(), changed: u32::try_from(changed).ok()? })
}

/// Gives a file or folder the permissions and times of its source: no more than a program may have, such
/// as to run as somebody else.
fn keep(file: &std::fs::File, found: &FileAttributes) -> std::io::Result<()> {
    if let Some(mode) = found.permissions {
        file.set_permissions(Permissions::from_mode(mode & 0o777))?;
    }
    let time = |seconds: u32| UNIX_EPOCH + Duration::from_secs(seconds.into());
    let mut times = FileTimes::new();
    if let Some(accessed) = found.atime {
        times = times.set_accessed(time(accessed));
    }
    if let Some(changed) = found.mtime {
        times = times.set_modified(time(changed));
    }
    file.set_times(times)
}

/// Whether a name stays in the folder that it is put into.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn local(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format!("{}: {error}", path.display()))
}
