//! The forms that single fields of a template file may have.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// A text; a number or a truth value stands for how it is written.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the published form")]
pub(super) enum TextForm {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
}

/// A command.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the published form")]
pub(super) enum CommandForm {
    /// One text, split as a shell splits it.
    Text(String),
    /// Program and arguments.
    List(Vec<String>),
}

/// A program and its arguments: a list, or one text that is split as a shell splits it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Command(pub(super) Vec<String>);

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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bytes(pub(super) u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_size(&text).map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no size: write 512m, 2g, or a number of bytes"))
        })
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&size(self.0))
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
fn size(bytes: u64) -> String {
    [("t", 1_u64 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)]
        .into_iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Thousandths of a processor, written as processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpus(pub(super) u64);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || de::Error::custom(format!("`{text}` is no number of processors: write 2, or 0.5"));
        let number: f64 = text.trim().parse().map_err(|_| wrong())?;
        let thousandths = (number * 1_000.0).round();
        // What is out of bounds is judged with all other rules.
        if !(0.0..=1e12).contains(&thousandths) {
            return Err(wrong());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        Ok(Self(thousandths as u64))
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(super::cpus(self.0))
    }
}

/// A time in whole seconds, written as a number and `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Duration(pub(super) u64);

/// Units of time, and their seconds.
const UNITS: [(&str, u64); 4] = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = || {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at_checked(digits)?;
            let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
            let seconds = number.parse::<u64>().ok()?.checked_mul(*seconds)?;
            i64::try_from(seconds).is_ok().then_some(Self(seconds))
        };
        read().ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no time: write 30s, 15m, 8h or 2d"))
        })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*unit);
        match UNITS.iter().find(whole) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}s", self.0),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A volume: its path, or its path and more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Volume(pub(super) FullVolume);

/// A volume and what else is said of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FullVolume {
    /// Where it is seen in the space: an absolute path, which on `local` is one below the space's
    /// home folder. Expressions.
    pub(super) path: String,
    /// Its size, where the engine bounds one: bytes, or a number and k, m, g or t.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TextForm>)]
    pub(super) size: Option<Bytes>,
    /// What makes it, for `nomad`: `host`, or `csi:` and the id of a plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    /// Whether it stays when its space is deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) keep: bool,
}

/// A volume.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the published form")]
pub(super) enum VolumeForm {
    /// Where it is seen.
    Path(String),
    /// Where it is seen, and more.
    Full(FullVolume),
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Volume;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a volume: a path, or path, size, kind and keep")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Volume, E> {
                Ok(Volume(FullVolume { path: path.to_owned(), ..FullVolume::default() }))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Volume, A::Error> {
                FullVolume::deserialize(de::value::MapAccessDeserializer::new(map)).map(Volume)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Volume {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let FullVolume { path, size, kind, keep } = &self.0;
        if size.is_none() && kind.is_none() && !keep {
            return serializer.serialize_str(path);
        }
        self.0.serialize(serializer)
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}
