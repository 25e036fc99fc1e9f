//! Content codings undone as content passes (RFC 9110 section 8.4): what a guest fetches is decoded
//! where it looks at it, and goes on as it came where it does not. Output comes in pieces of
//! bounded size, whatever the input says, so that a bomb costs its reader what the reader takes.
//! Held for one stream: [`Coding::window`] bytes and the input at hand.

use std::collections::VecDeque;
use std::io::{BufRead, ErrorKind, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Frame;

use crate::http::body::{Body, BodyError};

/// Bytes of one piece of output.
const PIECE: usize = 64 << 10;
/// Codings applied one after the other; more are not undone.
const MOST: usize = 3;
/// The window of zstd that is taken (RFC 8878 section 3.1.1.1.2 recommends at least 8 MiB).
const ZSTD_WINDOW: u32 = 23;

/// A coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; what is RFC 1951's alone is taken, too, as browsers do.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    fn of(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () if is("br") => Some(Self::Brotli),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }

    /// Bytes that undoing it may take beside input and output.
    pub(super) fn window(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => 64 << 10,
            Self::Brotli => 16 << 20,
            Self::Zstd => 9 << 20,
        }
    }

    /// Whether content that begins with `bytes` can be of this coding: by its mark, where it has
    /// one, else by undoing the beginning.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        match self {
            Self::Gzip => bytes.starts_with(&[0x1f, 0x8b]),
            Self::Zstd => bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
            Self::Deflate => is_zlib(bytes),
            Self::Brotli => {
                let mut decoder = Decoder::new(self);
                decoder.push(Bytes::copy_from_slice(bytes));
                matches!(decoder.next(), Ok(_) | Err(Stop::Hungry))
            }
        }
    }
}

/// RFC 1950 section 2.2: method 8, a window of at most 32 KiB, a check sum.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [a, b, ..] if a & 0x8f == 8 && u16::from_be_bytes([*a, *b]) % 31 == 0)
}

/// The codings of a message in the order in which they were applied. Empty if there are none;
/// `None` if one is not known: then the content stays as it is (Fetch standard, "handle content
/// codings").
pub(super) fn codings(headers: &HeaderMap) -> Option<Vec<Coding>> {
    let mut found = Vec::new();
    for line in headers.get_all(header::CONTENT_ENCODING) {
        for name in line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            if found.len() >= MOST {
                return None;
            }
            found.push(Coding::of(name)?);
        }
    }
    Some(found)
}

/// `body` with `codings` undone.
pub(super) fn decoded(body: Body, codings: &[Coding]) -> Body {
    codings.iter().rev().fold(body, |body, coding| {
        Body::boxed(Decoded {
            body,
            decoder: Decoder::new(*coding),
            ended: false,
            any: false,
        })
    })
}

/// Why there is no piece.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// It wants more input.
    Hungry,
    /// The input is not of this coding.
    Bad,
}

/// Input that the decoder has not read, and whether that is all.
#[derive(Debug, Default)]
struct Input {
    pieces: VecDeque<Bytes>,
    whole: bool,
}

/// The decoder's end of it.
struct Source {
    input: Arc<Mutex<Input>>,
    now: Bytes,
}

struct Decoder {
    input: Arc<Mutex<Input>>,
    read: Option<Box<dyn Read + Send>>,
    coding: Coding,
}

fn lock(input: &Mutex<Input>) -> MutexGuard<'_, Input> {
    input.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let mut from = self.fill_buf()?;
        let read = from.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.now.is_empty() {
            let mut input = lock(&self.input);
            match input.pieces.pop_front() {
                Some(piece) => self.now = piece,
                None if input.whole => {}
                None => return Err(ErrorKind::WouldBlock.into()),
            }
        }
        Ok(&self.now)
    }

    fn consume(&mut self, read: usize) {
        let read = read.min(self.now.len());
        bytes::Buf::advance(&mut self.now, read);
    }
}

impl Decoder {
    fn new(coding: Coding) -> Self {
        Self {
            input: Arc::default(),
            read: None,
            coding,
        }
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            lock(&self.input).pieces.push_back(piece);
        }
    }

    fn finish(&mut self) {
        lock(&self.input).whole = true;
    }

    /// What decodes, chosen when the first bytes are there.
    fn open(&mut self) -> Result<&mut Box<dyn Read + Send>, Stop> {
        if self.read.is_none() {
            let first = lock(&self.input).pieces.front().cloned().ok_or(Stop::Hungry)?;
            let source = Source {
                input: self.input.clone(),
                now: Bytes::new(),
            };
            let read: Box<dyn Read + Send> = match self.coding {
                Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
                Coding::Deflate if is_zlib(&first) => Box::new(flate2::bufread::ZlibDecoder::new(source)),
                Coding::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(source)),
                Coding::Brotli => Box::new(brotli::Decompressor::new(source, 4 << 10)),
                Coding::Zstd => {
                    let mut decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(|_| Stop::Bad)?;
                    decoder.window_log_max(ZSTD_WINDOW).map_err(|_| Stop::Bad)?;
                    Box::new(decoder)
                }
            };
            self.read = Some(read);
        }
        self.read.as_mut().ok_or(Stop::Bad)
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        let mut piece = vec![0; PIECE];
        let mut filled = 0_usize;
        let read = self.open()?;
        while let Some(room) = piece.get_mut(filled..).filter(|room| !room.is_empty()) {
            match read.read(room) {
                Ok(0) => break,
                Ok(n) => filled = filled.saturating_add(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if filled > 0 => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Stop::Hungry),
                Err(_) => return Err(Stop::Bad),
            }
        }
        piece.truncate(filled);
        Ok((filled > 0).then(|| Bytes::from(piece)))
    }
}

