//! The template file: YAML, the one form in which templates are written and exported.
//!
//! A file says all of a template: what it leaves out is empty. A mistake is answered with line,
//! column and field, whether it is of form or breaks a rule.

mod fields;

use std::collections::BTreeMap;

use fields::{Bytes, Command, Cpus, size};
use knot_core::model::Template;
use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, Spanned};

use crate::api::{
    names,
    problem::{Code, Place, Problem},
};

/// The words for platforms.
const PLATFORMS: [&str; 5] = ["manual", "local", "docker", "podman", "nomad"];
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
        problem(text, error.location(), &plain(&message))
    })?;
    file.check().map_err(|Mistake(place, why)| problem(text, Some(place), &why))?;
    Ok(file.into_template())
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

/// A rule that is broken, and where.
struct Mistake(Location, String);

impl File {
    /// Looks whether all rules are kept.
    fn check(&self) -> Result<(), Mistake> {
        judge(&self.name, |name| names::check(name).map_err(|problem| problem.detail))?;
        judge(&self.platform, |platform| check_platform(platform))?;
        self.check_image()?;
        self.check_volumes()?;
        each(self.environment.as_ref(), check_variable)?;
        if let Some(command) = &self.command {
            judge(command, |Command(words)| match words.iter().any(|word| word.contains('\0')) {
                true => Err("a command has no zero bytes".to_owned()),
                false => Ok(()),
            })?;
        }
        self.network
            .as_ref()
            .map_or(Ok(()), |network| judge(network, |name| check_word("network", name)))
    }

    fn check_image(&self) -> Result<(), Mistake> {
        let platform = self.platform.value.as_str();
        let containers = !matches!(platform, "local" | "manual");
        match &self.image {
            Some(image) if containers => judge(image, |image| check_word("image", image)),
            Some(image) => {
                judge(image, |_| Err(format!("platform {platform} runs no image: leave it out")))
            }
            None if containers => judge(&self.platform, |platform| {
                Err(format!("platform {platform} needs an `image`, such as debian:bookworm"))
            }),
            None => Ok(()),
        }
    }

    fn check_volumes(&self) -> Result<(), Mistake> {
        each(self.volumes.as_ref(), check_volume)?;
        let mut paths = BTreeMap::new();
        for (name, path) in self.volumes.iter().flatten() {
            if let Some(other) = paths.insert(path.value.as_str(), name) {
                return judge(path, |path| Err(format!("{other} and {name} are both at {path}")));
            }
        }
        Ok(())
    }

    fn into_template(self) -> Template {
        let plain = |map: Option<BTreeMap<String, Spanned<String>>>| {
            map.into_iter().flatten().map(|(name, value)| (name, value.value)).collect()
        };
        Template {
            name: self.name.value,
            description: self.description.unwrap_or_default(),
            platform: self.platform.value,
            image: self.image.map(|image| image.value).unwrap_or_default(),
            command: self.command.map(|command| command.value.0).unwrap_or_default(),
            environment: plain(self.environment),
            volumes: plain(self.volumes),
            network: self.network.map(|network| network.value).unwrap_or_default(),
            memory: self.memory.map(|memory| memory.value.0),
            millicpus: self.cpus.map(|cpus| cpus.value.0),
            ..Template::default()
        }
    }
}

fn judge<T>(
    value: &Spanned<T>,
    rule: impl FnOnce(&T) -> Result<(), String>,
) -> Result<(), Mistake> {
    rule(&value.value).map_err(|why| Mistake(value.referenced, why))
}

/// Judges the entries of a map in the order of the file, so that the first mistake in it is told.
fn each(
    map: Option<&BTreeMap<String, Spanned<String>>>,
    rule: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<(), Mistake> {
    let mut entries: Vec<_> = map.into_iter().flatten().collect();
    entries.sort_by_key(|(_, value)| (value.referenced.line(), value.referenced.column()));
    for (at, (name, value)) in entries.into_iter().enumerate() {
        judge(value, |value| match at < ENTRIES {
            true => rule(name, value),
            false => Err(format!("more than {ENTRIES} entries")),
        })?;
    }
    Ok(())
}

fn check_word(what: &str, word: &str) -> Result<(), String> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{word}` is no {what}'s name: it has no spaces, and is not empty"));
    }
    Ok(())
}

fn check_platform(word: &str) -> Result<(), String> {
    match PLATFORMS.contains(&word) {
        true => Ok(()),
        false => {
            Err(format!("`{word}` is no platform: use docker, podman, nomad, local or manual"))
        }
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

/// What is answered to a mistake at a place of the file.
fn problem(text: &str, place: Option<Location>, why: &str) -> Problem {
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

/// A parser's message in words for people; its place is told apart.
fn plain(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    match message {
        "expected mapping start" => "lines of `name: value` are wanted here".to_owned(),
        "expected string scalar" => "one text or number is wanted here".to_owned(),
        "null is not allowed here" => {
            "a value is missing here: write \"\" for an empty one".to_owned()
        }
        other => other.to_owned(),
    }
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
            (format!("{base}cpus: many\n"), 4, "cpus", "many"),
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
