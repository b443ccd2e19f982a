//! A datagram between servers: its bytes, and what a membership does about them.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use knot_core::membership::{self, Input};
use knot_fuzz::{listener, server};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((root, packet)) = membership::decode(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(membership::encode(root, &packet), bytes);
    let mut listener = listener();
    let before = format!("{listener:?}");
    for from in [2, 3].map(server) {
        if listener.receive(Duration::ZERO, from, &packet).is_err() && from == server(2) {
            assert_eq!(format!("{listener:?}"), before);
        }
    }
    for seconds in 0..20 {
        listener.handle(Duration::from_secs(seconds), Input::Due);
    }
});
