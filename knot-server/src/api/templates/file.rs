//! The template file: YAML, the one form in which templates are written and exported.
//!
//! A file says all of a template: what it leaves out is empty. A mistake is answered with line,
//! column and field, whether it is of form or breaks a rule.

use std::{collections::BTreeMap, fmt};

use knot_core::model::Template;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_saphyr::{Location, Spanned};

use crate::api::{
    names,
    problem::{Code, Place, Problem},
};

/// The words for platforms, and whether this version has a driver for each.
const PLATFORMS: [(&str, bool); 5] =
    [("manual", false), ("local", true), ("docker", true), ("podman", false), ("nomad", false)];
/// The least memory that an engine runs anything in, in bytes.
const MIN_MEMORY: u64 = 6 << 20;
/// The least and the most processors, in thousandths.
const CPUS: (f64, f64) = (10.0, 1_024_000.0);
/// The most entries of a list or map.
const ENTRIES: usize = 500;

/// Reads a template file.
///
/// # Errors
/// The first mistake in it, with its place.
pub(crate) fn parse(text: &str) -> Result<Template, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        mistake(text, error.location(), &message)
    })?;
    let judged = |place: Location| move |why: String| mistake(text, Some(place), &why);
    let File {
        name,
        description,
        platform,
        image,
        command,
        environment,
        volumes,
        network,
        memory,
        cpus,
    } = file;

    names::check(&name.value).map_err(|problem| judged(name.referenced)(problem.detail))?;
    check_platform(&platform.value).map_err(judged(platform.referenced))?;
    let containers = platform.value != "local";
    let image = image;
    match &image {
        Some(image) if !containers => {
            return Err(judged(image.referenced)(
                "platform local runs no image: leave `image` out".to_owned(),
            ));
        }
        None if containers => {
            let why =
                format!("platform {} needs an `image`, such as debian:bookworm", platform.value);
            return Err(judged(platform.referenced)(why));
        }
        Some(image) if image.value.is_empty() || image.value.contains(char::is_whitespace) => {
            return Err(judged(image.referenced)(format!("`{}` is no image name", image.value)));
        }
        _ => {}
    }
    let environment = map(environment, text, |name, value| check_variable(name, value))?;
    let volumes = map(volumes, text, check_volume)?;
    let mut paths = BTreeMap::new();
    for (name, path) in &volumes {
        if let Some(other) = paths.insert(path.value.as_str(), name) {
            let why = format!("{other} and {name} are both at {}", path.value);
            return Err(judged(path.referenced)(why));
        }
    }
    let plain = |map: BTreeMap<String, Spanned<String>>| {
        map.into_iter().map(|(name, value)| (name, value.value)).collect()
    };
    let command = command;
    if let Some(command) = &command
        && command.value.0.iter().any(|word| word.contains('\0'))
    {
        return Err(judged(command.referenced)("a command has no zero bytes".to_owned()));
    }
    let network = network;
    if let Some(network) = &network
        && (network.value.is_empty() || network.value.contains(char::is_whitespace))
    {
        return Err(judged(network.referenced)(format!(
            "`{}` is no network's name",
            network.value
        )));
    }
    Ok(Template {
        name: name.value,
        description: description.unwrap_or_default(),
        platform: platform.value,
        image: image.map(|image| image.value).unwrap_or_default(),
        command: command.map(|command| command.value.0).unwrap_or_default(),
        environment: plain(environment),
        volumes: plain(volumes),
        network: network.map(|network| network.value).unwrap_or_default(),
        memory: memory.map(|memory| memory.value.0),
        millicpus: cpus.map(|cpus| cpus.value.0),
    })
}

/// Writes a template as the file that makes it.
///
/// # Errors
/// YAML cannot say it: not seen, for what documents can hold.
pub(crate) fn write(template: &Template) -> Result<String, serde_saphyr::ser::Error> {
    let text = |text: &'_ str| Some(text.to_owned()).filter(|text| !text.is_empty());
    serde_saphyr::to_string(&Written {
        name: &template.name,
        description: text(&template.description),
        platform: &template.platform,
        image: text(&template.image),
        command: &template.command,
        environment: &template.environment,
        volumes: &template.volumes,
        network: text(&template.network),
        memory: template.memory.map(size),
        cpus: template.millicpus.map(cpus),
    })
}

