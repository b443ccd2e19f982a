//! What an agent sees of its space.

use serde::{Deserialize, Serialize};

/// The longest quotation in a report, in characters.
const MAX_WORDS: usize = 400;

/// What an agent sees of its space now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How the startup script went.
    pub startup: Startup,
    /// What the checks say; `None` where there is no check, or none has counted yet.
    pub health: Option<Health>,
    /// Seconds since somebody last used the space: a session that was typed into or wrote something, a
    /// port that was used, or a processor that was busy.
    pub idle: u64,
    /// What the space takes up.
    pub usage: Usage,
}

/// How the startup script went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Startup {
    /// It has not ended.
    #[default]
    Running,
    /// It has ended well, or there is none.
    Done,
    /// It failed; how, and its last words.
    Failed(String),
}

/// Whether a space is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it is.
    pub well: bool,
    /// What the last check that counted has said.
    pub words: String,
}

/// What a space takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Thousandths of a processor, over the last seconds.
    pub millicpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of files below its home folder and in its volumes there; `None` where there are too
    /// many files to count.
    pub disk: Option<u64>,
}

impl Report {
    /// The same with its quotations bounded, whoever wrote it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Startup::Failed(why) = &mut self.startup {
            *why = words(why.as_bytes());
        }
        if let Some(health) = &mut self.health {
            health.words = words(health.words.as_bytes());
        }
        self
    }
}

/// The end of what somebody wrote, on one line and bounded, to be quoted.
pub fn words(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(MAX_WORDS);
    line.chars().skip(skipped).filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_one_bounded_line() {
        assert_eq!(words(b" a\n\tb\x1b[0m "), "a b[0m");
        assert_eq!(words(&[b'x'; 2_000]).len(), MAX_WORDS);
    }
}
