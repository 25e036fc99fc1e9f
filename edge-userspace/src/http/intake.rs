//! A request's content on its way from hyper to the handler: counted, bounded, and never stalled
//! for longer than the limit while the response stands still too. `service` puts it around hyper's
//! body.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::body::{Body, BodyError};
use super::handler::Reason;
use super::leftover;
use super::trailers::Filter;

/// What came of the content, for the answer and the log.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    bytes: AtomicU64,
    /// When a piece of the response was last taken, in milliseconds since `begun`; 0: none was.
    answered: AtomicU64,
    /// 0: none; else a [`Reason`], as below.
    fault: AtomicU8,
    done: AtomicBool,
    /// Nobody reads it any more.
    dropped: AtomicBool,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            bytes: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            fault: AtomicU8::new(0),
            done: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
        }
    }
}

impl Meter {
    /// A piece of the response goes out. The client of a two-way stream may listen for as long as
    /// it is told something.
    pub(super) fn answers(&self) {
        if !self.done() {
            let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.answered.store(millis.max(1), Relaxed);
        }
    }

    /// When that was last so.
    fn answered(&self) -> Option<Instant> {
        match self.answered.load(Relaxed) {
            0 => None,
            millis => self.begun.checked_add(Duration::from_millis(millis)),
        }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The client's fault, where there was one: it goes before what the handler makes of the error.
    pub(super) fn fault(&self) -> Option<Reason> {
        match self.fault.load(Relaxed) {
            1 => Some(Reason::BodyTooLarge),
            2 => Some(Reason::ClientTimeout),
            3 => Some(Reason::ClientGone),
            4 => Some(Reason::Malformed),
            _ => None,
        }
    }

    /// All of it has come.
    pub(super) fn done(&self) -> bool {
        self.done.load(Relaxed)
    }

    /// Nobody reads it any more.
    pub(super) fn dropped(&self) -> bool {
        self.dropped.load(Relaxed)
    }
}

/// Content with limits.
pub(super) struct Intake {
    inner: Body,
    meter: Arc<Meter>,
    most: u64,
    stall: Duration,
    /// Made when the client first keeps us waiting; moved lazily, since moving a timer at each
    /// piece would cost more than the piece.
    timer: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
    /// What is left when nobody reads any more is read on and dropped.
    drains: bool,
    filter: Filter,
    /// Read ahead by [`Intake::begins`].
    first: Option<Result<Frame<Bytes>, BodyError>>,
}

/// The limits of content.
pub(super) struct Terms {
    /// Bytes; `None`: any number.
    pub(super) most: Option<u64>,
    /// Between two pieces that the handler waits for, or after a piece of the response.
    pub(super) stall: Duration,
    /// What the handler leaves is read to its end (HTTP/2 and 3).
    pub(super) drains: bool,
    /// Of its trailers.
    pub(super) filter: Filter,
}

impl Intake {
    /// `inner` within `terms`.
    pub(super) fn new(inner: Body, meter: Arc<Meter>, terms: Terms) -> Self {
        Self {
            inner,
            meter,
            most: terms.most.unwrap_or(u64::MAX),
            stall: terms.stall,
            timer: None,
            waiting_since: None,
            drains: terms.drains,
            filter: terms.filter,
            first: None,
        }
    }

    /// Waits, for `patience` at most, for the first byte of content or its end. False: it has
    /// ended, and there was none.
    pub(super) async fn begins(&mut self, patience: Duration) -> bool {
        let first = std::future::poll_fn(|cx| {
            loop {
                let frame = ready!(self.poll_inner(cx));
                let empty = matches!(&frame, Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty));
                if !empty {
                    return Poll::Ready(frame);
                }
                if http_body::Body::is_end_stream(&self.inner) {
                    return Poll::Ready(None);
                }
            }
        });
        match tokio::time::timeout(patience, first).await {
            Ok(None) => false,
            Ok(first) => {
                self.first = first;
                true
            }
            // The limits of content begin when the handler asks for it.
            Err(_) => {
                self.waiting_since = None;
                true
            }
        }
    }

    /// Ready when the client has kept us waiting for too long.
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(since + self.stall)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let due = self.meter.answered().map_or(since, |at| at.max(since)) + self.stall;
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match http_body::Body::poll_frame(Pin::new(&mut self.inner), cx) {
            Poll::Pending => {
                ready!(self.stalled(cx));
                return self.fail(2, BodyError::Stalled);
            }
            Poll::Ready(frame) => frame,
        };
        self.waiting_since = None;
        match &frame {
            None => self.meter.done.store(true, Relaxed),
            Some(Err(error)) => {
                let code = if ambiguous(error) { 4 } else { 3 };
                self.meter.fault.store(code, Relaxed);
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let total = self.meter.bytes.load(Relaxed).saturating_add(data.len() as u64);
                    self.meter.bytes.store(total, Relaxed);
                    if total > self.most {
                        return self.fail(1, BodyError::TooLarge);
                    }
                }
                if frame.is_trailers() || http_body::Body::is_end_stream(&self.inner) {
                    self.meter.done.store(true, Relaxed);
                }
            }
        }
        // Trailers are the last frame: without any it is the end.
        Poll::Ready(frame.and_then(|frame| frame.map(|frame| self.filter.frame(frame)).transpose()))
    }

    fn fail(&self, code: u8, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.meter.fault.store(code, Relaxed);
        Poll::Ready(Some(Err(error)))
    }
}

/// Whether content broke off because its framing was wrong (hyper's chunk decoder or the guard said
/// so), rather than because the client left.
fn ambiguous(error: &BodyError) -> bool {
    let error = match error {
        BodyError::Framing(_) => return true,
        BodyError::Client(error) => error,
        _ => return false,
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        }
        source = inner.source();
    }
    false
}

impl http_body::Body for Intake {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => this.poll_inner(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && http_body::Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            // Whatever is still to come of content that has failed, it does not become whole.
            Some(Err(_)) => return SizeHint::default(),
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            None => 0,
        };
        let rest = http_body::Body::size_hint(&self.inner);
        match rest.exact().and_then(|rest| rest.checked_add(first)) {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.meter.dropped.store(true, Relaxed);
        // Nobody waits for an answer if the client is gone, or has stopped sending.
        let sends = matches!(self.meter.fault(), None | Some(Reason::BodyTooLarge));
        if self.drains && sends && !self.meter.done() {
            leftover::drain(std::mem::take(&mut self.inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content that fails, and says that nothing is still to come.
    struct Failing(bool);

    impl http_body::Body for Failing {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let first = !std::mem::replace(&mut self.0, true);
            Poll::Ready(first.then_some(Err(BodyError::Framing("test"))))
        }

        fn is_end_stream(&self) -> bool {
            self.0
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(0)
        }
    }

    /// A request whose content is not as it says would reach the origin as one without any.
    #[tokio::test]
    async fn content_that_has_failed_is_not_none() {
        let terms = Terms {
            most: None,
            stall: Duration::from_secs(1),
            drains: false,
            filter: Filter::request(Arc::default()),
        };
        let mut intake = Intake::new(Body::boxed(Failing(false)), Arc::new(Meter::default()), terms);
        assert!(intake.begins(Duration::from_secs(1)).await);
        assert!(!http_body::Body::is_end_stream(&intake));
        assert_eq!(http_body::Body::size_hint(&intake).exact(), None);
    }
}
