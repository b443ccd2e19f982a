//! Request bodies: bounded in size and time, and refused with a problem that says what is wrong.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{
        FromRequest, Request,
        rejection::{BytesRejection, JsonRejection},
    },
    http::StatusCode,
    response::IntoResponse,
};
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};

/// The largest body, in bytes.
pub(super) const LIMIT: usize = 1 << 20;
/// How long a body may take to come.
const BOUND: Duration = Duration::from_secs(30);

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = Json::from_request(request, state);
        let Json(value) = in_time(read).await?.map_err(|rejection| match rejection {
            JsonRejection::MissingJsonContentType(_) => Problem::new(
                Code::UnsupportedType,
                "the body is to be JSON: send the header content-type: application/json",
            ),
            other => refused(other.status(), &other.body_text()),
        })?;
        Ok(Self(value))
    }
}

/// A template file.
pub(super) struct Yaml(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Yaml {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get("content-type").and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !matches!(kind, "application/yaml" | "text/yaml" | "application/x-yaml") {
            return Err(Problem::new(
                Code::UnsupportedType,
                "the body is to be a template file: send the header content-type: application/yaml",
            ));
        }
        let bytes = in_time(Bytes::from_request(request, state)).await?;
        let bytes = bytes.map_err(|rejection: BytesRejection| {
            refused(rejection.into_response().status(), "it could not be read")
        })?;
        String::from_utf8(bytes.into()).map(Self).map_err(|_| {
            Problem::new(
                Code::MalformedRequest,
                "the template file is no UTF-8 text: save it as UTF-8",
            )
        })
    }
}

async fn in_time<T>(read: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(BOUND, read).await.map_err(|_| {
        let seconds = BOUND.as_secs();
        Problem::new(Code::TooSlow, format!("the body did not come within {seconds} s: try again"))
    })
}

fn refused(status: StatusCode, why: &str) -> Problem {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            Code::TooLarge,
            format!("a body has at most {LIMIT} bytes: send less"),
        );
    }
    let why = why.strip_prefix("Failed to parse the request body as JSON: ").unwrap_or(why);
    Problem::new(Code::MalformedRequest, format!("the body is not what is wanted here: {why}"))
}
