//! A request's content as it comes over an HTTP/3 stream, held to what its `Content-Length` says.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http_body::{Frame, SizeHint};

use super::wire::REFUSED;
use crate::http::body::{Body, BodyError};

type Receiving = RequestStream<super::wire::Receiving, Bytes>;

/// Content under way.
struct Content {
    stream: Receiving,
    /// A piece that was there when the head came.
    first: Option<Bytes>,
    length: Option<u64>,
    seen: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    Done,
}

/// The content behind a head whose `Content-Length` is `length`. Empty where the stream has ended
/// by now: most requests' streams end with the packet that has their head.
pub(super) fn content(mut stream: Receiving, length: Option<u64>) -> Body {
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = None;
    match stream.poll_recv_data(&mut cx) {
        Poll::Ready(Ok(Some(mut data))) => first = Some(data.copy_to_bytes(data.remaining())),
        Poll::Ready(Ok(None)) if length.unwrap_or(0) == 0 => {
            if let Poll::Ready(Ok(None)) = stream.poll_recv_trailers(&mut cx) {
                return Body::Empty;
            }
        }
        // Errors come up again when the content is read.
        Poll::Ready(_) | Poll::Pending => {}
    }
    Body::boxed(Content {
        stream,
        first,
        length,
        seen: 0,
        stage: Stage::Data,
    })
}

impl Content {
    /// RFC 9114 section 4.1.2: a length that is not that of the content makes the request
    /// malformed.
    fn lies(&mut self) -> BodyError {
        self.stream.stop_sending(Code::H3_MESSAGE_ERROR);
        self.stage = Stage::Done;
        BodyError::Framing("content of another length than Content-Length says")
    }

    fn count(&mut self, data: &Bytes) -> Result<(), BodyError> {
        self.seen = self.seen.saturating_add(data.len() as u64);
        if self.length.is_some_and(|length| self.seen > length) {
            return Err(self.lies());
        }
        Ok(())
    }

    fn broke(&mut self, error: StreamError) -> BodyError {
        self.stage = Stage::Done;
        match &error {
            StreamError::RemoteTerminate { code, .. } if code.value() == REFUSED => {
                BodyError::Framing("frames against RFC 9114, or trailers beyond the limit")
            }
            _ => BodyError::Quic(error),
        }
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            let counted = this.count(&first);
            return Poll::Ready(Some(counted.map(|()| Frame::data(first))));
        }
        if this.stage == Stage::Data {
            match ready!(this.stream.poll_recv_data(cx)) {
                Ok(Some(mut data)) => {
                    let data = data.copy_to_bytes(data.remaining());
                    let counted = this.count(&data);
                    return Poll::Ready(Some(counted.map(|()| Frame::data(data))));
                }
                Ok(None) if this.length.is_some_and(|length| this.seen < length) => {
                    return Poll::Ready(Some(Err(this.lies())));
                }
                Ok(None) => this.stage = Stage::Trailers,
                Err(error) => return Poll::Ready(Some(Err(this.broke(error)))),
            }
        }
        if this.stage == Stage::Trailers {
            let trailers = ready!(this.stream.poll_recv_trailers(cx));
            this.stage = Stage::Done;
            return match trailers {
                Ok(None) => Poll::Ready(None),
                Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Err(error) => Poll::Ready(Some(Err(this.broke(error)))),
            };
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Done && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.seen)),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if self.stage != Stage::Done {
            // The answer did not need the rest (RFC 9114 section 4.1).
            self.stream.stop_sending(Code::H3_NO_ERROR);
        }
    }
}
