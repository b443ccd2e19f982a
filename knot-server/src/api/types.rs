//! What the HTTP API sends and takes, as one set of types for the server and its clients.
//!
//! Times are RFC 3339 in UTC. Sizes are bytes. An identifier is the text of a UUID.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub mod exec;
pub mod terminals;

/// The header that carries a causality token: a server that is sent one answers only when it holds all that the
/// sender has seen, or says that it is behind.
pub const CAUSALITY_HEADER: &str = "knot-token";

/// The code of the problem that says: this server does not yet hold what the causality token names.
pub const CODE_BEHIND: &str = "behind";

/// Why a request failed (RFC 9457), as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` where there is none.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words, the same for all of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs, such as `not_found`.
    pub code: String,
    /// What happened here, and what to do about it.
    pub detail: String,
}

/// A name and a password, for a session or an API token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SignIn {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Asks for an API token of this name instead of a session cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
}

/// The answer to a sign-in that was accepted.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// Who signed in.
    pub user: User,
    /// The API token, where one was asked for. It is shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A user, as others may see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The user's identifier.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// Whether the user may change what belongs to others.
    pub admin: bool,
    /// The time zone that schedules of the user's spaces go by, as the IANA names it.
    pub time_zone: String,
}

/// What users change of themselves; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditMe {
    /// The time zone that schedules of the user's spaces go by, as the IANA names it; empty for UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A field that was changed at several servers at once: one value holds, the others are kept until someone settles it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conflict {
    /// The field's name.
    pub field: String,
    /// The values written, the one that holds first.
    pub values: Vec<ConflictValue>,
}

/// One of the values of a field in conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConflictValue {
    /// The value.
    pub value: serde_json::Value,
    /// Who wrote it.
    pub author: String,
    /// When it was written.
    pub time: String,
}

/// What spaces are made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// The template's identifier.
    pub id: String,
    /// The template's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it is retired: its spaces go on, and no new ones are made.
    #[serde(default)]
    pub retired: bool,
    /// The kind of engine that runs its spaces, such as `docker`.
    pub platform: String,
    /// The container image.
    pub image: String,
    /// The command to run instead of the image's own; empty for the image's.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Volumes: name to path inside the space.
    pub volumes: BTreeMap<String, String>,
    /// The engine's network to join; null for its default.
    pub network: Option<String>,
    /// The most memory that a space may use, in bytes; null for no limit.
    pub memory: Option<u64>,
    /// The most processors that a space may use; null for no limit.
    pub cpus: Option<f64>,
    /// What a space's maker is asked for.
    #[serde(default)]
    pub parameters: Vec<TemplateParameter>,
    /// The groups whose members may see and use it; empty for everybody.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Zones that its spaces are placed in, or after a `!` not; empty for anywhere.
    #[serde(default)]
    pub zones: Vec<String>,
    /// All of it, as the template file has it: `/api/v1/templates/schema.json` describes it.
    #[serde(default)]
    pub file: serde_json::Value,
    /// The hash of the fields that a start uses, of the revision that a start uses.
    pub revision: String,
    /// Why what concurrent edits came to cannot be used, and what is used until it is settled; null
    /// where it is used.
    #[serde(default)]
    pub invalid: Option<InvalidMerge>,
    /// Fields in conflict.
    pub conflicts: Vec<Conflict>,
}

/// What a space's maker is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateParameter {
    /// The parameter's name.
    pub name: String,
    /// What values it takes: `text`, `number`, `bool`, `choice` or `secret`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is for.
    pub description: String,
    /// The value of a space whose maker gives none.
    pub default: Option<String>,
    /// What a choice is made from.
    pub choices: Vec<String>,
    /// The regular expression that a whole text matches.
    pub pattern: Option<String>,
    /// The least number.
    pub least: Option<f64>,
    /// The largest number.
    pub most: Option<f64>,
    /// Whether a value has to be given where there is no default.
    pub required: bool,
}

