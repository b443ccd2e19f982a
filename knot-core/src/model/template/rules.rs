//! The rules that a template keeps, all that can be judged without an engine: the same on every
//! server, for a file that is applied, for what a merge came to, and for what a start has filled in.
//!
//! A text may hold expressions, `${{ … }}`. Where it does, the rule is asked about the text with an
//! `x` in each one's place; the start asks again about what came of them.

mod values;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use self::values::{capability, device, folder, image, job, kind, path, script, variable, word};
use super::{Parameter, ParameterKind, Template};
use crate::{
    agent::{FAILURES, INTERVALS, Probe, TIMEOUTS},
    model::Platform,
    names::check_name,
};

/// The most entries of a list or map.
const ENTRIES: usize = 500;
/// The least memory that an engine runs anything in, in bytes.
const MIN_MEMORY: u64 = 6 << 20;
/// The least and the most processors, in thousandths.
const MILLICPUS: std::ops::RangeInclusive<u64> = 10..=1_024_000;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// The days of a schedule.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// What can be switched off.
const FEATURES: [&str; 4] = ["terminal", "ssh", "ports", "exec"];

/// A rule that a template breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in `{field}`: {why}")]
pub struct Broken {
    /// The key of the template's document that it is about, such as `environment/PATH`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Template {
    /// Every rule that it breaks; empty for a template that spaces can be made from.
    pub fn broken(&self) -> Vec<Broken> {
        let mut judge = Judge { template: self, broken: Vec::new() };
        judge.names();
        judge.image();
        judge.limits();
        judge.entries();
        judge.places();
        judge.parameters();
        judge.life();
        judge.broken
    }

    /// Whether spaces of it may be placed in a zone.
    pub fn allows_zone(&self, zone: &str) -> bool {
        let mut wanted = self.zones.iter().filter(|one| !one.starts_with('!')).peekable();
        let excluded = self.zones.iter().filter_map(|one| one.strip_prefix('!'));
        (wanted.peek().is_none() || wanted.any(|one| one == zone))
            && !excluded.into_iter().any(|one| one == zone)
    }
}

/// Whether something, such as a volume, may be seen at a path of a space.
///
/// # Errors
/// Why not, in words for whoever wrote the path.
pub fn check_path(what: &str, at: &str) -> Result<(), String> {
    path(what, at)
}

/// The text with an `x` in each expression's place.
///
/// # Errors
/// An expression does not end.
fn without_expressions(text: &str) -> Result<Cow<'_, str>, String> {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("${{") {
        let Some((_, after)) = after.split_once("}}") else {
            return Err("an expression that begins with ${{ does not end with }}".to_owned());
        };
        plain.push_str(before);
        plain.push('x');
        rest = after;
    }
    if plain.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    plain.push_str(rest);
    Ok(Cow::Owned(plain))
}

struct Judge<'a> {
    template: &'a Template,
    broken: Vec<Broken>,
}

