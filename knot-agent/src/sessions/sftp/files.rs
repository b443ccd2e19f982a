//! The agent's own file server: each request is one or a few system calls, made on a thread that may
//! wait for a disk.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use russh_sftp::{
    protocol::{
        Attrs, Data, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status,
        StatusCode, Version,
    },
    server::{Handler, StatusReply},
};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::longname;

/// The most files and directories that are open at a time.
const HANDLES: usize = 256;
/// The most bytes that one request reads.
const READ: u32 = 255 << 10;
/// How many names one answer lists.
const NAMES: usize = 100;
/// The longest packet that is taken.
const PACKET: u64 = 256 << 10;

/// One client's view of the space's files.
pub(super) struct Files {
    home: PathBuf,
    open: BTreeMap<u64, Entry>,
    next: u64,
}

enum Entry {
    File { file: Arc<fs::File>, appends: bool },
    Directory { path: PathBuf, names: std::vec::IntoIter<String> },
}

type Reply<T> = Result<T, StatusReply>;

fn status(error: &io::Error) -> StatusReply {
    let code = match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NoSuchFile,
        io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
        io::ErrorKind::Unsupported => StatusCode::OpUnsupported,
        _ => StatusCode::Failure,
    };
    code.with_message(error.to_string())
}

fn bad() -> StatusReply {
    StatusReply::new(StatusCode::BadMessage)
}

fn done(id: u32) -> Status {
    let status_code = StatusCode::Ok;
    Status { id, status_code, error_message: status_code.to_string(), language_tag: String::new() }
}

/// Runs what may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Reply<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| status(&error)),
        Err(_) => Err(StatusReply::new(StatusCode::Failure)),
    }
}

impl Files {
    /// Paths that are not absolute are in `home`.
    pub(super) fn new(home: PathBuf) -> Self {
        Self { home, open: BTreeMap::new(), next: 0 }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    fn keep(&mut self, id: u32, entry: Entry) -> Reply<Handle> {
        if self.open.len() >= HANDLES {
            let why = format!("{HANDLES} files are open: close some");
            return Err(StatusCode::Failure.with_message(why));
        }
        self.next += 1;
        self.open.insert(self.next, entry);
        Ok(Handle { id, handle: self.next.to_string() })
    }

    fn entry(&mut self, handle: &str) -> Reply<&mut Entry> {
        let found = handle.parse().ok().and_then(|handle: u64| self.open.get_mut(&handle));
        found.ok_or_else(|| StatusCode::Failure.with_message("there is no such handle"))
    }

    fn file(&mut self, handle: &str) -> Reply<(Arc<fs::File>, bool)> {
        match self.entry(handle)? {
            Entry::File { file, appends } => Ok((Arc::clone(file), *appends)),
            Entry::Directory { .. } => {
                Err(StatusCode::Failure.with_message("the handle is of a directory"))
            }
        }
    }
}

fn attributes(of: &fs::Metadata) -> FileAttributes {
    let seconds = |time: i64| u32::try_from(time).unwrap_or_default();
    FileAttributes {
        size: Some(of.len()),
        uid: Some(of.uid()),
        gid: Some(of.gid()),
        permissions: Some(of.mode()),
        atime: Some(seconds(of.atime())),
        mtime: Some(seconds(of.mtime())),
        ..FileAttributes::default()
    }
}

/// Sets what is given; `follow` says whether a symbolic link stands for what it names.
fn set(path: &Path, wanted: &FileAttributes, follow: bool) -> io::Result<()> {
    if let Some(size) = wanted.size {
        fs::OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if let Some(mode) = wanted.permissions.filter(|_| follow) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let (Some(accessed), Some(modified)) = (wanted.atime, wanted.mtime) {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        utimensat(CWD, path, &times(accessed, modified), flags)?;
    }
    if wanted.uid.is_some() || wanted.gid.is_some() {
        let chown = if follow { std::os::unix::fs::chown } else { std::os::unix::fs::lchown };
        chown(path, wanted.uid, wanted.gid)?;
    }
    Ok(())
}

fn set_open(file: &fs::File, wanted: &FileAttributes) -> io::Result<()> {
    if let Some(size) = wanted.size {
        file.set_len(size)?;
    }
    if let Some(mode) = wanted.permissions {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if let (Some(accessed), Some(modified)) = (wanted.atime, wanted.mtime) {
        rustix::fs::futimens(file, &times(accessed, modified))?;
    }
    if wanted.uid.is_some() || wanted.gid.is_some() {
        std::os::unix::fs::fchown(file, wanted.uid, wanted.gid)?;
    }
    Ok(())
}

fn times(accessed: u32, modified: u32) -> Timestamps {
    let at = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    Timestamps { last_access: at(accessed), last_modification: at(modified) }
}

/// The absolute path without links; its last part need not be there.
fn real(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error);
            };
            Ok(fs::canonicalize(folder)?.join(name))
        }
        found => found,
    }
}

