//! What a client of HTTP/2 sends, as it is looked at before the h2 crate sees it: whole or in
//! pieces, the same goes on.
#![no_main]

use edge::http::heads::{Heads, PREFACE};
use libfuzzer_sys::fuzz_target;

/// What h2 gets of `data` in pieces of `size`.
fn passed(data: &[u8], size: usize) -> Vec<u8> {
    let mut heads = Heads::new(1 << 10);
    let (mut all, mut out) = (Vec::new(), Vec::new());
    let _ = heads.feed(&[0; PREFACE], &mut out);
    for piece in data.chunks(size.max(1)) {
        let at = heads.feed(piece, &mut out);
        all.extend_from_slice(&piece[..at]);
        all.append(&mut out);
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    let (whole, pieces) = (passed(data, data.len()), passed(data, usize::from(size)));
    // What is held back at the end is the same, too: nothing is lost in between.
    assert_eq!(whole, pieces);
});
