//! A client's control stream, and the types of streams of one direction (RFC 9114 section 6.2).
//! Frames are judged when their type and length are there, before any of them is kept. Pure;
//! `stream` hands bytes in.

use super::code::Code;
use super::frames::{
    CANCEL_PUSH, DATA, GOAWAY, HEADERS, MAX_PUSH_ID, PRIORITY_UPDATE, PRIORITY_UPDATE_PUSH, PUSH_PROMISE, SETTINGS,
    front, is_of_http2,
};
use super::priority::Priority;
use crate::base::varint::varint;

/// Bytes of the longest frame of the control stream that has a meaning: SETTINGS of 60 pairs,
/// everything else far less. A connection's control stream holds at most this and a frame's front.
const LONGEST: u64 = 1 << 10;

/// Settings (RFC 9114 section 7.2.4.1, RFC 9204 section 5, RFC 9220 section 3).
pub(super) const QPACK_MAX_TABLE_CAPACITY: u64 = 0x1;
pub(super) const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
pub(super) const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
pub(super) const QPACK_BLOCKED_STREAMS: u64 = 0x7;

/// What a stream of one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Settings, and frames of the connection.
    Control,
    /// QPACK's instructions.
    Encoder,
    /// And what was made of ours.
    Decoder,
    /// Nothing that is known here.
    Unknown,
}

/// The type that a stream begins with.
#[derive(Debug, Default)]
pub struct Front {
    part: Vec<u8>,
}

impl Front {
    /// Takes bytes; the stream's use, and how many of them were its type's. `None`: more has to
    /// come.
    ///
    /// # Errors
    /// A push stream, which only servers open (section 6.2.2).
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(Use, usize)>, Code> {
        let known = self.part.len();
        // Eight bytes hold every type.
        self.part.extend(bytes.iter().take(8));
        let Some((kind, rest)) = varint(&self.part) else {
            return Ok(None);
        };
        let used = self.part.len().saturating_sub(rest.len()).saturating_sub(known);
        let what = match kind {
            0 => Use::Control,
            1 => return Err(Code::STREAM_CREATION_ERROR),
            2 => Use::Encoder,
            3 => Use::Decoder,
            _ => Use::Unknown,
        };
        Ok(Some((what, used)))
    }
}

/// What a client says of itself (section 7.2.4); what it does not say has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a field section that it takes, decoded.
    pub field_section: u64,
    /// Bytes that its decoder's table may have.
    pub table: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            field_section: u64::MAX,
            table: 0,
        }
    }
}

/// What a frame of the control stream tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The client's settings.
    Settings(Settings),
    /// It will ask for nothing more.
    GoAway,
    /// How it wants the answer on a request stream, which may not have come yet (RFC 9218 section
    /// 7).
    Priority(u64, Priority),
}

/// A control stream behind its type.
#[derive(Debug, Default)]
pub struct Control {
    /// The beginning of a frame that is not whole.
    part: Vec<u8>,
    /// Bytes of an unknown frame that are still to come, and go nowhere.
    skip: u64,
    settings: bool,
    max_push_id: Option<u64>,
    goaway: Option<u64>,
}

impl Control {
    /// Takes the stream's next bytes; what they tell. Unknown frames are dropped as they come
    /// (section 9).
    ///
    /// # Errors
    /// What the connection has to end with.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Result<Vec<Told>, Code> {
        let mut told = Vec::new();
        loop {
            let passed = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= passed as u64;
            bytes = bytes.get(passed..).unwrap_or_default();
            // A frame's front comes byte by byte, its payload at once: neither is read twice.
            let Some((kind, length, held)) = self.front() else {
                let Some((first, rest)) = bytes.split_first() else {
                    return Ok(told);
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
                return Ok(told);
            }
            let part = std::mem::take(&mut self.part);
            let (_, _, payload) = front(&part).ok_or(Code::FRAME_ERROR)?;
            told.extend(self.whole(kind, payload)?);
        }
    }

    /// Type and length of the frame that `part` begins with, and how much there is of its payload.
    fn front(&self) -> Option<(u64, u64, usize)> {
        let (kind, length, payload) = front(&self.part)?;
        Some((kind, length, payload.len()))
    }

