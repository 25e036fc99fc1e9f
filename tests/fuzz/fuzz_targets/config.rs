//! The configuration: whatever an operator writes ends in a configuration or in mistakes that can
//! be shown, never in a panic, which a reload would turn into an outage. `cd tests/fuzz && cargo
//! +nightly fuzz run config`.
#![no_main]

use std::path::Path;

use edge::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::parse(Path::new("/nonexistent/edge.toml"), text) {
        Ok(config) => drop(config),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty(), "a mistake without a word"),
    }
});
