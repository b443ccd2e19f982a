//! What spaces are made from: templates and their revisions, the variables that they name, the groups they are kept to.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Conflict;

/// The longest value of a variable, in bytes.
pub const LONGEST_VARIABLE: usize = 64 << 10;

/// The first digits of a revision's hash, as people are shown it.
pub(crate) fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
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

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
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

impl FieldDifference {
    /// The difference as people read it, what went after a minus and what came after a plus.
    pub(crate) fn lines(&self) -> Vec<String> {
        if let Some(text) = &self.text {
            return text.lines().map(str::to_owned).collect();
        }
        let side = |sign: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{sign}{value}"))
        };
        [side("-", &self.from), side("+", &self.to)].into_iter().flatten().collect()
    }
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
