//! The page of variables, for admins.

use askama::Template;

use super::{Chrome, Conflict};

/// `/variables`.
#[derive(Template)]
#[template(path = "variables.html")]
pub struct VariablesPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The variables, by name and zones.
    pub variables: Vec<VariableRow>,
    /// The zones of the cluster's servers.
    pub zones: Vec<String>,
}

/// One variable.
#[derive(Clone, Debug)]
pub struct VariableRow {
    /// The variable's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// The zones that it is for; empty for all.
    pub zones: Vec<String>,
    /// Its value; none for a secret, which is never shown.
    pub value: Option<String>,
    /// Fields that hold concurrent edits.
    pub conflicts: Vec<Conflict>,
}
