//! Datagrams to and from a UDP port of the space.

use std::{io, net::Ipv4Addr};

use bytes::Bytes;
use knot_core::{
    agent::{Answer, Refusal},
    wire::{MAX_AGENT_FRAME, read_frame, write_frame},
};
use quinn::{RecvStream, SendStream};
use tokio::net::UdpSocket;

use super::{Gone, Refused, answer, refuse};
use crate::activity::Activity;

/// The longest datagram that there is.
const LONGEST: usize = 64 << 10;

/// Exchanges datagrams with `port` until the server ends the stream.
pub(super) async fn exchange(
    port: u16,
    activity: &Activity,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), Gone> {
    let socket = match connect(port).await {
        Ok(socket) => socket,
        Err(error) => {
            let why = format!("UDP port {port} of this space cannot be used: {error}");
            return refuse(send, Refused { refusal: Refusal::Failed, why }).await;
        }
    };
    answer(&mut send, &Answer::Ready).await?;
    let forth = async {
        while let Some(datagram) = read_frame::<_, Bytes>(&mut receive, MAX_AGENT_FRAME).await? {
            activity.touch();
            if let Err(error) = socket.send(&datagram).await {
                // A datagram may be lost: who sent it knows how to live with that.
                tracing::debug!(%error, port, "datagram lost");
            }
        }
        Ok(())
    };
    let back = async {
        let mut buffer = vec![0; LONGEST];
        loop {
            let n = match socket.recv(&mut buffer).await {
                Ok(n) => n,
                // Nothing listens there yet: an earlier datagram was refused.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Gone::from(error),
            };
            activity.touch();
            let datagram = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
            if let Err(error) = write_frame(&mut send, &datagram, MAX_AGENT_FRAME).await {
                return Gone::from(error);
            }
        }
    };
    tokio::select! {
        ended = forth => ended,
        gone = back => Err(gone),
    }
}

async fn connect(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(socket)
}
