//! `knot port-forward`: ports of this machine that lead to ports of a space.
//!
//! Each connection is a WebSocket of its own, and begins with whichever server of the cluster answers then: a
//! server that goes away ends the connections it carries, and the next ones go on through another.

mod datagrams;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::client::{Answer, Client, cause};
use super::context::Context;
use super::failure::Failure;
use super::up;
use super::websocket::{self, WebSocket};
use crate::api::types::Space;
use crate::api::types::ports::END;

/// How much of a connection is read at a time.
const CHUNK: usize = 32 * 1024;

/// For how long a server that cannot be reached is tried again before a connection is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// How many connections are carried at a time; more wait to be taken.
const CONNECTIONS: usize = 512;

#[derive(Debug, Args)]
pub(crate) struct PortForward {
    /// The space's name or id
    space: String,
    /// LOCAL:PORT, or PORT for the same here; LOCAL 0 is any free one
    #[arg(required = true, value_name = "LOCAL:PORT", value_parser = parse_pair)]
    ports: Vec<Pair>,
    /// Forward datagrams
    #[arg(long)]
    udp: bool,
    /// Listen at this address of this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
}

/// A port here and one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    local: u16,
    remote: u16,
}

fn parse_pair(text: &str) -> Result<Pair, String> {
    let wrong = || "write it like 8080:80, or 80".to_owned();
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let local = if local.is_empty() { "0" } else { local };
    let pair = Pair {
        local: local.parse().map_err(|_| wrong())?,
        remote: remote.parse().map_err(|_| wrong())?,
    };
    if pair.remote == 0 { Err(wrong()) } else { Ok(pair) }
}

/// What all connections have in common.
struct Way {
    client: Client,
    space: String,
}

/// What is listened at.
enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Forwards until this program is ended.
pub(crate) async fn run(context: &Context, wanted: PortForward) -> Result<(), Failure> {
    let client = context.client()?;
    // Whether there is such a space is known at once, and from then on it is named by its id.
    let space: Answer<Space> = client.get(&["spaces", &wanted.space]).await?;
    client.learn().await;
    let mut bound = Vec::new();
    for pair in wanted.ports {
        let at = SocketAddr::new(wanted.bind, pair.local);
        bound.push((bind(at, wanted.udp).await?, pair.remote));
    }
    let (id, name) = (space.value.id.clone(), space.value.name.clone());
    up::up(context, &client, space.value).await?;
    let way = Rc::new(Way { client, space: id });
    let local = LocalSet::new();
    for ((listener, at), port) in bound {
        let protocol = if wanted.udp { "udp" } else { "tcp" };
        let result =
            json!({ "local": at.to_string(), "space": name, "port": port, "protocol": protocol });
        context.reader.show(&result, |_| {
            let words = if wanted.udp { "Datagrams to" } else { "Connections to" };
            format!("{words} {at} go to port {port} of {name}\n")
        })?;
        match listener {
            Listener::Tcp(listener) => local.spawn_local(serve(Rc::clone(&way), listener, port)),
            Listener::Udp(socket) => {
                local.spawn_local(datagrams::serve(Rc::clone(&way), socket, port))
            }
        };
    }
    local.await;
    Ok(())
}

async fn bind(at: SocketAddr, udp: bool) -> Result<(Listener, SocketAddr), Failure> {
    listen(at, udp).await.map_err(|error| {
        let why = cause(&error);
        Failure::local(format!(
            "{at} cannot be listened at: {why}; name another port before the colon"
        ))
    })
}

/// Listens at an address, and says which it is: any free port may be asked for.
async fn listen(at: SocketAddr, udp: bool) -> io::Result<(Listener, SocketAddr)> {
    if udp {
        let socket = UdpSocket::bind(at).await?;
        let at = socket.local_addr()?;
        return Ok((Listener::Udp(socket), at));
    }
    let listener = TcpListener::bind(at).await?;
    let at = listener.local_addr()?;
    Ok((Listener::Tcp(listener), at))
}

impl Way {
    /// Opens a WebSocket to a port, trying again for a while where no server can be reached.
    async fn open(&self, kind: &str, port: u16) -> Result<WebSocket, Failure> {
        let (began, mut pause) = (Instant::now(), PAUSES.0);
        let port = port.to_string();
        loop {
            let path = ["spaces", self.space.as_str(), kind];
            let failure = match websocket::open(&self.client, &path, &[("port", &port)]).await {
                Ok(socket) => {
                    if self.client.has_moved() {
                        self.client.learn().await;
                    }
                    return Ok(socket);
                }
                Err(failure) => failure,
            };
            let passing = failure.is_passing() && !failure.is("not_listening");
            if !passing || began.elapsed() + pause > PATIENCE {
                return Err(failure);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Says what went wrong with one connection: the others go on.
    fn tell(&self, port: u16, why: &str) {
        eprintln!("knot: a connection to port {port}: {}", super::output::clean(why));
    }
}

async fn serve(way: Rc<Way>, listener: TcpListener, port: u16) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                way.tell(port, &format!("it could not be taken: {}", cause(&error)));
                sleep(PAUSES.0).await;
                continue;
            }
        };
        let way = Rc::clone(&way);
        tokio::task::spawn_local(async move {
            let _place = place;
            if let Err(why) = carry(&way, connection, port).await {
                way.tell(port, &why);
            }
        });
    }
}

/// Carries one connection to its end.
async fn carry(way: &Way, connection: TcpStream, port: u16) -> Result<(), String> {
    connection.set_nodelay(true).ok();
    let socket = way.open("connect", port).await.map_err(|failure| failure.to_string())?;
    let (mut sink, mut stream) = socket.split();
    let (reader, writer) = connection.into_split();
    tokio::try_join!(up(reader, &mut sink), down(&mut stream, writer))?;
    sink.close().await.ok();
    Ok(())
}

async fn up(
    mut reader: OwnedReadHalf,
    sink: &mut SplitSink<WebSocket, Message>,
) -> Result<(), String> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = reader.read(&mut buffer).await.map_err(|error| cause(&error))?;
        let message = match buffer.get(..count).unwrap_or_default() {
            [] => Message::text(END),
            read => Message::Binary(Bytes::copy_from_slice(read)),
        };
        // What the server has to say of it is read by the other half.
        if sink.send(message).await.is_err() {
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
    }
}

async fn down(
    stream: &mut SplitStream<WebSocket>,
    mut writer: OwnedWriteHalf,
) -> Result<(), String> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(data))) => {
                writer.write_all(&data).await.map_err(|error| cause(&error))?;
            }
            Some(Ok(Message::Text(text))) if text.as_str() == END => {
                writer.shutdown().await.ok();
                // The server closes once it has heard the other half's end.
            }
            Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) != 1000 => {
                return Err(frame.reason.to_string());
            }
            Some(Ok(Message::Close(_))) => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(format!("the server was lost: {}", cause(&error))),
            None => return Err("the server was lost".to_owned()),
        }
    }
}
