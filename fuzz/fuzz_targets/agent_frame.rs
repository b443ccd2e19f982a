//! What agents and servers say to each other, in either direction.
#![no_main]

use bytes::Bytes;
use knot_core::{
    agent::{
        Answer, Attached, Enrol, Enrolled, FromAgent, FromTerminal, Heard, Hello, Open,
        TerminalInfo, ToAgent, ToTerminal, Welcome, sequences::Scanner,
    },
    wire::{self, MAX_AGENT_FRAME},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    knot_fuzz::decode_as::<Hello>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Welcome>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Open>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Enrol>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Enrolled>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Answer>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Heard>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<ToAgent>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<FromAgent>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Attached>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<Vec<TerminalInfo>>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<ToTerminal>(data, MAX_AGENT_FRAME);
    knot_fuzz::decode_as::<FromTerminal>(data, MAX_AGENT_FRAME);
    // What shares its frame is what a copy of it would be.
    let frame = Bytes::copy_from_slice(data);
    if let Ok(shared) = ToAgent::in_frame(&frame) {
        assert_eq!(wire::decode(data).ok(), Some(shared));
    }
    if let Ok(shared) = FromAgent::in_frame(&frame) {
        assert_eq!(wire::decode(data).ok(), Some(shared));
    }
    // What a terminal shows comes from programs that nobody knows: its pieces are the output, byte for byte.
    let (mut scanner, mut pieces) = (Scanner::default(), Vec::new());
    scanner.scan(data, |piece| pieces.extend_from_slice(piece.bytes()));
    assert!(pieces.len() <= data.len());
});
