//! What the h3 crate gets to see of a client's streams. h3 keeps every frame but DATA until it is
//! whole, of whatever type and length, and gives flow control back meanwhile; so a frame goes to it
//! only if it has a meaning and a bounded length, and what RFC 9114 and RFC 9204 have a server
//! refuse and h3 lets through is refused here: [`Frames`] on request streams, [`Streams`] on
//! streams of one direction. Pure; `wire` hands bytes in, gives h3 what comes out, and ends stream
//! or connection.

mod section;
mod streams;

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use h3::error::Code;

use crate::base::varint::varint;
use section::Section;
pub use streams::Streams;

/// Types of frames (RFC 9114 section 7.2).
const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const PUSH_PROMISE: u64 = 0x5;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;

/// Pieces of content from this size on are handed on as they are; smaller ones, of frames that came
/// together, are joined: h3 reads on at each frame, and a frame of one byte costs every hop as much
/// as a long one.
const PIECE: usize = 1 << 10;
/// Bytes of the longest piece that is joined.
const JOINED: usize = 16 << 10;

/// A code that ends a connection (RFC 9114 section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub u64);

impl From<Code> for Fatal {
    fn from(code: Code) -> Self {
        Self(code.value())
    }
}

/// Why a client's request stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The stream ends with this code.
    Stream(u64),
    /// The connection does.
    Connection(u64),
}

fn stream(code: Code) -> Broken {
    Broken::Stream(code.value())
}

fn connection(code: Code) -> Broken {
    Broken::Connection(code.value())
}

/// Types that HTTP/2 has and HTTP/3 must not have (section 7.2.8).
fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// The frames of a request stream: a head, content, trailers. Unknown frames are dropped as they
/// come (section 9), frames without content as well, and the others are written anew, so that h3
/// holds one of them at most. A stream keeps at most one field section of the bound, and a piece of
/// content.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the longest field section, encoded.
    longest: u64,
    at: At,
    stage: Stage,
    /// A frame's type and length that are not whole, or a field section with them in front.
    part: Vec<u8>,
    /// What is not read yet of what came.
    input: Bytes,
    /// Content of frames that came together.
    joined: BytesMut,
    /// For h3.
    out: VecDeque<Bytes>,
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
    /// For a client whose fields may have `header_bytes`, decoded. A field section is at most 30/8
    /// times as long as what it says (Huffman code, RFC 7541 appendix B), so that nothing is
    /// refused here that h3 would not refuse as too large (431).
    pub fn new(header_bytes: usize) -> Self {
        Self {
            longest: (header_bytes as u64).saturating_mul(4).saturating_add(1 << 10),
            at: At::Front,
            stage: Stage::Nothing,
            part: Vec::new(),
            input: Bytes::new(),
            joined: BytesMut::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes the stream's next bytes. The bytes before them must have been used up:
    /// [`Frames::pull`] gave `None`.
    pub fn feed(&mut self, bytes: Bytes) {
        self.input = bytes;
    }

    /// The next bytes for h3; `None` if more must come first.
    ///
    /// # Errors
    /// The stream is not to be read on.
    pub fn pull(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(bytes) = self.out.pop_front() {
                return Ok(Some(bytes));
            }
            if self.input.is_empty() {
                self.flush();
                return Ok(self.out.pop_front());
            }
            match self.at {
                At::Front => self.front()?,
                At::Unknown(left) => {
                    let passed = self.take(left);
                    self.go_on(left, &passed, At::Unknown);
                }
                At::Content(left) => {
                    let piece = self.take(left);
                    self.go_on(left, &piece, At::Content);
                    self.content(piece);
                }
                At::Section(left) => {
                    let piece = self.take(left);
                    self.go_on(left, &piece, At::Section);
                    self.part.extend(&piece);
                    if matches!(self.at, At::Front) {
                        self.section()?;
                    }
                }
            }
        }
    }

    /// The stream has ended, after all that was fed.
    ///
    /// # Errors
    /// Within a frame (section 7.1).
    pub fn end(&self) -> Result<(), Broken> {
        match self.at {
            At::Front if self.part.is_empty() => Ok(()),
            _ => Err(connection(Code::H3_FRAME_ERROR)),
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

    /// Reads a byte of a frame's type and length, and decides about the frame when they are whole.
    fn front(&mut self) -> Result<(), Broken> {
        self.part.extend(self.input.split_to(1));
        let front = varint(&self.part).and_then(|(kind, rest)| Some((kind, varint(rest)?.0)));
        let Some((kind, length)) = front else { return Ok(()) };
        match (kind, self.stage) {
            (DATA, Stage::Head) => self.at = At::Content(length),
            (HEADERS, Stage::Nothing | Stage::Head) => {
                if length > self.longest {
                    return Err(stream(Code::H3_EXCESSIVE_LOAD));
                }
                self.at = At::Section(length);
                if length == 0 {
                    self.at = At::Front;
                    return self.section();
                }
                return Ok(());
            }
            // Out of order (section 4.1), or of another stream or version.
            (DATA | HEADERS | SETTINGS | PUSH_PROMISE | CANCEL_PUSH | GOAWAY | MAX_PUSH_ID, _) => {
                return Err(connection(Code::H3_FRAME_UNEXPECTED));
            }
            (kind, _) if is_of_http2(kind) => return Err(connection(Code::H3_FRAME_UNEXPECTED)),
            _ => self.at = At::Unknown(length),
        }
        self.part.clear();
        if length == 0 {
            self.at = At::Front;
        }
        Ok(())
    }

    /// A field section is whole, with its frame's front.
    fn section(&mut self) -> Result<(), Broken> {
        self.flush();
        let frame = std::mem::take(&mut self.part);
        let section = varint(&frame)
            .and_then(|(_, rest)| varint(rest))
            .map(|(_, section)| section);
        let (which, stage) = match self.stage {
            Stage::Nothing => (Section::Head, Stage::Head),
            Stage::Head | Stage::All => (Section::Trailers, Stage::All),
        };
        self.stage = stage;
        if !section.is_some_and(|section| section::is_sound(section, which)) {
            return Err(stream(Code::H3_MESSAGE_ERROR));
        }
        self.out.push_back(frame.into());
        Ok(())
    }

    fn content(&mut self, piece: Bytes) {
        if self.joined.is_empty() && piece.len() >= PIECE {
            self.frame(piece);
            return;
        }
        self.joined.put(piece);
        if self.joined.len() >= JOINED {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.joined.is_empty() {
            let joined = self.joined.split().freeze();
            self.frame(joined);
        }
    }

    /// A DATA frame of ours around `content`.
    fn frame(&mut self, content: Bytes) {
        let mut front = BytesMut::with_capacity(9);
        front.put_u8(0);
        // Pieces are far below 2^30: they are within what flow control lets in.
        match u32::try_from(content.len()).unwrap_or(u32::MAX) {
            length @ 0..0x40 => front.put_u8(length as u8),
            length @ 0x40..0x4000 => front.put_u16(length as u16 | 0x4000),
            length @ 0x4000..0x4000_0000 => front.put_u32(length | 0x8000_0000),
            length => front.put_u64(u64::from(length) | 0xc000_0000_0000_0000),
        }
        self.out.push_back(front.freeze());
        self.out.push_back(content);
    }
}

#[cfg(test)]
mod tests;
