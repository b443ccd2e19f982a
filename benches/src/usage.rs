//! What this process uses, as Linux counts it.

use std::time::Duration;

use crate::Outcome;

/// Resident memory, in bytes.
pub(crate) fn resident() -> Outcome<u64> {
    resident_of("self")
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_of(pid: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 =
        line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?.parse()?;
    Ok(kilobytes << 10)
}

/// Processor time of all threads, user and system, to the hundredth of a second.
pub(crate) fn processor() -> Outcome<Duration> {
    processor_of("self")
}

/// Processor time of a process, as [`processor`] has it.
pub(crate) fn processor_of(pid: &str) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