impl Judge<'_> {
    fn say(&mut self, field: impl Into<String>, why: impl Into<String>) {
        let field = field.into();
        // One reason for a field is enough.
        if !self.broken.iter().any(|broken| broken.field == field) {
            self.broken.push(Broken { field, why: why.into() });
        }
    }

    fn ask(&mut self, field: impl Into<String>, answer: Result<(), String>) {
        if let Err(why) = answer {
            self.say(field, why);
        }
    }

    /// Asks a rule about a text that may hold expressions.
    fn text(
        &mut self,
        field: impl Into<String>,
        text: &str,
        rule: impl FnOnce(&str) -> Result<(), String>,
    ) {
        let answer = without_expressions(text).and_then(|plain| rule(&plain));
        self.ask(field, answer);
    }

    fn names(&mut self) {
        let template = self.template;
        self.ask("name", check_name("name", &template.name));
        if let Err(error) = template.platform.parse::<Platform>() {
            self.say("platform", error.to_string());
        }
        for group in &template.groups {
            self.ask(format!("groups/{group}"), word("group", group));
        }
        for zone in &template.zones {
            let name = zone.strip_prefix('!').unwrap_or(zone);
            self.ask(format!("zones/{zone}"), word("zone", name));
        }
    }

    /// Whether the platform runs containers, as far as it is one.
    fn containers(&self) -> bool {
        Platform::from_word(&self.template.platform).is_none_or(Platform::runs_containers)
    }

    fn image(&mut self) {
        let template = self.template;
        let (platform, nomad) = (&template.platform, template.platform == "nomad");
        if template.image.is_empty() {
            let says_all = nomad && !template.job.is_empty();
            if self.containers() && !says_all {
                let why = format!("platform {platform} needs an `image`, such as debian:bookworm");
                self.say("image", why);
            }
        } else if self.containers() {
            self.text("image", &template.image, image);
        } else {
            self.say("image", format!("platform {platform} runs no image: leave it out"));
        }
        if !template.registry_user.is_empty() {
            self.text("registry_user", &template.registry_user, |user| word("user", user));
        }
        if template.registry_user.is_empty() != template.registry_password.is_none() {
            self.say("registry_user", "a registry has a user and a password: write both or none");
        }
        if !template.job.is_empty() {
            if !nomad {
                self.say("job", format!("platform {platform} has no jobs: leave it out"));
            }
            self.text("job", &template.job, job);
        }
        if !template.network.is_empty() {
            self.text("network", &template.network, |name| word("network", name));
        }
    }

    fn limits(&mut self) {
        let template = self.template;
        if template.memory.is_some_and(|memory| memory < MIN_MEMORY) {
            self.say("memory", "it is too little memory for any program: 6m is the least");
        }
        if template.millicpus.is_some_and(|cpus| !MILLICPUS.contains(&cpus)) {
            self.say("millicpus", "a number of processors is from 0.01 to 1024");
        }
    }

    fn entries(&mut self) {
        let template = self.template;
        if template.command.len() > ENTRIES {
            self.say("command", format!("more than {ENTRIES} words"));
        }
        for part in &template.command {
            self.text("command", part, |part| match part.contains('\0') {
                true => Err("a command has no zero bytes".to_owned()),
                false => Ok(()),
            });
        }
        for (name, value) in &template.environment {
            self.text(format!("environment/{name}"), value, |value| variable(name, value));
        }
        for (field, count) in [
            ("environment", template.environment.len()),
            ("ports", template.ports.len()),
            ("mounts", template.mounts.len()),
            ("volumes", template.volumes.len()),
            ("capabilities", template.capabilities.len()),
            ("devices", template.devices.len()),
            ("groups", template.groups.len()),
            ("zones", template.zones.len()),
            ("parameters", template.declared().len()),
        ] {
            if count > ENTRIES {
                self.say(field, format!("more than {ENTRIES} entries"));
            }
        }
        self.ports();
        for one in &template.capabilities {
            self.ask(format!("capabilities/{one}"), capability(one));
        }
        for one in &template.devices {
            self.ask(format!("devices/{one}"), device(one));
        }
        if !self.containers() {
            let platform = &template.platform;
            let why = format!("platform {platform} has no containers: leave it out");
            for one in &template.capabilities {
                self.say(format!("capabilities/{one}"), why.clone());
            }
            for one in &template.devices {
                self.say(format!("devices/{one}"), why.clone());
            }
        }
    }

    fn ports(&mut self) {
        let mut published = BTreeMap::new();
        for (name, port) in &self.template.ports {
            let field = format!("ports/{name}");
            self.ask(field.clone(), check_name("port's name", name));
            if port.number == 0 {
                self.say(field.clone(), "a port is a number from 1 to 65535");
            }
            if let Some(number) = port.published
                && let Some(other) = published.insert(number, name)
            {
                self.say(field, format!("{other} and {name} are both published as {number}"));
            }
        }
    }

    /// Volumes and mounts: what is seen where.
    fn places(&mut self) {
        let template = self.template;
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, at) in &template.volumes {
            let field = format!("volumes/{name}");
            self.ask(field.clone(), check_name("volume's name", name));
            self.text(field.clone(), at, |at| path(&format!("volume {name}"), at));
            if let Some(other) = taken.insert(at, name) {
                self.say(field, format!("{other} and {name} are both at {at}"));
            }
        }
        for name in template.volumes.keys() {
            let field = format!("volumes/{name}");
            if template.volume_sizes.get(name).is_some_and(|size| *size == 0) {
                self.say(field.clone(), format!("the size of volume {name} is more than nothing"));
            }
            if let Some(word) = template.volume_kinds.get(name) {
                self.ask(field, kind(name, word, &template.platform));
            }
        }
        for (at, source) in &template.mounts {
            let field = format!("mounts/{at}");
            if !self.containers() {
                let platform = &template.platform;
                let why = format!(
                    "platform {platform} shows no folders of its machine: use a volume, or another platform"
                );
                self.say(field.clone(), why);
            }
            self.text(field.clone(), at, |at| path("a mount", at));
            self.text(field.clone(), source, |source| folder(at, source));
            if let Some(other) = taken.insert(at, "a mount") {
                self.say(field, format!("volume {other} is at {at} too"));
            }
        }
    }

    fn parameters(&mut self) {
        for (name, parameter) in &self.template.declared() {
            if let Err((part, why)) = check_parameter(name, parameter) {
                self.say(format!("parameters/{name}/{part}"), why);
            }
        }
        for (key, value) in &self.template.parameters {
            let field = || format!("parameters/{key}");
            match key.rsplit_once('/') {
                Some((_, "type")) if ParameterKind::from_word(value).is_none() => {
                    let why =
                        format!("`{value}` is no type: it is text, number, bool, choice or secret");
                    self.say(field(), why);
                }
                Some((_, part)) if Parameter::PARTS.contains(&part) => {}
                _ => self.say(field(), format!("a parameter has no `{key}`")),
            }
        }
    }

    /// Scripts, health, schedule: what happens to a space over its life.
    fn life(&mut self) {
        let template = self.template;
        self.text("startup_script", &template.startup_script, script);
        self.text("shutdown_script", &template.shutdown_script, script);
        for feature in &template.without {
            if !FEATURES.contains(&feature.as_str()) {
                let why = format!("`{feature}` is no feature: {} are", FEATURES.join(", "));
                self.say(format!("without/{feature}"), why);
            }
        }
        if !template.health.is_empty()
            && let Err(error) = template.health.parse::<Probe>()
        {
            self.say("health", format!("`{}` is no check: {error}", template.health));
        }
        for (field, value, allowed, unit) in [
            ("health_interval", template.health_interval, INTERVALS, " seconds"),
            ("health_timeout", template.health_timeout, TIMEOUTS, " seconds"),
            ("health_failures", template.health_failures, FAILURES, ""),
        ] {
            if value.is_some_and(|value| !allowed.contains(&value)) {
                let (least, most) = (allowed.start(), allowed.end());
                self.say(field, format!("it is from {least} to {most}{unit}"));
            }
        }
        if template.health_restarts.is_some_and(|count| count > 1_000) {
            self.say("health_restarts", "it is from 0 to 1000");
        }
        for (field, seconds) in
            [("idle_stop", template.idle_stop), ("max_uptime", template.max_uptime)]
        {
            if seconds.is_some_and(|seconds| !(1..=366 * DAY).contains(&seconds)) {
                self.say(field, "it is from a second to a year");
            }
        }
        for day in template.schedule.keys() {
            if !DAYS.contains(&day.as_str()) {
                let why = format!("`{day}` is no day: {} are", DAYS.join(", "));
                self.say(format!("schedule/{day}"), why);
            }
        }
    }
}