/// As version 3 has it: nothing is there before at the new name.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// A name and its attributes, as a listing has them.
fn listed(folder: &Path, name: String) -> File {
    let found = fs::symlink_metadata(folder.join(&name)).ok();
    let attrs = found.as_ref().map(attributes).unwrap_or_default();
    let links = found.map_or(1, |found| found.nlink());
    File { longname: longname::line(&name, &attrs, links), filename: name, attrs }
}

fn plain(filename: String) -> File {
    File { longname: filename.clone(), filename, attrs: FileAttributes::default() }
}

/// Cuts a string of the protocol from the front.
fn text(data: &mut &[u8]) -> Reply<String> {
    let (length, rest) = data.split_first_chunk::<4>().ok_or_else(bad)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| bad())?;
    let text = rest.get(..length).ok_or_else(bad)?;
    *data = rest.get(length..).unwrap_or_default();
    String::from_utf8(text.to_vec()).map_err(|_| bad())
}

/// Attributes at the end of an extended request.
fn wanted(mut data: &[u8]) -> Reply<FileAttributes> {
    let mut next = || {
        let (value, rest) = data.split_first_chunk::<4>().ok_or_else(bad)?;
        data = rest;
        Ok::<u32, StatusReply>(u32::from_be_bytes(*value))
    };
    let flags = next()?;
    let mut wanted = FileAttributes::default();
    if flags & 1 != 0 {
        wanted.size = Some(u64::from(next()?) << 32 | u64::from(next()?));
    }
    if flags & 2 != 0 {
        (wanted.uid, wanted.gid) = (Some(next()?), Some(next()?));
    }
    if flags & 4 != 0 {
        wanted.permissions = Some(next()?);
    }
    if flags & 8 != 0 {
        (wanted.atime, wanted.mtime) = (Some(next()?), Some(next()?));
    }
    Ok(wanted)
}

fn space_of(path: &Path) -> io::Result<Vec<u8>> {
    let found = rustix::fs::statvfs(path)?;
    let flags = u64::from(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        | u64::from(found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID)) << 1;
    let numbers = [
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        flags,
        found.f_namemax,
    ];
    Ok(numbers.into_iter().flat_map(u64::to_be_bytes).collect())
}

impl Handler for Files {
    type Error = StatusReply;

    fn unimplemented(&self) -> StatusReply {
        StatusReply::new(StatusCode::OpUnsupported)
    }

