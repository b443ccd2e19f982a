//! What the fuzz targets share: decoding a frame as a connection would, changes cut out of an input, and panics that
//! the code under test catches itself.
//!
//! Run from the root of the repository, on stable Rust, with a C++ compiler:
//!
//! ```text
//! cargo fuzz run -s none seeds                                   # writes fuzz/corpus, and ends
//! cargo fuzz run -s none change -- -max_total_time=60
//! ```

pub mod seeds;

use std::{
    backtrace::Backtrace,
    future::Future,
    panic,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use knot_core::{
    id::ServerId,
    membership::{self, Membership},
    sync::{Engine, Input, ItemKey, Message, Output, plumtree::Plumtree},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// libFuzzer's hook ends the process at every panic, also at one that the code under test catches. This one does not: a
/// panic that nobody catches ends the process all the same, at the edge of the target, without saying which.
///
/// Set `KNOT_FUZZ_PANICS` to see where panics come from, those that are caught included; with `RUST_BACKTRACE`, how.
pub fn let_panics_be_caught() {
    if std::env::var_os("KNOT_FUZZ_PANICS").is_some() {
        panic::set_hook(Box::new(|panic| eprintln!("{panic}\n{}", Backtrace::capture())));
    } else {
        panic::set_hook(Box::new(|_| {}));
    }
}

/// Polls a future that reads from memory, and so is ready at once.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a reader in memory made its caller wait"),
    }
}

/// Decodes a value from an item, and as many as there are from a stream of frames. What was decoded must come back from
/// its own encoding.
pub fn decode_as<T>(data: &[u8], limit: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = knot_core::wire::decode::<T>(data) {
        let bytes = knot_core::wire::encode(&value).expect("what was decoded can be encoded");
        let back = knot_core::wire::decode::<T>(&bytes).expect("what was encoded can be decoded");
        assert_eq!(back, value);
    }
    let mut stream = data;
    while let Ok(Some(_)) = now(knot_core::wire::read_frame::<_, T>(&mut stream, limit)) {}
}

/// The id of a server by its number.
pub fn server(n: u128) -> ServerId {
    ServerId(Uuid::from_u128(n))
}

/// Server 1, which belongs with 2 and 3 and is linked to them.
pub fn listener() -> Membership {
    let mut listener = Membership::new(server(1), 1, [1; 32]);
    listener.handle(Duration::ZERO, membership::Input::Belong([1, 2, 3].map(server).into()));
    for peer in [2, 3].map(server) {
        listener.handle(Duration::ZERO, membership::Input::Linked { peer, run: 1 });
    }
    listener
}

/// Lets an engine with some items, and the links of a tree, answer a message; what goes out has a bound.
pub fn answer(message: Message) {
    let (me, peer) = (server(2), server(1));
    let mut engine = Engine::new(me);
    for n in 0..64_u8 {
        let key = ItemKey::from_bytes(Sha256::digest([n])[..16].try_into().expect("16 bytes"));
        engine.handle(Duration::ZERO, Input::Put(key, [n; 32]));
    }
    engine.handle(Duration::ZERO, Input::PeerUp(peer));
    let mut tree = Plumtree::new([0; 32]);
    tree.peer_up(Duration::ZERO, peer);
    if let Message::IHave(names) = &message {
        tree.i_have(Duration::ZERO, peer, names);
        tree.tick(Duration::from_secs(1));
    }
    for output in engine.handle(Duration::ZERO, Input::Message(peer, message)) {
        if let Output::Send(_, message) = output {
            let frame = knot_core::wire::encode_frame(&message, knot_core::wire::MAX_PEER_FRAME);
            frame.expect("an answer is within the limit");
        }
    }
}

/// automerge's header of a change: magic, checksum, type.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const TYPE_CHANGE: u8 = 1;

/// Cuts an input into changes. Each is two bytes of length and a body, which gets the header and the checksum that a
/// change of this body has: random bytes would never have the right one, and nothing behind it would be reached.
pub fn changes(mut data: &[u8]) -> Vec<Bytes> {
    let mut changes = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (body, rest) = rest.split_at(length);
        changes.push(sealed(body));
        data = rest;
    }
    changes
}

fn sealed(body: &[u8]) -> Bytes {
    let mut content = vec![TYPE_CHANGE];
    content.extend_from_slice(body);
    let sum = Sha256::digest(&content);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&sum[..4]);
    bytes.extend_from_slice(&content);
    bytes.into()
}

/// The input that [`changes`] cuts into these.
pub fn input_of(changes: &[Bytes]) -> Vec<u8> {
    let mut input = Vec::new();
    for change in changes {
        let body = &change[MAGIC.len() + 4 + 1..];
        let length = u16::try_from(body.len()).expect("seeds are short");
        input.extend_from_slice(&length.to_le_bytes());
        input.extend_from_slice(body);
    }
    input
}
