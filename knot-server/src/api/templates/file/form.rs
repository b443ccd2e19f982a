//! The template file as types: what is read and written, and what its published schema says.
//!
//! The comments are the descriptions in that schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{Bytes, Command, CommandForm, Cpus, Duration, TextForm, Volume, VolumeForm};

type Texts = BTreeMap<String, String>;

/// A template of knot: what spaces are made from.
///
/// Texts marked so may hold expressions such as `${{ .space.name }}` or `${{ .var.proxy }}`, which a
/// start fills in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Template)]
pub(crate) struct Form {
    /// What `--template` takes: 1 to 63 lower-case letters, digits and dashes, beginning with a letter
    /// and not ending with a dash.
    #[schema(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pub(super) name: String,
    /// What it is for, for people. Changing it marks no space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// The kind of engine that runs its spaces: `docker`, `podman`, `nomad`, `local` or `manual`.
    #[schema(pattern = "^(docker|podman|nomad|local|manual)$")]
    pub(super) platform: String,
    /// The container image; without a tag, `:latest`. Not for `local` and `manual`. Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    /// Who the image's registry is asked as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registry: Option<Registry>,
    /// A program that the agent starts once, beside people's sessions: a list, or one text that is
    /// split as a shell splits it. Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CommandForm>)]
    pub(super) command: Option<Command>,
    /// Variables by name, for sessions and the command. Expressions in their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, TextForm>)]
    pub(super) environment: Texts,
    /// Ports that programs in the space listen on, by name: `8080/http`, or `22/tcp/2222` where the
    /// engine is to publish it as port 2222 of its machine. The protocol is tcp, http, https or udp.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, TextForm>)]
    pub(super) ports: Texts,
    /// Whether all other ports of its spaces may be opened over HTTP too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) any_port: bool,
    /// Folders of the engine's machine, by where they are seen: `/srv/data`, or `/srv/data:ro` to be
    /// read only. Not for `local` and `manual`. Expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) mounts: Texts,
    /// Volumes by name: where each is seen, or more about it. A volume outlives stops. Expressions in
    /// the paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, VolumeForm>)]
    pub(super) volumes: BTreeMap<String, Volume>,
    /// The engine's network to attach to; left out, the driver's choice. Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<String>,
    /// The most memory: bytes, or a number and k, m, g or t (1,024 each). At least 6m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TextForm>)]
    pub(super) memory: Option<Bytes>,
    /// The most processors, from 0.01 to 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub(super) cpus: Option<Cpus>,
    /// Linux capabilities to have beyond the engine's choice: `NET_ADMIN`; one after a `-` is taken
    /// away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) capabilities: Vec<String>,
    /// Devices of the engine's machine: `/dev/kvm`, or `/dev/a:/dev/b:rw`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) devices: Vec<String>,
    /// What a space's maker is asked for, by name: `${{ .param.NAME }}` is the value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) parameters: BTreeMap<String, Parameter>,
    /// The job in HCL, for `nomad`; left out, one is made of the other fields. Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<String>,
    /// A script that the agent runs before the command. Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) startup_script: Option<String>,
    /// A script that the agent runs before it stops. Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shutdown_script: Option<String>,
    /// Groups whose members may see and use it; left out, everybody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    /// Zones that its spaces are placed in, or after a `!` not; left out, anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) zones: Vec<String>,
    /// What people may do in its spaces; what is left out is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) features: Option<Features>,
    /// How it is seen whether a space is well; left out, a linked agent is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<Health>,
    /// A space without activity is stopped after this time: 30m, 8h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) idle_stop: Option<Duration>,
    /// When spaces run, by the day they start on, in their owner's time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schedule: Option<Schedule>,
    /// A running space is stopped after this time: 12h, 2d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) max_uptime: Option<Duration>,
    /// To how many servers its spaces' agents are linked; 2 where it is not said. More survive the loss of more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 8)]
    pub(super) links: Option<u64>,
    /// Whether a stopped space is started by an SSH connection, a command that goes into it, or a request for a port,
    /// of somebody who may start it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) start_on_connect: bool,
    /// Whether it is started by anybody's request for a port that they may open: everybody's, where it is public.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) start_on_visit: bool,
    /// Whether it is retired: its spaces go on, and no new ones are made.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) retired: bool,
}

/// Who an image registry is asked as.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    /// The user. Expressions.
    pub(super) user: String,
    /// The user's password. It is stored sealed, and written as `sealed`, which leaves it as it is.
    /// Expressions.
    pub(super) password: String,
}

/// Something that the maker of a space is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameter {
    /// What values it takes: `text` (if left out), `number`, `bool`, `choice` or `secret`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(text|number|bool|choice|secret)$")]
    pub(super) kind: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// The value of a space whose maker gives none. Not for a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TextForm>)]
    pub(super) default: Option<String>,
    /// What a choice is made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<TextForm>)]
    pub(super) choices: Vec<String>,
    /// The regular expression that a whole text matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pattern: Option<String>,
    /// The least number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) least: Option<f64>,
    /// The largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) most: Option<f64>,
    /// Whether a value has to be given where there is no default.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) required: bool,
}

/// What people may do in the spaces of a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Features {
    /// Terminals in the browser and with `knot space terminal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) terminal: Option<bool>,
    /// SSH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ssh: Option<bool>,
    /// Opening ports over HTTP, and forwarding them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ports: Option<bool>,
    /// Running commands with `knot space exec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exec: Option<bool>,
}

/// How it is seen whether a space is well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    /// What is asked: `tcp:PORT`, `http://…`, `https://…`, or `exec:` and a shell command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check: Option<String>,
    /// The time between two checks: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) interval: Option<Duration>,
    /// The time that one check may take: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) timeout: Option<Duration>,
    /// How many checks in a row fail before the space counts as unwell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failures: Option<u64>,
    /// How often in a row an unwell or crashed space is restarted; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restarts: Option<u64>,
}

/// When spaces run: from and to for each day, such as `08:00-18:30`, or `22:00-06:00` across midnight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// From Monday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mon: Option<String>,
    /// From Tuesday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tue: Option<String>,
    /// From Wednesday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wed: Option<String>,
    /// From Thursday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thu: Option<String>,
    /// From Friday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fri: Option<String>,
    /// From Saturday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sat: Option<String>,
    /// From Sunday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sun: Option<String>,
    /// Whether the schedule starts spaces too, and does not only stop them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) start: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}
