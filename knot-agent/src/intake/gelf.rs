//! GELF messages (Graylog Extended Log Format 1.1): JSON, plain or compressed, in one datagram or in parts.

use std::{
    collections::BTreeMap,
    io::Read as _,
    time::{Duration, Instant},
};

use flate2::read::{GzDecoder, ZlibDecoder};
use serde::Deserialize;

use super::line::{LONGEST_MESSAGE, clean};

/// How a part begins.
const PART: [u8; 2] = [0x1e, 0x0f];
/// The most parts of a message.
const MOST_PARTS: u8 = 128;
/// How long the parts of a message may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many messages may be incomplete.
const INCOMPLETE: usize = 16;

#[derive(Deserialize)]
struct Message {
    short_message: String,
    #[serde(default)]
    full_message: Option<String>,
    #[serde(default)]
    level: Option<u8>,
    #[serde(default)]
    facility: Option<String>,
    #[serde(default, rename = "_app")]
    app: Option<String>,
}

/// The line that a message makes; nothing where it is none.
pub(super) fn read(message: &[u8]) -> Option<String> {
    let plain = match message {
        [0x1f, 0x8b, ..] => expand(GzDecoder::new(message))?,
        [0x78, ..] => expand(ZlibDecoder::new(message))?,
        plain => plain.to_vec(),
    };
    let Message { short_message, full_message, level, facility, app } =
        serde_json::from_slice(&plain).ok()?;
    let said = full_message.filter(|text| !text.is_empty()).unwrap_or(short_message);
    let severity = level.map_or("info", super::syslog::severity);
    let line = match app.or(facility) {
        Some(program) => format!("{severity} {program}: {said}"),
        None => format!("{severity} {said}"),
    };
    Some(clean(line.as_bytes()))
}

/// Expands no more than the longest message: what is longer is cut, and then is no message.
fn expand(from: impl std::io::Read) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    from.take(LONGEST_MESSAGE as u64).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// Messages of which parts have come.
#[derive(Debug, Default)]
pub(super) struct Parts(BTreeMap<[u8; 8], Incomplete>);

#[derive(Debug)]
struct Incomplete {
    begun: Instant,
    count: u8,
    parts: BTreeMap<u8, Vec<u8>>,
}

impl Parts {
    /// Takes a datagram; returns the message that it completes, or that it is.
    pub(super) fn take(&mut self, datagram: &[u8], now: Instant) -> Option<Vec<u8>> {
        let Some(part) = datagram.strip_prefix(&PART) else { return Some(datagram.to_vec()) };
        let (id, rest) = part.split_first_chunk::<8>()?;
        let [number, count, content @ ..] = rest else { return None };
        if *count == 0 || *count > MOST_PARTS || number >= count {
            return None;
        }
        self.0.retain(|_, one| now.saturating_duration_since(one.begun) < PATIENCE);
        if !self.0.contains_key(id) && self.0.len() >= INCOMPLETE {
            return None;
        }
        let message = self.0.entry(*id).or_insert_with(|| Incomplete {
            begun: now,
            count: *count,
            parts: BTreeMap::new(),
        });
        let held: usize = message.parts.values().map(Vec::len).sum();
        if message.count != *count || held + content.len() > LONGEST_MESSAGE {
            self.0.remove(id);
            return None;
        }
        message.parts.insert(*number, content.to_vec());
        if message.parts.len() < usize::from(*count) {
            return None;
        }
        self.0.remove(id).map(|message| message.parts.into_values().flatten().collect())
    }
}
