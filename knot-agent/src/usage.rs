//! What a space takes up: from its control group where the agent is a container's first process, else
//! from the processes below the agent.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The most files that are counted for what a space keeps on disk.
const MAX_FILES: usize = 200_000;
/// Where a container sees its own control group, by version 2 of it.
const GROUP: &str = "/sys/fs/cgroup";

/// Processor time and memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    at: Instant,
    cpu: Duration,
    /// Bytes of memory.
    pub memory: u64,
}

impl Sample {
    /// Takes one now. It reads many files: not for a thread that others wait for.
    pub fn take() -> io::Result<Self> {
        let at = Instant::now();
        // Of another process the group may be larger than the space.
        let first = std::process::id() == 1;
        let group = first.then(|| of_group(Path::new(GROUP))).flatten();
        let (cpu, memory) = group.map_or_else(of_family, Ok)?;
        Ok(Self { at, cpu, memory })
    }

    /// Thousandths of a processor that were used since an earlier one.
    pub fn millicpus_since(&self, earlier: &Self) -> u64 {
        let passed = self.at.saturating_duration_since(earlier.at).as_millis();
        let used = self.cpu.saturating_sub(earlier.cpu).as_millis();
        u64::try_from((used * 1_000).checked_div(passed).unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

/// Processor time and memory of a control group, without what the kernel can take back at once.
fn of_group(folder: &Path) -> Option<(Duration, u64)> {
    let field = |file: &str, name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let cpu = Duration::from_micros(field("cpu.stat", "usage_usec ")?);
    let memory = field("memory.current", "")?;
    let cached = field("memory.stat", "inactive_file ").unwrap_or(0);
    Some((cpu, memory.saturating_sub(cached)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    parent: u32,
    ticks: u64,
    pages: u64,
}

/// Processor time and memory of this process and all below it, and of what they have waited for.
fn of_family() -> io::Result<(Duration, u64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has just ended counts no more.
        let line = fs::read(format!("/proc/{id}/stat")).unwrap_or_default();
        all.extend(parse(&String::from_utf8_lossy(&line)).map(|seen| (id, seen)));
    }
    let mut family = vec![std::process::id()];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(all.iter().filter(|(_, seen)| seen.parent == parent).map(|(id, _)| *id));
        at += 1;
    }
    let members = || family.iter().filter_map(|id| all.get(id));
    let ticks: u64 = members().map(|seen| seen.ticks).sum();
    let pages: u64 = members().map(|seen| seen.pages).sum();
    let millis = ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    Ok((Duration::from_millis(millis), pages.saturating_mul(page)))
}

/// One line of `/proc/<pid>/stat`, whose fields are counted from the last bracket: a program's name
/// may have brackets and blanks in it.
fn parse(line: &str) -> Option<Seen> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // The third field of all is the first here.
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Seen { parent: fields.get(1)?.parse().ok()?, ticks, pages: number(21)? })
}

/// Bytes of files below a folder, as the disk holds them; links at its top, which lead to volumes,
/// are followed. `None` where there are too many files.
pub fn disk(folder: &Path) -> Option<u64> {
    let (mut bytes, mut left) = (0_u64, MAX_FILES);
    let mut folders: Vec<(PathBuf, bool)> = vec![(folder.to_owned(), true)];
    while let Some((folder, top)) = folders.pop() {
        // What this user may not read is not counted.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            let path = entry.path();
            let Ok(mut found) = fs::symlink_metadata(&path) else { continue };
            if top && found.is_symlink() {
                let Ok(behind) = fs::metadata(&path) else { continue };
                found = behind;
            }
            bytes = bytes.saturating_add(found.blocks().saturating_mul(512));
            if found.is_dir() {
                folders.push((path, false));
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line =
            "77 (a) R 1 (b) S 5 77 77 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 424242 9 7 9";
        assert_eq!(parse(line), Some(Seen { parent: 5, ticks: 100, pages: 7 }));
        assert_eq!(parse("77 (x) S 5"), None);
    }

    #[test]
    fn this_process_takes_up_something() {
        let first = Sample::take().unwrap();
        assert!(first.memory > 0);
        let second = Sample { cpu: first.cpu + Duration::from_millis(500), ..first };
        let second = Sample { at: first.at + Duration::from_secs(1), ..second };
        assert_eq!(second.millicpus_since(&first), 500);
        assert_eq!(first.millicpus_since(&first), 0);
    }

    #[test]
    fn a_group_is_read_without_its_cache() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_group(folder.path()), None);
        for (file, text) in [
            ("cpu.stat", "usage_usec 2000000\nuser_usec 1\n"),
            ("memory.current", "5000\n"),
            ("memory.stat", "anon 1\ninactive_file 1000\n"),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        assert_eq!(of_group(folder.path()), Some((Duration::from_secs(2), 4_000)));
    }

    #[test]
    fn volumes_are_counted_and_other_links_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (home, volume) = (folder.path().join("home"), folder.path().join("volume"));
        fs::create_dir_all(home.join("deep")).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&volume, home.join("deep/link")).unwrap();
        assert!(disk(&home).unwrap() < 1 << 20);
        std::os::unix::fs::symlink(&volume, home.join("volume")).unwrap();
        assert!(disk(&home).unwrap() >= 1 << 20);
    }
}
