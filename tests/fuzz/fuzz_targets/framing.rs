//! HTTP/1 framing: where bytes were split on their way must not matter. What is judged one way
//! whole and another way in pieces is what request smuggling is made of. `cd tests/fuzz && cargo
//! +nightly fuzz run framing`.
//!
//! Input: whether heads are limited tightly and what upgrades are answered, how long the pieces
//! are, and the stream.
#![no_main]

use edge::http::framing::{Framing, Refusal, Verdict};
use libfuzzer_sys::fuzz_target;

/// What was said, at which offset of the stream.
type Said = Vec<(usize, Verdict)>;

/// The stream in pieces of these lengths, in turn, and what is said about it until it is refused.
fn judge(stream: &[u8], pieces: &[u8], limit: usize, upgrades: bool) -> (Said, [bool; 3]) {
    let mut framing = Framing::new(limit);
    let mut said = Said::new();
    let mut lengths = pieces.iter().cycle();
    let mut at = 0;
    'stream: while at < stream.len() {
        let length = lengths
            .next()
            .map_or(stream.len(), |&length| usize::from(length).max(1));
        let end = stream.len().min(at + length);
        while at < end {
            match framing.feed(&stream[at..end]) {
                Verdict::Pass => at = end,
                Verdict::Hold(offset) => {
                    assert!(framing.held() && offset < end - at, "held without a reason");
                    at += offset;
                    said.push((at, Verdict::Hold(0)));
                    if upgrades {
                        framing.switch_off();
                    } else {
                        framing.resume();
                    }
                }
                Verdict::Refuse {
                    at: offset,
                    why,
                    in_head,
                } => {
                    assert!(offset < end - at, "refused beyond the piece");
                    // A trailer line beyond the limit is refused where the piece begins: no byte of
                    // it is needed.
                    let place = if why == Refusal::Trailer { 0 } else { at + offset };
                    said.push((place, Verdict::Refuse { at: 0, why, in_head }));
                    break 'stream;
                }
            }
        }
    }
    (said, [framing.at_rest(), framing.in_head(), framing.held()])
}

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, a, b, c], stream)) = input.split_first_chunk() else {
        return;
    };
    let limit = if flags & 1 == 0 { 16 << 10 } else { 64 };
    let upgrades = flags & 2 != 0;
    let whole = judge(stream, &[], limit, upgrades);
    assert_eq!(
        whole,
        judge(stream, &[a, b, c], limit, upgrades),
        "in pieces of {a}, {b}, {c}"
    );
    assert_eq!(whole, judge(stream, &[1], limit, upgrades), "byte by byte");
});
