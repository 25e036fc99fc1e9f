//! A connection as one request holds it: sends on it, and either gives it back or closes it by
//! letting go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::Request;
use hyper::client::conn::http2;
use tokio::time::Instant;

use super::driver::{H1, STREAMS, Sent, Wear};
use super::fleet::Server;
use super::names::Valid;
use super::pool::Pool;
use super::timer::Timer;
use super::upload::Upload;

/// A peer that has not sent its SETTINGS after so long is taken to allow what RFC 9113 section
/// 6.5.2 recommends.
const SETTLE: Duration = Duration::from_secs(1);

/// An established HTTP/2 connection, shared by requests of one worker.
#[derive(Debug)]
pub(super) struct H2 {
    pub(super) sender: http2::SendRequest<Upload>,
    pub(super) shared: Arc<Shared>,
}

/// What requests on one HTTP/2 connection share.
#[derive(Debug)]
pub(super) struct Shared {
    streams: AtomicUsize,
    /// Requests so far.
    served: AtomicUsize,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS; 0 until its SETTINGS have come.
    limit: AtomicUsize,
    /// The peer takes extended CONNECT (RFC 8441 section 3).
    pub(super) extended: AtomicBool,
    /// Wakes the driver, which then looks at the peer's SETTINGS again.
    pub(super) nudge: AtomicWaker,
    wear: Wear,
    /// What the peer may send ahead on each stream.
    pub(super) window: u64,
    /// When the last stream ended.
    used: Mutex<Instant>,
}

impl Shared {
    pub(super) fn new(wear: Wear, window: u64) -> Self {
        Self {
            window,
            streams: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            extended: AtomicBool::new(false),
            nudge: AtomicWaker::new(),
            wear,
            used: Mutex::new(Instant::now()),
        }
    }

    /// Where the connection leads, and since when.
    pub(super) fn wear(&self) -> &Wear {
        &self.wear
    }

    /// Whether the peer's SETTINGS have come.
    pub(super) fn settled(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 0
    }

    /// Takes what the peer's SETTINGS say of streams, if they have come. True if that is news.
    pub(super) fn settle(&self, streams: Option<usize>) -> bool {
        // One that allows none for now is asked again when it has nothing under way.
        let limit = streams.map_or(0, |streams| streams.clamp(1, STREAMS));
        self.limit.swap(limit, Ordering::Relaxed) != limit
    }

    /// Whether others may come, though the peer has not yet said how many: its SETTINGS are on
    /// their way.
    pub(super) fn young(&self, now: Instant) -> bool {
        !self.settled() && now.saturating_duration_since(self.wear.opened) < SETTLE
    }

    /// Room for one more stream. Until the peer's SETTINGS have come there is one, so that no burst
    /// is refused.
    pub(super) fn room(&self, now: Instant) -> bool {
        let limit = match self.limit.load(Ordering::Relaxed) {
            0 if self.young(now) => 1,
            0 => STREAMS,
            limit => limit,
        };
        self.streams.load(Ordering::Relaxed) < limit
    }

    /// Whether it takes new requests at all.
    pub(super) fn takes(&self, now: Instant, valid: &Valid) -> bool {
        self.wear.takes(self.served.load(Ordering::Relaxed), now, valid)
    }

    /// No stream for `limit`.
    pub(super) fn idle_for(&self, now: Instant, limit: Duration) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
            && now.saturating_duration_since(*self.used.lock().unwrap_or_else(PoisonError::into_inner)) >= limit
    }
}

/// One HTTP/2 stream's share of its connection.
struct Stream {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.shared.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
        self.pool.stream_ended();
    }
}

enum Kind {
    H1(H1, Arc<Pool>),
    H2(http2::SendRequest<Upload>, Stream, Timer),
}

/// A connection, or a stream of one, for one request.
pub(super) struct Lease {
    kind: Kind,
    /// It has served before, so that it may have been closed by the origin just now.
    pub(super) reused: bool,
    /// Counts the request as load until the lease ends.
    load: Option<Load>,
}

/// Counts one request under way at a server.
pub(super) struct Load(Arc<Server>);

impl Load {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(server.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    pub(super) fn h1(mut h1: H1, pool: Arc<Pool>, reused: bool) -> Self {
        h1.served = h1.served.saturating_add(1);
        Self {
            kind: Kind::H1(h1, pool),
            reused,
            load: None,
        }
    }

    pub(super) fn h2(h2: &H2, pool: Arc<Pool>, reused: bool) -> Self {
        h2.shared.streams.fetch_add(1, Ordering::Relaxed);
        h2.shared.served.fetch_add(1, Ordering::Relaxed);
        let stream = Stream {
            shared: h2.shared.clone(),
            pool,
        };
        Self {
            kind: Kind::H2(h2.sender.clone(), stream, Timer::default()),
            reused,
            load: None,
        }
    }

    /// Counts the request as load from here on.
    pub(super) fn carry(&mut self, load: Load) {
        self.load = Some(load);
    }

    /// HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::H2(..))
    }

    /// What the origin may have sent ahead on this stream, by itself.
    pub(super) fn window(&self) -> Option<u64> {
        match &self.kind {
            Kind::H1(..) => None,
            Kind::H2(_, stream, _) => Some(stream.shared.window),
        }
    }

    /// Sends `request`. The future does not borrow the lease, which has to outlive it: without its
    /// sender an HTTP/1.1 connection would end.
    pub(super) fn send(&mut self, request: Request<Upload>) -> impl Future<Output = Sent> + Send + use<> {
        use futures_util::future::Either;
        match &mut self.kind {
            Kind::H1(h1, _) => Either::Left(h1.sender.try_send_request(request)),
            Kind::H2(sender, ..) => Either::Right(sender.try_send_request(request)),
        }
    }

    /// Whether the peer takes extended CONNECT; on a young connection its SETTINGS are waited for,
    /// a second at most.
    pub(super) async fn takes_extended_connect(&self) -> bool {
        let Kind::H2(_, stream, _) = &self.kind else {
            return false;
        };
        for pause in [0, 1, 2, 5, 10, 20, 50, 100, 200, 300, 300] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            stream.shared.nudge.wake();
            tokio::task::yield_now().await;
            if stream.shared.extended.load(Ordering::Relaxed) {
                return true;
            }
            if stream.shared.settled() {
                break;
            }
        }
        false
    }

    /// The connection's timer, to be given back by [`Lease::keep_timer`].
    pub(super) fn take_timer(&mut self) -> Timer {
        match &mut self.kind {
            Kind::H1(h1, _) => std::mem::take(&mut h1.timer),
            Kind::H2(_, _, timer) => std::mem::take(timer),
        }
    }

    /// Gives the connection its timer back.
    pub(super) fn keep_timer(&mut self, timer: Timer) {
        match &mut self.kind {
            Kind::H1(h1, _) => h1.timer = timer,
            Kind::H2(_, _, kept) => *kept = timer,
        }
    }

    /// The exchange is over: an HTTP/1.1 connection goes back if hyper has found the end of both
    /// messages (it then waits for the next request; not so after `Connection: close` or on
    /// HTTP/1.0).
    pub(super) fn give_back(self) {
        drop(self.load);
        if let Kind::H1(h1, pool) = self.kind
            && h1.sender.is_ready()
        {
            pool.checkin(h1);
        }
    }

    /// The exchange broke off: an HTTP/1.1 connection is closed, an HTTP/2 stream reset, by hyper,
    /// as its parts are dropped.
    pub(super) fn discard(self) {
        drop(self);
    }
}
