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
    /// Fields that hold concurrent edits.
    pub conflicts: Vec<Conflict>,
}
