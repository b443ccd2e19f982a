//! What servers say to each other, as an item and as a stream of frames; and what is answered to it.
#![no_main]

use knot_core::{sync::Message, wire, wire::MAX_PEER_FRAME};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    knot_fuzz::decode_as::<Message>(data, MAX_PEER_FRAME);
    if let Ok(message) = wire::decode::<Message>(data) {
        knot_fuzz::answer(message);
    }
});
