//! Free ports on loopback: those a server had before, the defaults, or the next ones.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use super::Error;

const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3_000);
const QUIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7_300);
const SSH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2_222);
/// How many ports are tried.
const TRIES: u16 = 1_000;

/// Hands out addresses, each once.
#[derive(Debug)]
pub(super) struct Ports {
    /// Named by the user: the next server gets just this one, or fails.
    named: Option<SocketAddr>,
    next_http: SocketAddr,
    next_quic: SocketAddr,
    next_ssh: SocketAddr,
    given: BTreeSet<SocketAddr>,
}

impl Ports {
    pub(super) fn new(named: Option<SocketAddr>) -> Self {
        Self {
            named,
            next_http: named.unwrap_or(HTTP),
            next_quic: QUIC,
            next_ssh: SSH,
            given: BTreeSet::new(),
        }
    }

    /// An HTTP address: the one that was named, or the one used before if it is free, or the next
    /// free one.
    pub(super) fn http(&mut self, before: Option<SocketAddr>) -> Result<SocketAddr, Error> {
        if self.named.is_some() {
            let address = self.next_http;
            self.next_http = after(address).ok_or(Error::NoPort(address))?;
            return if is_free_tcp(address) {
                Ok(address)
            } else {
                Err(Error::AddressTaken(address))
            };
        }
        let found = find(before, &mut self.next_http, &self.given, is_free_tcp)?;
        self.given.insert(found);
        Ok(found)
    }

    /// A QUIC address, likewise.
    pub(super) fn quic(&mut self, before: Option<SocketAddr>) -> Result<SocketAddr, Error> {
        find(before, &mut self.next_quic, &BTreeSet::new(), is_free_udp)
    }
}

impl Ports {
    /// An address of an SSH gateway, likewise.
    pub(super) fn ssh(&mut self, before: Option<SocketAddr>) -> Result<SocketAddr, Error> {
        let found = find(before, &mut self.next_ssh, &self.given, is_free_tcp)?;
        self.given.insert(found);
        Ok(found)
    }
}

fn find(
    before: Option<SocketAddr>,
    next: &mut SocketAddr,
    given: &BTreeSet<SocketAddr>,
    is_free: impl Fn(SocketAddr) -> bool,
) -> Result<SocketAddr, Error> {
    if let Some(before) = before.filter(|address| !given.contains(address) && is_free(*address)) {
        return Ok(before);
    }
    let from = *next;
    for _ in 0..TRIES {
        let address = *next;
        *next = after(address).ok_or(Error::NoPort(from))?;
        if !given.contains(&address) && is_free(address) {
            return Ok(address);
        }
    }
    Err(Error::NoPort(from))
}

fn after(address: SocketAddr) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.ip(), address.port().checked_add(1)?))
}

fn is_free_tcp(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn is_free_udp(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}
