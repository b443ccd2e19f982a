//! What a server's network stands on: a UDP socket, or another carrier of datagrams.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::{AsyncUdpSocket, Endpoint, TokioRuntime};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::{service::Error, tls};

/// How many bytes the system is asked to keep of what has come, and of what is to go, where nobody has had the time for it yet.
/// Linux gives 208 KiB unasked: what comes at full speed overflows that, and QUIC then takes the path for a narrow one.
const BUFFER: usize = 4 << 20;

/// A UDP socket for QUIC, which takes IPv4 too where `address` is all of IPv6.
///
/// # Errors
/// The address cannot be had.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // The system may give less, by its `net.core.rmem_max` and `wmem_max`, without saying so.
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    net::bind(&socket, &address)?;
    Ok(socket.into())
}

/// Where a server's datagrams come from and go to.
#[derive(Debug)]
pub enum Socket {
    /// A bound UDP socket.
    Udp(UdpSocket),
    /// Anything else that carries datagrams: a tunnel, or a simulated network.
    Other {
        /// The carrier.
        socket: Arc<dyn AsyncUdpSocket>,
        /// Decides whatever the network leaves to chance, secrets apart.
        seed: [u8; 32],
    },
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Self {
        Self::Udp(socket)
    }
}

impl Socket {
    /// What decides how dialling is spread in time.
    pub(super) fn seed(&self) -> u64 {
        match self {
            Self::Udp(_) => rand::random(),
            Self::Other { seed: [a, b, c, d, e, f, g, h, ..], .. } => {
                u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
            }
        }
    }

    /// An endpoint on the socket, which accepts connections where it has a configuration for that.
    pub(super) fn endpoint(self, config: Option<quinn::ServerConfig>) -> Result<Endpoint, Error> {
        let mut endpoint = tls::endpoint();
        let runtime = Arc::new(TokioRuntime);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let (address, result) = match self {
            Self::Udp(socket) => {
                (socket.local_addr(), Endpoint::new(endpoint, config, socket, runtime))
            }
            Self::Other { socket, seed } => {
                endpoint.rng_seed(Some(seed));
                let address = socket.local_addr();
                (address, Endpoint::new_with_abstract_socket(endpoint, config, socket, runtime))
            }
        };
        result.map_err(|source| Error::Listen { address: address.unwrap_or(unknown), source })
    }
}
