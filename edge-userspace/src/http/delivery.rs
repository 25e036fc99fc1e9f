//! A response's content on its way to hyper: counted, under the request's deadline, and with the
//! account of the exchange, which is closed when hyper drops it. `service` makes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::access::Account;
use super::body::{Body, BodyError};
use super::holding::Holding;
use super::trailers::Filter;
use crate::base::ledger::Charge;

/// Since when an HTTP/2 stream's client takes no more of it: a connection can be alive and one
/// stream stuck. Milliseconds since the flow began; 0: it takes.
#[derive(Debug)]
pub(super) struct Flow {
    begun: Instant,
    handed: AtomicU64,
}

impl Flow {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            handed: AtomicU64::new(0),
        })
    }

    /// When the piece now waiting for the client was handed over.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        match self.handed.load(Relaxed) {
            0 => None,
            millis => Some(self.begun + Duration::from_millis(millis)),
        }
    }

    fn hand(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.handed.store(millis.max(1), Relaxed);
    }

    fn taken(&self) {
        self.handed.store(0, Relaxed);
    }
}

/// HTTP/2: content per DATA frame. With the frame's header it fills one TLS record exactly; a frame
/// of 16,384 bytes would leave nine for a record of their own.
const FRAME: usize = 16_384 - 9;
/// HTTP/1.1 and 3: content handed over at once.
pub(super) const PIECE: usize = 64 << 10;
/// While the client's address holds as much as it may, it is seen after this time whether it still
/// does, then after twice as long, and so on: thousands of responses may wait.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_SELDOM: Duration = Duration::from_millis(1_280);

/// Content with its account.
pub(super) struct Delivery {
    inner: Body,
    /// What is left of a piece of content that was too long for one frame.
    rest: Bytes,
    account: Account,
    flow: Option<Arc<Flow>>,
    deadline: Option<Pin<Box<Sleep>>>,
    expected: Option<u64>,
    /// Of its trailers; none is needed for an answer of our own.
    filter: Option<Filter>,
    /// What hyper holds of the connection's responses; `None`: hyper does not deliver it.
    holding: Option<Arc<Holding>>,
    /// Waits for room on the ledger.
    short: Option<(Pin<Box<Sleep>>, Duration)>,
    /// What the request has taken of the ledger, and what its content has on its way here.
    _charges: Vec<Charge>,
}

impl Delivery {
    /// Content of the exchange that `account` is kept of; cut off when `deadline` passes. Its
    /// trailers pass `filter`.
    pub(super) fn new(
        inner: Body,
        account: Account,
        (flow, deadline, filter): (Option<Arc<Flow>>, Option<tokio::time::Instant>, Option<Filter>),
        holding: Option<Arc<Holding>>,
        charges: Vec<Charge>,
    ) -> Self {
        let expected = http_body::Body::size_hint(&inner).exact();
        Self {
            // Content at hand is written at once; only a stream can outlast its deadline.
            deadline: match inner {
                Body::Empty | Body::Full(_) => None,
                _ => deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            },
            inner,
            rest: Bytes::new(),
            account,
            flow,
            expected,
            filter,
            holding,
            short: None,
            _charges: charges,
        }
    }

    /// Ready when more may be handed over: not while the client's address holds what it may, and
    /// this connection some of it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(holding) = &self.holding else {
            return Poll::Ready(());
        };
        loop {
            if let Some((timer, _)) = &mut self.short {
                std::task::ready!(timer.as_mut().poll(cx));
            }
            if holding.admits(FRAME as u64) {
                self.short = None;
                return Poll::Ready(());
            }
            let wait = match &self.short {
                Some((_, waited)) => waited.saturating_mul(2).min(LOOK_SELDOM),
                None => LOOK_AGAIN,
            };
            self.short = Some((Box::pin(tokio::time::sleep(wait)), wait));
        }
    }
}

impl http_body::Body for Delivery {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(flow) = &this.flow {
            flow.taken();
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        }
        std::task::ready!(this.poll_room(cx));
        let mut frame = if this.rest.is_empty() {
            let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
            match (frame, &this.filter) {
                // Trailers are the last frame: without any it is the end.
                (Some(Ok(frame)), Some(filter)) => filter.frame(frame).map(Ok),
                (frame, _) => frame,
            }
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut this.rest))))
        };
        let most = if this.flow.is_some() { FRAME } else { PIECE };
        if let Some(Ok(data)) = &mut frame
            && let Some(data) = data.data_mut()
        {
            if data.len() > most {
                this.rest = data.split_off(most);
            }
            if let Some(holding) = &this.holding {
                holding.handed(data.len() as u64);
            }
        }
        match &frame {
            None => this.account.complete(),
            Some(Ok(frame)) => match frame.data_ref() {
                None => this.account.complete(),
                Some(data) => {
                    let sent = this.account.sent(data.len() as u64);
                    // hyper does not ask again once it has what Content-Length promised.
                    if this.expected == Some(sent)
                        || this.rest.is_empty() && http_body::Body::is_end_stream(&this.inner)
                    {
                        this.account.complete();
                    }
                    if let Some(flow) = &this.flow {
                        flow.hand();
                    }
                }
            },
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && http_body::Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = http_body::Body::size_hint(&self.inner);
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if http_body::Body::is_end_stream(self) {
            self.account.complete();
        }
        if let Some(flow) = &self.flow {
            flow.taken();
        }
    }
}
