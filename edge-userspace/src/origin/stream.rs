//! A response's content on its way from the origin to the client. It knows when a connection may
//! serve again, and stops an upload that nobody waits for any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::lease::Lease;
use super::timer::Timer;
use super::upload::Progress;
use crate::http::body::BodyError;

/// Ends an exchange: gives the connection back if it may serve again, and stops an upload that goes
/// on.
pub(super) fn finish(lease: Lease, upload: Option<&Arc<Progress>>) {
    match upload {
        Some(progress) if !progress.ended() => {
            // The origin answered in full before it had read everything. On HTTP/1.1 the rest would
            // have to be sent before the connection is free; ending it is cheaper for all (RFC 9112
            // section 9.5).
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
    /// Since when the origin keeps us waiting, and how far the upload was then.
    waiting: Option<(Instant, u32)>,
}

impl Download {
    /// `first` and then `incoming`, which may pause no longer than `timeout` while the client waits
    /// and sends nothing itself.
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
                let sent = || this.upload.as_ref().map_or(0, |upload| upload.frames());
                loop {
                    let (since, then) = *this.waiting.get_or_insert_with(|| (Instant::now(), sent()));
                    ready!(this.timer.poll_passed(cx, since + this.timeout));
                    // A server that listens for as long as it is told something (a stream both
                    // ways) does not stall.
                    if sent() == then {
                        break;
                    }
                    this.waiting = None;
                }
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