/// Processors, from thousandths of one.
#[expect(clippy::cast_precision_loss, reason = "a number of processors is small")]
pub(crate) fn cpus(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    description: Option<String>,
    platform: Spanned<String>,
    image: Option<Spanned<String>>,
    command: Option<Spanned<Command>>,
    environment: Option<BTreeMap<String, Spanned<String>>>,
    volumes: Option<BTreeMap<String, Spanned<String>>>,
    network: Option<Spanned<String>>,
    memory: Option<Spanned<Bytes>>,
    cpus: Option<Spanned<Cpus>>,
}

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    platform: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<f64>,
}

fn check_platform(word: &str) -> Result<(), String> {
    match PLATFORMS.iter().find(|(platform, _)| *platform == word) {
        Some((_, true)) => Ok(()),
        Some((_, false)) => Err(format!(
            "this version of knot does not run spaces on {word} yet: use docker, or local"
        )),
        None => Err(format!("`{word}` is no platform: use docker, or local")),
    }
}

fn check_variable(name: &str, value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(allowed)
        || !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    {
        return Err(format!("`{name}` is no variable's name: letters, digits and _ are"));
    }
    if name.starts_with("KNOT_") {
        return Err(format!("{name} is knot's own: variables that begin with KNOT_ cannot be set"));
    }
    if value.contains('\0') {
        return Err(format!("the value of {name} has a zero byte"));
    }
    Ok(())
}

fn check_volume(name: &str, path: &str) -> Result<(), String> {
    if !names::is_name(name) {
        return Err(format!(
            "`{name}` is no volume's name: lower-case letters, digits and dashes, beginning with a letter"
        ));
    }
    let inner = path.strip_prefix('/').unwrap_or_default();
    let parts = || inner.split('/');
    if inner.is_empty()
        || parts().any(|part| matches!(part, "" | "." | ".."))
        || inner.contains('\0')
    {
        return Err(format!(
            "`{path}` is no place for volume {name}: a path begins with /, is not / itself, and has no empty part, `.` \
             or `..`"
        ));
    }
    if parts().next() == Some(".knot") {
        return Err(format!("volume {name} cannot be at {path}: the agent stands there"));
    }
    Ok(())
}

fn map(
    map: Option<BTreeMap<String, Spanned<String>>>,
    text: &str,
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<BTreeMap<String, Spanned<String>>, Problem> {
    let map = map.unwrap_or_default();
    // In the order of the file, so that the first mistake in it is told.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(_, value)| (value.referenced.line(), value.referenced.column()));
    for (at, (name, value)) in entries.into_iter().enumerate() {
        let judged = check(name, &value.value);
        let judged =
            if at < ENTRIES { judged } else { Err(format!("more than {ENTRIES} entries")) };
        judged.map_err(|why| mistake(text, Some(value.referenced), &why))?;
    }
    Ok(map)
}

/// A mistake at a place of the file.
fn mistake(text: &str, place: Option<Location>, why: &str) -> Problem {
    let place = place.filter(|place| place.line() > 0).map(|place| {
        let (line, column) = (place.line(), place.column());
        Place { line, column, field: field_at(text, line) }
    });
    let detail = match &place {
        Some(Place { line, column, field: Some(field) }) => {
            format!("line {line}, column {column}, in `{field}`: {why}")
        }
        Some(Place { line, column, field: None }) => format!("line {line}, column {column}: {why}"),
        None => why.to_owned(),
    };
    Problem { place, ..Problem::new(Code::InvalidTemplate, detail) }
}

/// The field at the top level that a line belongs to.
fn field_at(text: &str, line: u64) -> Option<String> {
    let lines = usize::try_from(line).ok()?;
    text.lines()
        .take(lines)
        .filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, _)| key.trim().to_owned())
        .last()
}

/// A program and its arguments: a list, or one text that is split as a shell splits it.
struct Command(Vec<String>);

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
struct Bytes(u64);

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

