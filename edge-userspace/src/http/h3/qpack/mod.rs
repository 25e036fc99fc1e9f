//! Field compression for HTTP/3 (QPACK, RFC 9204), both ways: [`decoder`] reads requests,
//! [`encoder`] writes responses. Pure: `link` has the streams.

pub mod decoder;
pub mod encoder;
pub mod fixed;
pub mod table;

use super::code::Code;
use crate::base::varint::prefixed;
use crate::http::huffman;

/// Bytes of what a client's encoder may have us keep: SETTINGS_QPACK_MAX_TABLE_CAPACITY, as most
/// servers say.
pub const CAPACITY: u64 = 4 << 10;
/// Request streams that may wait for entries of the table: SETTINGS_QPACK_BLOCKED_STREAMS.
pub const BLOCKED: u64 = 16;

/// Bits beyond the first byte of the longest integer that is read (RFC 9204 section 4.1.1).
const INTEGER: usize = 63;

/// An integer in the last `bits` bits of the first byte, and what is behind it; `None` if it is not
/// whole or too long.
fn integer(bytes: &[u8], bits: u32) -> Option<(u64, &[u8])> {
    prefixed(bytes, bits, INTEGER)
}

/// A string literal as it is written: whether by Huffman code, and its bytes.
#[derive(Clone, Copy, Debug)]
struct Text<'a> {
    coded: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    /// The one that `bytes` begins with, its length in `bits` bits behind the flag of the code (RFC
    /// 9204 section 4.1.2), and what is behind it.
    fn read(bytes: &'a [u8], bits: u32) -> Option<(Self, &'a [u8])> {
        let coded = bytes.first()? >> bits & 1 == 1;
        let (length, rest) = integer(bytes, bits)?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        Some((Self { coded, bytes }, rest))
    }

    /// What it says, in `scratch` if it is coded; at most `most` bytes.
    ///
    /// # Errors
    /// It is not a code, or longer.
    fn plain<'b>(&'b self, scratch: &'b mut Vec<u8>, most: usize) -> Result<&'b [u8], Length> {
        if !self.coded {
            return if self.bytes.len() <= most {
                Ok(self.bytes)
            } else {
                Err(Length::TooLong)
            };
        }
        scratch.clear();
        match huffman::decode(self.bytes, scratch, most) {
            Ok(()) => Ok(scratch),
            Err(_) if scratch.len() >= most => Err(Length::TooLong),
            Err(_) => Err(Length::Unreadable),
        }
    }
}

/// Why a string literal is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    TooLong,
    Unreadable,
}

/// A string literal, by Huffman code if that is shorter, its length in `bits` bits; `first` has the
/// bits in front of the code's flag.
fn put_text(to: &mut Vec<u8>, first: u8, bits: u32, text: &[u8]) {
    use crate::base::varint::put_prefixed;
    let coded = huffman::length(text);
    if coded < text.len() {
        put_prefixed(to, first | 1 << bits, bits, coded as u64);
        huffman::encode(text, to);
    } else {
        put_prefixed(to, first, bits, text.len() as u64);
        to.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests;
