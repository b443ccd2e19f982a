//! The sign-in page.

use askama::Template;

use super::{Chrome, LocalPath};

/// `/sign-in`: name and password, posted to the API by the page's script.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// What surrounds the page; its user is `None`.
    pub chrome: Chrome,
    /// Where the browser goes once signed in.
    pub next: LocalPath,
}
