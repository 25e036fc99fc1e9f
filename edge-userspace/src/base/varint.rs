//! Integers of a length of their own: QUIC's of one to eight bytes, and those of compressed field
//! sections.

use bytes::BufMut;

/// The integer in front of `from` (RFC 9000 section 16) and what is behind it; `None` if it is not
/// whole.
pub fn varint(from: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = from.split_first()?;
    let more = (1_usize << (first >> 6)) - 1;
    let (tail, rest) = rest.split_at_checked(more)?;
    let value = tail
        .iter()
        .fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}

/// An integer in the last `bits` bits of the first byte, 1 to 8, and in bytes after it if it is
/// long (RFC 7541 section 5.1; RFC 9204 has the same), and what is behind it. `None` if it is not
/// whole, or has more than `most` bits beyond the first byte.
pub fn prefixed(from: &[u8], bits: u32, most: usize) -> Option<(u64, &[u8])> {
    let (&first, mut rest) = from.split_first()?;
    let full = (1_u64 << bits) - 1;
    let mut value = u64::from(first) & full;
    if value < full {
        return Some((value, rest));
    }
    for shift in (0..most).step_by(7) {
        let (&next, after) = rest.split_first()?;
        rest = after;
        value = value.checked_add(u64::from(next & 0x7f) << shift)?;
        if next & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// Writes `value` in as few bytes as hold it (RFC 9000 section 16); 2^62 and more cannot be
/// written: the largest that can be stands for them.
pub fn put_varint(to: &mut impl BufMut, value: u64) {
    match value {
        0..0x40 => to.put_u8(value as u8),
        0x40..0x4000 => to.put_u16(value as u16 | 0x4000),
        0x4000..0x4000_0000 => to.put_u32(value as u32 | 0x8000_0000),
        _ => to.put_u64(value.min((1 << 62) - 1) | 0xc000_0000_0000_0000),
    }
}

/// Writes `value` into the last `bits` bits, 1 to 8, of a byte whose others are `first`'s, and into
/// bytes after it (RFC 7541 section 5.1).
pub fn put_prefixed(to: &mut Vec<u8>, first: u8, bits: u32, value: u64) {
    let full = (1_u64 << bits) - 1;
    if value < full {
        to.push(first | value as u8);
        return;
    }
    to.push(first | full as u8);
    let mut left = value - full;
    while left >= 0x80 {
        to.push(left as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one side writes the other would read as another number.
    #[test]
    fn both_ways() {
        // RFC 9000 section A.1.
        for (bytes, value) in [
            (&[0x25][..], 37),
            (&[0x7b, 0xbd], 15_293),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
        ] {
            let mut written = Vec::new();
            put_varint(&mut written, value);
            assert_eq!(written, bytes);
            assert_eq!(varint(bytes), Some((value, &[][..])));
        }
        let mut most = Vec::new();
        put_varint(&mut most, u64::MAX);
        assert_eq!(varint(&most), Some(((1 << 62) - 1, &[][..])));
        // RFC 7541 section C.1.
        for (bits, value, bytes) in [(5, 10, &[0x0a][..]), (5, 1_337, &[0x1f, 0x9a, 0x0a]), (8, 42, &[0x2a])] {
            let mut written = Vec::new();
            put_prefixed(&mut written, 0, bits, value);
            assert_eq!(written, bytes);
            assert_eq!(prefixed(bytes, bits, 56), Some((value, &[][..])));
        }
    }
}
