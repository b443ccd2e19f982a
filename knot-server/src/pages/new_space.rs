//! The page that makes a space: a template is chosen first, and then asks for what it needs.

use askama::Template;

use super::{Chrome, ParameterField, ServerChoice};

/// `/spaces/new`.
#[derive(Template)]
#[template(path = "new_space.html")]
pub struct NewSpacePage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// What a space can be made from, by name.
    pub templates: Vec<TemplateChoice>,
    /// The template that the space is to be made from; none while that is not chosen.
    pub chosen: Option<ChosenTemplate>,
}

/// A template that a space can be made from.
#[derive(Clone, Debug)]
pub struct TemplateChoice {
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
}

/// The template that a space is to be made from.
#[derive(Clone, Debug)]
pub struct ChosenTemplate {
    /// The template's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// The driver's name.
    pub platform: String,
    /// What it asks for.
    pub parameters: Vec<ParameterField>,
    /// The servers that could be its home.
    pub servers: Vec<ServerChoice>,
}
