//! How a key server does, seen from this node: whether its breaker lets requests through, and how
//! long its answers take. Shared by all workers; pure but for its atomics, with the time passed in.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;
/// How long it stays open the first time, and at most; each trial that fails doubles it.
const OPEN: Duration = Duration::from_secs(1);
const OPEN_LONGEST: Duration = Duration::from_secs(30);
/// Four buckets for each doubling, from 64 us on: to 68 s.
const BUCKETS: usize = 80;
const FIRST_BUCKET_US: f64 = 64.0;
/// Answers between two looks at the distribution; older ones count half from look to look.
const LOOK: u32 = 256;
/// Before anything is known.
const HEDGE_UNKNOWN: Duration = Duration::from_millis(250);
/// A hedge sooner than this would double the requests for noise; one later would not save the
/// handshake.
const HEDGE_LEAST: Duration = Duration::from_millis(5);
const HEDGE_MOST: Duration = Duration::from_secs(1);

/// One key server's.
#[derive(Debug)]
pub struct Health {
    failures: AtomicU32,
    /// Microseconds of the node's clock until when the breaker is open; 0: closed.
    open_until: AtomicU64,
    /// Times it opened in a row.
    trips: AtomicU32,
    buckets: [AtomicU32; BUCKETS],
    seen: AtomicU32,
    /// Microseconds; 0: not known.
    p99: AtomicU64,
}

/// What the breaker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Requests pass.
    Closed,
    /// None passes.
    Open,
    /// This one may try.
    Trial,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            trips: AtomicU32::new(0),
            buckets: std::array::from_fn(|_| AtomicU32::new(0)),
            seen: AtomicU32::new(0),
            p99: AtomicU64::new(0),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Health {
    /// Whether a request may go there at `now`; of those who ask after the open time, one is told
    /// to try.
    pub fn breaker(&self, now: Duration) -> Breaker {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return Breaker::Closed;
        }
        let now = micros(now).max(1);
        if now < until {
            return Breaker::Open;
        }
        // Whoever moves the time tries; if nobody hears back, the next one may after another while.
        let next = now.saturating_add(self.pause());
        match self.open_until.compare_exchange(until, next, Relaxed, Relaxed) {
            Ok(_) => Breaker::Trial,
            Err(_) => Breaker::Open,
        }
    }

    /// Whether the breaker is open, without asking for a trial.
    pub fn is_open(&self) -> bool {
        self.open_until.load(Relaxed) != 0
    }

    fn pause(&self) -> u64 {
        let doubled = OPEN.saturating_mul(1 << self.trips.load(Relaxed).saturating_sub(1).min(10));
        micros(doubled.min(OPEN_LONGEST))
    }

    /// It answered: the breaker closes. True when it was open.
    pub fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if !self.is_open() {
            return false;
        }
        self.trips.store(0, Relaxed);
        self.open_until.swap(0, Relaxed) != 0
    }

    /// A request failed, or found no connection. True when this opened the breaker.
    pub fn failed(&self, now: Duration) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        (failures >= FAILURES || self.is_open()) && self.trip(now)
    }

    /// Opens the breaker, for what is worse than a failed request. True when it was closed.
    pub fn trip(&self, now: Duration) -> bool {
        let until = self.open_until.load(Relaxed);
        // Failures of requests sent before it opened say nothing new.
        if until > micros(now) {
            return false;
        }
        self.trips.fetch_add(1, Relaxed);
        let next = micros(now).saturating_add(self.pause()).max(1);
        self.open_until.store(next, Relaxed);
        until == 0
    }

    /// An answer took so long.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a bucket's number is small, and which of two neighbours is taken does not matter"
    )]
    pub fn observe(&self, took: Duration) {
        let doublings = (micros(took) as f64 / FIRST_BUCKET_US).max(1.0).log2();
        let bucket = ((doublings * 4.0).ceil() as usize).min(BUCKETS - 1);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        if self.seen.fetch_add(1, Relaxed).wrapping_add(1).is_multiple_of(LOOK) {
            self.look();
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "buckets are few, and their bounds below a minute or so"
    )]
    fn look(&self) {
        let total: u64 = self.buckets.iter().map(|count| u64::from(count.load(Relaxed))).sum();
        let mut left = total / 100;
        let mut top = 0;
        for (i, count) in self.buckets.iter().enumerate().rev() {
            let count = u64::from(count.load(Relaxed));
            if count > left {
                top = i;
                break;
            }
            left -= count;
        }
        let p99 = FIRST_BUCKET_US * (top as f64 / 4.0).exp2();
        self.p99.store(p99 as u64, Relaxed);
        for bucket in &self.buckets {
            // Racing observations may be lost; they are few.
            bucket.store(bucket.load(Relaxed) / 2, Relaxed);
        }
    }

    /// The 99th percentile of its answers' times; `None` before enough of them.
    pub fn p99(&self) -> Option<Duration> {
        match self.p99.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// How long to wait for it before another server is asked too.
    pub fn hedge_after(&self) -> Duration {
        self.p99()
            .map_or(HEDGE_UNKNOWN, |p99| p99.clamp(HEDGE_LEAST, HEDGE_MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A key server that is down must not be asked by every handshake, and must be found when it is
    /// back.
    #[test]
    fn the_breaker_opens_tries_and_closes() {
        let health = Health::default();
        let mut now = S;
        for _ in 0..FAILURES - 1 {
            assert!(!health.failed(now));
        }
        assert_eq!(health.breaker(now), Breaker::Closed);
        assert!(health.failed(now));
        assert!(!health.failed(now), "open already");
        assert_eq!(health.breaker(now), Breaker::Open);
        now += S;
        assert_eq!(health.breaker(now), Breaker::Trial);
        assert_eq!(health.breaker(now), Breaker::Open, "one trial at a time");
        now += S;
        assert_eq!(health.breaker(now), Breaker::Trial, "the first was never heard of");
        now += 2 * S;
        health.failed(now);
        assert_eq!(health.breaker(now + S), Breaker::Open, "twice as long");
        assert_eq!(health.breaker(now + 3 * S), Breaker::Trial);
        assert!(health.succeeded());
        assert!(!health.succeeded());
        assert_eq!(health.breaker(now), Breaker::Closed);
        assert!(!health.failed(now), "counting starts anew");
    }

    /// A success between failures means they are the requests', not the server's.
    #[test]
    fn only_failures_in_a_row_count() {
        let health = Health::default();
        for _ in 0..100 {
            assert!(!health.failed(S));
            health.succeeded();
        }
        assert!(health.trip(S));
    }

    /// Hedging too early doubles the load, too late does not help.
    #[test]
    fn hedges_follow_the_tail() {
        let health = Health::default();
        assert_eq!(health.hedge_after(), HEDGE_UNKNOWN);
        for i in 0..LOOK {
            let slow = i % 20 == 0;
            health.observe(Duration::from_millis(if slow { 80 } else { 2 }));
        }
        let p99 = health.p99().unwrap();
        assert!(
            (Duration::from_millis(70)..Duration::from_millis(110)).contains(&p99),
            "{p99:?}"
        );
        for _ in 0..20 * LOOK {
            health.observe(Duration::from_micros(300));
        }
        assert_eq!(
            health.hedge_after(),
            HEDGE_LEAST,
            "forgets old slowness: {:?}",
            health.p99()
        );
        health.observe(Duration::from_secs(10_000));
        health.observe(Duration::ZERO);
    }
}
