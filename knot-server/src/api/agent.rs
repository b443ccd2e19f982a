//! The agent, for machines of engines that fetch it themselves. It is no secret: whoever has a knot
//! server has it too.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::spaces::drivers::Archive;

/// `GET /agent/<hash>.tar.gz`: this server's agent, if that is the one meant.
pub(super) async fn archive(Path(file): Path<String>) -> Response {
    // Packing it, the first time, takes a while.
    let own = tokio::task::spawn_blocking(Archive::own).await.ok().flatten();
    match own.filter(|archive| archive.path().ends_with(&format!("/{file}"))) {
        Some(archive) => (
            [
                (header::CONTENT_TYPE, "application/gzip"),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            archive.bytes(),
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
