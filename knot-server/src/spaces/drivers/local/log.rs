//! The file that an agent writes to: bounded, and cut from outside, since the agent outlives us.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use tracing::warn;

use super::at;

/// A file longer than this is cut. Between two looks at it, it can grow beyond.
const MAX: u64 = 4 << 20;
/// What is kept of a file that is cut.
const KEPT: usize = 1 << 20;

/// The last bytes of a file; none if it is not there.
pub(super) fn last(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let read = || {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes as u64)))?;
        let mut last = Vec::with_capacity(bytes.min(usize::try_from(length).unwrap_or(bytes)));
        file.take(bytes as u64).read_to_end(&mut last)?;
        Ok(last)
    };
    read().map_err(at(path))
}

/// Cuts a file that has grown too long to its last part. What is written in the same instant is
/// lost. Its writer must append.
pub(super) fn trim(path: &Path) {
    let cut = || {
        if !std::fs::metadata(path).is_ok_and(|file| file.len() > MAX) {
            return Ok(());
        }
        let kept = last(path, KEPT)?;
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.set_len(0)?;
        file.write_all(&kept)
    };
    if let Err(failure) = cut() {
        warn!(log = %path.display(), %failure, "log cannot be cut");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_keeps_its_end_and_its_writer_goes_on() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("log");
        assert!(last(&path, 10).unwrap().is_empty());
        let mut writer = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        writer.write_all(&vec![b'a'; usize::try_from(MAX).unwrap()]).unwrap();
        trim(&path);
        assert_eq!(writer.metadata().unwrap().len(), MAX, "not yet too long");
        writer.write_all(b"end").unwrap();
        trim(&path);
        writer.write_all(b"+more").unwrap();
        assert_eq!(last(&path, 9).unwrap(), b"aend+more");
        assert_eq!(writer.metadata().unwrap().len(), KEPT as u64 + 5);
    }
}
