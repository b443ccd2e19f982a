//! UDP sockets that are good for QUIC.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

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
