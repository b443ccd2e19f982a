//! `knot ssh-dial`: for OpenSSH's client, a connection to the first of several gateways that answers.
//!
//! The client takes the open socket over (its `ProxyUseFdpass`), so nothing stands between it and the
//! gateway, and this program ends before the first byte is read.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd,
    time::Duration,
};

use clap::Args;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::net::TcpStream;

use super::{client::cause, failure::Failure};

/// How long one gateway is waited for before the next is tried beside it: the Connection Attempt
/// Delay of RFC 8305.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a gateway may take to greet.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every SSH server begins with (RFC 4253, 4.2).
const GREETING: &[u8] = b"SSH-";

#[derive(Debug, Args)]
pub(crate) struct Dial {
    /// SSH gateways, the preferred one first
    #[arg(required = true, value_name = "HOST:PORT")]
    gateways: Vec<String>,
}

/// Connects, and hands the connection to whoever reads standard output.
pub(crate) async fn run(wanted: Dial) -> Result<(), Failure> {
    let stream = first(&wanted.gateways).await.map_err(|failures| {
        Failure::unreachable(format!("no SSH gateway answers: {}", failures.join("; ")))
    })?;
    hand_over(stream).map_err(|error| {
        Failure::local(format!(
            "the connection cannot be handed over: {}; this command is for `ProxyCommand` in ssh's \
             configuration, with `ProxyUseFdpass yes`",
            cause(&error)
        ))
    })
}

/// A connection to the first that greets, or why each does not.
async fn first(gateways: &[String]) -> Result<TcpStream, Vec<String>> {
    let mut rest = gateways.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        match rest.next() {
            Some(next) => attempts.push(greeted(next)),
            None if attempts.is_empty() => return Err(failures),
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(stream) => return Ok(stream),
                Err(failure) => failures.push(failure),
            },
            () = tokio::time::sleep(HEAD_START), if !rest.as_slice().is_empty() => {}
        }
    }
}

/// A connection on which the greeting waits to be read: a machine that hangs takes connections too.
async fn greeted(gateway: &str) -> Result<TcpStream, String> {
    let attempt = async {
        let stream = TcpStream::connect(gateway).await?;
        let mut greeting = [0; GREETING.len()];
        let length = stream.peek(&mut greeting).await?;
        match greeting.get(..length) {
            Some([]) => Err(io::Error::other("it closes the connection")),
            Some(heard) if GREETING.starts_with(heard) => Ok(stream),
            _ => Err(io::Error::other("what answers is no SSH server")),
        }
    };
    match tokio::time::timeout(PATIENCE, attempt).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("{gateway}: {}", cause(&error))),
        Err(_) => Err(format!("{gateway}: no word within {} s", PATIENCE.as_secs())),
    }
}

fn hand_over(stream: TcpStream) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let sockets = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    // A descriptor travels with at least one byte, whichever it is.
    let sent =
        sendmsg(rustix::stdio::stdout(), &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    /// A listener that says this to whoever comes, and keeps the connection.
    async fn listener(says: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(says.as_bytes()).await.unwrap();
                kept.push(stream);
            }
        });
        address
    }

    async fn nobody() -> String {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
    }

    #[tokio::test]
    async fn the_first_that_greets_is_taken_and_its_greeting_is_left_to_be_read() {
        let (silent, other) = (listener("").await, listener("HTTP/1.1 200 OK").await);
        let good = listener("SSH-2.0-x\r\n").await;
        let stream = first(&[nobody().await, silent, other, good.clone()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().to_string(), good);
        let mut heard = [0; 11];
        tokio::io::AsyncReadExt::read_exact(&mut { stream }, &mut heard).await.unwrap();
        assert_eq!(&heard, b"SSH-2.0-x\r\n");
    }

    #[tokio::test]
    async fn why_each_does_not_answer_is_told() {
        let (nobody, other) = (nobody().await, listener("HTTP").await);
        let failures = first(&[nobody.clone(), other.clone()]).await.unwrap_err();
        assert!(failures[0].starts_with(&nobody), "{failures:?}");
        assert_eq!(failures[1], format!("{other}: what answers is no SSH server"));
    }
}
