//! Request streams of HTTP/3: whole or in pieces, the verdict is the same, and so are sections and
//! content. Nothing is kept beyond the bounds, and what comes out was in.
//!
//! Input: the length of pieces, and the stream.
#![no_main]

use bytes::Bytes;
use edge::http::h3::code::Broken;
use edge::http::h3::frames::{Frames, Piece};
use libfuzzer_sys::fuzz_target;

/// `limits.header_bytes`.
const HEADER_BYTES: usize = 1 << 10;

/// Sections, each with the content in front of it, and content at the end; whether a head came.
fn read(data: &[u8], size: usize) -> Result<(Vec<Vec<u8>>, bool), Broken> {
    let mut frames = Frames::new(HEADER_BYTES);
    let (mut out, mut content) = (Vec::new(), Vec::new());
    for piece in data.chunks(size.max(1)) {
        frames.feed(Bytes::copy_from_slice(piece));
        while let Some(piece) = frames.pull()? {
            match piece {
                Piece::Section(section) => {
                    assert!(!section.is_empty() && section.len() <= 4 * HEADER_BYTES + 1024);
                    out.push(std::mem::take(&mut content));
                    out.push(section.to_vec());
                }
                Piece::Content(more) => {
                    assert!(!more.is_empty());
                    content.extend_from_slice(&more);
                }
            }
        }
        assert!(frames.gathers() <= 4 * HEADER_BYTES as u64 + 1024);
    }
    out.push(content);
    assert!(out.iter().map(Vec::len).sum::<usize>() <= data.len() && out.len() <= 5);
    Ok((out, frames.end()?))
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    assert_eq!(read(data, data.len()), read(data, usize::from(size)));
});