/// The part that a rule is broken in, and what is wrong.
fn check_parameter(name: &str, parameter: &Parameter) -> Result<(), (&'static str, String)> {
    let Parameter { kind, default, choices, pattern, least, most, .. } = parameter;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.len() > 63
        || !name.starts_with(|first: char| first.is_ascii_alphabetic())
        || !name.chars().all(allowed)
    {
        let why = format!(
            "`{name}` is no parameter's name: up to 63 letters, digits and _, beginning with a letter"
        );
        return Err(("type", why));
    }
    let distinct: BTreeSet<_> = choices.iter().collect();
    if *kind == ParameterKind::Choice && choices.is_empty() {
        return Err(("choices", format!("{name} is a choice: write its `choices`")));
    }
    if *kind != ParameterKind::Choice && !choices.is_empty() {
        return Err(("choices", format!("{name} is of type {kind}: only a choice has choices")));
    }
    if distinct.len() < choices.len() || choices.len() > ENTRIES {
        return Err(("choices", format!("choices differ, and are at most {ENTRIES}")));
    }
    if !matches!(kind, ParameterKind::Text | ParameterKind::Secret) && !pattern.is_empty() {
        return Err(("pattern", format!("{name} is of type {kind}, and has no pattern")));
    }
    if *kind != ParameterKind::Number && (least.is_some() || most.is_some()) {
        return Err(("least", format!("{name} is of type {kind}: only a number has bounds")));
    }
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        return Err(("least", format!("{least} is more than {most}")));
    }
    match default {
        Some(_) if *kind == ParameterKind::Secret => Err((
            "default",
            "a secret has no default, which all could read: use a secret variable".to_owned(),
        )),
        Some(value) => parameter
            .accepts(value)
            .map_err(|why| ("default", format!("the default of {name} is no value of its: {why}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
