//! A WebSocket to a resource of the server.

use reqwest::header::SEC_WEBSOCKET_ACCEPT;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::client::Client;
use super::failure::Failure;

/// The largest message that is read.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// A WebSocket over a connection that the HTTP client has made.
pub(crate) type WebSocket = WebSocketStream<reqwest::Upgraded>;

/// Opens one.
pub(crate) async fn open(
    client: &Client,
    path: &[&str],
    query: &[(&str, &str)],
) -> Result<WebSocket, Failure> {
    let key = generate_key();
    let response = client.upgrade(path, query, &key).await?;
    let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes());
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Failure::not_knot(format!(
            "{} opened something else than a WebSocket",
            client.address()
        )));
    }
    let connection = response.upgrade().await.map_err(|error| client.no_answer(&error))?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    Ok(WebSocketStream::from_raw_socket(connection, Role::Client, Some(limits)).await)
}
