//! What a server's network stands on: a UDP socket, or another carrier of datagrams.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::{AsyncUdpSocket, Endpoint, TokioRuntime};

use super::{service::Error, tls};

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
