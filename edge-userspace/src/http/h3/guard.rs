//! What RFC 9114 and RFC 9204 have a server refuse and the h3 crate lets through. Looks at the bytes of a client's streams on their
//! way to h3 and changes none of them: [`Head`] at the front of a request stream, [`Streams`] at streams of one direction. Pure;
//! `wire` hands bytes in and ends stream or connection.

use h3::error::Code;

use crate::base::varint::varint;

/// RFC 9204 section 6.
const ENCODER: u64 = 0x201;
const DECODER: u64 = 0x202;

/// Types of frames (RFC 9114 section 7.2).
const HEADERS: u64 = 0x1;
const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;
/// Bytes of a frame of the control stream that are looked at; none of those that are is longer, but for SETTINGS.
const SMALL: u64 = 1 << 10;
/// Bytes of the longest head; limits in the file are far below.
const HEAD: u64 = 1 << 20;

/// A code that ends a connection (RFC 9114 section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub u64);

impl From<Code> for Fatal {
    fn from(code: Code) -> Self {
        Self(code.value())
    }
}

/// Looks for a head whose pseudo-header fields are not what section 4.3 asks for: twice, behind others, or a response's.
#[derive(Debug, Default)]
pub struct Head {
    /// What could not be read yet.
    part: Vec<u8>,
    /// Bytes of a frame that are passed over.
    skip: u64,
    done: bool,
}

impl Head {
    /// Takes the stream's next bytes; whether they may go on. The head's last byte only does where it is sound.
    pub fn sound(&mut self, bytes: &[u8]) -> bool {
        if self.done {
            return true;
        }
        let gathered = std::mem::take(&mut self.part);
        let verdict = if gathered.is_empty() {
            self.read(bytes)
        } else {
            self.read(&[&gathered, bytes].concat())
        };
        self.done = verdict.is_some();
        verdict.unwrap_or(true)
    }

    /// Whether the first HEADERS frame is sound; `None` before it is whole.
    fn read(&mut self, mut bytes: &[u8]) -> Option<bool> {
        loop {
            let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes = bytes.get(passed..)?;
            self.skip -= passed as u64;
            if self.skip > 0 {
                return None;
            }
            let front = varint(bytes).and_then(|(kind, rest)| Some((kind, varint(rest)?)));
            let Some((kind, (length, rest))) = front else {
                self.part = bytes.to_vec();
                return None;
            };
            if kind != HEADERS {
                if is_known(kind) {
                    // h3 says what is wrong with that.
                    return Some(true);
                }
                self.skip = length;
                bytes = rest;
                continue;
            }
            if length > HEAD {
                return Some(false);
            }
            return match rest.get(..usize::try_from(length).ok()?) {
                Some(section) => Some(section_is_sound(section)),
                None => {
                    self.part = bytes.to_vec();
                    None
                }
            };
        }
    }
}

/// Frames that have a meaning, or must not be there (section 7.2.8): the others are passed over.
fn is_known(kind: u64) -> bool {
    kind <= 0x9 || kind == MAX_PUSH_ID
}

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

