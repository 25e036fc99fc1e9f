//! What of HPACK (RFC 7541) can be read without its dynamic table: the literals of a header block,
//! and whether they are sound. The h2 crate takes one malformed field for an error of the
//! connection, where RFC 9113 section 8.1.1 asks for one of the stream, and hyper leaves a
//! connection without a word for a CONNECT with a length: [`mended`] makes of such a block one that
//! h2 refuses alone. Pure.

use std::collections::VecDeque;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::huffman;
use crate::base::varint::prefixed;

/// A field that no request of HTTP/2 may have (RFC 9113 section 8.2.2), as a literal that enters no
/// table: h2 resets the stream.
const REFUSED: &[u8] = b"\x00\x0aconnection\x01x";

/// Entries of the static table (RFC 7541 appendix A); those with `:method`, and with
/// `content-length`.
const FIXED: u64 = 61;
const METHODS: std::ops::RangeInclusive<u64> = 2..=3;
const CONTENT_LENGTH: u64 = 28;
const STATUSES: std::ops::RangeInclusive<u64> = 8..=14;
const STATUS: &[u8] = b":status";
/// Entries that a table of 4 KiB, the size that it has by itself and that h2 leaves it, has at
/// most: each takes 32 bytes beside its strings (RFC 7541 section 4.1).
const ENTRIES: u64 = 4_096 / 32;

/// Who wrote a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Client,
    /// Of whose values white space around is let pass: it harms nobody, and servers that write it
    /// are served.
    Server,
}

/// What a line says of a CONNECT with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// `:method`, and whether it is CONNECT.
    Method(bool),
    /// `content-length`, and whether it is more than 0, or none.
    Length(bool),
}

impl Says {
    /// What a line of this name says with `value`.
    fn with(self, value: &[u8]) -> Self {
        match self {
            Self::Method(_) => Self::Method(value == b"CONNECT"),
            Self::Length(_) => Self::Length(value.iter().any(|digit| *digit != b'0')),
        }
    }
}

/// Those lines of a client's dynamic table that say something of a CONNECT, by the number of their
/// insertion. Nothing is known of its size: who refers to an entry that was pushed out breaks the
/// connection, whatever it was.
#[derive(Debug, Default)]
pub(super) struct Known {
    inserted: u64,
    lines: VecDeque<(u64, Says)>,
}

impl Known {
    /// What the line, or its name, with this index says (RFC 7541 section 2.3.3).
    fn says(&self, index: u64, new: &Insertions) -> Option<Says> {
        if METHODS.contains(&index) {
            return Some(Says::Method(false));
        }
        if index == CONTENT_LENGTH {
            return Some(Says::Length(false));
        }
        let back = index.checked_sub(FIXED)?;
        let number = self.inserted.saturating_add(new.count).checked_sub(back)?;
        let mut lines = self.lines.iter().chain(&new.lines);
        lines.find_map(|(known, says)| (*known == number).then_some(*says))
    }

    /// The block with these insertions has gone on.
    pub(super) fn take(&mut self, Insertions { count, lines }: Insertions) {
        self.inserted = self.inserted.saturating_add(count);
        self.lines.extend(lines);
        let gone = self.inserted.saturating_sub(ENTRIES);
        while self.lines.front().is_some_and(|(number, _)| *number < gone) {
            self.lines.pop_front();
        }
    }
}

/// What a block inserts.
#[derive(Debug, Default)]
pub(super) struct Insertions {
    count: u64,
    lines: Vec<(u64, Says)>,
}

/// `block` in a form that h2 refuses by an error of its stream, if it has a malformed field, or is
/// a CONNECT with a length (RFC 9110 section 9.3.6); the tables of both sides stay alike. `None`:
/// all its literals are sound, or it cannot be read, which is an error of the connection. And what
/// it inserts into the table.
pub(super) fn mended(block: &[u8], by: By, known: &Known) -> (Option<Vec<u8>>, Insertions) {
    let mut new = Insertions::default();
    (written_anew(block, by, known, &mut new), new)
}

