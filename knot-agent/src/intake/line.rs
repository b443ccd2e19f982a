//! One line of a log: what may be in it, and how many there may be.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

/// The longest message that is read, in bytes.
pub(super) const LONGEST_MESSAGE: usize = 64 << 10;
/// The longest line that is written, in bytes.
const LONGEST: usize = 8 << 10;
/// How many lines may come at once.
const BURST: u32 = 2_000;
/// How often one more may come, in the long run.
const EACH: Duration = Duration::from_millis(1);

/// Text in one line that controls no terminal: what it has of controls is shown by its code.
pub(super) fn clean(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let mut line = String::new();
    for character in text.trim_end().chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        match character {
            '\t' => line.push('\t'),
            '\n' => line.push_str("\\n"),
            // Writing to a string does not fail.
            one if one.is_control() => drop(write!(line, "\\x{:02x}", u32::from(one))),
            one => line.push(one),
        }
    }
    line
}

/// Bounds how many lines are written: a bucket of tokens, one for each.
#[derive(Debug)]
pub(super) struct Rate {
    tokens: u32,
    filled: Instant,
    missed: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, missed: 0 }
    }

    /// Whether one more may be written, and how many were left out before it.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled);
        let new = u32::try_from(passed.as_nanos() / EACH.as_nanos()).unwrap_or(u32::MAX);
        if new > 0 {
            self.tokens = self.tokens.saturating_add(new).min(BURST);
            self.filled = now;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Some(std::mem::take(&mut self.missed))
            }
            None => {
                self.missed = self.missed.saturating_add(1);
                None
            }
        }
    }
}
