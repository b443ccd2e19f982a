//! The pages of templates: the list, and the file of one.

use askama::Template;

use super::{Chrome, Conflict};

/// `/templates`: every template that the user may see.
#[derive(Template)]
#[template(path = "templates.html")]
pub struct TemplatesPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The templates, by name.
    pub templates: Vec<TemplateRow>,
    /// Whether the user may make new ones.
    pub may_edit: bool,
}

/// One line of the list.
#[derive(Clone, Debug)]
pub struct TemplateRow {
    /// The template's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// The driver's name.
    pub platform: String,
    /// The image; empty where the platform has none.
    pub image: String,
    /// How many spaces use it.
    pub spaces: usize,
    /// How many of its fields hold concurrent edits that nobody has settled.
    pub conflicts: usize,
    /// Whether no new spaces are made from it.
    pub retired: bool,
    /// Whether what concurrent edits came to cannot be used.
    pub invalid: bool,
    /// The groups that it is kept to.
    pub groups: Vec<String>,
}

/// `/templates/{id}` and `/templates/new`: the template file, to read and to save.
#[derive(Template)]
#[template(path = "template.html")]
pub struct TemplatePage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The template as it is stored, or `None` for a new one.
    pub saved: Option<SavedTemplate>,
    /// The template file, YAML.
    pub source: String,
    /// Whether the user may save it.
    pub may_edit: bool,
}

/// What the page of a stored template says beside its file.
#[derive(Clone, Debug)]
pub struct SavedTemplate {
    /// The template's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The hash of what a start would use now.
    pub revision: String,
    /// How many running spaces a change will mark as out of date.
    pub running: usize,
    /// How many of those run an older revision.
    pub outdated: usize,
    /// Those of them that the user may restart.
    pub to_update: Vec<OutdatedSpace>,
    /// Whether no new spaces are made from it.
    pub retired: bool,
    /// Why what concurrent edits came to cannot be used.
    pub invalid: Option<Invalid>,
    /// Fields that hold concurrent edits.
    pub conflicts: Vec<Conflict>,
}

/// A running space with an older revision of its template.
#[derive(Clone, Debug)]
pub struct OutdatedSpace {
    /// The space's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
}

/// A merge that cannot be used.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// The rules that it breaks, a line each.
    pub problems: Vec<String>,
    /// The revision that starts use instead; empty where it is not known.
    pub used: String,
}

/// `/templates/{id}/history`: who changed what and when.
#[derive(Template)]
#[template(path = "template_history.html")]
pub struct HistoryPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The template's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The revisions, the newest first.
    pub revisions: Vec<RevisionRow>,
    /// What to ask the next page with; empty where there is none.
    pub next: String,
    /// Whether the user may go back to one.
    pub may_edit: bool,
}

/// One line of the history.
#[derive(Clone, Debug)]
pub struct RevisionRow {
    /// The change's hash.
    pub id: String,
    /// Its first digits.
    pub short: String,
    /// Who made it.
    pub author: String,
    /// When.
    pub time: String,
    /// What it changed, against what it was made on.
    pub fields: Vec<FieldRow>,
    /// Whether starts use it in place of an invalid merge.
    pub used: bool,
}

/// A field that a revision changed.
#[derive(Clone, Debug)]
pub struct FieldRow {
    /// The field.
    pub field: String,
    /// What it was and became, a line each with `-` or `+` before it.
    pub lines: Vec<String>,
}
