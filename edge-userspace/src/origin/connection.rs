//! Connections to a server: what each version's is, how long it may be used, and its [`Home`],
//! which is told when it is free or gone. `driver` opens them, `pool` keeps them, `lease` lends one
//! to a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::names::Valid;
use super::timer::Timer;
use super::upload::Upload;

/// Streams of one HTTP/2 connection at once; further requests get a further connection.
pub(super) const STREAMS: usize = 100;
/// A peer that has not sent its SETTINGS after so long is taken to allow what RFC 9113 section
/// 6.5.2 recommends.
const SETTLE: Duration = Duration::from_secs(1);

/// What hyper answers a request with; the error has the request when nothing of it was sent.
pub(super) type Sent = Result<http::Response<Incoming>, hyper::client::conn::TrySendError<http::Request<Upload>>>;

/// Where connections belong.
pub(super) trait Home: Send + Sync {
    /// An HTTP/1.1 connection may serve again.
    fn take_back(&self, h1: H1);

    /// A slot has come back: another connection may be opened.
    fn released(&self);

    /// An HTTP/2 stream has ended.
    fn stream_ended(&self);

    /// A peer has said how many streams it takes.
    fn changed(&self);
}

/// The right to one open connection; returned when dropped.
pub(super) struct Slot {
    /// `None`: nobody is to be told.
    home: Option<Weak<dyn Home>>,
    gauge: Gauge,
}

impl Slot {
    /// Of `home`, counted by `gauge`.
    pub(super) fn new(home: Weak<dyn Home>, gauge: Gauge) -> Self {
        gauge.inc();
        Self {
            home: Some(home),
            gauge,
        }
    }

    /// The drop will tell nobody.
    pub(super) fn disarm(&mut self) {
        self.home = None;
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gauge.dec();
        if let Some(home) = self.home.as_ref().and_then(Weak::upgrade) {
            home.released();
        }
    }
}

/// How much more a connection may be used, and where it leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wear {
    pub(super) peer: SocketAddr,
    pub(super) opened: Instant,
    /// It takes no new requests from then on.
    until: Option<Instant>,
    /// Or after that many.
    most: usize,
}

impl Wear {
    /// Of a connection to `peer` that begins now. Ages differ by up to a tenth, so that connections
    /// that were opened together do not end together.
    pub(super) fn new(peer: SocketAddr, age: Option<Duration>, most: Option<usize>) -> Self {
        let opened = Instant::now();
        Self {
            peer,
            opened,
            until: age.and_then(|age| opened.checked_add(super::watch::jittered(age))),
            most: most.unwrap_or(usize::MAX),
        }
    }

    /// Whether a connection that had `served` requests takes another, with addresses that are still
    /// `valid`.
    pub(super) fn takes(&self, served: usize, now: Instant, valid: &Valid) -> bool {
        served < self.most && self.until.is_none_or(|until| now < until) && valid.has(self.peer)
    }
}

/// An established HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<Upload>,
    /// Held by the driver as well: a tunnel's connection has no driver any more, and still counts.
    #[expect(dead_code, reason = "held for its drop")]
    slot: Arc<Slot>,
    pub(super) timer: Timer,
    /// When it became idle.
    pub(super) since: Instant,
    pub(super) wear: Wear,
    /// Requests so far.
    pub(super) served: usize,
}

impl H1 {
    /// One that has served nothing yet.
    pub(super) fn new(sender: http1::SendRequest<Upload>, slot: Arc<Slot>, wear: Wear) -> Self {
        Self {
            sender,
            slot,
            timer: Timer::default(),
            since: Instant::now(),
            wear,
            served: 0,
        }
    }

    /// Waits for a request, has not been idle for `limit`, and is not worn.
    pub(super) fn usable(&self, now: Instant, limit: Duration, valid: &Valid) -> bool {
        self.sender.is_ready()
            && now.saturating_duration_since(self.since) < limit
            && self.wear.takes(self.served, now, valid)
    }
}

/// An established HTTP/2 connection, shared by requests of one worker.
#[derive(Debug)]
pub(super) struct H2 {
    pub(super) sender: http2::SendRequest<Upload>,
    pub(super) shared: Arc<Streams>,
}

/// What requests on one HTTP/2 connection share.
#[derive(Debug)]
pub(super) struct Streams {
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

impl Streams {
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

    /// A stream begins.
    pub(super) fn begun(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream has ended.
    pub(super) fn ended(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.streams.fetch_sub(1, Ordering::Relaxed);
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