fn size(bytes: u64) -> String {
    [("t", 1_u64 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)]
        .into_iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Thousandths of a processor, written as processors.
struct Cpus(u64);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let thousandths = (f64::deserialize(deserializer)? * 1_000.0).round();
        if !(CPUS.0..=CPUS.1).contains(&thousandths) {
            return Err(de::Error::custom("a number of processors is from 0.01 to 1024"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        Ok(Self(thousandths as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "\
name: rust-dev
description: Rust, with a cache
platform: docker
image: rust:1.95
command: [sh, -c, \"echo 'a b'; sleep 1\"]
environment:
  CARGO_HOME: /cache
  LEVEL: 3
volumes:
  cache: /cache
network: lab
memory: 512m
cpus: 0.5
";

    #[test]
    fn a_file_says_all_of_a_template() {
        let template = parse(FULL).unwrap();
        assert_eq!(template.name, "rust-dev");
        assert_eq!(template.command, ["sh", "-c", "echo 'a b'; sleep 1"]);
        assert_eq!(template.environment.get("LEVEL").map(String::as_str), Some("3"));
        assert_eq!(template.volumes.get("cache").map(String::as_str), Some("/cache"));
        assert_eq!((template.memory, template.millicpus), (Some(512 << 20), Some(500)));
        assert_eq!(template.network, "lab");
    }

    #[test]
    fn what_is_exported_makes_the_same_template() {
        let odd = Template {
            name: "odd".to_owned(),
            description: "line\nbreak: \"quoted\" # no comment".to_owned(),
            platform: "docker".to_owned(),
            image: "1:2".to_owned(),
            command: ["", "- x", "true", "1", "a\nb", "~"].map(str::to_owned).to_vec(),
            environment: [("A", "null"), ("B", "yes"), ("C", ""), ("D", " x "), ("E", "0x1F")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            memory: Some((6 << 20) + 1),
            millicpus: Some(1_250),
            ..Template::default()
        };
        for template in [odd, parse(FULL).unwrap(), parse("name: a\nplatform: local\n").unwrap()] {
            let text = write(&template).unwrap();
            assert_eq!(parse(&text).unwrap(), template, "{text}");
        }
    }

    #[test]
    fn a_command_may_be_one_text() {
        let text = "name: a\nplatform: local\ncommand: sh -c 'echo \"a b\"'\n";
        assert_eq!(parse(text).unwrap().command, ["sh", "-c", "echo \"a b\""]);
    }

    #[test]
    fn a_mistake_has_line_column_and_field() {
        let base = "name: a\nplatform: docker\nimage: x\n";
        for (text, line, field, word) in [
            (format!("{base}colour: red\n"), 4, "colour", "colour"),
            (format!("{base}cpus: many\n"), 4, "cpus", ""),
            (format!("{base}cpus: 0\n"), 4, "cpus", "processors"),
            (format!("{base}memory: lots\n"), 4, "memory", "lots"),
            (format!("{base}memory: 1k\n"), 4, "memory", "too little"),
            (format!("{base}command: {{a: b}}\n"), 4, "command", ""),
            (format!("{base}command: sh -c 'x\n"), 4, "command", "quote"),
            (
                format!("{base}environment:\n  GOOD: 1\n  BAD-NAME: 2\n"),
                6,
                "environment",
                "BAD-NAME",
            ),
            (format!("{base}environment:\n  KNOT_X: 1\n"), 5, "environment", "KNOT_"),
            (format!("{base}environment: [a]\n"), 4, "environment", ""),
            (format!("{base}volumes:\n  data: relative\n"), 5, "volumes", "relative"),
            (format!("{base}volumes:\n  a: /x\n  b: /x\n"), 6, "volumes", "both"),
            ("name: A\nplatform: local\n".to_owned(), 1, "name", "name"),
            ("name: a\nplatform: podman\nimage: x\n".to_owned(), 2, "platform", "podman"),
            ("name: a\nplatform: cloud\n".to_owned(), 2, "platform", "cloud"),
            ("name: a\nplatform: docker\n".to_owned(), 2, "platform", "image"),
            ("name: a\nplatform: local\nimage: x\n".to_owned(), 3, "image", "local"),
        ] {
            let problem = parse(&text).unwrap_err();
            let place = problem.place.clone().unwrap_or_default();
            let told = (place.line, place.field.as_deref());
            assert_eq!(told, (line, Some(field)), "{text}: {}", problem.detail);
            assert!(place.column > 0 && problem.detail.contains(word), "{}", problem.detail);
        }
        assert!(parse("platform: local\n").unwrap_err().detail.contains("name"));
        for text in ["", "- a\n", "{", "name: a\nname: b\nplatform: local\n"] {
            assert_eq!(parse(text).unwrap_err().code, Code::InvalidTemplate, "{text}");
        }
    }
}
