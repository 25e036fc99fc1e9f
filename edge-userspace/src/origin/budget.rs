//! How many requests a zone may send its servers once more: a share of all requests, so that
//! servers which fail because there is too much for them do not get a multiple of it. Pure; shared
//! by all workers. `exchange` asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Saved up at most: what a server that goes away may cost at once, before its health takes it out.
const MOST: u64 = 100;
/// In any case, for zones with few requests: so many a second.
const A_SECOND: u64 = 10;
/// One retry, in the units that are counted: a request of one percent adds a hundredth.
const ONE: u64 = 100;

/// One zone's budget.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    left: AtomicU64,
    /// Milliseconds up to which time has added.
    since: AtomicU64,
}

impl Budget {
    /// `percent` of the requests may be retries.
    pub(super) fn new(percent: u8) -> Self {
        Self {
            percent: u64::from(percent),
            left: AtomicU64::new(MOST * ONE),
            since: AtomicU64::new(0),
        }
    }

    /// A request has begun. While nothing is tried again this is a load, as the workers share the
    /// line.
    pub(super) fn request(&self) {
        self.add(self.percent);
    }

    fn add(&self, units: u64) {
        if self.left.load(Relaxed) < MOST * ONE {
            let add = |left: u64| Some(left.saturating_add(units).min(MOST * ONE));
            let _ = self.left.fetch_update(Relaxed, Relaxed, add);
        }
    }

    /// Whether one may be tried again at `now`, in milliseconds; it is then counted.
    pub(super) fn retry(&self, now: u64) -> bool {
        let since = self.since.load(Relaxed);
        let came = now.saturating_sub(since).saturating_mul(A_SECOND * ONE) / 1_000;
        // Of two workers at once, one adds.
        if came > 0 && self.since.compare_exchange(since, now, Relaxed, Relaxed).is_ok() {
            self.add(came);
        }
        let take = |left: u64| left.checked_sub(ONE);
        self.left.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers that fail under load would get twice the load.
    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = Budget::new(20);
        let retries = |requests| {
            let retry = |_| {
                budget.request();
                budget.retry(0)
            };
            (0..requests).map(retry).filter(|may| *may).count()
        };
        let first = retries(1_000);
        assert!((250..=300).contains(&first), "{first}");
        let later = retries(1_000);
        assert!((195..=205).contains(&later), "{later}");
    }

    /// A zone with few requests would have none of its failures made good.
    #[test]
    fn a_few_a_second_in_any_case() {
        let budget = Budget::new(0);
        assert_eq!((0..1_000).filter(|_| budget.retry(0)).count(), 100);
        assert_eq!((0..1_000).filter(|_| budget.retry(1_000)).count(), 10);
        assert_eq!((0..1_000).filter(|_| budget.retry(3_600_000)).count(), 100);
    }
}
