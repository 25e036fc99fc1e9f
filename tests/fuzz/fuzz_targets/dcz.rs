//! Differences: whatever a far end or a network sends, decoding ends in content within the bound or
//! in an error, in the same way however it is cut; and content that passes the checksum of a
//! changed stream is the content that was encoded. `cd tests/fuzz && cargo +nightly fuzz run dcz`.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use edge::delta::codec::{CodecError, Decoder, Dictionary, Level, dcb, dcz};
use libfuzzer_sys::fuzz_target;

/// More than any honest stream here has.
const LIMIT: u64 = 1 << 20;

static OLD: LazyLock<Dictionary> =
    LazyLock::new(|| Dictionary::new(b"<p>one of many versions of a page</p>".repeat(40)));
static NEW: LazyLock<Vec<u8>> = LazyLock::new(|| b"<p>another of many versions of a page</p>".repeat(41));
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| dcz::encode(Level::Now, &OLD, &NEW).expect("encodes"));

fn decode(mut decoder: Decoder, stream: &[u8], step: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    for piece in stream.chunks(step) {
        decoder.feed(Bytes::copy_from_slice(piece));
        while let Some(content) = decoder.piece()? {
            out.extend_from_slice(&content);
            assert!(out.len() as u64 <= LIMIT, "more than the bound");
        }
    }
    decoder.finish()?;
    Ok(out)
}

fuzz_target!(|input: &[u8]| {
    let (step, input) = match input.split_first() {
        Some((step, input)) => (usize::from(*step) + 1, input),
        None => return,
    };
    let dcz = |stream: &[u8], step| decode(Decoder::dcz(&OLD, LIMIT).expect("suitable"), stream, step);

    // As a stream, as what is behind a genuine header, and as plain zstd: in pieces and at once
    // alike.
    let headed = [&STREAM[..dcz::HEADER], input].concat();
    for stream in [input, &headed] {
        assert_eq!(
            dcz(stream, step).ok(),
            dcz(stream, usize::MAX).ok(),
            "depends on the pieces"
        );
    }
    let plain = |step| decode(Decoder::zstd(LIMIT).expect("memory"), input, step).ok();
    assert_eq!(plain(step), plain(usize::MAX), "depends on the pieces");

    // As a change of a genuine stream.
    let mut changed = STREAM.clone();
    for (byte, change) in changed.iter_mut().zip(input) {
        *byte ^= change;
    }
    if changed == *STREAM {
        assert_eq!(dcz(&changed, step).as_deref(), Ok(&NEW[..]));
    } else {
        // A changed checksum could only fit changed content by chance.
        assert!(
            dcz(&changed, step).is_err() || dcz(&changed, step).as_deref() == Ok(&NEW[..]),
            "a change passed"
        );
    }

    // Brotli, in one piece.
    let mut stream = b"\xffDCB".to_vec();
    stream.extend_from_slice(OLD.digest().as_bytes());
    stream.extend_from_slice(input);
    if let Ok(content) = dcb::decode(&OLD, &stream, LIMIT as usize) {
        assert!(content.len() as u64 <= LIMIT);
    }
});
