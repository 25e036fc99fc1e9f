//! What is known of one server's health: active checks by thresholds, passive ones by failures in a
//! row. No I/O and no clock: `watch` and `exchange` report, times are milliseconds since the fleet
//! began. Shared by all workers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::balance::Standing;

/// Why a check failed or a server is out. A closed set: shown in `/status` and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The name did not resolve.
    Resolve,
    /// Connection refused.
    Refused,
    /// Host or network unreachable.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The certificate is for another name.
    TlsName,
    /// TLS failed otherwise.
    Tls,
    /// Not HTTP, or the connection broke off.
    Protocol,
    /// A status that does not count as healthy.
    Status,
    /// Requests failed (passive check).
    Requests,
    /// Its answers come late beside those of the other servers (passive check).
    Slow,
}

/// One server's health.
#[derive(Debug)]
pub(super) struct Health {
    /// Active checks say no.
    down: AtomicBool,
    /// Requests failed in a row.
    failures: AtomicU32,
    /// Out by passive checks until then; 0: not out.
    out_until: AtomicU64,
    /// Failures in a row that take it out.
    most: Option<u32>,
    /// Milliseconds that it is out.
    cooldown: u64,
    /// It is out for its slow answers: only that of its trial brings it back.
    slow: AtomicBool,
    /// A trial is under way.
    tried: AtomicBool,
    checks: Mutex<Checks>,
    /// Good and bad checks in a row that change the verdict.
    thresholds: (u32, u32),
}

/// The course of active checks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checks {
    /// Checks in a row that contradict the verdict.
    streak: u32,
    /// When the last one ended.
    pub(super) last: Option<u64>,
    /// What it found.
    pub(super) trouble: Option<Trouble>,
}

impl Health {
    /// Presumed healthy. `thresholds`: (good, bad) active checks in a row; `most`: failures in a
    /// row that take it out, for `cooldown`.
    pub(super) fn new(thresholds: (u32, u32), most: Option<u32>, cooldown: Duration) -> Self {
        Self {
            down: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            most,
            cooldown: u64::try_from(cooldown.as_millis()).unwrap_or(u64::MAX).max(1),
            slow: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            checks: Mutex::new(Checks::default()),
            thresholds,
        }
    }

    /// Begins with what `other`, the same server before a reload, was known to be.
    pub(super) fn inherit(&self, other: &Self) {
        self.down.store(other.down.load(Ordering::Relaxed), Ordering::Relaxed);
        *self.lock() = *other.lock();
    }

    /// Whether the server may be chosen at `now`.
    pub(super) fn standing(&self, now: u64) -> Standing {
        self.standing_by(|| now)
    }

    /// As [`Health::standing`], asking for the time only where it matters.
    pub(super) fn standing_by(&self, now: impl FnOnce() -> u64) -> Standing {
        if self.down.load(Ordering::Relaxed) {
            return Standing::Down;
        }
        match self.out_until.load(Ordering::Relaxed) {
            0 => Standing::Up,
            until if now() >= until => Standing::Up,
            _ => Standing::Suspect,
        }
    }

