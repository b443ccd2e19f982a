//! Between the file's form and the template as it is stored.

use std::collections::BTreeSet;

use knot_core::{
    model::{self, Hours, ParameterKind, Template},
    secrets::Sealed,
};

use super::{
    fields::{Bytes, Command, Cpus, Duration, FullVolume, Volume},
    form::{Features, Form, Health, Parameter, Registry, Schedule},
};

/// What stands for a password that is stored already.
const SEALED: &str = "sealed";

/// A registry's password as a file has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// The one that is stored.
    Unchanged,
    /// This one.
    Plain(String),
}

/// A value of the file is none of what its field takes: the key of the template's document, and why.
pub(super) struct Unreadable(pub(super) String, pub(super) String);

/// The template that a file makes. Where it has a password, an empty one stands for it.
pub(super) fn template(form: Form) -> Result<(Template, Option<Password>), Unreadable> {
    let mut template = Template {
        name: form.name,
        description: form.description.unwrap_or_default(),
        platform: form.platform,
        image: form.image.unwrap_or_default(),
        command: form.command.unwrap_or_default().0,
        environment: form.environment,
        any_port: form.any_port,
        mounts: form.mounts,
        network: form.network.unwrap_or_default(),
        memory: form.memory.map(|memory| memory.0),
        millicpus: form.cpus.map(|cpus| cpus.0),
        capabilities: set(form.capabilities, "capabilities")?,
        devices: set(form.devices, "devices")?,
        job: form.job.unwrap_or_default(),
        startup_script: form.startup_script.unwrap_or_default(),
        shutdown_script: form.shutdown_script.unwrap_or_default(),
        groups: set(form.groups, "groups")?,
        zones: set(form.zones, "zones")?,
        idle_stop: form.idle_stop.map(|time| time.0),
        max_uptime: form.max_uptime.map(|time| time.0),
        links: form.links,
        start_on_connect: form.start_on_connect,
        start_on_visit: form.start_on_visit,
        retired: form.retired,
        ..Template::default()
    };
    for (name, text) in form.ports {
        let port = text.parse().map_err(|error: model::ParsePartError| {
            Unreadable(format!("ports/{name}"), format!("`{text}` is no port: {error}"))
        })?;
        template.ports.insert(name, port);
    }
    for (name, Volume(volume)) in form.volumes {
        if let Some(Bytes(size)) = volume.size {
            template.volume_sizes.insert(name.clone(), size);
        }
        if let Some(kind) = volume.kind {
            template.volume_kinds.insert(name.clone(), kind);
        }
        if volume.keep {
            template.volume_keeps.insert(name.clone());
        }
        template.volumes.insert(name, volume.path);
    }
    for (name, parameter) in form.parameters {
        template.parameters.extend(declaration(&name, parameter)?);
    }
    if let Some(Features { terminal, ssh, ports, exec }) = form.features {
        let all = [("terminal", terminal), ("ssh", ssh), ("ports", ports), ("exec", exec)];
        let off = all.into_iter().filter(|(_, on)| *on == Some(false));
        template.without = off.map(|(name, _)| name.to_owned()).collect();
    }
    if let Some(health) = form.health {
        template.health = health.check.unwrap_or_default();
        template.health_interval = health.interval.map(|time| time.0);
        template.health_timeout = health.timeout.map(|time| time.0);
        template.health_failures = health.failures;
        template.health_restarts = health.restarts;
    }
    if let Some(schedule) = form.schedule {
        template.schedule_starts = schedule.start;
        for (day, hours) in days(schedule) {
            let hours: Hours = hours.parse().map_err(|error: model::ParsePartError| {
                Unreadable(format!("schedule/{day}"), error.to_string())
            })?;
            template.schedule.insert(day.to_owned(), hours);
        }
    }
    let password = form.registry.map(|Registry { user, password }| {
        template.registry_user = user;
        template.registry_password = Some(Sealed::default());
        if password == SEALED { Password::Unchanged } else { Password::Plain(password) }
    });
    Ok((template, password))
}

