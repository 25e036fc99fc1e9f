//! What of HPACK (RFC 7541) can be read without its dynamic table: the literals of a header block,
//! and whether they are sound. The h2 crate takes one malformed field for an error of the
//! connection, where RFC 9113 section 8.1.1 asks for one of the stream: [`mended`] makes of such a
//! block one that h2 refuses alone. Pure.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::huffman;
use crate::base::varint::prefixed;

/// A field that no request of HTTP/2 may have (RFC 9113 section 8.2.2), as a literal that enters no
/// table: h2 resets the stream.
const REFUSED: &[u8] = b"\x00\x0aconnection\x01x";

/// `block` in a form that h2 refuses by an error of its stream, if it has a malformed field; the
/// tables of both sides stay alike. `None`: all its literals are sound, or it cannot be read, which
/// is an error of the connection.
pub(super) fn mended(block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = block;
    let mut mended = None::<Vec<u8>>;
    while !rest.is_empty() {
        let field = field(rest)?;
        let (line, after) = rest.split_at_checked(rest.len().checked_sub(field.after.len())?)?;
        let bad_name = field.name.as_ref().is_some_and(|name| !name_is_sound(name));
        let bad_value = field.value.as_ref().is_some_and(|value| !value_is_sound(&field, value));
        if bad_name || bad_value {
            let out = mended.get_or_insert_with(|| block.get(..block.len() - rest.len()).unwrap_or_default().to_vec());
            out.extend_from_slice(line.get(..field.front).unwrap_or_default());
            if let Some(name) = &field.name {
                // A pseudo-header field is none by another name, and its value any.
                string(out, if bad_name { None } else { Some(name) }, name.len());
            }
            if let Some(value) = &field.value {
                string(out, if bad_value { None } else { Some(value) }, value.len());
            }
        } else if let Some(out) = &mut mended {
            out.extend_from_slice(line);
        }
        rest = after;
    }
    mended.map(|mut out| {
        out.extend_from_slice(REFUSED);
        out
    })
}

/// A string literal, not coded; in place of an unsound one, letters: an entry of the table is as
/// long as the client takes it to be.
fn string(out: &mut Vec<u8>, sound: Option<&Vec<u8>>, length: usize) {
    let length = length.max(1);
    let most = 0x7f;
    match u8::try_from(length).ok().filter(|length| *length < most) {
        Some(length) => out.push(length),
        None => {
            out.push(most);
            let mut left = length - usize::from(most);
            while left >= 0x80 {
                out.push((left & 0x7f) as u8 | 0x80);
                left >>= 7;
            }
            out.push(left as u8);
        }
    }
    match sound {
        Some(text) if !text.is_empty() => out.extend_from_slice(text),
        // An empty value is sound, and stays one byte longer: the stream is refused all the same.
        _ => out.resize(out.len() + length, b'x'),
    }
}

/// A field line.
struct Field<'a> {
    /// Bytes in front of its strings.
    front: usize,
    /// The index of its name, in the static table and behind it; 0: none.
    index: u64,
    /// Its name, if it is a literal.
    name: Option<Vec<u8>>,
    /// Its value, if it is a literal.
    value: Option<Vec<u8>>,
    after: &'a [u8],
}

/// Reads the field line, or the change of the table's size, that `bytes` begins with (RFC 7541
/// section 6).
fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let first = *bytes.first()?;
    let plain = |index, after| Field {
        front: 0,
        index,
        name: None,
        value: None,
        after,
    };
    if first & 0x80 != 0 {
        let (index, after) = integer(bytes, 7)?;
        return Some(plain(index, after));
    }
    if first & 0xe0 == 0x20 {
        let (_, after) = integer(bytes, 5)?;
        return Some(plain(0, after));
    }
    let (index, rest) = integer(bytes, if first & 0x40 != 0 { 6 } else { 4 })?;
    let front = bytes.len().checked_sub(rest.len())?;
    let (name, rest) = if index == 0 {
        let (name, rest) = literal(rest)?;
        (Some(name), rest)
    } else {
        (None, rest)
    };
    let (value, after) = literal(rest)?;
    Some(Field {
        front,
        index,
        name,
        value: Some(value),
        after,
    })
}

/// An integer in the last `bits` bits of the first byte, and more where it is long (RFC 7541
/// section 5.1).
fn integer(bytes: &[u8], bits: u32) -> Option<(u64, &[u8])> {
    prefixed(bytes, bits, 28)
}