    async fn init(&mut self, _: u32, _: HashMap<String, String>) -> Reply<Version> {
        let mut version = Version::new();
        for (name, number) in [
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "2"),
            ("fstatvfs@openssh.com", "2"),
            ("hardlink@openssh.com", "1"),
            ("fsync@openssh.com", "1"),
            ("lsetstat@openssh.com", "1"),
            ("limits@openssh.com", "1"),
            ("expand-path@openssh.com", "1"),
        ] {
            version.extensions.insert(name.to_owned(), number.to_owned());
        }
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        flags: OpenFlags,
        attrs: FileAttributes,
    ) -> Reply<Handle> {
        let path = self.at(&filename);
        let appends = flags.contains(OpenFlags::APPEND);
        let mut options = fs::OpenOptions::new();
        options
            .read(flags.contains(OpenFlags::READ))
            .write(flags.contains(OpenFlags::WRITE) && !appends)
            .append(appends)
            .mode(attrs.permissions.unwrap_or(0o666) & 0o7777);
        if flags.contains(OpenFlags::CREATE) {
            if flags.contains(OpenFlags::EXCLUDE) {
                options.create_new(true);
            } else {
                options.create(true);
            }
        }
        options.truncate(flags.contains(OpenFlags::TRUNCATE) && !appends);
        let file = Arc::new(blocking(move || options.open(path)).await?);
        self.keep(id, Entry::File { file, appends })
    }

    async fn close(&mut self, id: u32, handle: String) -> Reply<Status> {
        self.entry(&handle)?;
        let closed = handle.parse().ok().and_then(|handle: u64| self.open.remove(&handle));
        blocking(move || {
            drop(closed);
            Ok(())
        })
        .await?;
        Ok(done(id))
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Reply<Data> {
        let (file, _) = self.file(&handle)?;
        let data = blocking(move || {
            let mut data = vec![0; usize::try_from(len.min(READ)).unwrap_or_default()];
            let n = file.read_at(&mut data, offset)?;
            data.truncate(n);
            Ok(data)
        });
        let data = data.await?;
        if data.is_empty() && len > 0 {
            return Err(StatusReply::new(StatusCode::Eof));
        }
        Ok(Data { id, data })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Reply<Status> {
        let (file, appends) = self.file(&handle)?;
        blocking(move || {
            if appends {
                return io::Write::write_all(&mut &*file, &data);
            }
            file.write_all_at(&data, offset)
        })
        .await?;
        Ok(done(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Reply<Attrs> {
        let path = self.at(&path);
        let found = blocking(move || fs::symlink_metadata(path)).await?;
        Ok(Attrs { id, attrs: attributes(&found) })
    }

    async fn stat(&mut self, id: u32, path: String) -> Reply<Attrs> {
        let path = self.at(&path);
        let found = blocking(move || fs::metadata(path)).await?;
        Ok(Attrs { id, attrs: attributes(&found) })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Reply<Attrs> {
        let found = match self.entry(&handle)? {
            Entry::File { file, .. } => {
                let file = Arc::clone(file);
                blocking(move || file.metadata()).await?
            }
            Entry::Directory { path, .. } => {
                let path = path.clone();
                blocking(move || fs::metadata(path)).await?
            }
        };
        Ok(Attrs { id, attrs: attributes(&found) })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Reply<Status> {
        let path = self.at(&path);
        blocking(move || set(&path, &attrs, true)).await?;
        Ok(done(id))
    }

    async fn fsetstat(&mut self, id: u32, handle: String, attrs: FileAttributes) -> Reply<Status> {
        match self.entry(&handle)? {
            Entry::File { file, .. } => {
                let file = Arc::clone(file);
                blocking(move || set_open(&file, &attrs)).await?;
            }
            Entry::Directory { path, .. } => {
                let path = path.clone();
                blocking(move || set(&path, &attrs, true)).await?;
            }
        }
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Reply<Handle> {
        let path = self.at(&path);
        let folder = path.clone();
        let names = blocking(move || {
            let mut names = vec![".".to_owned(), "..".to_owned()];
            for entry in fs::read_dir(folder)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            Ok(names.into_iter())
        });
        let names = names.await?;
        self.keep(id, Entry::Directory { path, names })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Reply<Name> {
        let Entry::Directory { path, names } = self.entry(&handle)? else {
            return Err(StatusCode::Failure.with_message("the handle is of a file"));
        };
        let (path, names): (_, Vec<_>) = (path.clone(), names.take(NAMES).collect());
        if names.is_empty() {
            return Err(StatusReply::new(StatusCode::Eof));
        }
        let files =
            blocking(move || Ok(names.into_iter().map(|name| listed(&path, name)).collect()));
        Ok(Name { id, files: files.await? })
    }

    async fn remove(&mut self, id: u32, filename: String) -> Reply<Status> {
        let path = self.at(&filename);
        blocking(move || fs::remove_file(path)).await?;
        Ok(done(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Reply<Status> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = self.at(&path);
        let mode = attrs.permissions.unwrap_or(0o777) & 0o7777;
        blocking(move || fs::DirBuilder::new().mode(mode).create(path)).await?;
        Ok(done(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Reply<Status> {
        let path = self.at(&path);
        blocking(move || fs::remove_dir(path)).await?;
        Ok(done(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Reply<Name> {
        let path = self.at(&path);
        let found = blocking(move || real(&path)).await?;
        Ok(Name { id, files: vec![plain(found.to_string_lossy().into_owned())] })
    }

    async fn rename(&mut self, id: u32, oldpath: String, newpath: String) -> Reply<Status> {
        let (from, to) = (self.at(&oldpath), self.at(&newpath));
        blocking(move || rename(&from, &to)).await?;
        Ok(done(id))
    }

    async fn readlink(&mut self, id: u32, path: String) -> Reply<Name> {
        let path = self.at(&path);
        let target = blocking(move || fs::read_link(path)).await?;
        Ok(Name { id, files: vec![plain(target.to_string_lossy().into_owned())] })
    }

    /// OpenSSH sends the target first, against the draft, and all others have followed it.
    async fn symlink(&mut self, id: u32, target: String, link: String) -> Reply<Status> {
        let link = self.at(&link);
        blocking(move || std::os::unix::fs::symlink(target, link)).await?;
        Ok(done(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Reply<Packet> {
        let mut data = data.as_slice();
        match request.as_str() {
            "posix-rename@openssh.com" => {
                let (from, to) = (self.at(&text(&mut data)?), self.at(&text(&mut data)?));
                blocking(move || fs::rename(from, to)).await?;
            }
            "hardlink@openssh.com" => {
                let (from, to) = (self.at(&text(&mut data)?), self.at(&text(&mut data)?));
                blocking(move || fs::hard_link(from, to)).await?;
            }
            "fsync@openssh.com" => {
                let (file, _) = self.file(&text(&mut data)?)?;
                blocking(move || file.sync_all()).await?;
            }
            "lsetstat@openssh.com" => {
                let path = self.at(&text(&mut data)?);
                let attrs = wanted(data)?;
                blocking(move || set(&path, &attrs, false)).await?;
            }
            "statvfs@openssh.com" => {
                let path = self.at(&text(&mut data)?);
                let data = blocking(move || space_of(&path)).await?;
                return Ok(Packet::ExtendedReply(ExtendedReply { id, data }));
            }
            "fstatvfs@openssh.com" => {
                let (file, _) = self.file(&text(&mut data)?)?;
                use std::os::fd::AsRawFd as _;
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                let data = blocking(move || {
                    let found = space_of(&path);
                    drop(file);
                    found
                });
                return Ok(Packet::ExtendedReply(ExtendedReply { id, data: data.await? }));
            }
            "limits@openssh.com" => {
                let handles = u64::try_from(HANDLES).unwrap_or(u64::MAX);
                let numbers = [PACKET, u64::from(READ), u64::from(READ), handles];
                let data = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
                return Ok(Packet::ExtendedReply(ExtendedReply { id, data }));
            }
            "expand-path@openssh.com" => {
                let path = text(&mut data)?;
                let path = match path.strip_prefix('~') {
                    Some("") => self.home.clone(),
                    Some(rest) if rest.starts_with('/') => {
                        self.home.join(rest.trim_start_matches('/'))
                    }
                    Some(_) => {
                        let why = "only ~ and ~/ are expanded: there is no looking up of others";
                        return Err(StatusCode::Failure.with_message(why));
                    }
                    None => self.at(&path),
                };
                let found = blocking(move || real(&path)).await?;
                let files = vec![plain(found.to_string_lossy().into_owned())];
                return Ok(Packet::Name(Name { id, files }));
            }
            _ => return Err(StatusReply::new(StatusCode::OpUnsupported)),
        }
        Ok(Packet::Status(done(id)))
    }
}