/// The file that makes a template.
pub(super) fn form(template: &Template) -> Form {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect();
    let time = |seconds: Option<u64>| seconds.map(Duration);
    let volume = |(name, path): (&String, &String)| {
        let full = FullVolume {
            path: path.clone(),
            size: template.volume_sizes.get(name).copied().map(Bytes),
            kind: template.volume_kinds.get(name).cloned(),
            keep: template.volume_keeps.contains(name),
        };
        (name.clone(), Volume(full))
    };
    let parameter = |(name, parameter): (String, model::Parameter)| {
        let kind = (parameter.kind != ParameterKind::Text).then(|| parameter.kind.to_string());
        let form = Parameter {
            kind,
            description: text(&parameter.description),
            default: parameter.default,
            choices: parameter.choices,
            pattern: text(&parameter.pattern),
            least: parameter.least,
            most: parameter.most,
            required: parameter.required,
        };
        (name, form)
    };
    Form {
        name: template.name.clone(),
        description: text(&template.description),
        platform: template.platform.clone(),
        image: text(&template.image),
        registry: text(&template.registry_user)
            .map(|user| Registry { user, password: SEALED.to_owned() }),
        command: Some(Command(template.command.clone())).filter(|command| !command.0.is_empty()),
        environment: template.environment.clone(),
        ports: template.ports.iter().map(|(name, port)| (name.clone(), port.to_string())).collect(),
        any_port: template.any_port,
        mounts: template.mounts.clone(),
        volumes: template.volumes.iter().map(volume).collect(),
        network: text(&template.network),
        memory: template.memory.map(Bytes),
        cpus: template.millicpus.map(Cpus),
        capabilities: list(&template.capabilities),
        devices: list(&template.devices),
        parameters: template.declared().into_iter().map(parameter).collect(),
        job: text(&template.job),
        startup_script: text(&template.startup_script),
        shutdown_script: text(&template.shutdown_script),
        groups: list(&template.groups),
        zones: list(&template.zones),
        features: features(template),
        health: Some(Health {
            check: text(&template.health),
            interval: time(template.health_interval),
            timeout: time(template.health_timeout),
            failures: template.health_failures,
            restarts: template.health_restarts,
        })
        .filter(|health| *health != Health::default()),
        idle_stop: time(template.idle_stop),
        schedule: Some(schedule(template)).filter(|schedule| *schedule != Schedule::default()),
        max_uptime: time(template.max_uptime),
        links: template.links,
        start_on_connect: template.start_on_connect,
        start_on_visit: template.start_on_visit,
        retired: template.retired,
    }
}

fn set(list: Vec<String>, field: &str) -> Result<BTreeSet<String>, Unreadable> {
    let mut set = BTreeSet::new();
    for one in list {
        if set.contains(&one) {
            return Err(Unreadable(format!("{field}/{one}"), format!("{one} is there twice")));
        }
        set.insert(one);
    }
    Ok(set)
}

fn declaration(name: &str, form: Parameter) -> Result<Vec<(String, String)>, Unreadable> {
    let wrong = |part: &str, why: String| Unreadable(format!("parameters/{name}/{part}"), why);
    let kind = match &form.kind {
        None => ParameterKind::Text,
        Some(word) => ParameterKind::from_word(word).ok_or_else(|| {
            wrong(
                "type",
                format!("`{word}` is no type: it is text, number, bool, choice or secret"),
            )
        })?,
    };
    if [form.least, form.most].into_iter().flatten().any(|number| !number.is_finite()) {
        return Err(wrong("least", "a bound is a number".to_owned()));
    }
    let parameter = model::Parameter {
        kind,
        description: form.description.unwrap_or_default(),
        default: form.default,
        choices: form.choices,
        pattern: form.pattern.unwrap_or_default(),
        least: form.least,
        most: form.most,
        required: form.required,
    };
    Ok(parameter.entries(name))
}

fn features(template: &Template) -> Option<Features> {
    let off = |name: &str| template.without.contains(name).then_some(false);
    Some(Features {
        terminal: off("terminal"),
        ssh: off("ssh"),
        ports: off("ports"),
        exec: off("exec"),
    })
    .filter(|features| *features != Features::default())
}

fn days(schedule: Schedule) -> impl Iterator<Item = (&'static str, String)> {
    let Schedule { mon, tue, wed, thu, fri, sat, sun, start: _ } = schedule;
    let all = [
        ("mon", mon),
        ("tue", tue),
        ("wed", wed),
        ("thu", thu),
        ("fri", fri),
        ("sat", sat),
        ("sun", sun),
    ];
    all.into_iter().filter_map(|(day, hours)| Some((day, hours?)))
}

fn schedule(template: &Template) -> Schedule {
    let day = |name: &str| template.schedule.get(name).map(Hours::to_string);
    Schedule {
        mon: day("mon"),
        tue: day("tue"),
        wed: day("wed"),
        thu: day("thu"),
        fri: day("fri"),
        sat: day("sat"),
        sun: day("sun"),
        start: template.schedule_starts,
    }
}
