//! Datagrams forwarded to a space: a WebSocket for each sender, so that answers find back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::{Way, cause};
use crate::api::types::ports::MAX_DATAGRAM;

/// How many senders are known at a time; datagrams of further ones are dropped.
const SENDERS: usize = 256;

/// How many datagrams of a sender wait for the server; more are dropped.
const WAITING: usize = 64;

/// A sender without datagrams either way for so long is forgotten.
const SILENCE: Duration = Duration::from_secs(120);

/// Forwards what comes to a socket.
pub(super) async fn serve(way: Rc<Way>, socket: UdpSocket, port: u16) {
    let socket = Rc::new(socket);
    let mut senders: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let (count, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An answer that nobody took is told here; it concerns no one else.
            Err(_) => continue,
        };
        senders.retain(|_, waiting| !waiting.is_closed());
        let datagram = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        if !senders.contains_key(&from) && senders.len() < SENDERS {
            let (waiting, datagrams) = mpsc::channel(WAITING);
            senders.insert(from, waiting);
            let (way, socket) = (Rc::clone(&way), Rc::clone(&socket));
            tokio::task::spawn_local(async move {
                if let Err(why) = carry(&way, &socket, from, port, datagrams).await {
                    way.tell(port, &why);
                }
            });
        }
        if let Some(waiting) = senders.get(&from) {
            // A datagram may be lost.
            let _ = waiting.try_send(datagram);
        }
    }
}

/// Carries a sender's datagrams until it is silent, or the way is lost: its next one begins anew.
async fn carry(
    way: &Way,
    socket: &UdpSocket,
    from: SocketAddr,
    port: u16,
    mut datagrams: mpsc::Receiver<Bytes>,
) -> Result<(), String> {
    let opened = way.open("datagrams", port).await.map_err(|failure| failure.to_string())?;
    let (mut sink, mut stream) = opened.split();
    loop {
        let both = async {
            tokio::select! {
                datagram = datagrams.recv() => match datagram {
                    Some(datagram) => sink.send(Message::Binary(datagram)).await.map_err(|error| cause(&error)),
                    None => Ok(()),
                },
                message = stream.next() => match message {
                    Some(Ok(Message::Binary(datagram))) => {
                        let _ = socket.send_to(&datagram, from).await;
                        Ok(())
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                        Err(format!("the server closed it: {why}"))
                    }
                    Some(Ok(_)) => Ok(()),
                    Some(Err(error)) => Err(format!("the server was lost: {}", cause(&error))),
                    None => Err("the server was lost".to_owned()),
                },
            }
        };
        match timeout(SILENCE, both).await {
            Ok(done) => done?,
            Err(_) => {
                sink.close().await.ok();
                return Ok(());
            }
        }
    }
}
