//! A client's streams as they are read: quinn's bytes through the parsers, and what breaks their
//! rules ends stream or connection.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::ReadError;

use super::code::{Broken, Code};
use super::frames::{Frames, Piece, TRAILERS};
use super::link::{Link, Sectioned};
use super::request::Fields;
use super::streams::{Control, Front, Use};

/// Pieces that are taken out of quinn at once; each has at most a datagram's bytes.
const CHUNKS: usize = 4;

/// Why nothing more comes on a request stream.
#[derive(Debug)]
pub(super) enum Lost {
    /// The client broke the rules; stream or connection was ended for it.
    Broken(Broken),
    /// The client gave the stream up, or is gone.
    Left(ReadError),
}

/// What a request stream brings.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "handed on at once; a box would be an allocation for each request"
)]
pub(super) enum Came {
    /// The head, then trailers.
    Section(Sectioned),
    /// Content; not empty.
    Content(Bytes),
}

/// The client's half of a request stream.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: quinn::RecvStream,
    id: u64,
    frames: Frames,
    chunks: [Bytes; CHUNKS],
    /// Which of the chunks is next, and how many there are.
    next: usize,
    filled: usize,
    /// A field section that waits for the table.
    section: Option<Bytes>,
    /// The first section, of the head, has been read.
    headed: bool,
    /// Nothing more is read: it has ended, or is broken.
    over: bool,
    link: Arc<Link>,
}

impl Incoming {
    pub(super) fn new(stream: quinn::RecvStream, link: Arc<Link>) -> Self {
        Self {
            id: quinn::VarInt::from(stream.id()).into_inner(),
            stream,
            frames: Frames::new(link.header_bytes),
            chunks: [const { Bytes::new() }; CHUNKS],
            next: 0,
            filled: 0,
            section: None,
            headed: false,
            over: false,
            link,
        }
    }

    /// What comes next; `None` at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Came>, Lost>> {
        loop {
            if let Some(section) = &self.section {
                let most = self.link.header_bytes;
                let fields = match self.headed {
                    false => Fields::head(most),
                    true => Fields::trailers(most.min(TRAILERS)),
                };
                return match ready!(self.link.poll_section(cx, self.id, section, fields)) {
                    Ok(read) => {
                        self.section = None;
                        self.headed = true;
                        Poll::Ready(Ok(Some(Came::Section(read))))
                    }
                    Err(code) => Poll::Ready(Err(self.broke(Broken::Connection(code)))),
                };
            }
            match self.frames.pull() {
                Ok(None) => {}
                Ok(Some(Piece::Content(content))) => return Poll::Ready(Ok(Some(Came::Content(content)))),
                Ok(Some(Piece::Section(section))) => {
                    self.section = Some(section);
                    continue;
                }
                Err(broken) => return Poll::Ready(Err(self.broke(broken))),
            }
            if self.next < self.filled
                && let Some(chunk) = self.chunks.get_mut(self.next)
            {
                self.next += 1;
                self.frames.feed(std::mem::take(chunk));
                continue;
            }
            if self.over {
                return Poll::Ready(Ok(None));
            }
            // The future holds nothing but the stream: dropping it loses nothing.
            let read = ready!(pin!(self.stream.read_chunks(&mut self.chunks)).poll(cx));
            match read {
                Ok(Some(filled)) => (self.next, self.filled) = (0, filled),
                Ok(None) => {
                    self.over = true;
                    if let Err(broken) = self.frames.end() {
                        return Poll::Ready(Err(self.broke(broken)));
                    }
                }
                Err(error) => {
                    self.over = true;
                    self.link.give_up(self.id);
                    return Poll::Ready(Err(Lost::Left(error)));
                }
            }
        }
    }

    /// Bytes of the field section that is being gathered, or waits.
    pub(super) fn gathers(&self) -> u64 {
        self.section
            .as_ref()
            .map_or(0, |section| section.len() as u64)
            .max(self.frames.gathers())
    }

    /// The request stream's number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Does not read on, and tells the client why. Of no meaning for a stream that has ended.
    pub(super) fn stop(&mut self, code: Code) {
        if !self.over {
            self.over = true;
            self.link.give_up(self.id);
            // Fails only for one that has ended.
            let _ = self.stream.stop(code.into());
        }
    }

    fn broke(&mut self, broken: Broken) -> Lost {
        match broken {
            Broken::Stream(code) => self.stop(code),
            Broken::Connection(code) => self.link.close(code),
        }
        self.over = true;
        Lost::Broken(broken)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // The answer did not need the rest (RFC 9114 section 4.1).
        self.stop(Code::NO_ERROR);
    }
}

/// A client's stream of one direction, to its end; fails with what the connection has to end with.
/// What it brings goes to the connection.
#[derive(Debug)]
pub(super) struct OneWay {
    stream: quinn::RecvStream,
    reads: Reads,
    link: Arc<Link>,
}

#[derive(Debug)]
enum Reads {
    Front(Front),
    Control(Control),
    Encoder,
    Decoder,
}

impl OneWay {
    pub(super) fn new(stream: quinn::RecvStream, link: Arc<Link>) -> Self {
        Self {
            stream,
            reads: Reads::Front(Front::default()),
            link,
        }
    }

    /// Takes the next bytes. False: the stream is of no known use.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<bool, Code> {
        if let Reads::Front(front) = &mut self.reads {
            let Some((what, used)) = front.read(bytes)? else {
                return Ok(true);
            };
            self.link.claim(what)?;
            bytes = bytes.get(used..).unwrap_or_default();
            self.reads = match what {
                Use::Control => Reads::Control(Control::default()),
                Use::Encoder => Reads::Encoder,
                Use::Decoder => Reads::Decoder,
                Use::Unknown => return Ok(false),
            };
        }
        match &mut self.reads {
            Reads::Front(_) => {}
            Reads::Control(control) => {
                for told in control.pass(bytes)? {
                    self.link.told(&told);
                }
            }
            Reads::Encoder => self.link.insert(bytes)?,
            Reads::Decoder => self.link.acknowledged(bytes)?,
        }
        Ok(true)
    }
}

impl Future for OneWay {
    type Output = Result<(), Code>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            // The future holds nothing but the stream: dropping it loses nothing.
            let read = ready!(pin!(this.stream.read_chunk(usize::MAX, true)).poll(cx));
            match read {
                Ok(Some(chunk)) => {
                    if !this.pass(&chunk.bytes)? {
                        // Section 6.2; fails only for one that has ended.
                        let _ = this.stream.stop(Code::STREAM_CREATION_ERROR.into());
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(None) | Err(ReadError::Reset(_)) => {
                    // One may end before its type is whole (section 6.2).
                    return Poll::Ready(match this.reads {
                        Reads::Front(_) => Ok(()),
                        _ => Err(Code::CLOSED_CRITICAL_STREAM),
                    });
                }
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
