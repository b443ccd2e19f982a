//! Join tokens, as somebody pastes them.
#![no_main]

use knot_core::net::join::JoinToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<JoinToken>() {
        assert!(token.to_string().parse::<JoinToken>().is_ok_and(|back| back == token));
    }
});
