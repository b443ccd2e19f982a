//! What is answered in a space's place: a page for a browser, a problem for a program.
//!
//! It stands on the space's own host, and so brings all it needs with it, and no script.

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::{Code, Problem},
    pages::html_with_status,
};

/// After how many seconds a page tries again.
const AGAIN: u64 = 2;
/// It has neither scripts nor forms, and shows in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
);

/// Why a port was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    code: Code,
    title: String,
    detail: String,
    again: bool,
    action: Option<(&'static str, String)>,
}

/// The page of it.
#[derive(Template)]
#[template(path = "port.html")]
struct Page {
    status: StatusCode,
    title: String,
    detail: String,
    /// After how many seconds, and where, if not here.
    again: Option<(u64, Option<String>)>,
    action: Option<(&'static str, String)>,
}

impl Said {
    pub(super) fn new(code: Code, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code, title: title.into(), detail: detail.into(), again: false, action: None }
    }

    /// There is no such port, or whoever asks may not know of it.
    pub(super) fn nothing() -> Self {
        let detail = "There is no such space or port, or you may not open it: ask its owner, and see \
                      that the address is right.";
        Self::new(Code::NotFound, "Nothing is here", detail)
    }

    /// The same page again in a moment, without being asked.
    pub(super) fn tried_again(self) -> Self {
        Self { again: true, ..self }
    }

    pub(super) fn with_action(self, words: &'static str, url: String) -> Self {
        Self { action: Some((words, url)), ..self }
    }

    /// The answer to a request with these headers. A page that is to be tried again is tried there, where
    /// that is said.
    pub(super) fn answer(
        self,
        method: &Method,
        headers: &HeaderMap,
        again_at: Option<&str>,
    ) -> Response {
        let Self { code, title, detail, again, action } = self;
        let mut response = if wants_page(headers) {
            // To send a form again is for people to decide.
            let tried = again && method.is_safe();
            let again = tried.then(|| (AGAIN, again_at.map(str::to_owned)));
            html_with_status(
                code.status(),
                &Page { status: code.status(), title, detail, again, action },
            )
        } else {
            let retry_after = again.then_some(AGAIN);
            Problem { retry_after, ..Problem::new(code, detail) }.into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        if again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(AGAIN));
        }
        response
    }
}

/// Whether a person looks at the answer.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}
