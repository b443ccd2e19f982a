//! Headers that tell browsers what pages of a knot server never do, so that injected markup can do little.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// Scripts come from this server's files only, never from a page's text. Styles may be inline because xterm.js writes
/// the sizes and colours of its cells into `<style>` elements of its own and offers no nonce for them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// `same-origin` and not `no-referrer`: with the latter, browsers send `Origin: null` from plain forms, and the server
/// judges state-changing requests by their `Origin`.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Adds the headers to a response, leaving those that its handler set itself.
///
/// For use as `.layer(axum::middleware::map_response(pages::security_headers))`.
pub async fn security_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}
