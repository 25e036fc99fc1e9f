//! HTTP/2 DATA frames that are joined and left out: content and all other frames must stay what
//! they were, however the bytes were split on their way. `cd tests/fuzz && cargo +nightly fuzz run
//! data_frames`.
//!
//! Input: three lengths of pieces, and the stream.
#![no_main]

use edge::http::data_frames::DataFrames;
use libfuzzer_sys::fuzz_target;

const HEAD: usize = 9;

/// Kind, flags, stream, payload, and how much of it has not come.
type Frame = (u8, u8, [u8; 4], Vec<u8>, usize);

/// The frames of `bytes`, with plain DATA frames of one stream as one and without empty ones; and
/// what is no frame yet.
fn meaning(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames: Vec<Frame> = Vec::new();
    while let Some((&[a, b, c, kind, flags, s, t, u, v], rest)) = bytes.split_first_chunk::<HEAD>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let came = rest.len().min(length);
        let (payload, rest) = rest.split_at(came);
        bytes = rest;
        let stream = [s, t, u, v];
        let plain = kind == 0 && flags & 9 == 0;
        if plain && length == 0 && stream.map(|b| b & 0x7f) != [0; 4] {
            continue;
        }
        match frames.last_mut() {
            Some(last) if plain && came == length && (last.0, last.1 & 9, last.2, last.4) == (0, 0, stream, 0) => {
                last.3.extend_from_slice(payload);
            }
            _ => frames.push((kind, flags, stream, payload.to_vec(), length - came)),
        }
    }
    (frames, bytes)
}

/// What remains of `stream` that comes in pieces of these lengths, in turn.
fn joined(stream: &[u8], pieces: &[u8]) -> Vec<u8> {
    let mut frames = DataFrames::from_server();
    let mut all = Vec::new();
    let mut lengths = pieces.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |&length| usize::from(length).max(1));
        let (piece, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        let mut buffer = [frames.kept(), piece].concat();
        let length = frames.join(&mut buffer);
        assert!(frames.kept().len() < HEAD);
        all.extend_from_slice(&buffer[..length]);
    }
    all.extend_from_slice(frames.kept());
    all
}

fuzz_target!(|input: &[u8]| {
    let Some((pieces, stream)) = input.split_first_chunk::<3>() else {
        return;
    };
    for pieces in [&[][..], pieces] {
        let all = joined(stream, pieces);
        assert!(all.len() <= stream.len());
        let (before, after) = (meaning(stream), meaning(&all));
        assert_eq!(before.1, after.1);
        // Only flags without a meaning may differ, of frames that were joined.
        assert_eq!(before.0, after.0);
    }
});
