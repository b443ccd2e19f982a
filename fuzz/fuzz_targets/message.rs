//! What servers say to each other, as an item and as a stream of frames.
#![no_main]

use knot_core::{sync::Message, wire::MAX_PEER_FRAME};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| knot_fuzz::decode_as::<Message>(data, MAX_PEER_FRAME));
