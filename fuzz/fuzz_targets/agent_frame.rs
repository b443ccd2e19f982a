//! What agents and servers say to each other, in either direction.
#![no_main]

use knot_core::{
    agent::{Answer, Enrol, Enrolled, FromAgent, Heard, Hello, Open, ToAgent, Welcome},
    wire::MAX_AGENT_FRAME,
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
});