/// Concurrent edits that came to a template which no space can be made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvalidMerge {
    /// The rules that are broken.
    pub problems: Vec<InvalidField>,
    /// The revision that starts use until somebody applies a file; null while it is looked for, or
    /// where none was ever valid.
    pub used: Option<String>,
}

/// A rule that a field of a template breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvalidField {
    /// The field, such as `volumes/data`.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

/// One change of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateRevision {
    /// The hash of the change: with it the template right after it is named.
    pub id: String,
    /// Who made it.
    pub author: String,
    /// When, by the clock of the server that took it.
    pub time: String,
    /// The fields that it wrote.
    pub fields: Vec<String>,
    /// The changes that it was made on.
    pub parents: Vec<String>,
    /// Whether starts use it in place of an invalid merge.
    #[serde(default)]
    pub used_for_invalid: bool,
}

/// Changes of a template, a change before those that it was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateRevisions {
    /// The changes.
    pub revisions: Vec<TemplateRevision>,
    /// What to send as `after` for the next page; null where there is none.
    pub next: Option<String>,
}

/// What differs between two revisions of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateDifference {
    /// The earlier state, as the hashes of its last changes; empty for before the first.
    pub from: Vec<String>,
    /// The later state.
    pub to: Vec<String>,
    /// The fields that differ.
    pub fields: Vec<FieldDifference>,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldDifference {
    /// The field, such as `environment/PATH`.
    pub field: String,
    /// What it was; null for nothing.
    pub from: Option<String>,
    /// What it became; null for nothing.
    pub to: Option<String>,
    /// For a long text, the difference line by line (unified).
    pub text: Option<String>,
}

/// Which revision to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevertTemplate {
    /// The revision, or the first digits of it.
    pub revision: String,
}

/// Whether a template is to be retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetireTemplate {
    /// Whether no new spaces are to be made from it.
    pub retired: bool,
}

/// A value that templates name as `${{ .var.NAME }}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Variable {
    /// The variable's identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The zones that it is for; empty for all.
    pub zones: Vec<String>,
    /// Whether it is a secret, which is never shown.
    pub secret: bool,
    /// Its value; null for a secret.
    pub value: Option<String>,
    /// Fields in conflict.
    pub conflicts: Vec<Conflict>,
}

/// All variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Variables {
    /// The variables, by name.
    pub variables: Vec<Variable>,
}

/// What to set a variable to.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SetVariable {
    /// The value.
    pub value: String,
    /// Whether it is a secret: it is sealed, and never shown again.
    #[serde(default)]
    pub secret: bool,
    /// The zones that it is for; empty for all.
    #[serde(default)]
    pub zones: Vec<String>,
    /// What it is for; left out, it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A group of users, which templates can be kept to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The names of the users in it.
    pub members: Vec<String>,
}

/// All groups that the caller may see: an admin sees all, others those that they are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Groups {
    /// The groups, by name.
    pub groups: Vec<Group>,
}

/// A group to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateGroup {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// All templates that the caller may see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Templates {
    /// The templates, by name.
    pub templates: Vec<Template>,
}

/// What applying a template file did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplyOutcome {
    /// There was none of that name.
    Created,
    /// Some field differed.
    Changed,
    /// It was like that already.
    Unchanged,
}

/// The answer to a template file that was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppliedTemplate {
    /// The template as it is now.
    pub template: Template,
    /// What was done.
    pub outcome: ApplyOutcome,
}

/// The template of a `template-deleted` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateDeleted {
    /// The identifier of the template that is gone.
    pub id: String,
}

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
    /// What the template turns off: `terminal` or `exec`; `ssh` and `ports`, which are not used yet.
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
    /// Other names that it is to be reached by, each with the port that it leads to. Not used yet.
    #[serde(default)]
    pub alt_names: BTreeMap<String, u64>,
    /// The identifiers of the spaces that have to run before it starts.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// How often it was given a home: raised when it is moved or recovered.
    #[serde(default)]
    pub term: u64,
    /// The name of the server that it moves to, once its home has stopped it.
    #[serde(default)]
    pub moving_to: Option<String>,
    /// When it was made.
    pub created: String,
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

