//! Content under way: `Upload` is what hyper's client reads from us, `Download` what the client reads from the origin. They
//! know when a connection may serve again, and stop each other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::pool::Lease;
use super::timer::Timer;
use crate::http::body::{Body, BodyError};
use crate::http::handler::Reason;

const UNTOUCHED: u8 = 0;
const FLOWING: u8 = 1;
const ENDED: u8 = 2;
const TOO_LARGE: u8 = 3;
const STALLED: u8 = 4;
const GONE: u8 = 5;

/// What both sides of a request know of its content. All on one worker: the atomics only make it `Sync`.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: AtomicU8,
    frames: AtomicU32,
    /// Closed until the origin says 100 (Continue), or is asked no longer.
    gated: AtomicBool,
    stopped: AtomicBool,
    waker: AtomicWaker,
}

impl Progress {
    /// Nothing was taken from the client yet: the request may be sent once more.
    pub(super) fn untouched(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNTOUCHED
    }

    /// Sent to its end.
    pub(super) fn ended(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ENDED
    }

    /// Frames taken so far, wrapping; it changes as long as the upload moves.
    pub(super) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// The client's fault that broke the upload.
    pub(super) fn failure(&self) -> Option<Reason> {
        match self.state.load(Ordering::Relaxed) {
            TOO_LARGE => Some(Reason::BodyTooLarge),
            STALLED => Some(Reason::ClientTimeout),
            GONE => Some(Reason::ClientGone),
            _ => None,
        }
    }

    /// Lets nothing through until [`Progress::open`].
    pub(super) fn gate(&self) {
        self.gated.store(true, Ordering::Relaxed);
    }

    /// Whether it waits for the origin's 100 (Continue).
    pub(super) fn gated(&self) -> bool {
        self.gated.load(Ordering::Relaxed)
    }

    /// The origin wants the content.
    pub(super) fn open(&self) {
        if self.gated.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// Nobody wants the rest: the origin has answered in full, or the client has gone.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.waker.wake();
    }
}

/// A request's content on its way to the origin.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    progress: Option<Arc<Progress>>,
}

impl Upload {
    /// `body`, watched by `progress` unless it is empty.
    pub(super) fn new(body: Body, progress: Option<Arc<Progress>>) -> Self {
        Self { body, progress }
    }

    /// The content back, when hyper has not begun to send.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(progress) = &this.progress else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        progress.waker.register(cx.waker());
        if progress.stopped.load(Ordering::Relaxed) {
            // Any error will do: hyper closes the connection or resets the stream, and nobody reads it.
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        }
        if progress.gated() {
            return Poll::Pending;
        }
        if progress.untouched() {
            progress.state.store(FLOWING, Ordering::Relaxed);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        progress
            .frames
            .store(progress.frames().wrapping_add(1), Ordering::Relaxed);
        match &frame {
            None => progress.state.store(ENDED, Ordering::Relaxed),
            Some(Ok(frame)) => {
                if frame.is_trailers() || this.body.is_end_stream() {
                    progress.state.store(ENDED, Ordering::Relaxed);
                }
            }
            Some(Err(error)) => {
                let state = match error {
                    BodyError::TooLarge => TOO_LARGE,
                    BodyError::Stalled => STALLED,
                    _ => GONE,
                };
                progress.state.store(state, Ordering::Relaxed);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends an exchange: gives the connection back if it may serve again, and stops an upload that goes on.
pub(super) fn finish(lease: Lease, upload: Option<&Arc<Progress>>) {
    match upload {
        Some(progress) if !progress.ended() => {
            // The origin answered in full before it had read everything. On HTTP/1.1 the rest would have to be sent
            // before the connection is free; ending it is cheaper for all (RFC 9112 section 9.5).
            progress.stop();
            lease.discard();
        }
        _ => lease.give_back(),
    }
}

/// A response's content on its way to the client.
pub(super) struct Download {
    incoming: Incoming,
    /// Read together with the head.
    first: Option<Frame<Bytes>>,
    lease: Option<Lease>,
    upload: Option<Arc<Progress>>,
    timer: Timer,
    timeout: Duration,
    /// Since when the origin keeps us waiting.
    waiting: Option<Instant>,
}

impl Download {
    /// `first` and then `incoming`, which may pause no longer than `timeout` while the client waits.
    pub(super) fn new(
        incoming: Incoming,
        first: Option<Frame<Bytes>>,
        mut lease: Lease,
        upload: Option<Arc<Progress>>,
        timeout: Duration,
    ) -> Self {
        Self {
            incoming,
            first,
            timer: lease.take_timer(),
            lease: Some(lease),
            upload,
            timeout,
            waiting: None,
        }
    }

    fn end(&mut self) {
        if let Some(mut lease) = self.lease.take() {
            lease.keep_timer(std::mem::take(&mut self.timer));
            finish(lease, self.upload.take().as_ref());
        }
    }
}

impl Drop for Download {
    /// Not read to its end: the connection cannot serve again, and is closed by being dropped.
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.stop();
        }
        if let Some(lease) = self.lease.take() {
            lease.discard();
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            if first.is_trailers() {
                this.end();
            }
            return Poll::Ready(Some(Ok(first)));
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = None;
                // Whoever writes the response may not poll again after the last frame.
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(lease) = this.lease.take() {
                    lease.discard();
                }
                Poll::Ready(Some(Err(BodyError::Origin(error))))
            }
            Poll::Pending => {
                let since = *this.waiting.get_or_insert_with(Instant::now);
                ready!(this.timer.poll_passed(cx, since + this.timeout));
                if let Some(lease) = this.lease.take() {
                    lease.discard();
                }
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        let first = self
            .first
            .as_ref()
            .and_then(Frame::data_ref)
            .map_or(0, |bytes| bytes.len() as u64);
        match rest.exact().and_then(|n| n.checked_add(first)) {
            Some(n) => SizeHint::with_exact(n),
            None => SizeHint::default(),
        }
    }
}
