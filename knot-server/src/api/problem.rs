//! Requests that failed: one list of codes, and one form of answer (RFC 9457).
//!
//! Handlers return [`Problem`]. Its detail says what happened here and what to do; a program goes by
//! the code. What is only for the operator, such as why the database failed, goes to the log.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use knot_core::replica::EditError;
use serde::Serialize;

use super::types;

macro_rules! codes {
    ($( $(#[$doc:meta])* $code:ident = $word:literal, $status:ident, $title:literal; )+) => {
        /// What kind of problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $( $(#[$doc])* $code ),+ }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$code ),+];

            /// The stable word for programs.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$code => $word ),+ }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $( Self::$code => StatusCode::$status ),+ }
            }

            /// The kind of problem in a few words.
            pub const fn title(self) -> &'static str {
                match self { $( Self::$code => $title ),+ }
            }
        }
    };
}

codes! {
    /// The request's form is wrong.
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request cannot be read";
    /// No session, or one that is over.
    NotSignedIn = "not_signed_in", UNAUTHORIZED, "Not signed in";
    /// Name and password do not fit.
    WrongCredentials = "wrong_credentials", UNAUTHORIZED, "The name or the password is wrong";
    /// The caller lacks the right.
    Forbidden = "forbidden", FORBIDDEN, "Not allowed";
    /// The port is none that the template opens.
    PortClosed = "port_closed", FORBIDDEN, "The port is not open";
    /// A page of another origin made a browser send this.
    CrossOrigin = "cross_origin", FORBIDDEN, "The request comes from another site";
    /// There is no such thing, or the caller may not know of it.
    NotFound = "not_found", NOT_FOUND, "Not found";
    /// The path does not take this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed";
    /// The request's body did not come in time.
    TooSlow = "too_slow", REQUEST_TIMEOUT, "The request did not come in time";
    /// Several things have this name.
    AmbiguousName = "ambiguous_name", CONFLICT, "Several have this name";
    /// The name is in use.
    NameTaken = "name_taken", CONFLICT, "The name is taken";
    /// Another user has the SSH key.
    KeyTaken = "key_taken", CONFLICT, "The key is another's";
    /// Spaces are made from the template.
    TemplateInUse = "template_in_use", CONFLICT, "The template is in use";
    /// The template of the space was deleted.
    TemplateDeleted = "template_deleted", CONFLICT, "The template was deleted";
    /// No new spaces are made from the template.
    TemplateRetired = "template_retired", CONFLICT, "The template is retired";
    /// Templates are kept to the group.
    GroupInUse = "group_in_use", CONFLICT, "The group is in use";
    /// No server that can be reached has the engine.
    NoEngine = "no_engine", CONFLICT, "No engine for it";
    /// The server that would do it cannot be reached.
    HomeUnreachable = "home_unreachable", CONFLICT, "The server cannot be reached";
    /// A space is to be recovered whose home answers.
    HomeAnswers = "home_answers", CONFLICT, "Its home answers";
    /// What a space keeps cannot follow it, and nobody said to go on without.
    VolumesStay = "volumes_stay", CONFLICT, "Its volumes cannot follow";
    /// A space that this one depends on does not run.
    DependencyStopped = "dependency_stopped", CONFLICT, "A space that it depends on is stopped";
    /// A volume cannot be used so.
    VolumeInUse = "volume_in_use", CONFLICT, "The volume is in use";
    /// The engine does not do this.
    NotSupported = "not_supported", CONFLICT, "The engine cannot do it";
    /// The space does not run.
    NotRunning = "not_running", CONFLICT, "The space does not run";
    /// A server does not remove itself.
    IsThisServer = "is_this_server", CONFLICT, "It is this server";
    /// The request is larger than is read.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The request is too large";
    /// The body is of another type.
    UnsupportedType = "unsupported_type", UNSUPPORTED_MEDIA_TYPE, "The body's type is not read here";
    /// A name breaks the rules for names.
    InvalidName = "invalid_name", UNPROCESSABLE_ENTITY, "The name breaks the rules";
    /// A field's value breaks the rules.
    InvalidValue = "invalid_value", UNPROCESSABLE_ENTITY, "A value breaks the rules";
    /// A template file is wrong.
    InvalidTemplate = "invalid_template", UNPROCESSABLE_ENTITY, "The template file is wrong";
    /// A parameter's value is missing or wrong.
    InvalidParameter = "invalid_parameter", UNPROCESSABLE_ENTITY, "A parameter's value is wrong";
    /// The path is for a WebSocket.
    WebSocketOnly = "websocket_only", UPGRADE_REQUIRED, "A WebSocket is wanted";
    /// Too many sign-ins failed.
    TooManyAttempts = "too_many_attempts", TOO_MANY_REQUESTS, "Too many failed sign-ins";
    /// The server failed.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The server failed";
    /// The space's agent cannot be reached from here.
    NoAgent = "no_agent", BAD_GATEWAY, "The space cannot be reached";
    /// No program listens at the port.
    NotListening = "not_listening", BAD_GATEWAY, "Nothing listens there";
    /// What listens at the port did not answer.
    NoAnswer = "no_answer", BAD_GATEWAY, "No answer";
    /// The space is on its way up.
    Starting = "starting", SERVICE_UNAVAILABLE, "The space is starting";
    /// This server has not heard of what the caller has seen.
    Behind = "behind", SERVICE_UNAVAILABLE, "This server is behind";
    /// Too much to do.
    Busy = "busy", SERVICE_UNAVAILABLE, "The server is busy";
    /// The server is going away.
    Draining = "draining", SERVICE_UNAVAILABLE, "The server is stopping";
    /// The server belongs to its cluster no more.
    Removed = "removed", SERVICE_UNAVAILABLE, "This server was removed";
    /// The database failed: nothing was changed.
    NotWritten = "not_written", SERVICE_UNAVAILABLE, "Nothing was written";
}