/// A string literal (section 5.2), decoded.
fn literal(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let coded = bytes.first()? & 0x80 != 0;
    let (length, rest) = integer(bytes, 7)?;
    let (text, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let text = if coded { huffman::decoded(text)? } else { text.to_vec() };
    Some((text, rest))
}

/// What the h2 crate takes as a name.
fn name_is_sound(name: &[u8]) -> bool {
    match name.strip_prefix(b":") {
        Some(pseudo) => matches!(
            pseudo,
            b"authority" | b"method" | b"path" | b"protocol" | b"scheme" | b"status"
        ),
        None => HeaderName::from_lowercase(name).is_ok(),
    }
}

/// And as its value.
fn value_is_sound(field: &Field<'_>, value: &[u8]) -> bool {
    let name: &[u8] = match (&field.name, field.index) {
        (Some(name), _) => name,
        (None, 1) => b":authority",
        (None, 2 | 3) => b":method",
        (None, 4 | 5) => b":path",
        (None, 6 | 7) => b":scheme",
        (None, 8..=14) => b":status",
        _ => b"",
    };
    match name {
        b":method" => Method::from_bytes(value).is_ok(),
        b":status" => StatusCode::from_bytes(value).is_ok(),
        [b':', ..] => std::str::from_utf8(value).is_ok(),
        // White space around is no part of a value (RFC 9113 section 8.2.1).
        _ => {
            let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
            !space(value.first()) && !space(value.last()) && HeaderValue::from_bytes(value).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: GET`, `:scheme: https`, `:path: /`, and `:authority: a` into the table.
    const GET: [u8; 6] = [0x82, 0x87, 0x84, 0x41, 1, b'a'];

    fn block(more: &[u8]) -> Vec<u8> {
        [&GET[..], more].concat()
    }

    /// Good requests would be held up, or refused.
    #[test]
    fn sound_blocks_pass() {
        for more in [
            &b""[..],
            b"\x00\x03x-a\x01b",
            b"\x40\x03x-a\x00",
            b"\x10\x03x-a\x03a\tb",
            b"\x20\x3f\xe1\x1f\xbe",
            b"\x04\x05/path",
            b"\x02\x04LIST",
            b"\x7f\x00\x03a b",
        ] {
            assert_eq!(mended(&block(more)), None, "{more:?}");
        }
    }

    /// One bad field of a client's would end all requests that a front in front of us has on its
    /// connection.
    #[test]
    fn malformed_fields_are_the_streams() {
        let refused = |more: &[u8], instead: &[u8]| {
            let whole = block(&[more, b"\xbe"].concat());
            let right = block(&[instead, b"\xbe", REFUSED].concat());
            assert_eq!(mended(&whole).unwrap(), right, "{more:?}");
        };
        refused(b"\x00\x05x-bad\x03a\0b", b"\x00\x05x-bad\x03xxx");
        refused(b"\x40\x05X-Bad\x01a", b"\x40\x05xxxxx\x01a");
        refused(b"\x10\x05x bad\x01a", b"\x10\x05xxxxx\x01a");
        refused(b"\x00\x02\x3aa\x01a", b"\x00\x02xx\x01a");
        refused(b"\x00\x01x\x02 a", b"\x00\x01x\x02xx");
        refused(b"\x00\x01x\x02a\t", b"\x00\x01x\x02xx");
        refused(b"\x00\x00\x01a", b"\x00\x01x\x01a");
        refused(b"\x02\x03G T", b"\x02\x03xxx");
        refused(b"\x08\x02ok", b"\x08\x02xx");
        refused(b"\x04\x02/\xff", b"\x04\x02xx");
        // By Huffman code, and long.
        refused(b"\x00\x01x\x82\xff\xc7", b"\x00\x01x\x01x");
        let long = [&b"\x00\x01x\x7f\x49"[..], &[b'a'; 199], b"\0"].concat();
        let instead = [&b"\x00\x01x\x7f\x49"[..], &[b'x'; 200]].concat();
        refused(&long, &instead);
    }

    /// A block that cannot be read is h2's to refuse, with the connection.
    #[test]
    fn what_cannot_be_read_is_left() {
        for more in [
            &b"\x00"[..],
            b"\x00\x05x",
            b"\x00\x01x\x81\xff",
            b"\x7f\xff\xff\xff\xff\xff\x01",
            b"\x00\x01\0",
        ] {
            assert_eq!(mended(&block(more)), None, "{more:?}");
        }
    }
}
