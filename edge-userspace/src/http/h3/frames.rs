//! The frames of a client's request stream (RFC 9114 sections 4.1, 7): a head, content, trailers.
//! A frame is judged when its type and length are there, before any of it is kept. Pure; `stream`
//! hands bytes in.

use bytes::{BufMut, Bytes, BytesMut};

use super::code::{Broken, Code};
use crate::base::varint::{put_varint, varint};

/// Types of frames (section 7.2; RFC 9218 section 7.1).
pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
pub(super) const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;
pub(super) const PRIORITY_UPDATE: u64 = 0xf_0700;
pub(super) const PRIORITY_UPDATE_PUSH: u64 = 0xf_0701;

/// Pieces of content from this size on are handed on as they are; smaller ones, of frames that came
/// together, are joined: a frame of one byte costs every hop as much as a long one.
const PIECE: usize = 1 << 10;
/// Bytes of the longest piece that is joined.
const JOINED: usize = 16 << 10;

/// Bytes of a request's trailers, decoded: as over HTTP/1. They come when the request is under way
/// and its content paid for.
pub(super) const TRAILERS: usize = 8 << 10;

/// Bytes of the longest field section that is read, encoded, if `decoded` bytes of it are taken: it
/// is at most 30/8 times as long as what it says (Huffman code, RFC 7541 appendix B), so that
/// nothing is refused by its length that would not be refused as too large.
fn longest(decoded: usize) -> u64 {
    (decoded as u64).saturating_mul(4).saturating_add(1 << 10)
}

/// Types that HTTP/2 has and HTTP/3 must not have (section 7.2.8).
pub(super) fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// Type and length of the frame that `bytes` begin with, and what is there behind them; `None` if
/// they are not whole.
pub(super) fn front(bytes: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (kind, rest) = varint(bytes)?;
    let (length, rest) = varint(rest)?;
    Some((kind, length, rest))
}

/// Writes type and length of a frame.
pub(super) fn put_front(to: &mut impl BufMut, kind: u64, length: usize) {
    put_varint(to, kind);
    put_varint(to, length as u64);
}

/// What a request stream brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An encoded field section: of the head, then of trailers.
    Section(Bytes),
    /// Content; not empty.
    Content(Bytes),
}

/// A request stream's frames. Unknown ones are dropped as they come (section 9). A stream keeps at
/// most one field section of the bound, and 16 KiB of content.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the longest field section, encoded.
    longest: u64,
    at: At,
    stage: Stage,
    /// A frame's type and length that are not whole, or a field section.
    part: Vec<u8>,
    /// What is not read yet of what came.
    input: Bytes,
    /// Content of frames that came together.
    joined: BytesMut,
}

/// Within which frame the next byte is, and how many bytes of it are still to come.
#[derive(Clone, Copy, Debug)]
enum At {
    Front,
    Unknown(u64),
    Content(u64),
    Section(u64),
}

/// What of a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Nothing,
    Head,
    All,
}

impl Frames {
    /// For a client whose fields may have `header_bytes`, decoded.
    pub fn new(header_bytes: usize) -> Self {
        Self {
            longest: longest(header_bytes),
            at: At::Front,
            stage: Stage::Nothing,
            part: Vec::new(),
            input: Bytes::new(),
            joined: BytesMut::new(),
        }
    }

    /// Takes the stream's next bytes. The bytes before them must have been used up:
    /// [`Frames::pull`] gave `None`.
    pub fn feed(&mut self, bytes: Bytes) {
        self.input = bytes;
    }

    /// The next piece; `None` if more must come first.
    ///
    /// # Errors
    /// The stream is not to be read on.
    pub fn pull(&mut self) -> Result<Option<Piece>, Broken> {
        while !self.input.is_empty() {
            match self.at {
                At::Front => self.front()?,
                At::Unknown(left) => {
                    let passed = self.take(left);
                    self.go_on(left, &passed, At::Unknown);
                }
                At::Content(left) => {
                    if self.joined.is_empty() && self.input.len() >= PIECE {
                        let piece = self.take(left);
                        self.go_on(left, &piece, At::Content);
                        if piece.len() >= PIECE {
                            return Ok(Some(Piece::Content(piece)));
                        }
                        self.joined.put(piece);
                        continue;
                    }
                    let piece = self.take(left.min(JOINED as u64));
                    self.go_on(left, &piece, At::Content);
                    self.joined.put(piece);
                    if self.joined.len() >= JOINED {
                        return Ok(self.flush());
                    }
                }
                At::Section(left) => {
                    if !self.joined.is_empty() {
                        return Ok(self.flush());
                    }
                    if let Some(section) = self.section(left) {
                        return Ok(Some(section));
                    }
                }
            }
        }
        Ok(self.flush())
    }

