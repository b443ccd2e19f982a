//! Ports of this machine that belong to one test program: a server that was killed finds its own free when it is started
//! again, and nobody else answers there meanwhile.

use std::{
    fs::File,
    net::{TcpListener, UdpSocket},
    sync::{LazyLock, Mutex, PoisonError},
};

/// The first port of the first block. All blocks are below the ports that the system gives to whoever asks for any.
const FIRST: u16 = 10_000;
const SIZE: u16 = 1_000;
const BLOCKS: u16 = 22;

/// The block of this program, which other programs of the tests keep away from until it ends.
struct Block {
    _held: File,
    next: u16,
    end: u16,
}

static BLOCK: LazyLock<Mutex<Block>> = LazyLock::new(|| Mutex::new(Block::take()));

/// A port that nothing listens on, for TCP and for UDP; each is given once.
pub(crate) fn port() -> u16 {
    BLOCK.lock().unwrap_or_else(PoisonError::into_inner).port()
}

impl Block {
    fn take() -> Self {
        let user = rustix::process::getuid().as_raw();
        let block = (0..BLOCKS).find_map(|n| {
            let name = format!("knot-tests-{user}-ports-{n}.lock");
            let held = File::create(std::env::temp_dir().join(name)).unwrap();
            held.try_lock().ok()?;
            let next = FIRST + n * SIZE;
            Some(Self { _held: held, next, end: next + SIZE })
        });
        block.expect("no more programs than there are blocks run at once")
    }

    fn port(&mut self) -> u16 {
        loop {
            let port = self.next;
            assert!(port < self.end, "the block is used up");
            self.next += 1;
            // Engines publish ports at all addresses.
            let at = ("0.0.0.0", port);
            if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
                return port;
            }
        }
    }
}
