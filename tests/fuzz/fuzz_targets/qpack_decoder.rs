//! QPACK as clients write it: instructions that fill the table, then a field section that may refer
//! to it. Whole or in pieces, the verdict is the same, and a section never tells more than its
//! bound.
//!
//! Input: the length of pieces, the length of the instructions in two bytes, both.
#![no_main]

use bytes::Bytes;
use edge::http::h3::code::Code;
use edge::http::h3::qpack::decoder::{Decoder, Enough, Lines};
use edge::http::h3::qpack::fixed::Name;
use edge::http::h3::request::Fields;
use libfuzzer_sys::fuzz_target;

/// `limits.header_bytes`.
const HEADER_BYTES: usize = 1 << 12;

struct Told(Vec<(Name, Bytes)>, usize);

impl Lines for Told {
    fn line(&mut self, name: &Name, value: Bytes) -> Result<(), Enough> {
        self.1 = self.1.checked_sub(name.length() + value.len() + 32).ok_or(Enough)?;
        self.0.push((name.clone(), value));
        Ok(())
    }

    fn room(&self) -> usize {
        self.1
    }
}

fn filled(instructions: &[u8], size: usize) -> Result<Decoder, Code> {
    let mut decoder = Decoder::default();
    for piece in instructions.chunks(size.max(1)) {
        decoder.instructions(piece)?;
    }
    Ok(decoder)
}

fuzz_target!(|data: &[u8]| {
    let Some((&[size, high, low], data)) = data.split_first_chunk() else { return };
    let length = usize::from(u16::from_be_bytes([high, low])).min(data.len());
    let (instructions, section) = data.split_at(length);
    let (whole, pieces) = (filled(instructions, instructions.len()), filled(instructions, usize::from(size)));
    assert_eq!(whole.as_ref().err(), pieces.as_ref().err());
    let (Ok(whole), Ok(pieces)) = (whole, pieces) else { return };
    assert_eq!(whole.inserted(), pieces.inserted());
    let (mut one, mut other) = (Told(Vec::new(), HEADER_BYTES), Told(Vec::new(), HEADER_BYTES));
    assert_eq!(whole.section(section, &mut one), pieces.section(section, &mut other));
    assert_eq!(one.0, other.0);
    for (fields, head) in [(Fields::head(HEADER_BYTES), true), (Fields::trailers(HEADER_BYTES), false)] {
        let mut fields = fields;
        if whole.section(section, &mut fields).is_ok() {
            if head {
                let _ = fields.into_head();
            } else {
                let _ = fields.into_trailers();
            }
        }
    }
});
