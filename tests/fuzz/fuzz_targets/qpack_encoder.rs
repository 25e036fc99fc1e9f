//! QPACK as we write it, and what clients acknowledge. A client that plays by the rules reads what
//! was written, in whatever order lines come and whichever of its acknowledgements are held back;
//! one that does not is refused.
//!
//! Input: an even first byte, then a client's decoder stream; an odd one, then a byte for each
//! step: low bits choose the fields, the highest one holds the acknowledgement back.
#![no_main]

use bytes::Bytes;
use edge::http::h3::qpack::decoder::{Decoder, Enough, Lines, Section, acknowledge};
use edge::http::h3::qpack::encoder::Encoder;
use edge::http::h3::qpack::fixed::Name;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;

struct Told(Vec<(Name, Bytes)>);

impl Lines for Told {
    fn line(&mut self, name: &Name, value: Bytes) -> Result<(), Enough> {
        self.0.push((name.clone(), value));
        Ok(())
    }

    fn room(&self) -> usize {
        1 << 16
    }
}

const NAMES: [&str; 4] = ["server", "x-one", "cache-control", "set-cookie"];

fn steps(steps: &[u8]) {
    let (mut encoder, mut client) = (Encoder::default(), Decoder::default());
    encoder.settings(1 << 12);
    let mut held = Vec::new();
    for (stream, step) in steps.iter().enumerate() {
        let mut fields = HeaderMap::new();
        for (at, name) in NAMES.into_iter().enumerate() {
            if step >> at & 1 == 1 {
                let value = vec![b'a' + (step >> 4 & 7); 1 + 40 * usize::from(step >> 4 & 3)];
                fields.append(HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap());
            }
        }
        let (mut lines, mut whole) = (Vec::new(), Vec::new());
        let front = encoder.section(stream as u64, Some(StatusCode::OK), &fields, &mut lines);
        front.put(&mut whole);
        whole.extend(lines);
        client.instructions(&encoder.instructions()).expect("instructions of ours");
        let mut told = Told(Vec::new());
        let read = client.section(&whole, &mut told).expect("a section of ours");
        assert!(!matches!(read, Section::Blocked(_)));
        assert_eq!(told.0.len(), fields.len() + 1);
        for ((name, value), (known, is)) in told.0.iter().skip(1).zip(&fields) {
            assert!(matches!(name, Name::Field(name) if name == known) && *value == is.as_bytes());
        }
        if read == (Section::Read { referred: true }) {
            acknowledge(stream as u64, &mut held);
        }
        client.tell(&mut held);
        if step & 0x80 == 0 {
            encoder.acknowledged(&std::mem::take(&mut held)).expect("acknowledgements of a sound client");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    if how & 1 == 1 {
        return steps(data);
    }
    let sound = |size: usize| {
        let mut encoder = Encoder::default();
        encoder.settings(1 << 12);
        data.chunks(size.max(1)).try_for_each(|piece| encoder.acknowledged(piece))
    };
    assert_eq!(sound(data.len()), sound(usize::from(how >> 1)));
});