fn written_anew(block: &[u8], by: By, known: &Known, new: &mut Insertions) -> Option<Vec<u8>> {
    let mut rest = block;
    let mut mended = None::<Vec<u8>>;
    let (mut connect, mut length) = (false, false);
    while !rest.is_empty() {
        let field = field(rest)?;
        let says = field.says(known, new);
        connect |= says == Some(Says::Method(true));
        length |= says == Some(Says::Length(true));
        if field.enters {
            if let Some(says) = says {
                new.lines.push((known.inserted.saturating_add(new.count), says));
            }
            new.count = new.count.saturating_add(1);
        }
        let (line, after) = rest.split_at_checked(rest.len().checked_sub(field.after.len())?)?;
        let bad_name = field.name.as_ref().is_some_and(|name| !name_is_sound(name));
        let bad_value = field
            .value
            .as_ref()
            .is_some_and(|value| !value_is_sound(&field, value, by));
        if bad_name || bad_value {
            let out = mended.get_or_insert_with(|| block.get(..block.len() - rest.len()).unwrap_or_default().to_vec());
            if bad_value && field.is_status() {
                // Letters are no status: a field of another name, as long.
                let first = line.first().copied().unwrap_or(0);
                out.push(if field.enters { 0x40 } else { first & 0x10 });
                string(out, None, STATUS.len());
            } else {
                out.extend_from_slice(line.get(..field.front).unwrap_or_default());
                if let Some(name) = &field.name {
                    // A pseudo-header field is none by another name, and its value any.
                    string(out, if bad_name { None } else { Some(name) }, name.len());
                }
            }
            if let Some(value) = &field.value {
                string(out, if bad_value { None } else { Some(value) }, value.len());
            }
        } else if let Some(out) = &mut mended {
            out.extend_from_slice(line);
        }
        rest = after;
    }
    if connect && length && mended.is_none() {
        mended = Some(block.to_vec());
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
    /// It enters the dynamic table.
    enters: bool,
    after: &'a [u8],
}

impl Field<'_> {
    /// Whether it is `:status`.
    fn is_status(&self) -> bool {
        match &self.name {
            Some(name) => name == STATUS,
            None => STATUSES.contains(&self.index),
        }
    }

    fn says(&self, known: &Known, new: &Insertions) -> Option<Says> {
        let name = match self.name.as_deref() {
            Some(b":method") => Says::Method(false),
            Some(b"content-length") => Says::Length(false),
            Some(_) => return None,
            None => known.says(self.index, new)?,
        };
        Some(self.value.as_ref().map_or(name, |value| name.with(value)))
    }
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
        enters: false,
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
        enters: first & 0x40 != 0,
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
fn value_is_sound(field: &Field<'_>, value: &[u8], by: By) -> bool {
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
            let spaced = space(value.first()) || space(value.last());
            (by == By::Server || !spaced) && HeaderValue::from_bytes(value).is_ok()
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

    fn mended(block: &[u8]) -> Option<Vec<u8>> {
        super::mended(block, By::Client, &Known::default()).0
    }

    /// One CONNECT with a length would end all requests that a front in front of us has on its
    /// connection.
    #[test]
    fn connect_with_a_length_is_the_streams() {
        let mut known = Known::default();
        let mut refused = |lines: &[&[u8]]| {
            let block = lines.concat();
            let (mended, new) = super::mended(&block, By::Client, &known);
            known.take(new);
            if let Some(mended) = &mended {
                assert_eq!(*mended, [&block[..], REFUSED].concat());
            }
            mended.is_some()
        };
        let (connect, length): (&[u8], &[u8]) = (b"\x02\x07CONNECT", b"\x0f\x0d\x015");
        assert!(refused(&[connect, length]));
        assert!(refused(&[
            b"\x00\x07:method\x07CONNECT",
            b"\x00\x0econtent-length\x0210"
        ]));
        assert!(!refused(&[connect, b"\x0f\x0d\x0200"]), "of nothing");
        assert!(!refused(&[&GET, length]));
        // 62: the method; then 63 behind a length, by its place and by its name.
        assert!(!refused(&[b"\x42\x07CONNECT"]));
        assert!(refused(&[b"\xbe", length]));
        assert!(!refused(&[b"\x5c\x0212"]));
        assert!(refused(&[b"\xbf", b"\xbe"]));
        assert!(refused(&[b"\x0f\x30\x07CONNECT", b"\x0f\x2f\x011"]));
        assert!(!refused(&[b"\x0f\x30\x03GET", b"\xbe"]));
        assert!(!refused(&[b"\xbf", b"\x0f\x2f\x010"]));
        // Within the block that inserts them.
        assert!(refused(&[b"\x42\x07CONNECT", b"\x5c\x011", b"\xbe", b"\xbf"]));
        assert!(!refused(&[b"\x40\x01a\x01b", b"\xbe", b"\xbf"]));
        for _ in 0..1_000 {
            assert!(!refused(&[b"\x42\x07CONNECT"]));
        }
        assert!(known.lines.len() <= 128, "{}", known.lines.len());
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
        refused(b"\x08\x02ok", b"\x00\x07xxxxxxx\x02xx");
        refused(b"\x18\x032x0", b"\x10\x07xxxxxxx\x03xxx");
        refused(b"\x48\x032x0", b"\x40\x07xxxxxxx\x03xxx");
        refused(b"\x40\x07:status\x0299", b"\x40\x07xxxxxxx\x02xx");
        refused(b"\x04\x02/\xff", b"\x04\x02xx");
        // By Huffman code, and long.
        refused(b"\x00\x01x\x82\xff\xc7", b"\x00\x01x\x01x");
        let long = [&b"\x00\x01x\x7f\x49"[..], &[b'a'; 199], b"\0"].concat();
        let instead = [&b"\x00\x01x\x7f\x49"[..], &[b'x'; 200]].concat();
        refused(&long, &instead);
    }

    /// A server that has worked all the time would not work any more.
    #[test]
    fn servers_may_write_space_around_values() {
        let server = |block: &[u8]| super::mended(block, By::Server, &Known::default()).0;
        let spaced = b"\x88\x00\x01x\x03 a\t";
        assert_eq!(server(spaced), None);
        assert!(mended(spaced).is_some());
        assert!(server(b"\x88\x00\x01X\x01a").is_some());
        assert!(server(b"\x88\x00\x01x\x03a\0b").is_some());
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