    /// A frame of this type and length begins.
    fn announced(&mut self, kind: u64, length: u64) -> Result<(), Code> {
        // An unknown frame does not do in place of the one that must come first (section 9).
        if kind != SETTINGS && !self.settings {
            return Err(Code::MISSING_SETTINGS);
        }
        match kind {
            SETTINGS if self.settings => Err(Code::FRAME_UNEXPECTED),
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH | PRIORITY_UPDATE if length > LONGEST => {
                Err(Code::EXCESSIVE_LOAD)
            }
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH | PRIORITY_UPDATE => Ok(()),
            // Nothing was ever pushed.
            PRIORITY_UPDATE_PUSH => Err(Code::ID_ERROR),
            DATA | HEADERS | PUSH_PROMISE => Err(Code::FRAME_UNEXPECTED),
            kind if is_of_http2(kind) => Err(Code::FRAME_UNEXPECTED),
            _ => {
                self.part.clear();
                self.skip = length;
                Ok(())
            }
        }
    }

    /// A frame is whole.
    fn whole(&mut self, kind: u64, payload: &[u8]) -> Result<Option<Told>, Code> {
        if kind == SETTINGS {
            self.settings = true;
            return settings(payload).map(|settings| Some(Told::Settings(settings)));
        }
        let (id, value) = varint(payload).ok_or(Code::FRAME_ERROR)?;
        if kind == PRIORITY_UPDATE {
            // A request stream's number, and no other's (RFC 9218 section 7.2).
            if id % 4 != 0 {
                return Err(Code::ID_ERROR);
            }
            return Ok(Some(Told::Priority(id, Priority::default().with(value))));
        }
        if !value.is_empty() {
            return Err(Code::FRAME_ERROR);
        }
        match kind {
            // A push's number, which may only fall (section 5.2).
            GOAWAY if self.goaway.is_some_and(|before| id > before) => Err(Code::ID_ERROR),
            GOAWAY => {
                self.goaway = Some(id);
                Ok(Some(Told::GoAway))
            }
            // May only rise (section 7.2.7).
            MAX_PUSH_ID if self.max_push_id.is_none_or(|most| id >= most) => {
                self.max_push_id = Some(id);
                Ok(None)
            }
            // Nothing was ever pushed that could be cancelled (section 7.2.3).
            _ => Err(Code::ID_ERROR),
        }
    }
}

