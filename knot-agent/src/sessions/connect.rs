//! Connections from the space to what listens in it, or beyond.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bytes::BytesMut;
use knot_core::agent::{Answer, Refusal, Target};
use quinn::{RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{Gone, Refused, Shared, answer};
use crate::{activity::Activity, names};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How many bytes one read of a connection takes at most.
const READ: usize = 64 << 10;

/// A connection's two halves.
pub(super) struct Connection {
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        // What people type is to leave at once. Where it cannot be set, it leaves a little later.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self { reader: Box::new(reader), writer: Box::new(writer) }
    }
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: Box::new(reader), writer: Box::new(writer) }
    }
}

/// Connects to `target`.
pub(super) async fn connect(target: &Target) -> Result<Connection, Refused> {
    let connecting = async {
        match target {
            Target::Tcp { host, port } => Ok(tcp(host, *port).await?.into()),
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                stream.map(Connection::from).map_err(|error| refused(path, &error))
            }
        }
    };
    timeout(CONNECT, connecting).await.unwrap_or_else(|_| {
        let why = format!("no connection was made within {} s", CONNECT.as_secs());
        Err(Refused { refusal: Refusal::NotFound, why })
    })
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Refused> {
    let mut first = None;
    for address in addresses(host).await? {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => return Ok(stream),
            // What the first address says is what people know.
            Err(error) => first = first.or(Some(error)),
        }
    }
    let error = first.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    Err(refused(&format!("{host}:{port}"), &error))
}

/// Where a host is: `localhost` is here, whatever the image says.
pub(super) async fn addresses(host: &str) -> Result<Vec<IpAddr>, Refused> {
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    names::resolve(host).await.map_err(|why| Refused { refusal: Refusal::NotFound, why })
}

fn refused(target: &str, error: &io::Error) -> Refused {
    let refusal = match error.kind() {
        io::ErrorKind::ConnectionRefused => Refusal::NotListening,
        io::ErrorKind::NotFound
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::TimedOut => Refusal::NotFound,
        _ => Refusal::Failed,
    };
    let why = match refusal {
        Refusal::NotListening => format!("nothing listens at {target}"),
        _ => format!("{target} cannot be connected to: {error}"),
    };
    Refused { refusal, why }
}

impl Shared {
    /// Carries a connection's bytes each way until both halves have ended, or one has failed.
    pub(super) async fn carry(
        &self,
        connection: Connection,
        mut send: SendStream,
        receive: RecvStream,
    ) -> Result<(), Gone> {
        answer(&mut send, &Answer::Ready).await?;
        let stopped = send.stopped();
        let both = async {
            let forth = pump(receive, connection.writer, &self.activity);
            let back = pump(connection.reader, send, &self.activity);
            tokio::try_join!(forth, back)
        };
        tokio::select! {
            ended = both => { ended?; }
            Ok(Some(_)) = stopped => return Err(Gone),
            () = self.shutdown.cancelled() => return Err(Gone),
        }
        Ok(())
    }
}

/// Carries bytes one way to their end, and ends the other side. Each chunk is use of the space.
pub(crate) async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        if (&mut from).take(READ as u64).read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        activity.touch();
        to.write_all_buf(&mut buffer).await?;
    }
}
