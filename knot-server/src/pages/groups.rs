//! The page of groups, for admins.

use askama::Template;

use super::Chrome;

/// `/groups`.
#[derive(Template)]
#[template(path = "groups.html")]
pub struct GroupsPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The groups, by name.
    pub groups: Vec<GroupRow>,
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// The names of the users in it.
    pub members: Vec<String>,
    /// The templates that are kept to it, as id and name.
    pub templates: Vec<(String, String)>,
}
