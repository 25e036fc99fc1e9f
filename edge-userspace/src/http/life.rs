//! One connection's vital signs: what it waits for and since when. The guard around the socket and
//! the service write them, the driver in `server` reads them and ends connections that are overdue.
//! Times are milliseconds since the accept; writing one is a store, and there is one timer per
//! connection, moved only when a nearer deadline appears.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::base::clock::UnixTime;
use crate::config::Limits;

/// How long a connection may go on reading what it will not answer, so that its last answer is not
/// lost to a reset: in all, and since the last byte came (RFC 9112 section 9.6). It keeps its place
/// among the client's connections meanwhile, and no memory.
pub(super) const LINGER: Duration = Duration::from_secs(30);
pub(super) const LINGER_QUIET: Duration = Duration::from_secs(5);
/// How long a client that has ended its own direction is served on while nothing of the answer can
/// be written. One that is gone altogether looks the same until then.
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// How long an HTTP/2 client may take to leave after GOAWAY, and any client after its certificate
/// has ended.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes that a connection may read in one turn. It is the fair share of its thread: 64 KiB of
/// heads that are refused take some 100 us, and 200 connections that send nothing else 20 ms.
const TURN: usize = 64 << 10;

/// Vital signs.
#[derive(Debug)]
pub(super) struct Life {
    epoch: Instant,
    /// Requests under way.
    in_flight: AtomicU32,
    /// Requests given up early, less those that were not.
    resets: AtomicUsize,
    /// Requests begun.
    requests: AtomicU64,
    /// Since when no request is under way.
    idle: AtomicU64,
    /// Since when a head is being read; 0: none.
    head: AtomicU64,
    /// Since when the client takes no bytes; 0: it does.
    blocked: AtomicU64,
    /// Since when input is drained after the last answer; 0: not.
    linger: AtomicU64,
    /// When the last byte was drained.
    drained: AtomicU64,
    /// Since when the client sends no more, though it waits for an answer; moved by what is
    /// written. 0: it may.
    half: AtomicU64,
    /// When the client's certificate ends; 0: never.
    ends: AtomicU64,
    /// Content of a request is still to come (HTTP/1).
    content: AtomicBool,
    /// The connection is to end in good order.
    finish: AtomicBool,
    /// Writes are gathered until the end of the connection's turn.
    corked: AtomicBool,
    /// Bytes that were read in this turn of the connection.
    read: AtomicUsize,
    /// Input that nobody will read may follow the last answer.
    unread: AtomicBool,
    /// There is something in `before`.
    interjected: AtomicBool,
    /// Whole messages that go out before anything else is written (HTTP/1.1).
    before: Mutex<Vec<u8>>,
    /// How the answer to an upgrade turned out, as `Upgrade`.
    upgrade: AtomicU8,
    /// Waits for that.
    waker: Mutex<Option<Waker>>,
    /// Waits for the last answer to a client that sends no more.
    last: Mutex<Option<Waker>>,
}

/// How the answer to a request that asks for another protocol turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Upgrade {
    /// Not yet known.
    Open = 0,
    /// The other protocol begins.
    Accepted = 1,
    /// HTTP goes on.
    Declined = 2,
}

/// What the connection is overdue with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A head was not read in time.
    Head,
    /// The client takes nothing.
    Write,
    /// No request for long.
    Idle,
    /// Draining after the last answer took long enough.
    Linger,
    /// The client has ended its direction, and nothing of the answer could be written for long.
    HalfClosed,
    /// The client's certificate has ended.
    Expired,
}

impl Overdue {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Write => "write",
            Self::Idle => "idle",
            Self::Linger => "linger",
            Self::HalfClosed => "half_closed",
            Self::Expired => "expired",
        }
    }
}

impl Life {
    pub(super) fn new(epoch: Instant) -> Self {
        let life = Self {
            epoch,
            in_flight: AtomicU32::new(0),
            resets: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            head: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            linger: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            half: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            content: AtomicBool::new(false),
            finish: AtomicBool::new(false),
            corked: AtomicBool::new(false),
            read: AtomicUsize::new(0),
            unread: AtomicBool::new(false),
            interjected: AtomicBool::new(false),
            before: Mutex::default(),
            upgrade: AtomicU8::new(0),
            waker: Mutex::new(None),
            last: Mutex::new(None),
        };
        life.idle.store(life.stamp(Instant::now()), Relaxed);
        life
    }

