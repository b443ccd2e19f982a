//! What was said while spaces were made ready, and what their containers wrote: files of the home's data
//! folder, for the last generations of each space.
//!
//! Of what is long the first and the last part are kept: a head that is filled once, and a tail in two
//! files that take turns. Every part is on disk as soon as it is written, so a killed server loses none.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use knot_core::generation::Generation;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

/// The longest head, and the longest of the two parts of a tail, in bytes.
const PART: u64 = 64 << 10;
/// How many generations of a space are kept.
const GENERATIONS: usize = 5;
/// Stands where something was left out.
const LEFT_OUT: &[u8] = b"\n[... some lines were left out here ...]\n";

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// What was done to bring a generation up.
    Provision,
    /// What its container wrote.
    Container,
}

/// The logs of all spaces of a home; clones share it.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
    written: Arc<watch::Sender<u64>>,
}

/// One log, to be written to.
#[derive(Clone, Debug)]
pub struct Log {
    base: PathBuf,
    written: Arc<watch::Sender<u64>>,
}

impl Logs {
    /// Those in this folder, which is made when it is first needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, written: Arc::default() }
    }

    /// The log of a generation, to be written on. Logs of generations long past are removed.
    pub fn open(&self, space: Uuid, generation: Generation, kind: Kind) -> Log {
        let mut known = self.generations(space, kind);
        known.push(generation);
        known.sort_unstable();
        known.dedup();
        let past = known.len().saturating_sub(GENERATIONS);
        for old in known.into_iter().take(past).filter(|old| *old != generation) {
            for kind in [Kind::Provision, Kind::Container] {
                self.log(space, old, kind).clear();
            }
        }
        self.log(space, generation, kind)
    }

    /// The same, with nothing in it.
    pub fn replace(&self, space: Uuid, generation: Generation, kind: Kind) -> Log {
        let log = self.open(space, generation, kind);
        log.clear();
        log
    }

    /// The generations of which there is a log, oldest first.
    pub fn generations(&self, space: Uuid, kind: Kind) -> Vec<Generation> {
        let files = fs::read_dir(self.folder.join(space.to_string())).into_iter().flatten();
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        let mut found: Vec<Generation> = names
            .filter_map(|name| name.strip_suffix(extension(kind))?.strip_suffix('.')?.parse().ok())
            .collect();
        found.sort_unstable();
        found
    }

    /// All that is kept of a log.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(&self, space: Uuid, generation: Generation, kind: Kind) -> io::Result<Vec<u8>> {
        self.log(space, generation, kind).read()
    }

    /// Changes whenever something is written.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Removes all logs of a space.
    pub fn forget(&self, space: Uuid) {
        let folder = self.folder.join(space.to_string());
        warn_of(&folder, fs::remove_dir_all(&folder));
    }

    fn log(&self, space: Uuid, generation: Generation, kind: Kind) -> Log {
        let name = format!("{generation}.{}", extension(kind));
        let base = self.folder.join(space.to_string()).join(name);
        Log { base, written: Arc::clone(&self.written) }
    }
}

impl Log {
    /// Writes a line.
    pub fn line(&self, text: &str) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Writes bytes. A failure is reported in the server's own log.
    pub fn write(&self, bytes: &[u8]) {
        warn_of(&self.base, self.try_write(bytes));
        self.written.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.base.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let room = PART.saturating_sub(length(&self.base));
        let (first, rest) = split(bytes, room);
        append(&self.base, first)?;
        if rest.is_empty() {
            return Ok(());
        }
        let tail = self.part("tail");
        if length(&tail) + rest.len() as u64 <= PART {
            return append(&tail, rest);
        }
        let older = self.part("older");
        if older.exists() || rest.len() as u64 > PART {
            append(&self.part("cut"), b"")?;
        }
        if tail.exists() {
            fs::rename(&tail, &older)?;
        }
        let (_, last) = split(rest, (rest.len() as u64).saturating_sub(PART));
        append(&tail, last)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut all = fs::read(&self.base)?;
        if self.part("cut").exists() {
            all.extend_from_slice(LEFT_OUT);
        }
        for part in ["older", "tail"] {
            all.extend(fs::read(self.part(part)).unwrap_or_default());
        }
        Ok(all)
    }

    fn clear(&self) {
        for part in ["cut", "older", "tail"] {
            let part = self.part(part);
            warn_of(&part, fs::remove_file(&part));
        }
        warn_of(&self.base, fs::remove_file(&self.base));
    }

    fn part(&self, name: &str) -> PathBuf {
        let mut part = self.base.clone().into_os_string();
        part.push(format!("-{name}"));
        part.into()
    }
}

fn extension(kind: Kind) -> &'static str {
    match kind {
        Kind::Provision => "provision",
        Kind::Container => "container",
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at_checked(at).unwrap_or((bytes, &[]))
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(bytes)
}

fn warn_of(path: &Path, done: io::Result<()>) {
    if let Err(error) = done
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(log = %path.display(), %error, "a log cannot be kept");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPACE: Uuid = Uuid::from_u128(1);

    fn generation(n: u64) -> Generation {
        Generation { term: 1, n }
    }

    #[test]
    fn the_last_generations_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().join("logs"));
        for n in 1..=7 {
            logs.open(SPACE, generation(n), Kind::Provision).line(&format!("start {n}"));
        }
        let kept: Vec<_> = (3..=7).map(generation).collect();
        assert_eq!(logs.generations(SPACE, Kind::Provision), kept);
        assert!(logs.generations(SPACE, Kind::Container).is_empty());
        assert_eq!(logs.read(SPACE, generation(7), Kind::Provision).unwrap(), b"start 7\n");
        assert!(logs.read(SPACE, generation(2), Kind::Provision).is_err());
        logs.replace(SPACE, generation(7), Kind::Provision).line("again");
        assert_eq!(logs.read(SPACE, generation(7), Kind::Provision).unwrap(), b"again\n");
        logs.forget(SPACE);
        assert!(logs.generations(SPACE, Kind::Provision).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever is written in whatever pieces: what is short is kept whole; of what is long the
        /// beginning and the end, within a bound.
        #[test]
        fn the_first_and_the_last_part_are_kept(
            pieces in prop::collection::vec(0_usize..200_000, 0..8),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let log = Logs::new(folder.path().to_owned()).open(SPACE, generation(1), Kind::Container);
            let mut all: Vec<u8> = Vec::new();
            for length in pieces {
                let piece: Vec<u8> = (0..length).map(|n| (all.len() + n) as u8 ^ 0x55).collect();
                log.write(&piece);
                all.extend(piece);
            }
            let kept = log.read().unwrap_or_default();
            let part = PART as usize;
            prop_assert!(kept.len() <= 3 * part + LEFT_OUT.len());
            if all.len() <= 2 * part {
                prop_assert!(kept == all);
            } else {
                prop_assert!(kept.starts_with(&all[..part]));
                let end = kept.len().min(part / 2).min(all.len() - part);
                prop_assert!(kept.ends_with(&all[all.len() - end..]) || end == 0);
            }
        }
    }
}
