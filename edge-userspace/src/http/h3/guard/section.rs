//! The pseudo-header fields of an encoded field section (RFC 9204 section 4.5, RFC 9114 section
//! 4.3): once each, in front of the others, a request's own, and none among trailers. The h3 crate
//! takes the last of two and does not ask where they stand. Pure.

use crate::base::varint::prefixed;

/// The pseudo-header fields that a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pseudo {
    Authority,
    Path,
    Method,
    Scheme,
    Protocol,
    /// A response's, or nobody's.
    Foreign,
}

/// The names, and as Huffman code (RFC 7541 appendix B) writes them.
const NAMES: [(&[u8], &[u8], Pseudo); 5] = [
    (
        b":authority",
        &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f],
        Pseudo::Authority,
    ),
    (b":path", &[0xb9, 0x58, 0xd3, 0x3f], Pseudo::Path),
    (b":method", &[0xb9, 0x49, 0x53, 0x39, 0xe4], Pseudo::Method),
    (b":scheme", &[0xb8, 0x82, 0x4e, 0x5a, 0x4b], Pseudo::Scheme),
    (
        b":protocol",
        &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f],
        Pseudo::Protocol,
    ),
];

/// Which section of a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// In front of the content.
    Head,
    /// After it.
    Trailers,
}

/// Reads the field lines of an encoded section. One that cannot be read, or refers to the dynamic
/// table, is for h3 to refuse: it has no such table, and another code.
pub(super) fn is_sound(section: &[u8], which: Section) -> bool {
    let mut seen = [false; 5];
    let mut regular = false;
    let Some(mut rest) = prefix(section) else { return true };
    while !rest.is_empty() {
        let Some((name, after)) = line(rest) else { return true };
        rest = after;
        let Some(pseudo) = name else {
            regular = true;
            continue;
        };
        let place = match pseudo {
            Pseudo::Authority => 0,
            Pseudo::Path => 1,
            Pseudo::Method => 2,
            Pseudo::Scheme => 3,
            Pseudo::Protocol => 4,
            Pseudo::Foreign => return false,
        };
        if which == Section::Trailers || regular || std::mem::replace(&mut seen[place], true) {
            return false;
        }
    }
    true
}

/// Behind the section's prefix (RFC 9204 section 4.5.1).
fn prefix(section: &[u8]) -> Option<&[u8]> {
    let (_, rest) = integer(section, 8)?;
    let (_, rest) = integer(rest, 7)?;
    Some(rest)
}

/// One field line: its pseudo-header, if it is one, and what is behind it.
fn line(bytes: &[u8]) -> Option<(Option<Pseudo>, &[u8])> {
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        // Indexed; T tells the static table.
        let (index, rest) = integer(bytes, 6)?;
        return (first & 0x40 != 0).then(|| (of_static(index), rest));
    }
    if first & 0x40 != 0 {
        // Literal with a name's index.
        let (index, rest) = integer(bytes, 4)?;
        let (_, rest) = string(rest, 7)?;
        return (first & 0x10 != 0).then(|| (of_static(index), rest));
    }
    if first & 0x20 != 0 {
        // Literal with a literal name.
        let coded = first & 0x08 != 0;
        let (name, rest) = string(bytes, 3)?;
        let (_, rest) = string(rest, 7)?;
        return Some((literal(name, coded), rest));
    }
    // Post-base: of the dynamic table.
    None
}

/// RFC 9204 appendix A.
fn of_static(index: u64) -> Option<Pseudo> {
    match index {
        0 => Some(Pseudo::Authority),
        1 => Some(Pseudo::Path),
        15..=21 => Some(Pseudo::Method),
        22 | 23 => Some(Pseudo::Scheme),
        24..=28 | 63..=71 => Some(Pseudo::Foreign),
        _ => None,
    }
}

fn literal(name: &[u8], coded: bool) -> Option<Pseudo> {
    for (plain, huffman, pseudo) in NAMES {
        if name == if coded { huffman } else { plain } {
            return Some(pseudo);
        }
    }
    // The code of a colon has seven bits.
    let colon = if coded {
        name.first().is_some_and(|first| first >> 1 == 0x5c)
    } else {
        name.first() == Some(&b':')
    };
    colon.then_some(Pseudo::Foreign)
}

/// A string with a length of `bits` bits, behind the flag for Huffman code (RFC 9204 section
/// 4.1.2).
fn string(bytes: &[u8], bits: u32) -> Option<(&[u8], &[u8])> {
    let (length, rest) = integer(bytes, bits)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// An integer in the last `bits` bits of the first byte, and more where it is long (RFC 7541
/// section 5.1).
pub(super) fn integer(bytes: &[u8], bits: u32) -> Option<(u64, &[u8])> {
    prefixed(bytes, bits, 56)
}
