//! The page for what did not work.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Chrome, html_with_status};

/// Says what happened and what to do, in the look of every other page.
#[derive(Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// What surrounds the page.
    pub chrome: Chrome,
    /// The response's status, shown small.
    pub status: StatusCode,
    /// What happened, in a few words.
    pub title: String,
    /// More of it, and what to do.
    pub detail: String,
}

impl ErrorPage {
    /// 404. A user who may not know that something exists gets this one too.
    #[must_use]
    pub fn not_found(chrome: Chrome) -> Self {
        Self {
            chrome,
            status: StatusCode::NOT_FOUND,
            title: "Nothing is here".to_owned(),
            detail: "There is no such page, or what it showed was deleted, or you may not see it."
                .to_owned(),
        }
    }

    /// 403, with what the user would need.
    #[must_use]
    pub fn forbidden(chrome: Chrome, detail: String) -> Self {
        Self {
            chrome,
            status: StatusCode::FORBIDDEN,
            title: "You may not do this".to_owned(),
            detail,
        }
    }

    /// 500. The reason is for the log, not for the page.
    #[must_use]
    pub fn internal(chrome: Chrome) -> Self {
        let detail = format!(
            "Nothing was changed. Try again; if it happens again, the log of server {} says why.",
            chrome.server
        );
        Self {
            chrome,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            title: "The server failed".to_owned(),
            detail,
        }
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        html_with_status(self.status, &self)
    }
}
