//! A request's content as it comes over an HTTP/3 stream, held to what its `Content-Length` says.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::code::Code;
use super::link::Sectioned;
use super::request::Malformed;
use super::stream::{Came, Incoming, Lost};
use crate::http::body::{Body, BodyError};

type Read = Option<Result<Frame<Bytes>, BodyError>>;

/// Content under way.
struct Content {
    stream: Incoming,
    /// What was there when the head came.
    first: Read,
    length: Option<u64>,
    seen: u64,
    /// Handed on when the stream has ended: what else comes after them is an error.
    trailers: Option<HeaderMap>,
    done: bool,
}

/// The content behind a head whose `Content-Length` is `length`. Empty if the stream has ended by
/// now: most requests' streams end with the packet that has their head.
pub(super) fn content(stream: Incoming, length: Option<u64>) -> Body {
    let mut content = Content {
        stream,
        first: None,
        length,
        seen: 0,
        trailers: None,
        done: false,
    };
    match content.read(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(None) => return Body::Empty,
        Poll::Ready(first) => content.first = first,
        Poll::Pending => {}
    }
    Body::boxed(content)
}

impl Content {
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        while !self.done {
            match ready!(self.stream.poll(cx)) {
                Ok(Some(Came::Content(data))) => {
                    self.seen = self.seen.saturating_add(data.len() as u64);
                    if self.length.is_some_and(|length| self.seen > length) {
                        return self.lies();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Some(Came::Section(Sectioned::Fields(fields)))) => match fields.into_trailers() {
                    Ok(trailers) => self.trailers = Some(trailers),
                    Err(Malformed) => return self.fail(Code::MESSAGE_ERROR, "malformed trailers"),
                },
                Ok(Some(Came::Section(Sectioned::TooLarge))) => {
                    return self.fail(Code::EXCESSIVE_LOAD, "trailers beyond the limit");
                }
                Ok(None) if self.length.is_some_and(|length| self.seen < length) => return self.lies(),
                Ok(None) => {
                    self.done = true;
                    return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Err(Lost::Broken(_)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(BodyError::Framing("frames against RFC 9114"))));
                }
                Err(Lost::Left(error)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(BodyError::Quic(error))));
                }
            }
        }
        Poll::Ready(None)
    }

    /// RFC 9114 section 4.1.2: a length that is not that of the content makes the request
    /// malformed.
    fn lies(&mut self) -> Poll<Read> {
        self.fail(
            Code::MESSAGE_ERROR,
            "content of another length than Content-Length says",
        )
    }

    fn fail(&mut self, code: Code, why: &'static str) -> Poll<Read> {
        self.done = true;
        self.stream.stop(code);
        Poll::Ready(Some(Err(BodyError::Framing(why))))
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Read> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => this.read(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        hint(&self.first, self.seen, self.length)
    }
}

/// What is still to come of content of which `seen` bytes were read, `first` with them.
fn hint(first: &Read, seen: u64, length: Option<u64>) -> SizeHint {
    if length.is_some_and(|length| seen > length) {
        return SizeHint::default();
    }
    let first = match first {
        // Nothing is known of content that has failed: with a length, of 0 above all, it would pass
        // for whole content that nobody need read.
        Some(Err(_)) => return SizeHint::default(),
        Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
        None => 0,
    };
    let taken = seen.saturating_sub(first as u64);
    match length {
        Some(length) => SizeHint::with_exact(length.saturating_sub(taken)),
        None => SizeHint::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with more content than it says would reach the origin as one without any.
    #[test]
    fn content_that_has_failed_has_no_length() {
        let data = |text: &'static [u8]| Some(Ok(Frame::data(Bytes::from_static(text))));
        for length in [0, 2, 5] {
            let failed = Some(Err(BodyError::Framing("test")));
            assert_eq!(hint(&failed, 3, Some(length)).exact(), None, "{length}");
        }
        assert_eq!(hint(&None, 3, Some(2)).exact(), None, "told of already");
        assert_eq!(hint(&data(b"abc"), 3, Some(5)).exact(), Some(5));
        assert_eq!(hint(&None, 3, Some(5)).exact(), Some(2));
        assert_eq!(hint(&data(b"abc"), 3, None).exact(), None);
    }
}
