//! Integers of a length of their own: QUIC's of one to eight bytes, and those of compressed field
//! sections.

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
