//! The hop's content on its way back to the origin's: the coding undone as bytes arrive, the length
//! and the digest compared. The last piece is held until the digest has proved right, so that what
//! is wrong never looks complete to a client: its connection or stream is aborted instead.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};

use super::codec::{CodecError, Decoder};
use super::digest::{Digest, Hasher};
use super::hop::{Coding, Content};
use super::metrics::{Metrics, Mismatch, Outcome};
use crate::http::body::{Body, BodyError};

/// What is done with content that has proved right.
pub(super) type Proved = Box<dyn FnOnce(Bytes) + Send>;

/// The body that a client gets.
pub(super) struct Restored {
    inner: Body,
    decoder: Option<Decoder>,
    hasher: Option<Hasher>,
    digest: Digest,
    coding: Coding,
    /// Bytes of content that are still to come.
    left: u64,
    /// Bytes of content that have not been given yet.
    owed: u64,
    length: u64,
    hop: u64,
    /// The last piece.
    held: Option<Bytes>,
    copy: Option<(BytesMut, Proved)>,
    spent: Duration,
    ended: bool,
    metrics: Metrics,
}

impl Restored {
    /// Undoes what `content` says of `inner`, with `decoder` where there is a coding. With
    /// `proved`, a copy is made and handed over when all has proved right.
    pub(super) fn new(
        inner: Body,
        content: &Content,
        decoder: Option<Decoder>,
        proved: Option<Proved>,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner,
            decoder,
            hasher: Some(Hasher::new()),
            digest: content.digest,
            coding: content.coding,
            left: content.length,
            owed: content.length,
            length: content.length,
            hop: 0,
            held: None,
            // As large as it will be, so that what is kept takes no more than is counted.
            copy: proved.map(|proved| {
                let length = usize::try_from(content.length).unwrap_or(0);
                (BytesMut::with_capacity(length), proved)
            }),
            spent: Duration::ZERO,
            ended: false,
            metrics,
        }
    }

    /// All of it, in memory; for content short enough.
    ///
    /// # Errors
    /// Why none of it can be used, counted.
    pub(super) async fn whole(mut self) -> Result<Bytes, BodyError> {
        let mut first = None;
        let mut all = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue };
            match &first {
                None => first = Some(data),
                Some(first) => {
                    if all.is_empty() {
                        all.reserve(usize::try_from(self.length).unwrap_or(0));
                        all.extend_from_slice(first);
                    }
                    all.extend_from_slice(&data);
                }
            }
        }
        Ok(if all.is_empty() {
            first.unwrap_or_default()
        } else {
            all.freeze()
        })
    }

    fn wrong(&mut self, why: Mismatch) -> BodyError {
        self.ended = true;
        self.held = None;
        self.copy = None;
        self.metrics.mismatch(why);
        BodyError::Damaged(match why {
            Mismatch::Digest => "not what its digest says",
            Mismatch::Truncated => "cut short",
            Mismatch::Corrupt | Mismatch::Head => "cannot be decoded",
        })
    }

    fn undecodable(&mut self, error: CodecError) -> BodyError {
        self.wrong(match error {
            CodecError::Truncated => Mismatch::Truncated,
            _ => Mismatch::Corrupt,
        })
    }

    /// A piece of content: counted, hashed, copied; held when it is the last.
    fn take(&mut self, piece: Bytes) -> Result<Option<Bytes>, BodyError> {
        let begun = Instant::now();
        let Some(left) = self.left.checked_sub(piece.len() as u64) else {
            return Err(self.wrong(Mismatch::Digest));
        };
        self.left = left;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        if let Some((copy, _)) = &mut self.copy {
            copy.extend_from_slice(&piece);
        }
        self.spent += begun.elapsed();
        if left == 0 && self.length > 0 {
            self.held = Some(piece);
            Ok(None)
        } else {
            Ok(Some(piece))
        }
    }

    /// The hop's content has ended: everything must fit now.
    fn end(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.ended = true;
        if let Some(Err(error)) = self.decoder.as_ref().map(Decoder::finish) {
            return Err(self.undecodable(error));
        }
        if self.left > 0 {
            return Err(self.wrong(Mismatch::Truncated));
        }
        if self.hasher.take().map(Hasher::finish) != Some(self.digest) {
            return Err(self.wrong(Mismatch::Digest));
        }
        self.metrics.outcome(Outcome::Coded(self.coding));
        self.metrics.bytes(self.coding, self.hop, self.length);
        self.metrics.applied(self.spent);
        if let Some((copy, proved)) = self.copy.take() {
            proved(copy.freeze());
        }
        Ok(self.held.take())
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(decoder) = &mut self.decoder {
                let begun = Instant::now();
                let piece = decoder.piece();
                self.spent += begun.elapsed();
                match piece {
                    Ok(None) => {}
                    Ok(Some(piece)) => match self.take(piece) {
                        Ok(None) => continue,
                        Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    },
                    Err(error) => return Poll::Ready(Some(Err(self.undecodable(error)))),
                }
            }
            let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return Poll::Ready(self.end().transpose()),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let _ = self.wrong(Mismatch::Truncated);
                    return Poll::Ready(Some(Err(error)));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            self.hop = self.hop.saturating_add(data.len() as u64);
            match &mut self.decoder {
                Some(decoder) => decoder.feed(data),
                None if data.is_empty() => {}
                None => match self.take(data) {
                    Ok(None) => {}
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
            }
        }
    }
}

impl http_body::Body for Restored {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let piece = std::task::ready!(this.step(cx));
        if let Some(Ok(piece)) = &piece {
            this.owed = this.owed.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.owed)
    }
}
