//! Huffman code of compressed fields (RFC 7541 appendix B; RFC 9204 section 4.1.2 has the same):
//! for `hpack` and `h3`. Pure.

/// Bits of each byte's code. The codes are canonical: shorter ones first, among equals in the
/// bytes' order; the end of a string is the last of those of 30 bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Codes up to this long are looked up, longer ones, of rare bytes, searched by their length.
const SHORT: usize = 8;

/// A string that is not a Huffman code, or longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

struct Tables {
    /// By the next eight bits: the byte and its code's length; 0: the code is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length, left-aligned in 32 bits: the first code, and what follows the last one.
    firsts: [u32; LONGEST + 1],
    ends: [u32; LONGEST + 1],
    /// By length: where in `bytes` its codes begin.
    places: [u16; LONGEST + 1],
    /// In the order of their codes.
    bytes: [u8; 256],
    /// By byte.
    codes: [u32; 256],
}

static TABLES: Tables = tables();

#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const fn tables() -> Tables {
    let mut tables = Tables {
        short: [(0, 0); 1 << SHORT],
        firsts: [0; LONGEST + 1],
        ends: [0; LONGEST + 1],
        places: [0; LONGEST + 1],
        bytes: [0; 256],
        codes: [0; 256],
    };
    let (mut length, mut next, mut code) = (1, 0, 0_u32);
    while length <= LONGEST {
        code <<= 1;
        tables.firsts[length] = code << (32 - length);
        tables.places[length] = next as u16;
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == length {
                tables.codes[byte] = code;
                tables.bytes[next] = byte as u8;
                if length <= SHORT {
                    let (mut at, last) = (code << (SHORT - length), (code + 1) << (SHORT - length));
                    while at < last {
                        tables.short[at as usize] = (byte as u8, length as u8);
                        at += 1;
                    }
                }
                next += 1;
                code += 1;
            }
            byte += 1;
        }
        tables.ends[length] = code << (32 - length);
        length += 1;
    }
    tables
}

/// The byte whose code `bits` begin with, and that code's length; `None` for the end of a string.
fn first(bits: u32) -> Option<(u8, u32)> {
    let (byte, length) = *TABLES.short.get((bits >> (32 - SHORT)) as usize)?;
    if length > 0 {
        return Some((byte, u32::from(length)));
    }
    let lengths = TABLES.ends.iter().zip(&TABLES.firsts).zip(&TABLES.places).enumerate();
    for (length, ((end, first), place)) in lengths.skip(SHORT + 1) {
        if bits < *end {
            let at = bits.checked_sub(*first)? >> (32 - length);
            let place = usize::from(*place).checked_add(at as usize)?;
            return Some((*TABLES.bytes.get(place)?, length as u32));
        }
    }
    None
}

/// Undoes the code, at the end of `text`, which may become `most` bytes longer.
///
/// # Errors
/// It is not a code (section 5.2), or of a longer text.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>, most: usize) -> Result<(), Unreadable> {
    let mut bytes = coded.iter();
    // The next bits, from the left, and how many there are.
    let (mut bits, mut have, mut left) = (0_u64, 0_u32, most);
    loop {
        while have <= 56
            && let Some(byte) = bytes.next()
        {
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        // What is left are the first bits of the code for the end, all ones, less than a byte.
        if have < 8 && bits.leading_ones() >= have {
            return Ok(());
        }
        let (byte, length) = first((bits >> 32) as u32).ok_or(Unreadable)?;
        have = have.checked_sub(length).ok_or(Unreadable)?;
        bits <<= length;
        left = left.checked_sub(1).ok_or(Unreadable)?;
        text.push(byte);
    }
}

/// The same into a buffer of its own; `None` for what is not a code.
pub(super) fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len().saturating_mul(8) / 5);
    decode(coded, &mut text, usize::MAX).ok()?;
    Some(text)
}

/// Bytes of the code for `text`.
pub(super) fn length(text: &[u8]) -> usize {
    let bits = text
        .iter()
        .map(|byte| usize::from(LENGTHS.get(usize::from(*byte)).copied().unwrap_or(0)));
    bits.sum::<usize>().div_ceil(8)
}

/// Writes the code for `text`.
pub(super) fn encode(text: &[u8], to: &mut Vec<u8>) {
    let (mut bits, mut have) = (0_u64, 0_u32);
    for byte in text {
        let at = usize::from(*byte);
        let (Some(code), Some(length)) = (TABLES.codes.get(at), LENGTHS.get(at)) else {
            continue;
        };
        bits = bits << length | u64::from(*code);
        have += u32::from(*length);
        while have >= 8 {
            have -= 8;
            to.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        to.push((bits << (8 - have)) as u8 | 0xff >> have);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Literals that one side would read otherwise than the other.
    #[test]
    fn both_ways() {
        // RFC 7541 appendix C.4.1, C.6.1.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&host).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(decoded(&[]).unwrap(), b"");
        // NUL has 13 bits, 1111111111000.
        assert_eq!(decoded(&[0xff, 0xc7]).unwrap(), b"\0");
        for wrong in [&[0xff][..], &[0xff, 0xff, 0xff, 0xff], &[0xf1, 0xff, 0xff], &[0xfe]] {
            assert_eq!(decoded(wrong), None, "{wrong:?}");
        }
        let mut coded = Vec::new();
        encode(b"www.example.com", &mut coded);
        assert_eq!(coded, host);
        for byte in 0..=255 {
            for text in [vec![byte], vec![byte, b'a', byte], vec![b'0', byte]] {
                let mut coded = Vec::new();
                encode(&text, &mut coded);
                assert_eq!(coded.len(), length(&text));
                assert_eq!(decoded(&coded).unwrap(), text);
            }
        }
    }

    /// A few bytes would become many.
    #[test]
    fn no_longer_than_it_may_be() {
        let mut text = Vec::new();
        assert_eq!(decode(&[0x00; 10], &mut text, 15), Err(Unreadable));
        assert!(text.len() <= 15);
        assert_eq!(decode(&[0x00; 10], &mut Vec::new(), 16), Ok(()));
    }
}