/// Pairs of integers that fill the frame (sections 7.1, 7.2.4).
fn settings(mut payload: &[u8]) -> Result<Settings, Code> {
    let mut settings = Settings::default();
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let (id, rest) = varint(payload).ok_or(Code::FRAME_ERROR)?;
        let (value, rest) = varint(rest).ok_or(Code::FRAME_ERROR)?;
        payload = rest;
        // Twice, or one of HTTP/2's that HTTP/3 has not (section 7.2.4.1). At most 512 are there.
        if seen.contains(&id) || matches!(id, 0x0 | 0x2..=0x5) {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(id);
        match id {
            MAX_FIELD_SECTION_SIZE => settings.field_section = value,
            QPACK_MAX_TABLE_CAPACITY => settings.table = value,
            _ => {}
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told: the same however the stream is cut.
    fn control(bytes: &[u8]) -> Result<Vec<Told>, Code> {
        let whole = Control::default().pass(bytes);
        let mut slow = Control::default();
        let mut gathered = Vec::new();
        let slowly = bytes
            .iter()
            .try_for_each(|byte| slow.pass(&[*byte]).map(|told| gathered.extend(told)));
        assert_eq!(whole.as_ref().err(), slowly.as_ref().err(), "{bytes:?}");
        if let Ok(told) = &whole {
            assert_eq!(*told, gathered, "{bytes:?}");
        }
        whole
    }

    /// A client that breaks these rules must be told by the code that names its mistake.
    #[test]
    fn frames_of_the_control_stream() {
        let known = [4, 5, 6, 9, 1, 0x40, 100, 13, 1, 5, 13, 1, 7, 7, 1, 4, 7, 1, 0];
        let with_unknown = [&known[..], &[0x21, 3, 1, 2, 3, 0x40, 0x41, 0]].concat();
        let settings = Told::Settings(Settings {
            field_section: 9,
            table: 100,
        });
        assert_eq!(control(&with_unknown).unwrap(), [settings, Told::GoAway, Told::GoAway]);
        assert_eq!(control(&[4, 0]).unwrap(), [Told::Settings(Settings::default())]);
        for (frames, code) in [
            (&[4, 2, 6, 0x40][..], Code::FRAME_ERROR),
            (&[4, 0, 7, 2, 0, 0], Code::FRAME_ERROR),
            (&[4, 0, 13, 0], Code::FRAME_ERROR),
            (&[4, 0, 3, 1, 0], Code::ID_ERROR),
            (&[4, 0, 13, 1, 5, 13, 1, 4], Code::ID_ERROR),
            (&[4, 0, 7, 1, 0, 7, 1, 4], Code::ID_ERROR),
            (&[4, 0, 4, 0], Code::FRAME_UNEXPECTED),
            (&[4, 4, 6, 1, 6, 2], Code::SETTINGS_ERROR),
            (&[4, 2, 2, 1], Code::SETTINGS_ERROR),
            (&[4, 2, 5, 1], Code::SETTINGS_ERROR),
        ] {
            assert_eq!(control(frames), Err(code), "{frames:?}");
        }
        let update = [4, 0, 0x80, 0x0f, 0x07, 0, 5, 8, b'u', b'=', b'1', b' '];
        let priority = Told::Priority(8, Priority::default().with(b"u=1"));
        assert_eq!(control(&update).unwrap().last(), Some(&priority));
        for wrong in [
            &[4, 0, 0x80, 0x0f, 0x07, 0, 1, 2][..],
            &[4, 0, 0x80, 0x0f, 0x07, 1, 1, 0],
        ] {
            assert_eq!(control(wrong), Err(Code::ID_ERROR), "{wrong:?}");
        }
        for unexpected in [0, 1, 2, 5, 6, 8, 9] {
            assert_eq!(control(&[4, 0, unexpected, 1]), Err(Code::FRAME_UNEXPECTED));
        }
        for first in [0x21, 0, 7] {
            assert_eq!(control(&[first, 1, 0]), Err(Code::MISSING_SETTINGS));
        }
    }

    /// A stream of unknown use would be taken for one of ours.
    #[test]
    fn types() {
        for (bytes, what, used) in [
            (&[0, 4, 0][..], Use::Control, 1),
            (&[0x40, 2, 9], Use::Encoder, 2),
            (&[3], Use::Decoder, 1),
            (&[0x40, 0x54, 1], Use::Unknown, 2),
            (&[0xc0, 0, 0, 0, 0, 0, 0, 0x21, 1], Use::Unknown, 8),
        ] {
            assert_eq!(Front::default().read(bytes), Ok(Some((what, used))));
            let mut slow = Front::default();
            for (at, byte) in bytes.iter().take(used).enumerate() {
                let read = slow.read(&[*byte]);
                assert_eq!(read, Ok((at + 1 == used).then_some((what, 1))), "{bytes:?}");
            }
        }
        assert_eq!(Front::default().read(&[1, 0]), Err(Code::STREAM_CREATION_ERROR));
    }

    /// One connection could fill the memory with a frame that never ends.
    #[test]
    fn long_frames_of_the_control_stream_are_kept_nowhere() {
        let mut control = Control::default();
        // 2^40 bytes of a reserved type.
        let begin = [4, 0, 0x21, 0xc0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(control.pass(&begin).unwrap().len(), 1);
        for _ in 0..256 {
            assert!(control.pass(&[4; 4096]).unwrap().is_empty());
        }
        assert!(control.part.is_empty());
        for kind in [7, 13, 3] {
            let mut control = Control::default();
            let _ = control.pass(&[4, 0]).unwrap();
            assert_eq!(control.pass(&[kind, 0x44, 0x01]), Err(Code::EXCESSIVE_LOAD), "{kind}");
        }
        assert_eq!(Control::default().pass(&[4, 0x44, 0x01]), Err(Code::EXCESSIVE_LOAD));
    }
}
