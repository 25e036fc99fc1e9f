//! What a client of HTTP/3 sends, as the guard in front of the h3 crate sees it: whole or in
//! pieces, the verdict is the same, and so is what h3 gets. Nothing that h3 gets is longer than the
//! guard's bounds.
#![no_main]

use bytes::Bytes;
use edge::http::h3::guard::{Broken, Frames, Streams};
use libfuzzer_sys::fuzz_target;

/// `limits.header_bytes`.
const HEADER_BYTES: usize = 1 << 10;

/// What h3 gets of a request stream, with DATA frames taken off: how content is cut is not a matter
/// of the verdict.
fn request(data: &[u8], size: usize) -> Result<Vec<u8>, Broken> {
    let mut frames = Frames::new(HEADER_BYTES);
    let (mut out, mut content) = (Vec::new(), false);
    for piece in data.chunks(size.max(1)) {
        frames.feed(Bytes::copy_from_slice(piece));
        while let Some(bytes) = frames.pull()? {
            // The front of a DATA frame is a piece of its own, and its content the next.
            if !std::mem::take(&mut content) && bytes.first() == Some(&0) {
                content = true;
                continue;
            }
            out.extend(bytes);
        }
    }
    frames.end()?;
    Ok(out)
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let size = usize::from(how >> 1).max(1);
    if how & 1 == 0 {
        assert_eq!(request(data, data.len()), request(data, size));
    } else {
        let (mut whole, mut pieces) = (Streams::default(), Streams::default());
        let mut gathered = Vec::new();
        let piecewise = data
            .chunks(size)
            .try_for_each(|piece| pieces.pass(piece).map(|out| gathered.extend(out)));
        match whole.pass(data) {
            Ok(out) => assert!(piecewise.is_ok() && out == gathered),
            Err(fatal) => assert_eq!(piecewise, Err(fatal)),
        }
        let _ = (whole.end(), pieces.end());
    }
});
