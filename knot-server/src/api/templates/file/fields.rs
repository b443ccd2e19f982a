//! The forms that single fields of a template file may have.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// The least memory that an engine runs anything in, in bytes.
const MIN_MEMORY: u64 = 6 << 20;
/// The least and the most processors, in thousandths.
const CPUS: (f64, f64) = (10.0, 1_024_000.0);

/// A program and its arguments: a list, or one text that is split as a shell splits it.
pub(super) struct Command(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a list of program and arguments, or one text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Command, E> {
                let words = shlex::split(text);
                words
                    .map(Command)
                    .ok_or_else(|| E::custom("the command has a quote that does not end"))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Command, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Command(words))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A size in bytes: a number, or a number and `k`, `m`, `g` or `t` (1,024 each).
pub(super) struct Bytes(pub(super) u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = read_size(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no size: write 512m, 2g, or a number of bytes"))
        })?;
        if bytes < MIN_MEMORY {
            return Err(de::Error::custom(format!("{text} is too little memory: 6m is the least")));
        }
        Ok(Self(bytes))
    }
}

fn read_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    i64::try_from(bytes).is_ok().then_some(bytes)
}

/// A size in the largest unit that shows it whole.
pub(super) fn size(bytes: u64) -> String {
    [("t", 1_u64 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)]
        .into_iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Thousandths of a processor, written as processors.
pub(super) struct Cpus(pub(super) u64);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number: f64 = text.trim().parse().map_err(|_| {
            de::Error::custom(format!("`{text}` is no number of processors: write 2, or 0.5"))
        })?;
        let thousandths = (number * 1_000.0).round();
        if !(CPUS.0..=CPUS.1).contains(&thousandths) {
            return Err(de::Error::custom("a number of processors is from 0.01 to 1024"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        Ok(Self(thousandths as u64))
    }
}
