//! What gRPC servers say of their health: whatever comes is a verdict or none, and what the edge
//! asks is not taken for an answer that serves. `cd tests/fuzz && cargo +nightly fuzz run
//! grpc_health`.
#![no_main]

use edge::origin::grpc_health::{asked, serving};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let said = serving(input);
    // The message is as long as its frame says, and nothing else is an answer.
    let framed = input
        .split_first_chunk::<5>()
        .is_some_and(|([mark, length @ ..], rest)| *mark == 0 && u32::from_be_bytes(*length) as usize == rest.len());
    assert!(framed || said.is_none());
    if let Ok(service) = std::str::from_utf8(input) {
        assert_ne!(serving(&asked(service)), Some(true), "a name is not a status");
    }
});