/// Content with one coding undone.
struct Decoded {
    body: Body,
    decoder: Decoder,
    ended: bool,
    /// There was input: none at all is no content, whatever its coding.
    any: bool,
}

impl http_body::Body for Decoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.ended && !this.any {
                return Poll::Ready(None);
            }
            match this.decoder.next() {
                Ok(piece) => return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))),
                Err(Stop::Hungry) if !this.ended => {}
                Err(_) => return Poll::Ready(Some(Err(BodyError::Damaged("its coding cannot be undone")))),
            }
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.any |= !data.is_empty();
                        this.decoder.push(data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.ended = true;
                    this.decoder.finish();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;

    fn coded(coding: Coding, text: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                to.write_all(text).unwrap();
                to.finish().unwrap()
            }
            Coding::Deflate => {
                let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                to.write_all(text).unwrap();
                to.finish().unwrap()
            }
            Coding::Brotli => {
                let mut to = Vec::new();
                brotli::BrotliCompress(&mut &*text, &mut to, &brotli::enc::BrotliEncoderParams::default()).unwrap();
                to
            }
            Coding::Zstd => zstd::encode_all(text, 3).unwrap(),
        }
    }

    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    fn body(bytes: &[u8], each: usize) -> Body {
        let pieces: Vec<_> = bytes
            .chunks(each)
            .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(pieces)))
    }

    /// A worker would read compressed bytes where it expects a page, or half of one where pieces
    /// are small.
    #[tokio::test]
    async fn codings_are_undone_in_pieces_of_any_size() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for coding in ALL {
            for each in [1 << 20, 1_000, 3] {
                let decoded = decoded(body(&coded(coding, &text), each), &[coding]);
                assert_eq!(decoded.collect().await.unwrap().to_bytes(), text, "{coding:?} {each}");
            }
            let twice = coded(Coding::Gzip, &coded(coding, b"hello"));
            let both = decoded(body(&twice, 5), &[coding, Coding::Gzip]);
            assert_eq!(both.collect().await.unwrap().to_bytes(), "hello", "{coding:?}");
            let empty = decoded(Body::Empty, &[coding]);
            assert_eq!(empty.collect().await.unwrap().to_bytes(), "", "{coding:?}");
        }
    }

    /// What was cut off, or is no such coding, would look like a whole page.
    #[tokio::test]
    async fn damage_breaks_the_content_off() {
        for coding in ALL {
            let whole = coded(coding, &[b'x'; 5_000]);
            let cut = decoded(body(&whole[..whole.len() / 2], 10), &[coding]);
            assert!(cut.collect().await.is_err(), "{coding:?} cut");
            let wrong = decoded(body(b"<html>hello</html>", 10), &[coding]);
            assert!(wrong.collect().await.is_err(), "{coding:?} none");
        }
    }

    /// A few bytes would fill the node's memory before anybody asks for what they stand for.
    #[tokio::test]
    async fn a_bomb_comes_in_pieces() {
        let text = vec![0; 64 << 20];
        for coding in ALL {
            let mut decoded = decoded(Bytes::from(coded(coding, &text)).into(), &[coding]);
            let mut length = 0;
            while let Some(frame) = decoded.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE);
                length += piece.len();
            }
            assert_eq!(length, text.len(), "{coding:?}");
        }
    }

    /// A page that a worker changed would be sent as compressed, or one that it compressed itself
    /// as plain.
    #[test]
    fn what_is_coded_is_told_from_what_is_not() {
        for coding in ALL {
            assert!(coding.begins(&coded(coding, b"<html>hello</html>")), "{coding:?}");
            assert!(!coding.begins(b"<html>hello</html>"), "{coding:?}");
            assert!(!coding.begins(b"{\"a\":1}"), "{coding:?}");
        }
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(text));
            codings(&headers)
        };
        assert_eq!(of("gzip, BR"), Some(vec![Coding::Gzip, Coding::Brotli]));
        assert_eq!(of("identity"), Some(vec![]));
        assert_eq!(of("dcb"), None);
        assert_eq!(of("gzip,gzip,gzip,gzip"), None);
    }
}
