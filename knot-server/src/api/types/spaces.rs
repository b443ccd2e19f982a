//! Spaces, and what may be asked of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Conflict, ports};

/// What a space was told to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Not running.
    #[default]
    Stopped,
    /// Running.
    Running,
}

/// What a space is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// Made, and never started.
    #[default]
    Created,
    /// Its image, volumes and container are being made ready.
    Provisioning,
    /// Its container runs, its agent has not reported yet.
    Starting,
    /// Its agent has reported.
    Running,
    /// Its container is being stopped.
    Stopping,
    /// Stopped.
    Stopped,
    /// The last operation failed: the cause says why.
    Failed,
    /// Its container and volumes are being removed.
    Deleting,
    /// Deleted, with nothing left of it on its engine.
    Gone,
    /// Its home server cannot be reached from the server that answers.
    Unreachable,
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
        })
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Provisioning => "provisioning",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
        })
    }
}

/// A space: one person's container, its volumes, and where it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Space {
    /// The space's identifier.
    pub id: String,
    /// The space's name, unique for its owner.
    pub name: String,
    /// The owner's name.
    pub owner: String,
    /// The owner's identifier.
    pub owner_id: String,
    /// The template's name.
    pub template: String,
    /// The template's identifier.
    pub template_id: String,
    /// What the template turns off: `terminal`, `exec`, `ssh` or `ports`.
    #[serde(default)]
    pub without: Vec<String>,
    /// What it was told to be.
    pub desired: Desired,
    /// What it is.
    pub observed: Observed,
    /// Why it is as it is, where there is something to say: always with `failed`.
    pub cause: Option<String>,
    /// Since when it is as it is.
    pub since: Option<String>,
    /// What its health checks say; null where there is none.
    #[serde(default)]
    pub health: Option<Health>,
    /// Which start this is: `term.number`, such as `1.3`; null before the first.
    pub generation: Option<String>,
    /// The template's revision that the generation runs.
    pub revision: Option<String>,
    /// The driver that runs it.
    pub driver: Option<String>,
    /// The name of the server that looks after it.
    pub home: String,
    /// The identifier of that server.
    pub home_id: String,
    /// Whether the server that answers can reach that server.
    pub home_reachable: bool,
    /// How the server that answers reaches the space's agent now; null where it cannot.
    #[serde(default)]
    pub reached: Option<Reached>,
    /// Whether a restart would bring a newer revision of the template.
    pub update_available: bool,
    /// The values given for the template's parameters; `sealed` stands for a secret.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Fields in conflict.
    pub conflicts: Vec<Conflict>,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// What its users tell each other about it.
    #[serde(default)]
    pub note: String,
    /// The names of the users it is shared with.
    #[serde(default)]
    pub shares: Vec<String>,
    /// Other names that it is to be reached by, each with the port that it leads to.
    #[serde(default)]
    pub alt_names: BTreeMap<String, u64>,
    /// What listens in it and leads to other spaces.
    #[serde(default)]
    pub forwards: Vec<ports::Forward>,
    /// The identifiers of the spaces that have to run before it starts.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// How often it was given a home: raised when it is moved or recovered.
    #[serde(default)]
    pub term: u64,
    /// The name of the server that it moves to, once its home has stopped it.
    #[serde(default)]
    pub moving_to: Option<String>,
    /// Whether it begins with new, empty volumes where it has come, or moves to: what it kept could
    /// not follow. Where it has none, false.
    #[serde(default)]
    pub empty_volumes: bool,
    /// When it was made.
    pub created: String,
}

/// The way from a server to the agent of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reached {
    /// Whether the agent is linked to that server itself.
    pub directly: bool,
    /// Otherwise the names of the servers that it can be reached through, the one that is tried first in
    /// front.
    pub through: Vec<String>,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.directly {
            return f.write_str("directly");
        }
        write!(f, "through {}", self.through.join(", or "))
    }
}

/// All spaces that the caller may see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Spaces {
    /// The spaces, by name.
    pub spaces: Vec<Space>,
}

/// What a space takes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpaceUsage {
    /// What its agent last reported; null where it does not run.
    pub now: Option<UsageSample>,
    /// A sample for each minute of the last day that it ran, oldest first.
    pub day: Vec<UsageSample>,
}

/// What a space took up at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSample {
    /// When, by its home's clock.
    pub at: String,
    /// Thousandths of a processor.
    pub millicpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of files in its home folder and volumes; null where there are too many to count.
    pub disk: Option<u64>,
}

/// The starts of a space that its home keeps logs of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Starts {
    /// The starts, newest first.
    pub starts: Vec<Start>,
}

/// A start of a space, and which logs of it there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Start {
    /// Which start, such as `1.3`.
    pub generation: String,
    /// Whether there is a log of what was done to bring it up.
    pub provision: bool,
    /// Whether there is a log of what its container wrote.
    pub container: bool,
}

/// What the health checks of a space say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Whether it is well.
    pub well: bool,
    /// Since when.
    pub since: String,
    /// What the check has said.
    pub words: String,
}

impl Health {
    /// Whether it is well, and why not, for people.
    pub(crate) fn text(&self) -> String {
        match self.well {
            true => "well".to_owned(),
            false => format!("unwell: {}", self.words),
        }
    }
}

/// A space to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateSpace {
    /// Its name.
    pub name: String,
    /// The name or identifier of its template.
    pub template: String,
    /// Whether to start it at once.
    #[serde(default)]
    pub start: bool,
    /// The name or identifier of its home; chosen where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Values for the template's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// The header that makes it safe to send the request for a new space again, through any server.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What is to be changed of a space; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditSpace {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its users tell each other about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Other names to be reached by, with the port that each leads to; null takes a name away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_names: Option<BTreeMap<String, Option<u16>>>,
    /// All spaces, by name or identifier, that have to run before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Vec<String>>,
}

/// Whom a request about a space is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForUser {
    /// The user's name or identifier.
    pub user: String,
}

/// What a space begins with where its volumes cannot follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewVolumes {
    /// New, empty volumes. What a last backup has is another answer that may be given here one day.
    Empty,
}

/// Where a space is to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveSpace {
    /// The name or identifier of the server.
    pub server: String,
    /// What it begins with there, where its volumes cannot follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<NewVolumes>,
}

/// Where a space is to go on whose home is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoverSpace {
    /// The name or identifier of the server.
    pub server: String,
    /// What it begins with there, where its volumes cannot follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<NewVolumes>,
    /// Do so though its home answers.
    #[serde(default)]
    pub force: bool,
}

/// Values of a template's parameters for a space: null takes one away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetParameters {
    /// The values by name; those left out stay as they are.
    pub parameters: BTreeMap<String, Option<String>>,
}

/// The space of a `space-deleted` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpaceDeleted {
    /// The identifier of the space that is gone.
    pub id: String,
}
