//! A UDP forwarder in front of one server, by which single peers can be cut off.

use std::{
    collections::{BTreeSet, HashMap},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How often a silent thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// Forwards what comes to its address to the server behind, and the answers back.
pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    /// The ports whose packets are dropped, both ways.
    cut: Arc<Mutex<BTreeSet<u16>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LOOK)).unwrap();
        let address = socket.local_addr().unwrap();
        let (cut, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (cut, stop) = (Arc::clone(&cut), Arc::clone(&stop));
            std::thread::spawn(move || forward(&socket, to, &cut, &stop))
        };
        Self { address, cut, stop, thread: Some(thread) }
    }

    /// Drops, or passes on again, what comes from a port and goes to it.
    pub(crate) fn set_cut(&self, port: u16, cut: bool) {
        let mut all = self.cut.lock().unwrap();
        if cut {
            all.insert(port);
        } else {
            all.remove(&port);
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().ok();
    }
}

fn forward(
    socket: &UdpSocket,
    to: SocketAddr,
    cut: &Arc<Mutex<BTreeSet<u16>>>,
    stop: &Arc<AtomicBool>,
) {
    let mut onward: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut threads = Vec::new();
    let mut packet = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        if cut.lock().unwrap().contains(&from.port()) {
            continue;
        }
        let there = onward.entry(from).or_insert_with(|| {
            let there = UdpSocket::bind("127.0.0.1:0").unwrap();
            there.connect(to).unwrap();
            there.set_read_timeout(Some(LOOK)).unwrap();
            let (back, answers) = (socket.try_clone().unwrap(), there.try_clone().unwrap());
            let (cut, stop) = (Arc::clone(cut), Arc::clone(stop));
            threads.push(std::thread::spawn(move || {
                answer(&answers, &back, from, &cut, &stop);
            }));
            there
        });
        there.send(&packet[..length]).ok();
    }
    for thread in threads {
        thread.join().ok();
    }
}

fn answer(
    answers: &UdpSocket,
    back: &UdpSocket,
    to: SocketAddr,
    cut: &Mutex<BTreeSet<u16>>,
    stop: &AtomicBool,
) {
    let mut packet = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = answers.recv(&mut packet) else { continue };
        if !cut.lock().unwrap().contains(&to.port()) {
            back.send_to(&packet[..length], to).ok();
        }
    }
}