/// Reads the field lines of an encoded section (RFC 9204 section 4.5). One that cannot be read, or refers to the dynamic table, is for
/// h3 to refuse: it has no such table, and another code.
fn section_is_sound(section: &[u8]) -> bool {
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
        if regular || std::mem::replace(&mut seen[place], true) {
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

/// A string with a length of `bits` bits, behind the flag for Huffman code (RFC 9204 section 4.1.2).
fn string(bytes: &[u8], bits: u32) -> Option<(&[u8], &[u8])> {
    let (length, rest) = integer(bytes, bits)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// An integer in the last `bits` bits of the first byte, and more where it is long (RFC 7541 section 5.1).
fn integer(bytes: &[u8], bits: u32) -> Option<(u64, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let most = (1_u64 << bits) - 1;
    let mut value = u64::from(first) & most;
    if value < most {
        return Some((value, rest));
    }
    for shift in (0..56).step_by(7) {
        let (&next, after) = rest.split_first()?;
        rest = after;
        value = value.checked_add(u64::from(next & 0x7f) << shift)?;
        if next & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// A client's stream of one direction.
#[derive(Debug, Default)]
pub struct Streams {
    kind: Option<u64>,
    /// What could not be read yet.
    part: Vec<u8>,
    /// Bytes of a frame that are passed over.
    skip: u64,
    max_push_id: Option<u64>,
}

/// Stream types (RFC 9114 section 6.2, RFC 9204 section 4.2).
const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const QPACK_ENCODER: u64 = 2;
const QPACK_DECODER: u64 = 3;

impl Streams {
    /// Takes the stream's next bytes.
    ///
    /// # Errors
    /// What the connection has to end with.
    pub fn look(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        if matches!(self.kind, Some(kind) if kind > QPACK_DECODER) {
            return Ok(());
        }
        self.part.extend(bytes);
        if self.kind.is_none() {
            let Some((kind, rest)) = varint(&self.part) else {
                return Ok(());
            };
            let used = self.part.len() - rest.len();
            self.kind = Some(kind);
            self.part.drain(..used);
        }
        match self.kind {
            // Only servers push.
            Some(PUSH) => Err(Code::H3_STREAM_CREATION_ERROR.into()),
            Some(CONTROL) => self.control(),
            Some(QPACK_ENCODER) => self.encoder(),
            Some(QPACK_DECODER) => self.decoder(),
            _ => {
                self.part = Vec::new();
                Ok(())
            }
        }
    }

    /// Whether it is one of QPACK's, as its first bytes say.
    pub fn is_qpack(&self) -> bool {
        matches!(self.kind, Some(QPACK_ENCODER | QPACK_DECODER))
    }

    /// The stream has ended, or was reset.
    ///
    /// # Errors
    /// What the connection has to end with.
    pub fn end(&self) -> Result<(), Fatal> {
        match self.kind {
            Some(CONTROL | QPACK_ENCODER | QPACK_DECODER) => Err(Code::H3_CLOSED_CRITICAL_STREAM.into()),
            _ => Ok(()),
        }
    }

    fn control(&mut self) -> Result<(), Fatal> {
        loop {
            let passed = self.skip.min(self.part.len() as u64);
            self.part.drain(..passed as usize);
            self.skip -= passed;
            if self.skip > 0 {
                return Ok(());
            }
            let bytes = &self.part[..];
            let Some((kind, rest)) = varint(bytes) else {
                return Ok(());
            };
            let Some((length, rest)) = varint(rest) else {
                return Ok(());
            };
            let front = bytes.len() - rest.len();
            if !matches!(kind, CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID) || length > SMALL {
                self.part.drain(..front);
                self.skip = length;
                continue;
            }
            let Some(payload) = rest.get(..length as usize) else {
                return Ok(());
            };
            match kind {
                SETTINGS => settings(payload)?,
                _ => {
                    let id = match varint(payload) {
                        Some((id, [])) => id,
                        _ => return Err(Code::H3_FRAME_ERROR.into()),
                    };
                    // Nothing was ever pushed that could be cancelled (section 7.2.3).
                    if kind == CANCEL_PUSH || kind == MAX_PUSH_ID && self.max_push_id.is_some_and(|most| id < most) {
                        return Err(Code::H3_ID_ERROR.into());
                    }
                    if kind == MAX_PUSH_ID {
                        self.max_push_id = Some(id);
                    }
                }
            }
            let used = front + payload.len();
            self.part.drain(..used);
        }
    }

    /// The table that we have has no room: its capacity may be set to 0, and nothing else be done (RFC 9204 section 3.2.3).
    fn encoder(&mut self) -> Result<(), Fatal> {
        if self.part.iter().all(|byte| *byte == 0x20) {
            self.part.clear();
            return Ok(());
        }
        Err(Fatal(ENCODER))
    }

    /// We never refer to the client's table: there is nothing to acknowledge, only streams to cancel (RFC 9204 section 4.4).
    fn decoder(&mut self) -> Result<(), Fatal> {
        while let Some(first) = self.part.first() {
            if first & 0xc0 != 0x40 {
                return Err(Fatal(DECODER));
            }
            let bytes = &self.part[..];
            let Some((_, rest)) = integer(bytes, 6) else {
                // Ten bytes hold every stream's number.
                return if bytes.len() > 10 { Err(Fatal(DECODER)) } else { Ok(()) };
            };
            let used = bytes.len() - rest.len();
            self.part.drain(..used);
        }
        Ok(())
    }
}

/// Pairs of integers that fill the frame (RFC 9114 sections 7.1, 7.2.4); what they say is for h3.
fn settings(mut payload: &[u8]) -> Result<(), Fatal> {
    while !payload.is_empty() {
        let pair = varint(payload).and_then(|(_, rest)| varint(rest));
        payload = pair.ok_or(Fatal::from(Code::H3_FRAME_ERROR))?.1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: GET`, `:scheme: https`, `:path: /`, `:authority: a`, as every client writes them.
    const GET: [u8; 8] = [0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'a'];

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind, u8::try_from(payload.len()).unwrap()], payload].concat()
    }

    fn sound(section: &[u8]) -> bool {
        let whole = [frame(0x21, &[9, 9]), frame(1, section), frame(0, b"x")].concat();
        let verdict = Head::default().sound(&whole);
        // However it is cut.
        for at in 0..whole.len() {
            let (one, two) = whole.split_at(at);
            let mut head = Head::default();
            assert_eq!(head.sound(one) && head.sound(two), verdict, "cut at {at}");
        }
        verdict
    }

    /// An origin could be shown one path and the edge's rules another.
    #[test]
    fn pseudo_headers_come_once_and_first() {
        let with = |line: &[u8]| [&GET[..], line].concat();
        assert!(sound(&GET));
        assert!(sound(&with(&[0x23, b'x', b'-', b'y', 1, b'1'])));
        assert!(!sound(&with(&[0x51, 2, b'/', b'b'])), ":path by its name's index");
        assert!(!sound(&with(&[0xc1])), ":path by its index");
        assert!(!sound(&with(&[0xd4])), "a second :method");
        assert!(!sound(&with(&[0xd9])), ":status");
        assert!(
            !sound(&with(&[0x25, b':', b'p', b'a', b't', b'h', 1, b'/'])),
            ":path by letters"
        );
        assert!(
            !sound(&with(&[0x2c, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/'])),
            ":path by Huffman code"
        );
        assert!(!sound(&with(&[0x22, b':', b'x', 1, b'/'])), "nobody's");
        let late = [&[0, 0, 0x23, b'x', b'-', b'y', 1, b'1'][..], &GET[2..]].concat();
        assert!(!sound(&late), "behind others");
        let protocol = [&[0x27, 2][..], b":protocol", &[1, b'w']].concat();
        assert!(sound(&with(&protocol)), "extended CONNECT's");
    }

    /// What cannot be read is h3's to refuse, with its own code.
    #[test]
    fn leaves_what_is_not_its_own() {
        for section in [&[][..], &[0, 0, 0x80], &[0, 0, 0x10], &[0, 0, 0x51, 9], &[0, 0, 0xff]] {
            assert!(sound(section), "{section:?}");
        }
        assert!(Head::default().sound(&[0, 4, 1, 2, 3, 4]), "DATA first");
    }

    /// Nobody gets around the check, or fills the memory, by a long frame in front.
    #[test]
    fn long_frames_are_passed_over_and_long_heads_refused() {
        let mut head = Head::default();
        assert!(head.sound(&[0x21, 0x80, 0x10, 0, 0]));
        assert!((0..256).all(|_| head.sound(&[0; 4096])));
        assert!(head.part.is_empty());
        let twice = [&GET[..], &[0xd4]].concat();
        assert!(!head.sound(&frame(1, &twice)));
        assert!(!Head::default().sound(&[1, 0xbf, 0xff, 0xff, 0xff]));
    }

    fn stream(bytes: &[u8]) -> Result<(), Fatal> {
        let verdict = Streams::default().look(bytes);
        let mut slow = Streams::default();
        let slowly = bytes.iter().try_for_each(|byte| slow.look(&[*byte]));
        assert_eq!(verdict, slowly, "{bytes:?}");
        verdict
    }

    /// A client that breaks these rules must be told by the code that names its mistake.
    #[test]
    fn streams_of_one_direction() {
        assert_eq!(
            stream(&[0, 4, 2, 6, 9, 13, 1, 5, 13, 1, 7, 7, 1, 0, 0x21, 3, 1, 2, 3]),
            Ok(())
        );
        assert_eq!(stream(&[2, 0x20, 0x20]), Ok(()));
        assert_eq!(stream(&[3, 0x44, 0x7f, 0x81, 0x01]), Ok(()));
        assert_eq!(stream(&[0x21, 1, 2, 3]), Ok(()));
        let fatal = |code: Code| Err(Fatal::from(code));
        assert_eq!(stream(&[1, 0]), fatal(Code::H3_STREAM_CREATION_ERROR));
        assert_eq!(stream(&[0, 4, 2, 6, 0x40]), fatal(Code::H3_FRAME_ERROR));
        assert_eq!(stream(&[0, 4, 0, 7, 2, 0, 0]), fatal(Code::H3_FRAME_ERROR));
        assert_eq!(stream(&[0, 4, 0, 13, 0]), fatal(Code::H3_FRAME_ERROR));
        assert_eq!(stream(&[0, 4, 0, 3, 1, 0]), fatal(Code::H3_ID_ERROR));
        assert_eq!(stream(&[0, 4, 0, 13, 1, 5, 13, 1, 4]), fatal(Code::H3_ID_ERROR));
        assert_eq!(stream(&[2, 0x3f, 0xe1, 0x01]), Err(Fatal(ENCODER)));
        assert_eq!(stream(&[3, 0x00]), Err(Fatal(DECODER)));
        assert_eq!(stream(&[3, 0x80]), Err(Fatal(DECODER)));
        for kind in [0, 2, 3] {
            let mut critical = Streams::default();
            critical.look(&[kind]).unwrap();
            assert_eq!(critical.end(), fatal(Code::H3_CLOSED_CRITICAL_STREAM));
        }
        assert_eq!(Streams::default().end(), Ok(()));
    }
}
