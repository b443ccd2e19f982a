//! The pages' files: styles, scripts and third-party modules, carried in the program.
//!
//! All are served from one folder whose name is the hash of the whole set. So modules import each other by relative
//! name, which the content security policy allows (it forbids an import map in the page), and still every file may be
//! kept by browsers for good: a change of any file gives all of them new addresses.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/third_party.rs"));

macro_rules! own {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/static/", $name)) as &[u8])),+]
    };
}

const OWN: &[(&str, &[u8])] = own![
    "api.js",
    "clipboard.js",
    "find.js",
    "forms.js",
    "history.js",
    "knot.css",
    "knot.svg",
    "live.js",
    "new-space.js",
    "page.js",
    "queries.js",
    "renew.js",
    "row.js",
    "servers.js",
    "session.js",
    "sign-in.js",
    "space.js",
    "spaces.js",
    "starting.js",
    "template.js",
    "terminal.css",
    "terminal.js",
    "terminals.js",
    "theme.js",
    "update.js",
    "volumes.js",
];

/// Licences must be findable without knowing the hash.
const LICENCES: &str = "third-party-licences.txt";

static SET: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, content) in files() {
        for part in [name.as_bytes(), content] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// The address of a file of the pages, such as `terminal.js`. It holds for as long as the file's set does not change.
pub fn static_url(name: &str) -> String {
    format!("/static/{}/{name}", *SET)
}

/// Serves the files at the addresses that [`static_url`] gives, and the third-party licences at
/// `/static/third-party-licences.txt`.
pub fn static_router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/static/third-party-licences.txt", get(async || serve(LICENCES, Keep::Never)))
        .route(
            "/static/{set}/{name}",
            get(async |Path((set, name)): Path<(String, String)>| {
                serve(&name, if set == *SET { Keep::ForGood } else { Keep::Never })
            }),
        )
}

/// Whether browsers may keep an answer.
enum Keep {
    ForGood,
    /// The address is of another set: behind a balancer, the page may come from a server of another release. Our file
    /// is then better than none, but must not be kept under the other's address.
    Never,
}

fn serve(name: &str, keep: Keep) -> Response {
    let Some((_, content)) = files().find(|(known, _)| *known == name) else {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    };
    let keep = match keep {
        Keep::ForGood => "public, max-age=31536000, immutable",
        Keep::Never => "no-store",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type(name))),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
    ];
    (headers, content).into_response()
}

fn files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    OWN.iter().chain(THIRD_PARTY).copied()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
