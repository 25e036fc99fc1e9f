//! The trial of a version, as requests count in it: each tells how it ended, and if the version on
//! trial fails for more of its requests than the active one does, it is taken back at once and by
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::error::Ended;

/// Failures below which nothing is concluded.
const LEAST: u64 = 5;
/// Failures of a hundred requests that are never a reason.
const TOLERATED: u64 = 5;
/// Taken back if it fails more than N times as often as the active version.
const TIMES: u64 = 2;

/// What a trial has shown so far.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// Of the active version, and of the one on trial.
    old: Tally,
    new: Tally,
    returned: AtomicBool,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    fn count(&self, failed: bool) -> (u64, u64) {
        let failures = self.failures.fetch_add(u64::from(failed), Relaxed);
        let requests = self.requests.fetch_add(1, Relaxed);
        (requests.saturating_add(1), failures.saturating_add(u64::from(failed)))
    }

    fn read(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.failures.load(Relaxed))
    }
}

/// How a trial stands, for `edge worker list`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The version on trial.
    pub version: u64,
    /// The percentage of the clients that get it.
    pub percent: u8,
    /// Its requests.
    pub requests: u64,
    /// Of them failed.
    pub failures: u64,
}

impl Count {
    /// Counts a request's end, and takes the version back if that was one failure too many.
    fn add(&self, new: bool, failed: bool) {
        if !new {
            self.old.count(failed);
            return;
        }
        let (requests, failures) = self.new.count(failed);
        if failed && is_worse((requests, failures), self.old.read()) {
            self.returned.store(true, Relaxed);
        }
    }

    /// The version was taken back.
    pub(super) fn is_returned(&self) -> bool {
        self.returned.load(Relaxed)
    }

    /// Requests of the version on trial, and how many of them failed.
    pub(super) fn of_the_new(&self) -> (u64, u64) {
        self.new.read()
    }
}

/// Whether requests with these failures are bad enough beside those of the active version.
fn is_worse((requests, failures): (u64, u64), (others, their): (u64, u64)) -> bool {
    // In hundreds of thousands, against rounding.
    let rate = |failures: u64, requests: u64| failures.saturating_mul(100_000).checked_div(requests).unwrap_or(0);
    let own = rate(failures, requests);
    failures >= LEAST && own > TOLERATED * 1_000 && own > rate(their, others).saturating_mul(TIMES)
}

/// One request's part in a trial; counted when it is dropped.
pub(super) struct Trial {
    count: Arc<Count>,
    new: bool,
    failed: AtomicBool,
}

impl Trial {
    /// Of a request that gets the version on trial, or, if not `new`, the active one.
    pub(super) fn new(count: Arc<Count>, new: bool) -> Self {
        Self {
            count,
            new,
            failed: AtomicBool::new(false),
        }
    }

    /// The worker answered with a failure, or came to `ended`.
    pub(super) fn failed(&self, ended: Option<Ended>) {
        // Whose fault it is not.
        if !matches!(ended, Some(Ended::Overload | Ended::Stopped)) {
            self.failed.store(true, Relaxed);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.count.add(self.new, self.failed.load(Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version that breaks a site would go on doing so, or a good one be taken back for what its
    /// clients do.
    #[test]
    fn a_version_goes_when_it_fails_more_than_the_active_one() {
        for (new, old, worse) in [
            ((4, 4), (100, 0), false),
            ((5, 5), (0, 0), true),
            ((5, 5), (100, 0), true),
            ((100, 5), (100, 0), false),
            ((100, 6), (100, 0), true),
            ((100, 6), (100, 3), false),
            ((100, 6), (1_000, 29), true),
            ((100, 60), (100, 40), false),
            ((1_000_000, 60_000), (1_000_000, 0), true),
        ] {
            assert_eq!(is_worse(new, old), worse, "{new:?} {old:?}");
        }
    }
}
