//! Owns the fuzzing of request bodies: the first byte picks the method, the rest is its body.
//!
//! No body may panic, and what decodes must decode again after it was encoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use libnetwork_plugin::Method;

#[path = "../../crates/libnetwork-plugin/tests/recorded/decode.rs"]
mod decode;

use decode::{Decoded, decode};

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let method = Method::ALL[usize::from(*first) % Method::ALL.len()].0;
    match decode(method, body) {
        Ok(Decoded::Nothing) => assert!(method.has_no_body()),
        Ok(Decoded::Retry) => assert!(!method.has_no_body()),
        // Equality is not asked for: serde_json reads some floats one bit off.
        Ok(Decoded::Request(kept)) => {
            let again = decode(method, kept.to_string().as_bytes());
            assert!(matches!(again, Ok(Decoded::Request(_))), "{method:?}: {again:?}");
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
});
