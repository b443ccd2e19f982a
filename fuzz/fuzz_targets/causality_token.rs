//! Causality tokens, as they come in a header or a cookie.
#![no_main]

use knot_core::replica::{MAX_DOCUMENTS, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = Token::from_text(text) {
        assert!(token.entries().count() <= MAX_DOCUMENTS);
        let mut again = Token::new();
        again.extend(&token);
        assert!(Token::from_text(&token.to_text()).is_ok_and(|back| back == token));
    }
});
