//! A message's content as it streams by: one type for what hyper reads, what the edge makes and
//! what rooms wrap.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Content that broke off. Says who is at fault; the message is aborted, never ended as if it were
/// whole.
///
/// Errors of the libraries are no sources: hyper and h2 look for an HTTP/2 error code among them,
/// and would tell one peer with the code of the other that it is too busy, or that it should use
/// HTTP/1.1 (RFC 9113 section 7).
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client broke off, or its framing was wrong.
    #[error("the client's content broke off: {0}")]
    Client(hyper::Error),
    /// The client's QUIC stream or connection broke off.
    #[error("the client's content broke off: {0}")]
    Quic(quinn::ReadError),
    /// The client's content is not what its head says.
    #[error("{0}")]
    Framing(&'static str),
    /// The origin broke off, or its framing was wrong.
    #[error("the origin's content broke off: {0}")]
    Origin(hyper::Error),
    /// More content than the zone allows.
    #[error("more content than the limit")]
    TooLarge,
    /// No bytes moved for longer than the limit.
    #[error("content stalled beyond the limit")]
    Stalled,
    /// Not what its digest says: found before its last byte had left.
    #[error("content from the far end: {0}")]
    Damaged(&'static str),
    /// Content that several requests share broke off.
    #[error("content shared with another request broke off")]
    Shared,
    /// A slice of a large object could not be had, or is of another version.
    #[error("a slice of the content: {0}")]
    Sliced(&'static str),
    /// The zone's worker came to a bad end while it made the content.
    #[error("the worker's content broke off: {0}")]
    Worker(&'static str),
    /// A file could not be read to its end.
    #[error("reading a file: {0}")]
    File(#[source] std::io::Error),
}

/// Content of a request or a response.
#[derive(Default)]
pub enum Body {
    /// None at all.
    #[default]
    Empty,
    /// All at hand.
    Full(Bytes),
    /// As hyper reads it from the client.
    Client(Incoming),
    /// As hyper reads it from the origin.
    Origin(Incoming),
    /// Whatever a room made.
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// Boxes a body of a room's own.
    pub fn boxed(body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Boxed(Box::pin(body))
    }
}

impl Body {
    /// All of it, if that is at most `most` bytes; trailers are left out.
    ///
    /// # Errors
    /// It broke off, or is longer: [`BodyError::TooLarge`].
    pub async fn gathered(mut self, most: usize) -> Result<Bytes, BodyError> {
        let mut content = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if content.len() + data.len() > most {
                return Err(BodyError::TooLarge);
            }
            content.extend_from_slice(&data);
        }
        Ok(content.freeze())
    }

    /// Reads it for nobody, so that its connection can serve again; what is longer than `most`
    /// bytes ends that.
    pub async fn drain(mut self, most: usize) {
        let mut left = most;
        while let Some(Ok(frame)) = self.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Client(_) => "Client",
            Self::Origin(_) => "Origin",
            Self::Boxed(_) => "Boxed",
        };
        write!(f, "Body::{kind}({:?})", http_body::Body::size_hint(self))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => {
                let Self::Full(bytes) = std::mem::take(this) else {
                    return Poll::Ready(None);
                };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Client(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Client),
            Self::Origin(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Origin),
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Client(incoming) | Self::Origin(incoming) => incoming.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(incoming) | Self::Origin(incoming) => incoming.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
