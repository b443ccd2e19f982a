//! Lines for the space's log from programs inside it: syslog, GELF, and plain text.
//!
//! Each is listened for on the loopback interface, at its usual port where that is free, else at any: the
//! variables that commands are started with say where. What comes is written to the agent's own log, one line
//! each, which is the log that the space's home keeps.

mod gelf;
mod line;
mod syslog;

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};

use self::{gelf::Parts, line::Rate};
use crate::program::Environment;

/// How many lines wait to be written.
const QUEUE: usize = 256;
/// How many connections there may be to each listener.
const CONNECTIONS: usize = 64;
/// How long a listener rests that could not accept.
const REST: Duration = Duration::from_millis(100);

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Syslog,
    Gelf,
    Lines,
}

impl Format {
    const ALL: [Self; 3] = [Self::Syslog, Self::Gelf, Self::Lines];

    /// The port that programs expect.
    fn port(self) -> u16 {
        match self {
            Self::Syslog => 1_514,
            Self::Gelf => 12_201,
            Self::Lines => 1_515,
        }
    }

    /// The variable that says where it is listened.
    fn variable(self) -> &'static str {
        match self {
            Self::Syslog => "KNOT_SYSLOG",
            Self::Gelf => "KNOT_GELF",
            Self::Lines => "KNOT_LOG",
        }
    }

    /// What ends a message on a connection.
    fn end(self) -> u8 {
        match self {
            Self::Gelf => 0,
            Self::Syslog | Self::Lines => b'\n',
        }
    }

    /// The line that one message makes.
    fn read(self, message: &[u8]) -> Option<String> {
        match self {
            Self::Syslog => Some(syslog::read(message)),
            Self::Gelf => gelf::read(message),
            Self::Lines => Some(line::clean(message)),
        }
        .filter(|line| !line.is_empty())
    }
}

/// The bound sockets.
#[derive(Debug)]
pub struct Intake(Vec<(Format, UdpSocket, TcpListener)>);

impl Intake {
    /// Listens. What cannot be listened for is left out, with a line in the log: a space is of use without.
    pub async fn bind() -> Self {
        let mut bound = Vec::new();
        for format in Format::ALL {
            match listen(format.port()).await {
                Ok((datagrams, connections)) => bound.push((format, datagrams, connections)),
                Err(error) => tracing::warn!(?format, %error, "log lines are not listened for"),
            }
        }
        Self(bound)
    }

    /// Says in the environment of commands where it is listened.
    pub fn tell(&self, environment: &mut Environment) {
        for (format, _, connections) in &self.0 {
            if let Ok(address) = connections.local_addr() {
                environment.insert(format.variable().into(), OsString::from(address.to_string()));
            }
        }
    }

    /// Takes lines and writes them to `log`, for as long as it is polled.
    pub async fn run(self, log: impl tokio::io::AsyncWrite + Unpin) -> std::convert::Infallible {
        let (lines, waiting) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        for (format, datagrams, connections) in self.0 {
            tasks.spawn(take_datagrams(format, datagrams, lines.clone()));
            tasks.spawn(accept(format, connections, lines.clone()));
        }
        write(waiting, log).await;
        std::future::pending().await
    }
}

async fn listen(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    match both(port).await {
        Ok(bound) => Ok(bound),
        // Another space's agent stands there, where spaces share a network.
        Err(_) => both(0).await,
    }
}

async fn both(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let connections = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address: SocketAddr = connections.local_addr()?;
    Ok((UdpSocket::bind(address).await?, connections))
}

async fn take_datagrams(format: Format, socket: UdpSocket, lines: mpsc::Sender<String>) {
    let (mut buffer, mut parts) = (vec![0; 64 << 10], Parts::default());
    loop {
        let message = match socket.recv(&mut buffer).await {
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(error) => {
                tracing::debug!(?format, %error, "a log datagram was lost");
                sleep(REST).await;
                continue;
            }
        };
        let line = match format {
            Format::Gelf => {
                parts.take(message, Instant::now()).and_then(|whole| format.read(&whole))
            }
            _ => format.read(message),
        };
        if let Some(line) = line {
            // Where the log is not written as fast, lines are lost rather than memory.
            let _ = lines.try_send(line);
        }
    }
}

async fn accept(format: Format, listener: TcpListener, lines: mpsc::Sender<String>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let lines = lines.clone();
                connections.spawn(async move {
                    let _place = place;
                    take_stream(format, stream, lines).await;
                });
            }
            Err(error) => {
                tracing::debug!(?format, %error, "a log connection was not accepted");
                sleep(REST).await;
            }
        }
    }
}

/// Takes messages that end with a byte each. One that is too long is cut there. A writer waits for the log.
async fn take_stream(
    format: Format,
    mut stream: impl AsyncRead + Unpin,
    lines: mpsc::Sender<String>,
) {
    let mut buffer = BytesMut::new();
    loop {
        let ends = buffer.iter().position(|byte| *byte == format.end());
        let n = match ends {
            Some(n) => n,
            None if buffer.len() >= line::LONGEST_MESSAGE => buffer.len(),
            None => match stream.read_buf(&mut buffer).await {
                Ok(1..) => continue,
                // The last message may have no end.
                _ if buffer.is_empty() => return,
                _ => buffer.len(),
            },
        };
        let message = buffer.split_to(n);
        if ends.is_some() {
            buffer.advance(1);
        }
        if let Some(line) = format.read(&message)
            && lines.send(line).await.is_err()
        {
            return;
        }
    }
}

/// Writes lines, no faster than a log bears; of what is left out it says how much.
async fn write(mut waiting: mpsc::Receiver<String>, mut log: impl tokio::io::AsyncWrite + Unpin) {
    let mut rate = Rate::new(Instant::now());
    while let Some(mut text) = waiting.recv().await {
        let Some(missed) = rate.take(Instant::now()) else { continue };
        text.push('\n');
        if missed > 0 {
            text.insert_str(0, &format!("[{missed} log lines were left out: too many at once]\n"));
        }
        if log.write_all(text.as_bytes()).await.is_err() || log.flush().await.is_err() {
            tracing::debug!("the log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests;