/// A volume: storage that outlives the stops of its space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// The volume's identifier.
    pub id: String,
    /// The name that the template gives it, or its maker.
    pub name: String,
    /// The name of its space; empty for none.
    pub space: String,
    /// The identifier of its space; empty for none.
    pub space_id: String,
    /// The name of its owner.
    #[serde(default)]
    pub owner: String,
    /// Where it is mounted inside the space.
    pub path: String,
    /// The kind of engine that keeps it.
    pub platform: String,
    /// Whether it is there: `wanted`, `present`, `missing`, `removed` or `aside`, for one that was set
    /// aside when its space went on elsewhere with another.
    pub state: String,
    /// What the engine calls it.
    pub engine_id: String,
    /// The name of the server whose engine keeps it.
    pub server: String,
    /// Its size in bytes, where it has one.
    #[serde(default)]
    pub size: Option<u64>,
    /// Whether it stays when its space is deleted.
    #[serde(default)]
    pub keep: bool,
    /// Why it is not as it should be, where it is not.
    #[serde(default)]
    pub cause: Option<String>,
}

/// A volume on an engine that no document knows, though a server of this cluster made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// The name of the server that found it.
    pub server: String,
    /// The kind of engine.
    pub platform: String,
    /// What the engine calls it.
    pub engine_id: String,
}

/// All volumes that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volumes {
    /// The volumes, by space and name.
    pub volumes: Vec<Volume>,
    /// For admins: what is on engines and of no document.
    #[serde(default)]
    pub orphans: Vec<Orphan>,
}

/// A volume to make that is no space's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateVolume {
    /// Its name.
    pub name: String,
    /// The name or identifier of the server whose engine is to hold it.
    pub server: String,
    /// The kind of engine.
    pub platform: String,
    /// Its size in bytes, where the engine bounds sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What is to be changed of a volume; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditVolume {
    /// Whether it stays when its space is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<bool>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Where a volume is to be attached, from its space's next start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachVolume {
    /// The name or identifier of the space.
    pub space: String,
    /// The absolute path inside the space.
    pub path: String,
}

/// Something that was set aside and is to be removed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiscardVolume {
    /// What its engine calls it.
    pub engine_id: String,
}

/// Whether a server answers the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does.
    Live,
    /// It does not, as far as the server that answers can tell.
    #[default]
    Unreachable,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Unreachable => "unreachable",
        })
    }
}

/// A server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// The server's identifier.
    pub id: String,
    /// The server's name.
    pub name: String,
    /// Where it stands, as its operator named it.
    pub zone: Option<String>,
    /// The address that peers and agents reach it at (QUIC).
    pub quic: Option<String>,
    /// The URL of its pages and API.
    pub http: Option<String>,
    /// Whether it answers.
    pub state: ServerState,
    /// By how many seconds its clock is ahead of the answering server's, behind where negative; where
    /// that is more than a minute.
    pub clock_ahead: Option<i64>,
    /// Whether it is the server that answers this request.
    pub this: bool,
    /// The kinds of engine that it drives.
    pub platforms: Vec<String>,
}

impl Server {
    /// What is to be said of its clock; nothing where it is right.
    pub(crate) fn clock_words(&self) -> String {
        let Some(ahead) = self.clock_ahead else { return String::new() };
        let side = if ahead > 0 { "ahead" } else { "behind" };
        format!("clock {} min {side}", ahead.unsigned_abs() / 60)
    }
}

/// All servers of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Servers {
    /// The servers, by name.
    pub servers: Vec<Server>,
}

/// A server to invite.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// Its name.
    pub name: String,
}

/// What accepts an invitation, once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// The join token. It is shown this once.
    pub token: String,
}
