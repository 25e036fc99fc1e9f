//! The two times the gate's cores are given: a steady one for limits and penalties, the wall's for tokens and places.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment. The cores never read a clock: they take this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the gate's clock was made; never goes back.
    pub mono: Duration,
    /// Since the epoch; may step. Only what other nodes must understand is reckoned by it.
    pub unix: Duration,
}

impl Now {
    /// Milliseconds since the epoch.
    pub fn unix_ms(self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }

    /// The first whole second since the epoch that is `wait` or more away.
    pub fn second_after(self, wait: Duration) -> u32 {
        let at = self.unix.saturating_add(wait);
        let whole = at.as_secs() + u64::from(at.subsec_nanos() > 0);
        u32::try_from(whole).unwrap_or(u32::MAX)
    }

    /// What is left until `second` since the epoch; zero once it is past.
    pub fn until_second(self, second: u32) -> Duration {
        Duration::from_secs(second.into()).saturating_sub(self.unix)
    }
}

/// The real clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Its steady time begins now.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// This moment.
    pub fn now(&self) -> Now {
        Now {
            mono: self.0.elapsed(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Nanoseconds as 64 bits: 584 years, then it saturates.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
