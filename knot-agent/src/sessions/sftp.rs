//! Files by the SSH file transfer protocol: by the image's own server where it has one, which knows its
//! accounts and its file systems best, else by one of the agent's.

mod files;
mod longname;

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
};

use knot_core::agent::{Command, Refusal, Run};
use quinn::{RecvStream, SendStream};
use russh_sftp::server;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_util::task::AbortOnDropHandle;

use self::files::Files;
use super::{Gone, Refused, Shared, connect::Connection, refuse};
use crate::{process, program::is_executable};

/// Where distributions keep OpenSSH's.
const SERVERS: [&str; 5] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/sftp-server",
];
/// The variable of a space with the path of the server to use; `built-in` is the agent's own.
const VARIABLE: &str = "SFTP_SERVER";
/// The value of [`VARIABLE`] that no path can have.
const BUILT_IN: &str = "built-in";
/// How many bytes wait between the protocol and the stream, each way.
const BUFFER: usize = 256 << 10;

impl Shared {
    /// Serves files until either end has had enough.
    pub(super) async fn sftp(&self, send: SendStream, receive: RecvStream) -> Result<(), Gone> {
        let surroundings = match self.surroundings.resolve(&Run {
            command: Command::Program(vec!["/proc/self/exe".to_owned()]),
            ..Run::default()
        }) {
            Ok(surroundings) => surroundings,
            Err(error) => {
                let why = error.to_string();
                return refuse(send, Refused { refusal: Refusal::Failed, why }).await;
            }
        };
        let named = surroundings.environment.get(std::ffi::OsStr::new(VARIABLE));
        let own = named.is_some_and(|named| named == BUILT_IN);
        let named = named.map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
        let image = named.or_else(|| {
            let known = SERVERS.into_iter().map(Path::new);
            known.filter(|path| is_executable(path)).map(Path::to_owned).next()
        });
        match image.filter(|_| !own) {
            Some(program) => self.image_sftp(&program, send, receive).await,
            None => {
                let (ours, theirs) = tokio::io::duplex(BUFFER);
                server::run(Once::new(theirs), Files::new(surroundings.directory)).await;
                let (reader, writer) = tokio::io::split(ours);
                let (reader, writer) = (Box::new(reader), Box::new(writer));
                self.carry(Connection { reader, writer }, send, receive).await
            }
        }
    }

    async fn image_sftp(
        &self,
        program: &Path,
        send: SendStream,
        receive: RecvStream,
    ) -> Result<(), Gone> {
        let command = Command::Program(vec![program.to_string_lossy().into_owned()]);
        let run = Run { command, ..Run::default() };
        let process = match process::start(&run, &self.surroundings, &self.children) {
            Ok(process) => process,
            Err(error) => {
                let why = error.to_string();
                return refuse(send, Refused { refusal: Refusal::Failed, why }).await;
            }
        };
        let process::Process { child: _child, input, output, error_output, control } = process;
        let _complaints = error_output.map(|complaints| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                let mut complaints = complaints;
                let mut buffer = [0; 512];
                while let Ok(n @ 1..) = complaints.read(&mut buffer).await {
                    let words = String::from_utf8_lossy(buffer.get(..n).unwrap_or_default());
                    tracing::debug!(%words, "sftp-server");
                }
            }))
        });
        let ended = self.carry(Connection { reader: output, writer: input }, send, receive).await;
        control.hang_up().await;
        ended
    }
}

/// A stream that has ended once it has failed: the protocol's server would read a broken one for ever.
struct Once<S> {
    stream: S,
    failed: bool,
}

impl<S> Once<S> {
    fn new(stream: S) -> Self {
        Self { stream, failed: false }
    }

    fn see<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.failed |= result.is_err();
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Once<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(self.see(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Once<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.see(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(self.see(flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
        Poll::Ready(self.see(shut))
    }
}