    /// The stream has ended, after all that was fed. Whether a head has come.
    ///
    /// # Errors
    /// Within a frame (section 7.1).
    pub fn end(&self) -> Result<bool, Broken> {
        match self.at {
            At::Front if self.part.is_empty() => Ok(self.stage != Stage::Nothing),
            _ => Err(Broken::Connection(Code::FRAME_ERROR)),
        }
    }

    /// Bytes of the field section that is being gathered, all that it will have.
    pub fn gathers(&self) -> u64 {
        match self.at {
            At::Section(left) => left.saturating_add(self.part.len() as u64),
            _ => 0,
        }
    }

    /// At most `most` bytes of what came.
    fn take(&mut self, most: u64) -> Bytes {
        let length = self.input.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.input.split_to(length)
    }

    fn go_on(&mut self, left: u64, taken: &Bytes, at: fn(u64) -> At) {
        self.at = match left.saturating_sub(taken.len() as u64) {
            0 => At::Front,
            left => at(left),
        };
    }

    /// Reads a frame's type and length, and decides about the frame when they are whole.
    fn front(&mut self) -> Result<(), Broken> {
        let (kind, length) = if self.part.is_empty()
            && let Some((kind, length, rest)) = front(&self.input)
        {
            let used = self.input.len() - rest.len();
            drop(self.input.split_to(used));
            (kind, length)
        } else {
            self.part.extend(self.input.split_to(1));
            let Some((kind, length, _)) = front(&self.part) else {
                return Ok(());
            };
            self.part.clear();
            (kind, length)
        };
        self.at = match (kind, self.stage) {
            (DATA, Stage::Head) => At::Content(length),
            (HEADERS, Stage::Nothing | Stage::Head) => {
                let most = match self.stage {
                    Stage::Nothing => self.longest,
                    Stage::Head | Stage::All => self.longest.min(longest(TRAILERS)),
                };
                if length > most {
                    return Err(Broken::Stream(Code::EXCESSIVE_LOAD));
                }
                // Not even the section's prefix (RFC 9204 section 4.5).
                if length == 0 {
                    return Err(Broken::Connection(Code::DECOMPRESSION_FAILED));
                }
                self.stage = match self.stage {
                    Stage::Nothing => Stage::Head,
                    Stage::Head | Stage::All => Stage::All,
                };
                At::Section(length)
            }
            // Out of order (section 4.1), or of another stream or version.
            (DATA | HEADERS | SETTINGS | PUSH_PROMISE | CANCEL_PUSH | GOAWAY | MAX_PUSH_ID, _)
            | (PRIORITY_UPDATE | PRIORITY_UPDATE_PUSH, _) => {
                return Err(Broken::Connection(Code::FRAME_UNEXPECTED));
            }
            (kind, _) if is_of_http2(kind) => return Err(Broken::Connection(Code::FRAME_UNEXPECTED)),
            _ => At::Unknown(length),
        };
        if length == 0 {
            self.at = At::Front;
        }
        Ok(())
    }

    /// Goes on with a field section of which `left` bytes are to come; `Some` when it is whole.
    fn section(&mut self, left: u64) -> Option<Piece> {
        let piece = self.take(left);
        self.go_on(left, &piece, At::Section);
        let whole = matches!(self.at, At::Front);
        if whole && self.part.is_empty() {
            return Some(Piece::Section(piece));
        }
        self.part.extend_from_slice(&piece);
        whole.then(|| Piece::Section(std::mem::take(&mut self.part).into()))
    }

    fn flush(&mut self) -> Option<Piece> {
        (!self.joined.is_empty()).then(|| Piece::Content(self.joined.split().freeze()))
    }
}

#[cfg(test)]
mod tests;