    /// The connection is over at `ends`, however busy it is; first it is ended in good order.
    pub(super) fn ends(&self, ends: UnixTime) {
        let left = ends.since(UnixTime::now());
        let at = Instant::now().checked_add(left);
        self.ends.store(at.map_or(0, |at| self.stamp(at)), Relaxed);
    }

    /// When what is left of the connection is cut, a tunnel for one: it may have been told to end,
    /// and had time for that.
    pub(super) fn cut(&self) -> Option<Instant> {
        let ends = self.ends.load(Relaxed);
        (ends > 0).then(|| self.epoch + Duration::from_millis(ends) + FAREWELL)
    }

    /// Never 0, which means "not".
    fn stamp(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).max(1)
    }

    /// A request begins; how many there have been, it included.
    pub(super) fn begin(&self) -> u64 {
        self.in_flight.fetch_add(1, Relaxed);
        self.head.store(0, Relaxed);
        self.requests.fetch_add(1, Relaxed) + 1
    }

    /// A request has ended; `early` when the client gave it up before the response's head.
    pub(super) fn end(&self, now: Instant, early: bool) {
        if early {
            self.resets.fetch_add(1, Relaxed);
        } else if self.resets.load(Relaxed) > 0 {
            self.resets.fetch_sub(1, Relaxed);
        }
        self.idle.store(self.stamp(now), Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
        if self.half_closed() {
            let waker = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Whether a head is being read.
    pub(super) fn head(&self, reading: bool) {
        let since = self.head.load(Relaxed);
        if reading && since == 0 {
            self.head.store(self.stamp(Instant::now()), Relaxed);
        } else if !reading && since != 0 {
            self.head.store(0, Relaxed);
        }
    }

    /// Whether the client takes no bytes.
    pub(super) fn blocked(&self, blocked: bool) {
        let since = self.blocked.load(Relaxed);
        if blocked && since == 0 {
            self.blocked.store(self.stamp(Instant::now()), Relaxed);
        } else if !blocked && since != 0 {
            self.blocked.store(0, Relaxed);
        }
    }

    /// Whether the client takes what it is sent, and all that was written has left: then hyper
    /// holds no part of a message, and another one may be [interjected](Self::interject).
    pub(super) fn takes(&self) -> bool {
        self.blocked.load(Relaxed) == 0
    }

    /// Puts a whole message before what is written next.
    pub(super) fn interject(&self, message: &[u8]) {
        self.before().extend_from_slice(message);
        self.interjected.store(true, Relaxed);
    }

    pub(super) fn interjected(&self) -> bool {
        self.interjected.load(Relaxed)
    }

    /// What was interjected and has not left, to write it by `write`, which says what of it has.
    pub(super) fn poll_before<E>(&self, mut write: impl FnMut(&[u8]) -> Poll<Result<usize, E>>) -> Poll<Result<(), E>> {
        let mut before = self.before();
        while !before.is_empty() {
            let written = std::task::ready!(write(&before))?;
            let written = written.min(before.len());
            before.drain(..written);
        }
        self.interjected.store(false, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn before(&self) -> MutexGuard<'_, Vec<u8>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Input is drained after the last answer; `came`: some of it just now.
    pub(super) fn lingers(&self, came: bool) {
        let begins = self.linger.load(Relaxed) == 0;
        if begins || came {
            let now = self.stamp(Instant::now());
            self.drained.store(now, Relaxed);
            if begins {
                self.linger.store(now, Relaxed);
            }
        }
    }

    /// The client has ended its direction between two messages (close_notify, RFC 8446 section 6.1;
    /// FIN). Whether requests are still to be answered; then `waker` is woken after the last one.
    pub(super) fn outlives_input(&self, waker: &Waker) -> bool {
        // Kept first: the last answer may end between the two.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        if !self.half_closed() {
            self.half.store(self.stamp(Instant::now()), Relaxed);
        }
        self.in_flight.load(Relaxed) > 0
    }

    /// Whether the client sends no more.
    pub(super) fn half_closed(&self) -> bool {
        self.half.load(Relaxed) > 0
    }

    /// Something was written.
    pub(super) fn wrote(&self) {
        if self.half_closed() {
            self.half.store(self.stamp(Instant::now()), Relaxed);
        }
    }

    /// Whether content of a request is still to come (HTTP/1).
    pub(super) fn content(&self, to_come: bool) {
        self.content.store(to_come, Relaxed);
    }

    pub(super) fn content_to_come(&self) -> bool {
        self.content.load(Relaxed)
    }

    /// Asks the driver to end the connection in good order.
    pub(super) fn finish(&self) {
        self.finish.store(true, Relaxed);
    }

    pub(super) fn finishing(&self) -> bool {
        self.finish.load(Relaxed)
    }

    /// A turn of the connection begins: it may read up to `TURN` bytes.
    pub(super) fn turn(&self) {
        self.read.store(0, Relaxed);
    }

    /// Whether the connection has read as much as it may in one turn; the task that `waker` wakes
    /// gets another one after the thread's other connections.
    pub(super) fn had_its_turn(&self, waker: &Waker) -> bool {
        let had = self.read.load(Relaxed) >= TURN;
        if had {
            waker.wake_by_ref();
        }
        had
    }

    /// `bytes` more were read.
    pub(super) fn read(&self, bytes: usize) {
        // One task reads.
        self.read.store(self.read.load(Relaxed).saturating_add(bytes), Relaxed);
    }

    /// Gathers writes, or stops to.
    pub(super) fn cork(&self, corked: bool) {
        self.corked.store(corked, Relaxed);
    }

    pub(super) fn corked(&self) -> bool {
        self.corked.load(Relaxed)
    }

    /// The last answer leaves input unread.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    pub(super) fn unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// More requests given up early than `most`: the client has us work for nothing
    /// (CVE-2023-44487). The h2 crate bounds those given up before they are accepted, which this
    /// server does at once.
    pub(super) fn stormy(&self, most: usize) -> bool {
        self.resets.load(Relaxed) > most
    }

    /// Starts the idle time anew, for the farewell.
    pub(super) fn rest(&self) {
        self.idle.store(self.stamp(Instant::now()), Relaxed);
    }

    /// Tells the guard how the answer to an upgrade turned out.
    pub(super) fn decide(&self, accepted: bool) {
        let outcome = if accepted { Upgrade::Accepted } else { Upgrade::Declined };
        self.upgrade.store(outcome as u8, Relaxed);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What was decided, once; until then `waker` is kept.
    pub(super) fn decision(&self, waker: &Waker) -> Upgrade {
        // Kept first: the decision may come between the two.
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        match self.upgrade.swap(Upgrade::Open as u8, Relaxed) {
            1 => Upgrade::Accepted,
            2 => Upgrade::Declined,
            _ => Upgrade::Open,
        }
    }

    /// The nearest deadline as things are; none while requests are served and the client takes what
    /// it is sent.
    pub(super) fn deadline(&self, limits: &Limits, farewell: bool) -> Option<(Instant, Overdue)> {
        let at = |since: u64, after: Duration, what| {
            (since > 0).then(|| (self.epoch + Duration::from_millis(since) + after, what))
        };
        let idle_for = if farewell {
            limits.idle_timeout.min(FAREWELL)
        } else {
            limits.idle_timeout
        };
        let quiet = self.in_flight.load(Relaxed) == 0;
        let idle = if quiet { self.idle.load(Relaxed) } else { 0 };
        // While a request is served nobody reads on: a pipelined head begun early is not late.
        let head = match self.head.load(Relaxed) {
            since if quiet && since > 0 => since.max(idle),
            _ => 0,
        };
        [
            at(head, limits.header_timeout, Overdue::Head),
            at(self.blocked.load(Relaxed), limits.write_timeout, Overdue::Write),
            at(self.linger.load(Relaxed), LINGER, Overdue::Linger),
            at(self.drained.load(Relaxed), LINGER_QUIET, Overdue::Linger),
            at(
                if quiet { 0 } else { self.half.load(Relaxed) },
                HALF_CLOSED,
                Overdue::HalfClosed,
            ),
            at(if head == 0 { idle } else { 0 }, idle_for, Overdue::Idle),
            at(
                self.ends.load(Relaxed),
                if farewell { FAREWELL } else { Duration::ZERO },
                Overdue::Expired,
            ),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(when, _)| *when)
    }
}
