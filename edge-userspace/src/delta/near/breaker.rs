//! Whether to ask a far end at all: one that could not be reached is left alone for a moment, then
//! one request tries it again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How long an end that could not be reached is left alone, in milliseconds.
const PAUSE: u64 = 1_000;

/// Of one far end; shared by all workers.
#[derive(Debug)]
pub(super) struct Breaker {
    begun: Instant,
    /// When it may be tried again, in milliseconds since `begun`; 0: it is well.
    until: AtomicU64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            until: AtomicU64::new(0),
        }
    }
}

impl Breaker {
    /// Whether this request may ask. After a pause the first one may, and the others wait for what
    /// becomes of it.
    pub(super) fn admits(&self) -> bool {
        self.admits_at(self.now())
    }

    fn admits_at(&self, now: u64) -> bool {
        let until = self.until.load(Relaxed);
        until == 0
            || now >= until
                && self
                    .until
                    .compare_exchange(until, now.saturating_add(PAUSE), Relaxed, Relaxed)
                    .is_ok()
    }

    /// It could not be reached.
    pub(super) fn trip(&self) {
        self.until.store(self.now().saturating_add(PAUSE), Relaxed);
    }

    /// It answered.
    pub(super) fn well(&self) {
        if self.until.load(Relaxed) != 0 {
            self.until.store(0, Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the pause every request would wait for the far end's connect timeout; without the
    /// one that tries, it would be left alone for ever.
    #[test]
    fn one_tries_after_a_pause() {
        let breaker = Breaker::default();
        assert!(breaker.admits() && breaker.admits());
        breaker.trip();
        let now = breaker.now();
        assert!(!breaker.admits_at(now));
        assert!(breaker.admits_at(now + PAUSE), "the one that tries");
        assert!(!breaker.admits_at(now + PAUSE));
        breaker.well();
        assert!(breaker.admits_at(now + PAUSE) && breaker.admits_at(now + PAUSE));
    }
}
