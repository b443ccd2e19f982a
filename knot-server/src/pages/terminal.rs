//! The terminal page: a whole window for one session in one space.

use askama::Template;

/// `/spaces/{id}/terminal`. Has no navigation: the window belongs to the terminal.
#[derive(Template)]
#[template(path = "terminal.html")]
pub struct TerminalPage {
    /// The space's id.
    pub id: String,
    /// The space's name.
    pub name: String,
    /// The name of the server that the terminal goes through.
    pub server: String,
}