/// Where in a posted file the mistake is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The field at the top level that the mistake is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem it is.
    pub code: Code,
    /// What happened here, and what to do.
    pub detail: String,
    /// Where in a posted file.
    pub place: Option<Place>,
    /// The field of a JSON body that is refused, such as `parameters/size`; where it is one.
    pub field: Option<String>,
    /// After how many seconds to try again.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem of this kind, with what happened and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), place: None, field: None, retry_after: None }
    }

    /// The same, of this field of the body: forms show it there.
    pub(super) fn of_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// There is no such thing, or the caller may not know of it.
    pub fn not_found(what: &str, key: &str) -> Self {
        let key: String = key.chars().take(80).collect();
        Self::new(
            Code::NotFound,
            format!("there is no {what} `{key}` that you may see: look at the list"),
        )
    }

    /// Our own fault, already logged.
    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            "nothing was changed; try again, and if it happens again, look into this server's log",
        )
    }

    fn body(&self) -> types::Problem {
        types::Problem {
            kind: "about:blank".to_owned(),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            code: self.code.word().to_owned(),
            detail: self.detail.clone(),
        }
    }
}

/// The members of RFC 9457, and ours.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    problem: types::Problem,
    #[serde(flatten)]
    place: Option<&'a Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A place in a file names its own field.
        let field = self.field.as_deref().filter(|_| self.place.is_none());
        let body = Json(Body { problem: self.body(), place: self.place.as_ref(), field });
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Unknown(_) | EditError::Dead(_) => Self::new(
                Code::NotFound,
                "it was deleted meanwhile: there is nothing left to change",
            ),
            EditError::Refused(why) => Self::new(Code::MalformedRequest, why),
            EditError::Edit(error @ knot_core::doc::EditError::TooLarge { .. }) => {
                Self::new(Code::TooLarge, error.to_string())
            }
            EditError::Commit(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a write failed");
                Self::new(
                    Code::NotWritten,
                    "this server could not write it, and nothing was changed: try again, or through \
                     another server",
                )
            }
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "an edit failed");
                Self::internal()
            }
        }
    }
}

/// For paths that nothing answers.
pub(super) async fn no_such_path() -> Problem {
    Problem::new(
        Code::NotFound,
        "nothing answers at this path: /api/v1/openapi.json lists what does",
    )
}

/// For paths that take other methods.
pub(super) async fn no_such_method() -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        "this path does not take this method: /api/v1/openapi.json lists what it takes",
    )
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_code_is_in_the_book() {
        let book = include_str!("../../../docs/src/api.md");
        for code in Code::ALL {
            let row = format!("| `{}` | {} |", code.word(), code.status().as_u16());
            assert!(book.contains(&row), "docs/src/api.md lacks the row {row}");
        }
    }
}
