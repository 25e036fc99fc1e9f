//! What a client of HTTP/3 sends, as the guard in front of the h3 crate sees it: whole or in pieces, the verdict is the same.
#![no_main]

use edge::http::h3::guard::{Head, Streams};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let size = usize::from(how >> 1).max(1);
    if how & 1 == 0 {
        let (mut whole, mut pieces) = (Head::default(), Head::default());
        let sound = data.chunks(size).all(|piece| pieces.sound(piece));
        assert_eq!(whole.sound(data), sound);
    } else {
        let (mut whole, mut pieces) = (Streams::default(), Streams::default());
        let piecewise = data.chunks(size).try_for_each(|piece| pieces.look(piece));
        assert_eq!(whole.look(data), piecewise);
        let _ = (whole.end(), pieces.end());
    }
});
