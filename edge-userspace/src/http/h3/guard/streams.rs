//! A client's streams of one direction: control and QPACK's (RFC 9114 section 6.2, RFC 9204 section
//! 4.2). `wire` hands their bytes in and gives h3 what comes out. Pure.

use bytes::Bytes;
use h3::error::Code;

use super::section::integer;
use super::{CANCEL_PUSH, DATA, Fatal, GOAWAY, HEADERS, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS, is_of_http2};
use crate::base::varint::varint;

/// RFC 9204 section 6.
const ENCODER: u64 = 0x201;
const DECODER: u64 = 0x202;

/// Bytes of the longest frame of the control stream that has a meaning: SETTINGS of 60 pairs,
/// everything else far less. With it a connection's control stream holds at most this and a frame's
/// front.
const LONGEST: u64 = 1 << 10;

/// Stream types.
const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const QPACK_ENCODER: u64 = 2;
const QPACK_DECODER: u64 = 3;
/// A reserved type (RFC 9114 section 6.2.3): what h3 is told of every stream that it has no use
/// for. Of some extensions' types it would wait for more.
const UNKNOWN: u8 = 0x21;

/// A client's stream of one direction.
#[derive(Debug, Default)]
pub struct Streams {
    kind: Option<u64>,
    /// The beginning of what is not whole yet: a type, a frame, an integer.
    part: Vec<u8>,
    /// Bytes of an unknown frame that are still to come, and go nowhere.
    skip: u64,
    settings: bool,
    max_push_id: Option<u64>,
}

impl Streams {
    /// Takes the stream's next bytes, and says which bytes h3 gets in their place: a stream's type,
    /// and whole frames of the control stream that have a meaning. All others are dropped as they
    /// come (RFC 9114 section 9).
    ///
    /// # Errors
    /// What the connection has to end with.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<Bytes, Fatal> {
        let mut out = Vec::new();
        match self.kind {
            Some(CONTROL) => self.control(bytes, &mut out)?,
            Some(QPACK_ENCODER) => self.encoder(bytes)?,
            Some(QPACK_DECODER) => self.decoder(bytes)?,
            Some(_) => {}
            None => {
                let known = self.part.len();
                // Eight bytes hold every type.
                self.part.extend(bytes.iter().take(8));
                let Some((kind, rest)) = varint(&self.part) else {
                    return Ok(Bytes::new());
                };
                let used = self.part.len().saturating_sub(rest.len()).saturating_sub(known);
                self.part = Vec::new();
                self.kind = Some(kind);
                // Only servers push.
                if kind == PUSH {
                    return Err(Code::H3_STREAM_CREATION_ERROR.into());
                }
                out.push(u8::try_from(kind).ok().filter(|kind| *kind <= 3).unwrap_or(UNKNOWN));
                out.extend(self.pass(bytes.get(used..).unwrap_or_default())?);
            }
        }
        Ok(out.into())
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

