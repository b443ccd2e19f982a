//! A network in memory that carries datagrams late, not at all, twice and out of order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    ops::RangeInclusive,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, Sleep, sleep_until};

/// The most datagrams that wait for one socket: what comes beyond is lost.
const INBOX: usize = 8_192;
/// The most datagrams that a trace lists; its digest goes on.
const LISTED: usize = 1 << 20;

/// How a network carries datagrams. Two with unequal delays may overtake each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// How long a datagram takes, in milliseconds.
    pub delay: RangeInclusive<u64>,
    /// The share of datagrams that are lost, in percent.
    pub loss: u8,
    /// The share of datagrams that arrive twice, in percent.
    pub twice: u8,
}

impl Default for Weather {
    /// 1 to 10 ms; nothing is lost or doubled.
    fn default() -> Self {
        Self { delay: 1..=10, loss: 0, twice: 0 }
    }
}

/// One datagram that a server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// When, since the network began.
    pub at: Duration,
    /// The sender's address.
    pub from: SocketAddr,
    /// The address it was sent to.
    pub to: SocketAddr,
    /// Its length.
    pub bytes: usize,
    /// How many copies were put on their way: none where it was lost.
    pub copies: u8,
}

/// The datagrams of a network, in the order in which they were sent.
#[derive(Clone)]
pub struct Trace {
    /// The first million.
    pub datagrams: Vec<Datagram>,
    /// How many there were.
    pub count: u64,
    digest: Sha256,
}

impl Trace {
    fn new() -> Self {
        Self { datagrams: Vec::new(), count: 0, digest: Sha256::new() }
    }

    /// A digest of all datagrams: of their times, addresses, lengths and fates.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    fn push(&mut self, datagram: Datagram) {
        self.count += 1;
        self.digest.update(format!("{datagram:?}"));
        if self.datagrams.len() < LISTED {
            self.datagrams.push(datagram);
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A network; clones are the same one. Whatever it does to a datagram follows from its seed.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: StdRng,
    began: Instant,
    weather: Weather,
    /// The sockets by address; each is at the place of its server.
    ports: BTreeMap<SocketAddr, Arc<Mutex<Port>>>,
    /// Pairs of places that do not hear each other, the lower first.
    cut: BTreeSet<(usize, usize)>,
    sent: u64,
    trace: Trace,
}

#[derive(Debug)]
struct Port {
    place: usize,
    address: SocketAddr,
    plugged: bool,
    /// Datagrams by when they arrive, with their senders' addresses.
    inbox: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    timer: Pin<Box<Sleep>>,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// A network without sockets. Must be called within a tokio runtime.
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            began: Instant::now(),
            weather,
            ports: BTreeMap::new(),
            cut: BTreeSet::new(),
            sent: 0,
            trace: Trace::new(),
        })))
    }

    /// A socket of the server at a place. One that had the address before is unplugged.
    pub fn socket(&self, place: usize, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        self.unplug(address);
        let port = Arc::new(Mutex::new(Port {
            place,
            address,
            plugged: true,
            inbox: BTreeMap::new(),
            timer: Box::pin(sleep_until(Instant::now())),
            waker: None,
        }));
        lock(&self.0).ports.insert(address, Arc::clone(&port));
        Arc::new(Wire { network: self.clone(), port })
    }

    /// From now on the socket of an address sends and hears nothing; nobody is told.
    pub fn unplug(&self, address: SocketAddr) {
        if let Some(port) = lock(&self.0).ports.remove(&address) {
            let mut port = lock(&port);
            port.plugged = false;
            port.inbox.clear();
        }
    }

    /// Gives a socket another address, as a router does that forgets a mapping: its owner is not
    /// told, and what is sent to the old address is lost.
    pub fn rebind(&self, old: SocketAddr, new: SocketAddr) {
        let mut state = lock(&self.0);
        if let Some(port) = state.ports.remove(&old) {
            lock(&port).address = new;
            state.ports.insert(new, port);
        }
    }

    /// Changes how datagrams are carried from now on.
    pub fn set_weather(&self, weather: Weather) {
        lock(&self.0).weather = weather;
    }

    /// Separates groups of places; a place in none of them, of so many, stands alone.
    pub fn cut(&self, places: usize, groups: &[&[usize]]) {
        let group = |at: usize| groups.iter().position(|group| group.contains(&at));
        let apart = |a: usize, b: usize| group(a).is_none() || group(a) != group(b);
        let pairs = (0..places).flat_map(|a| (a + 1..places).map(move |b| (a, b)));
        lock(&self.0).cut = pairs.filter(|(a, b)| apart(*a, *b)).collect();
    }

    /// Ends every separation.
    pub fn heal(&self) {
        lock(&self.0).cut.clear();
    }

    /// What was sent so far.
    pub fn trace(&self) -> Trace {
        lock(&self.0).trace.clone()
    }

    fn send(&self, own: &Mutex<Port>, to: SocketAddr, content: &[u8]) {
        let (from, place) = {
            let port = lock(own);
            if !port.plugged {
                return;
            }
            (port.address, port.place)
        };
        let mut state = lock(&self.0);
        let now = Instant::now();
        let Weather { delay, loss, twice } = state.weather.clone();
        // As many draws for each datagram, whatever becomes of it.
        let (lost, doubled) =
            (state.rng.random_range(0..100) < loss, state.rng.random_range(0..100) < twice);
        let delays = [state.rng.random_range(delay.clone()), state.rng.random_range(delay)];
        let receiver = state.ports.get(&to).cloned();
        let heard = receiver.filter(|port| {
            let other = lock(port).place;
            !lost && !state.cut.contains(&(place.min(other), place.max(other)))
        });
        let copies = match (&heard, doubled) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        };
        let at = now - state.began;
        state.trace.push(Datagram { at, from, to, bytes: content.len(), copies });
        for millis in delays.into_iter().take(copies.into()) {
            state.sent += 1;
            let key = (now + Duration::from_millis(millis), state.sent);
            if let Some(port) = &heard {
                lock(port).put(key, from, content);
            }
        }
    }
}

impl Port {
    fn put(&mut self, key: (Instant, u64), from: SocketAddr, content: &[u8]) {
        if self.inbox.len() >= INBOX {
            return;
        }
        self.inbox.insert(key, (from, content.to_vec()));
        if self.inbox.first_key_value().is_some_and(|(first, _)| *first == key)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// The next datagram that has arrived.
    fn take(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let entry = self.inbox.first_entry()?;
        (entry.key().0 <= Instant::now()).then(|| entry.remove())
    }
}

/// One end of the network.
struct Wire {
    network: Network,
    port: Arc<Mutex<Port>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Wire {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(&self.port, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut port = lock(&self.port);
        loop {
            let mut count = 0;
            for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()) {
                let Some((from, content)) = port.take() else { break };
                let len = content.len().min(buffer.len());
                buffer.iter_mut().zip(&content).for_each(|(to, from)| *to = *from);
                *meta = RecvMeta { addr: from, len, stride: len, ecn: None, dst_ip: None };
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            port.waker = Some(cx.waker().clone());
            let Some((next, _)) = port.inbox.first_key_value() else { return Poll::Pending };
            let next = next.0;
            port.timer.as_mut().reset(next);
            if port.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(lock(&self.port).address)
    }
}

/// There is always room for one more datagram.
#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
