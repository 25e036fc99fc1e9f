//! An nginx configuration, whatever it holds: it is refused with the line, or becomes a file with a
//! note for what was left out; and never a panic. `cd tests/fuzz &&
//! cargo +nightly fuzz run nginx`.
#![no_main]

use std::path::Path;

use edge::config::Config;
use edge::import::nginx;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    match nginx::import_text(Path::new("/nonexistent/nginx.conf"), &text) {
        Err(error) => assert!(!error.what.is_empty() && error.line > 0, "a refusal without its line"),
        Ok(imported) => {
            assert!(
                imported.notes.iter().all(|note| note.line > 0 && !note.why.is_empty()),
                "a note without its line"
            );
            // Files are not there, and bounds are edge's own: what is told of it must be readable.
            if let Err(mistakes) = Config::parse(Path::new("/nonexistent/edge.toml"), &imported.text) {
                assert!(!mistakes.to_string().is_empty(), "a mistake without a word");
            }
        }
    }
});
