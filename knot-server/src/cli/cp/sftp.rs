//! SFTP with a space, over a WebSocket of the server.

use futures_util::{SinkExt, StreamExt};
use russh_sftp::client::error::Error;
use russh_sftp::client::{Config, SftpSession};
use russh_sftp::protocol::{FileAttributes, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::task::AbortOnDropHandle;

use super::Known;
use crate::api::types::ports::END;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::websocket;

/// How much waits between the protocol and the WebSocket, each way.
const BUFFER: usize = 256 * 1024;

/// How long an answer may take, in seconds: a slow disk, or a slow line before many answers.
const ANSWER: u64 = 120;

/// The files of a space.
pub(super) struct Files {
    pub(super) session: SftpSession,
    _carried: AbortOnDropHandle<()>,
}

impl Files {
    /// Opens them.
    pub(super) async fn open(client: &Client, space: &str) -> Result<Self, Failure> {
        let (mut sink, mut stream) =
            websocket::open(client, &["spaces", space, "files"], &[]).await?.split();
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let carried = tokio::spawn(async move {
            let up = async {
                let mut buffer = vec![0; 32 * 1024];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    let read = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
                    if sink.send(Message::Binary(read)).await.is_err() {
                        return;
                    }
                }
                sink.send(Message::text(END)).await.ok();
            };
            let down = async {
                while let Some(Ok(message)) = stream.next().await {
                    let written = match message {
                        Message::Binary(data) => writer.write_all(&data).await,
                        Message::Text(_) | Message::Close(_) => return,
                        _ => Ok(()),
                    };
                    if written.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = up => {}
                // The end of what is read is the end of the session.
                () = down => {}
            }
        });
        let carried = AbortOnDropHandle::new(carried);
        let config = Config { request_timeout_secs: ANSWER, ..Config::default() };
        let session = SftpSession::new_with_config(ours, config).await;
        let session = session.map_err(|error| {
            Failure::operation(format!("the files of {space} cannot be opened: {error}"))
        })?;
        Ok(Self { session, _carried: carried })
    }

    /// What is at a path, links followed; `None` for nothing.
    pub(super) async fn look(&self, path: &str) -> Result<Option<FileAttributes>, Failure> {
        match self.session.metadata(path).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => Ok(None),
            Err(error) => Err(failed(path, &error)),
        }
    }
}

/// What is known of a file that is there.
pub(super) fn known(attributes: &FileAttributes) -> Known {
    Known {
        size: attributes.size.unwrap_or_default(),
        changed: attributes.mtime.unwrap_or_default(),
    }
}

/// Something could not be done with a path of the space.
pub(super) fn failed(path: &str, error: &Error) -> Failure {
    let why = match error {
        Error::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => "there is no such file or folder".to_owned(),
            StatusCode::PermissionDenied => "the space's user may not do that".to_owned(),
            _ => status.error_message.clone(),
        },
        error => format!("{error}; copy again to go on"),
    };
    Failure::operation(format!("{path} in the space: {why}"))
}