    /// Called when a request has chosen this server. After a cooldown the first one to come is the
    /// trial: it extends the cooldown for all others until its outcome is known.
    pub(super) fn chosen(&self, now: impl FnOnce() -> u64) {
        let until = self.out_until.load(Ordering::Relaxed);
        if until == 0 {
            return;
        }
        let now = now();
        if now >= until {
            self.tried.store(true, Ordering::Relaxed);
            let again = now.saturating_add(self.cooldown);
            // Lost races are other workers' trials; each worker may let one through, which is few
            // enough.
            let _ = self
                .out_until
                .compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// A request got a response. True when that brought the server back.
    pub(super) fn succeeded(&self) -> bool {
        // Loads first: the usual case must not write to a line that all workers share.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.out_until.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // A slow server goes on to answer what it was sent before.
        if self.slow.load(Ordering::Relaxed) && !self.tried.load(Ordering::Relaxed) {
            return false;
        }
        self.slow.store(false, Ordering::Relaxed);
        self.out_until.swap(0, Ordering::Relaxed) != 0
    }

    /// Its answers come late. True when that took the server out.
    pub(super) fn late(&self, now: u64) -> bool {
        self.slow.store(true, Ordering::Relaxed);
        self.out(now)
    }

    /// Takes it out. True when it was not before.
    fn out(&self, now: u64) -> bool {
        self.tried.store(false, Ordering::Relaxed);
        self.out_until
            .swap(now.saturating_add(self.cooldown), Ordering::Relaxed)
            == 0
    }

    /// A request failed by the server's fault. True when that took the server out.
    pub(super) fn failed(&self, now: u64) -> bool {
        let Some(most) = self.most else {
            return false;
        };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < most {
            return false;
        }
        self.out(now)
    }

    /// An active check ended at `now`. The new verdict when it changed: true is healthy.
    pub(super) fn checked(&self, now: u64, trouble: Option<Trouble>) -> Option<bool> {
        let mut checks = self.lock();
        checks.last = Some(now);
        checks.trouble = trouble;
        let down = self.down.load(Ordering::Relaxed);
        let good = trouble.is_none();
        if good != down {
            checks.streak = 0;
            return None;
        }
        checks.streak = checks.streak.saturating_add(1);
        let needed = if good { self.thresholds.0 } else { self.thresholds.1 };
        if checks.streak < needed {
            return None;
        }
        checks.streak = 0;
        self.down.store(!good, Ordering::Relaxed);
        Some(good)
    }

    /// Healthy at `now`, and if not, why.
    pub(super) fn verdict(&self, now: u64) -> (bool, Option<Trouble>) {
        match self.standing(now) {
            Standing::Up => (true, None),
            Standing::Suspect if self.slow.load(Ordering::Relaxed) => (false, Some(Trouble::Slow)),
            Standing::Suspect => (false, Some(Trouble::Requests)),
            Standing::Down => (false, self.checks().trouble),
        }
    }

    /// The last check.
    pub(super) fn checks(&self) -> Checks {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flapping verdict would send every other request to a broken server.
    #[test]
    fn active_needs_its_thresholds() {
        let health = Health::new((2, 3), None, Duration::from_secs(1));
        let bad = Some(Trouble::Refused);
        assert_eq!(health.checked(1, bad), None);
        assert_eq!(health.checked(2, bad), None);
        assert_eq!(health.checked(3, None), None, "one good check resets the count");
        assert_eq!([4, 5, 6].map(|t| health.checked(t, bad)), [None, None, Some(false)]);
        assert_eq!(health.verdict(6), (false, bad));
        assert_eq!(health.checked(7, None), None);
        assert_eq!(health.standing(7), Standing::Down);
        assert_eq!(health.checked(8, None), Some(true));
        assert_eq!(health.verdict(8), (true, None));
    }

    /// A server that lost its process must not get requests all the time; nor be forgotten.
    #[test]
    fn passive_cools_down_and_tries_once() {
        let health = Health::new((1, 1), Some(2), Duration::from_millis(100));
        assert!(!health.failed(0));
        health.succeeded();
        assert!(!health.failed(1), "failures must be in a row");
        assert!(health.failed(2));
        assert_eq!(health.standing(50), Standing::Suspect);
        assert_eq!(health.standing(102), Standing::Up, "time for a trial");
        health.chosen(|| 102);
        assert_eq!(health.standing(103), Standing::Suspect, "one trial, no more");
        assert!(!health.failed(110), "already out");
        assert_eq!(health.standing(209), Standing::Suspect);
        health.chosen(|| 210);
        assert!(health.succeeded());
        assert_eq!(health.standing(211), Standing::Up);
    }

    /// A slow server would be back with each answer to what it was sent before, or never.
    #[test]
    fn a_slow_server_is_out_until_its_trial() {
        let health = Health::new((1, 1), None, Duration::from_millis(100));
        assert!(health.late(5));
        assert!(!health.late(6), "already out");
        assert_eq!(health.verdict(50), (false, Some(Trouble::Slow)));
        assert!(!health.succeeded(), "of before");
        assert_eq!(health.standing(50), Standing::Suspect);
        assert_eq!(health.standing(106), Standing::Up, "time for a trial");
        health.chosen(|| 106);
        assert_eq!(health.standing(107), Standing::Suspect, "one trial, no more");
        assert!(health.succeeded());
        assert_eq!(health.verdict(108), (true, None));
        assert!(!health.failed(109), "failures do not count here");
    }
}
