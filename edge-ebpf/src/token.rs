//! The token of a QUIC Initial, as far as it lies in the clear. `gate` hands it the frame and where
//! the Initial begins; it hands back where the token is. As in `parse`: no map, no helper and no
//! aya, so that the file builds for the host too.

use crate::parse::{Frame, pinned};

/// The longest connection id of the versions we speak (RFC 9000 section 17.2, RFC 9369 section
/// 3.1).
const LONGEST_ID: u8 = 20;
/// Bytes of a token at most, and a mask: more than fit into any frame that the program sees.
const LONGEST_TOKEN: usize = 0x3fff;

/// Offset and length of the token of the Initial at `offset`; a length of 0 if it has none. `None`
/// if no client sends such an Initial: a connection id too long, or a header that goes beyond the
/// datagram, which ends at `end` (RFC 9000 section 17.2.2).
#[inline(always)]
pub fn find(frame: &Frame, offset: usize, end: usize) -> Option<(usize, usize)> {
    // The type, the version, and the length of the destination connection id.
    let destination = frame.header::<6>(offset)?.byte::<5>();
    if destination > LONGEST_ID {
        return None;
    }
    let offset = offset + 6 + usize::from(destination);
    let source = frame.header::<1>(offset)?.byte::<0>();
    if source > LONGEST_ID {
        return None;
    }
    let offset = offset + 1 + usize::from(source);
    // RFC 9000 section 16. The shortest form is not required of lengths.
    let first = frame.header::<1>(offset)?.byte::<0>();
    let (length, bytes) = match first >> 6 {
        0 => (u64::from(first), 1),
        1 => (u64::from(frame.header::<2>(offset)?.short::<0>() & 0x3fff), 2),
        2 => (
            u64::from(u32::from_be(frame.header::<4>(offset)?.word::<0>()) & 0x3fff_ffff),
            4,
        ),
        _ => (
            u64::from_be(frame.header::<8>(offset)?.long::<0>()) & (u64::MAX >> 2),
            8,
        ),
    };
    if length > LONGEST_TOKEN as u64 {
        return None;
    }
    // The value itself is bounded, not only compared: a verifier before Linux 6.9 forgets what it
    // learnt of a number when the compiler keeps that on the stack meanwhile.
    let length = pinned(length as usize) & LONGEST_TOKEN;
    if offset + bytes + length > end {
        return None;
    }
    Some((offset + bytes, length))
}