    fn control(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fatal> {
        loop {
            let passed = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= passed as u64;
            bytes = bytes.get(passed..).unwrap_or_default();
            // A frame's front comes byte by byte, its payload at once: neither is read twice.
            let Some((kind, length, held)) = self.front() else {
                let Some((first, rest)) = bytes.split_first() else {
                    return Ok(());
                };
                self.part.push(*first);
                bytes = rest;
                if let Some((kind, length, _)) = self.front() {
                    self.announced(kind, length)?;
                }
                continue;
            };
            let missing = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(held);
            let (more, rest) = bytes.split_at(missing.min(bytes.len()));
            self.part.extend(more);
            bytes = rest;
            if more.len() < missing {
                return Ok(());
            }
            self.whole(kind)?;
            out.append(&mut self.part);
        }
    }

    /// Type and length of the frame that `part` begins with, and how much there is of its payload.
    fn front(&self) -> Option<(u64, u64, usize)> {
        let (kind, rest) = varint(&self.part)?;
        let (length, payload) = varint(rest)?;
        Some((kind, length, payload.len()))
    }

    /// A frame of this type and length begins.
    fn announced(&mut self, kind: u64, length: u64) -> Result<(), Fatal> {
        // An unknown frame does not do in place of the one that must come first (section 9).
        if kind != SETTINGS && !self.settings {
            return Err(Code::H3_MISSING_SETTINGS.into());
        }
        match kind {
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH if length > LONGEST => Err(Code::H3_EXCESSIVE_LOAD.into()),
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => Ok(()),
            DATA | HEADERS | PUSH_PROMISE => Err(Code::H3_FRAME_UNEXPECTED.into()),
            kind if is_of_http2(kind) => Err(Code::H3_FRAME_UNEXPECTED.into()),
            _ => {
                self.part.clear();
                self.skip = length;
                Ok(())
            }
        }
    }

    /// A frame that h3 is to get is whole.
    fn whole(&mut self, kind: u64) -> Result<(), Fatal> {
        let payload = varint(&self.part).and_then(|(_, rest)| varint(rest));
        let (_, payload) = payload.ok_or(Fatal::from(Code::H3_FRAME_ERROR))?;
        if kind == SETTINGS {
            self.settings = true;
            return settings(payload);
        }
        let Some((id, [])) = varint(payload) else {
            return Err(Code::H3_FRAME_ERROR.into());
        };
        // Nothing was ever pushed that could be cancelled (section 7.2.3).
        if kind == CANCEL_PUSH || kind == MAX_PUSH_ID && self.max_push_id.is_some_and(|most| id < most) {
            return Err(Code::H3_ID_ERROR.into());
        }
        if kind == MAX_PUSH_ID {
            self.max_push_id = Some(id);
        }
        Ok(())
    }

    /// The table that we have has no room: its capacity may be set to 0, and nothing else be done
    /// (RFC 9204 section 3.2.3).
    fn encoder(&self, bytes: &[u8]) -> Result<(), Fatal> {
        if bytes.iter().all(|byte| *byte == 0x20) {
            return Ok(());
        }
        Err(Fatal(ENCODER))
    }

    /// We never refer to the client's table: there is nothing to acknowledge, only streams to
    /// cancel (RFC 9204 section 4.4).
    fn decoder(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        for byte in bytes {
            self.part.push(*byte);
            if self.part.first().is_some_and(|first| first & 0xc0 != 0x40) {
                return Err(Fatal(DECODER));
            }
            if integer(&self.part, 6).is_some() {
                self.part.clear();
            } else if self.part.len() > 10 {
                // Ten bytes hold every stream's number.
                return Err(Fatal(DECODER));
            }
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

    /// The verdict, and what h3 gets: the same however the stream is cut.
    fn stream(bytes: &[u8]) -> Result<Vec<u8>, Fatal> {
        let passed = Streams::default().pass(bytes).map(|out| out.to_vec());
        let mut slow = Streams::default();
        let mut gathered = Vec::new();
        let slowly = bytes
            .iter()
            .try_for_each(|byte| slow.pass(&[*byte]).map(|out| gathered.extend(out)));
        assert_eq!(passed.as_ref().err(), slowly.as_ref().err(), "{bytes:?}");
        if let Ok(out) = &passed {
            assert_eq!(*out, gathered, "{bytes:?}");
        }
        passed
    }

    /// A client that breaks these rules must be told by the code that names its mistake.
    #[test]
    fn streams_of_one_direction() {
        let known = [0, 4, 2, 6, 9, 13, 1, 5, 13, 1, 7, 7, 1, 0];
        let with_unknown = [&known[..], &[0x21, 3, 1, 2, 3, 0x40, 0x41, 0]].concat();
        assert_eq!(stream(&with_unknown).unwrap(), known);
        assert_eq!(stream(&[0, 4, 0]).unwrap(), [0, 4, 0]);
        assert_eq!(stream(&[2, 0x20, 0x20]).unwrap(), [2]);
        assert_eq!(stream(&[3, 0x44, 0x7f, 0x81, 0x01]).unwrap(), [3]);
        for unknown in [&[0x21, 1, 2, 3][..], &[0x40, 0x54, 1], &[0x40, 0x01 + 0x21, 1]] {
            assert_eq!(stream(unknown).unwrap(), [UNKNOWN]);
        }
        let fatal = |code: Code| Err(Fatal::from(code));
        assert_eq!(stream(&[1, 0]), fatal(Code::H3_STREAM_CREATION_ERROR));
        assert_eq!(stream(&[0, 4, 2, 6, 0x40]), fatal(Code::H3_FRAME_ERROR));
        assert_eq!(stream(&[0, 4, 0, 7, 2, 0, 0]), fatal(Code::H3_FRAME_ERROR));
        assert_eq!(stream(&[0, 4, 0, 13, 0]), fatal(Code::H3_FRAME_ERROR));
        assert_eq!(stream(&[0, 4, 0, 3, 1, 0]), fatal(Code::H3_ID_ERROR));
        assert_eq!(stream(&[0, 4, 0, 13, 1, 5, 13, 1, 4]), fatal(Code::H3_ID_ERROR));
        for unexpected in [0, 1, 2, 5, 6, 8, 9] {
            assert_eq!(stream(&[0, 4, 0, unexpected, 1]), fatal(Code::H3_FRAME_UNEXPECTED));
        }
        for first in [0x21, 0, 7] {
            assert_eq!(stream(&[0, first, 1, 0]), fatal(Code::H3_MISSING_SETTINGS));
        }
        assert_eq!(stream(&[2, 0x3f, 0xe1, 0x01]), Err(Fatal(ENCODER)));
        assert_eq!(stream(&[3, 0x00]), Err(Fatal(DECODER)));
        assert_eq!(stream(&[3, 0x80]), Err(Fatal(DECODER)));
        for kind in [0, 2, 3] {
            let mut critical = Streams::default();
            critical.pass(&[kind]).unwrap();
            assert_eq!(critical.end(), Err(Code::H3_CLOSED_CRITICAL_STREAM.into()));
        }
        assert_eq!(Streams::default().end(), Ok(()));
    }

    /// One connection could fill the memory with a frame that never ends: h3 keeps every frame
    /// until it is whole.
    #[test]
    fn long_frames_of_the_control_stream_are_kept_nowhere() {
        let mut control = Streams::default();
        // 2^40 bytes of a reserved type.
        let begin = [0, 4, 0, 0x21, 0xc0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(control.pass(&begin).unwrap(), &[0, 4, 0][..]);
        for _ in 0..256 {
            assert!(control.pass(&[4; 4096]).unwrap().is_empty());
        }
        assert!(control.part.is_empty());
        for kind in [4, 7, 13, 3] {
            let mut control = Streams::default();
            let _ = control.pass(&[0, 4, 0]).unwrap();
            let long = control.pass(&[kind, 0x44, 0x01]);
            assert_eq!(long, Err(Code::H3_EXCESSIVE_LOAD.into()), "{kind}");
        }
    }
}
