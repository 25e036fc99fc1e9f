//! CompressionStream and DecompressionStream for the engine (Compression standard): deflate in its
//! three wrappers, chunk by chunk. Output of one call is bounded; the prelude calls again for more.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::code::Code;
use crate::isolate::memory::Held;

/// Codecs of one request at once.
const MOST: usize = 16;
/// Bytes that one holds: deflate's window, hash chains and output (zlib's documentation: 268 KiB).
pub(super) const BYTES: usize = 320 << 10;
/// Bytes of output of one call.
pub(super) const OUTPUT: usize = 128 << 10;
/// The longest head of gzip that is read: its extra field, name and comment.
const HEAD: usize = 64 << 10;

/// Those of one request.
#[derive(Debug, Default)]
pub(super) struct Codecs(Vec<Option<Codec>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Codec {
    work: Work,
    format: Format,
    /// Input that was not worked on yet.
    input: Vec<u8>,
    sum: Sum,
    stage: Stage,
    _held: Held,
}

#[derive(Debug)]
enum Work {
    Compress(Compress),
    Decompress(Decompress),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Deflate,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Content,
    Tail,
    Over,
}

/// CRC-32 and length, as gzip ends with them.
#[derive(Debug, Default)]
struct Sum(flate2::Crc);

impl Codecs {
    /// A new one; its number. `format`: 1 gzip, 2 deflate, 3 deflate-raw.
    ///
    /// # Errors
    /// [`Code::Unsupported`], or [`Code::Busy`] beyond [`MOST`].
    pub(super) fn open(&mut self, format: i32, compress: bool, held: Held) -> Result<i32, Code> {
        let format = match format {
            1 => Format::Gzip,
            2 => Format::Deflate,
            3 => Format::Raw,
            _ => return Err(Code::Unsupported),
        };
        let wrapped = format == Format::Deflate;
        let codec = Codec {
            work: match compress {
                true => Work::Compress(Compress::new(Compression::default(), wrapped)),
                false => Work::Decompress(Decompress::new(wrapped)),
            },
            format,
            input: Vec::new(),
            sum: Sum::default(),
            stage: if format == Format::Gzip {
                Stage::Head
            } else {
                Stage::Content
            },
            _held: held,
        };
        let free = self.0.iter().position(Option::is_none);
        let at = match free {
            Some(at) => at,
            None if self.0.len() < MOST => {
                self.0.push(None);
                self.0.len().saturating_sub(1)
            }
            None => return Err(Code::Busy),
        };
        if let Some(slot) = self.0.get_mut(at) {
            *slot = Some(codec);
        }
        i32::try_from(at).map_err(|_| Code::Busy)
    }

    /// The codec of a number.
    ///
    /// # Errors
    /// [`Code::Malformed`]: there is none.
    pub(super) fn get(&mut self, number: i32) -> Result<&mut Codec, Code> {
        let at = usize::try_from(number).map_err(|_| Code::Malformed)?;
        self.0.get_mut(at).and_then(Option::as_mut).ok_or(Code::Malformed)
    }

    /// Lets one go.
    pub(super) fn close(&mut self, number: i32) {
        if let Some(slot) = usize::try_from(number).ok().and_then(|at| self.0.get_mut(at)) {
            *slot = None;
        }
    }
}

impl Codec {
    /// Bytes that wait to be worked on.
    pub(super) fn pending(&self) -> usize {
        self.input.len()
    }

    /// Has `chunk` wait for the next call.
    pub(super) fn keep(&mut self, chunk: &[u8]) {
        self.input.extend_from_slice(chunk);
    }

    /// Works on `chunk` behind what was left of the last one: at most [`OUTPUT`] bytes, and whether
    /// there may be more without another chunk. `last`: nothing follows.
    ///
    /// # Errors
    /// [`Code::Coding`]: not of this format, cut off, or something follows its end.
    pub(super) fn work(&mut self, chunk: &[u8], last: bool) -> Result<(Vec<u8>, bool), Code> {
        self.input.extend_from_slice(chunk);
        let mut out = Vec::new();
        if self.stage == Stage::Head {
            match &self.work {
                // RFC 1952 section 2.3: no name, no time, an unknown system.
                Work::Compress(_) => {
                    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
                    self.stage = Stage::Content;
                }
                Work::Decompress(_) => match head(&self.input) {
                    Head::Whole(length) => {
                        self.input.drain(..length.min(self.input.len()));
                        self.stage = Stage::Content;
                    }
                    Head::Part if !last && self.input.len() < HEAD => return Ok((out, false)),
                    Head::Part | Head::None => return Err(Code::Coding),
                },
            }
        }
        let mut more = false;
        if self.stage == Stage::Content {
            more = self.content(&mut out, last)?;
        }
        if self.stage == Stage::Tail {
            self.tail(&mut out, last)?;
        }
        if self.stage == Stage::Over && !self.input.is_empty() {
            return Err(Code::Coding);
        }
        Ok((out, more))
    }

    fn content(&mut self, out: &mut Vec<u8>, last: bool) -> Result<bool, Code> {
        let begin = out.len();
        out.reserve(OUTPUT);
        let (taken, status, over) = match &mut self.work {
            Work::Compress(work) => {
                let before = work.total_in();
                let flush = if last {
                    FlushCompress::Finish
                } else {
                    FlushCompress::None
                };
                let status = work.compress_vec(&self.input, out, flush).map_err(|_| Code::Coding)?;
                (
                    work.total_in().wrapping_sub(before),
                    status,
                    status == Status::StreamEnd,
                )
            }
            Work::Decompress(work) => {
                let before = work.total_in();
                let status = work
                    .decompress_vec(&self.input, out, FlushDecompress::None)
                    .map_err(|_| Code::Coding)?;
                (
                    work.total_in().wrapping_sub(before),
                    status,
                    status == Status::StreamEnd,
                )
            }
        };
        let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(self.input.len());
        let plain = match &self.work {
            Work::Compress(_) => self.input.get(..taken),
            Work::Decompress(_) => out.get(begin..),
        };
        self.sum.0.update(plain.unwrap_or_default());
        self.input.drain(..taken);
        if over {
            self.stage = if self.format == Format::Gzip {
                Stage::Tail
            } else {
                Stage::Over
            };
            return Ok(false);
        }
        let full = out.len() == out.capacity();
        if full || (last && matches!(self.work, Work::Compress(_))) {
            return Ok(true);
        }
        let stuck = status == Status::BufError || self.input.is_empty();
        if last && stuck {
            // It ended before its end.
            return Err(Code::Coding);
        }
        Ok(!self.input.is_empty() && !stuck)
    }

    fn tail(&mut self, out: &mut Vec<u8>, last: bool) -> Result<(), Code> {
        let mut tail = [0; 8];
        let (sum, length) = tail.split_at_mut(4);
        sum.copy_from_slice(&self.sum.0.sum().to_le_bytes());
        length.copy_from_slice(&self.sum.0.amount().to_le_bytes());
        match &self.work {
            Work::Compress(_) => out.extend_from_slice(&tail),
            Work::Decompress(_) => match self.input.split_at_checked(8) {
                Some((found, _)) if found == tail => {
                    self.input.drain(..8);
                }
                None if !last => return Ok(()),
                _ => return Err(Code::Coding),
            },
        }
        self.stage = Stage::Over;
        Ok(())
    }
}

enum Head {
    /// So many bytes.
    Whole(usize),
    Part,
    None,
}

/// The head of a gzip member (RFC 1952 section 2.3).
fn head(input: &[u8]) -> Head {
    let mark = [0x1f, 0x8b, 8];
    if !mark.starts_with(input.get(..3).unwrap_or(input)) {
        return Head::None;
    }
    let Some(flags) = input.get(3).copied() else {
        return Head::Part;
    };
    let mut at = 10_usize;
    if flags & 4 != 0 {
        let Some([a, b]) = input.get(10..12) else {
            return Head::Part;
        };
        at = at.saturating_add(2 + usize::from(u16::from_le_bytes([*a, *b])));
    }
    for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
        let Some(end) = input.get(at..).and_then(|rest| rest.iter().position(|b| *b == 0)) else {
            return Head::Part;
        };
        at = at.saturating_add(end).saturating_add(1);
    }
    if flags & 2 != 0 {
        at = at.saturating_add(2);
    }
    if flags & 0xe0 != 0 {
        return Head::None;
    }
    if input.len() < at { Head::Part } else { Head::Whole(at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::js::traffic::Traffic;

    fn run(codecs: &mut Codecs, id: i32, input: &[u8], each: usize) -> Result<Vec<u8>, Code> {
        let mut all = Vec::new();
        let pieces: Vec<&[u8]> = input.chunks(each).chain([&[][..]]).collect();
        for (n, piece) in pieces.iter().enumerate() {
            let last = n + 1 == pieces.len();
            let mut piece = *piece;
            loop {
                let (out, more) = codecs.get(id)?.work(piece, last)?;
                assert!(out.len() <= OUTPUT + 64, "{}", out.len());
                all.extend(out);
                piece = &[];
                if !more {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// What a worker compresses could not be read anywhere, or a bomb fill the node.
    #[test]
    fn what_goes_in_comes_out() {
        let text: Vec<u8> = (0..400_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let traffic = Traffic::new(100 << 20);
        let mut codecs = Codecs::default();
        for format in 1..=3 {
            for each in [1 << 22, 1_000, 7] {
                let text = &text[..if each == 7 { 9_000 } else { text.len() }];
                let to = codecs.open(format, true, traffic.hold(BYTES).unwrap()).unwrap();
                let small = run(&mut codecs, to, text, each).unwrap();
                assert!(small.len() < text.len() / 2);
                let from = codecs.open(format, false, traffic.hold(BYTES).unwrap()).unwrap();
                assert_eq!(run(&mut codecs, from, &small, each).unwrap(), text, "{format} {each}");
                for (bad, what) in [
                    (small[..small.len() - 3].to_vec(), "cut off"),
                    ([&small[..], b"more"].concat(), "something behind"),
                    (b"plain text that is none of these".to_vec(), "none"),
                ] {
                    let from = codecs.open(format, false, traffic.hold(BYTES).unwrap()).unwrap();
                    assert_eq!(
                        run(&mut codecs, from, &bad, each).unwrap_err(),
                        Code::Coding,
                        "{format} {what}"
                    );
                    codecs.close(from);
                }
                codecs.close(to);
                codecs.close(from);
            }
        }
        let open = std::iter::from_fn(|| codecs.open(1, true, traffic.hold(BYTES).ok()?).ok()).count();
        assert_eq!(open, MOST);
    }
}
