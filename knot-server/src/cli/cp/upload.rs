//! From here to a space.

use std::fs::Metadata;
use std::io::SeekFrom;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::fs::File;
use tokio::io::AsyncSeekExt;

use super::place::{apart, below};
use super::sftp::{Files, failed, known};
use super::{Copied, Known, pour};
use crate::cli::failure::Failure;

/// Copies a file or folder to a path, or into it where that is a folder.
pub(super) async fn copy(
    files: &Files,
    from: &Path,
    to: &str,
    recursive: bool,
    copied: &mut Copied,
) -> Result<(), Failure> {
    let metadata = std::fs::metadata(from).map_err(|error| local(from, &error))?;
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_folder = files.look(to).await?.is_some_and(|found| found.is_dir());
    let to = match name {
        Some(name) if is_folder => below(to, &name),
        _ => to.to_owned(),
    };
    if !metadata.is_dir() {
        return file(files, from, &metadata, &to, copied).await;
    }
    if !recursive {
        return Err(Failure::usage(format!("{} is a folder: add -r to copy it", from.display())));
    }
    folder(files, from, &metadata, &to, copied).await
}

async fn folder(
    files: &Files,
    from: &Path,
    metadata: &Metadata,
    to: &str,
    copied: &mut Copied,
) -> Result<(), Failure> {
    let mut waiting = vec![(from.to_owned(), metadata.clone(), to.to_owned())];
    let mut made = Vec::new();
    while let Some((from, metadata, to)) = waiting.pop() {
        if files.look(&to).await?.is_none() {
            files.session.create_dir(&to).await.map_err(|error| failed(&to, &error))?;
        }
        for (path, name) in entries(&from)? {
            let inner = below(&to, &name);
            let metadata =
                std::fs::symlink_metadata(&path).map_err(|error| local(&path, &error))?;
            if metadata.is_dir() {
                waiting.push((path, metadata, inner));
            } else if metadata.is_file() {
                file(files, &path, &metadata, &inner, copied).await?;
            } else {
                copied.skip(&path.display().to_string());
            }
        }
        made.push((to, metadata));
    }
    // Folders that may not be written to, and their times, once all is in them.
    for (path, metadata) in made.iter().rev() {
        let set = files.session.set_metadata(path, attributes(metadata)).await;
        set.map_err(|error| failed(path, &error))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    let read = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries: Vec<_> = read
        .map_err(|error| local(folder, &error))?
        .into_iter()
        .map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
        .collect();
    entries.sort();
    Ok(entries)
}

async fn file(
    files: &Files,
    from: &Path,
    metadata: &Metadata,
    to: &str,
    copied: &mut Copied,
) -> Result<(), Failure> {
    let source = of(metadata);
    if files.look(to).await?.is_some_and(|there| there.is_regular() && known(&there) == source) {
        copied.unchanged += 1;
        return Ok(());
    }
    let (folder, name) = apart(to);
    let part = below(folder, &source.part(name));
    let there = files.look(&part).await?.and_then(|there| there.size);
    let at = there.filter(|size| *size <= source.size).unwrap_or_default();
    let flags = match at {
        0 => OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE,
        _ => OpenFlags::WRITE,
    };
    copied.resumed += u64::from(at > 0);
    let opened = files.session.open_with_flags(&part, flags).await;
    let mut target = opened.map_err(|error| failed(&part, &error))?;
    let mut file = File::open(from).await.map_err(|error| local(from, &error))?;
    if at > 0 {
        file.seek(SeekFrom::Start(at)).await.map_err(|error| local(from, &error))?;
        target.seek(SeekFrom::Start(at)).await.map_err(|error| local(from, &error))?;
    }
    pour(file, target, (&from.display().to_string(), at, source), copied).await?;
    let now = std::fs::metadata(from).map_err(|error| local(from, &error))?;
    if of(&now) != source {
        let name = from.display();
        return Err(Failure::operation(format!(
            "{name} was changed while it was copied: copy it again"
        )));
    }
    let set = files.session.set_metadata(&part, attributes(metadata)).await;
    set.map_err(|error| failed(&part, &error))?;
    // A rename of SFTP takes no name that is there.
    if files.session.rename(&part, to).await.is_err() {
        files.session.remove_file(to).await.map_err(|error| failed(to, &error))?;
        files.session.rename(&part, to).await.map_err(|error| failed(to, &error))?;
    }
    copied.files += 1;
    Ok(())
}

fn of(metadata: &Metadata) -> Known {
    Known { size: metadata.len(), changed: seconds(metadata.mtime()) }
}

fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

/// What a copy keeps: permissions and times, not whose it is.
fn attributes(metadata: &Metadata) -> FileAttributes {
    FileAttributes {
        permissions: Some(metadata.permissions().mode() & 0o777),
        atime: Some(seconds(metadata.atime())),
        mtime: Some(seconds(metadata.mtime())),
        ..FileAttributes::empty()
    }
}

fn local(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format!("{}: {error}", path.display()))
}
