//! The wall clock as a value: read once at the edge of the process, handed to pure cores as `now`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, in milliseconds since 1970 (UTC, leap seconds not counted). A clock before 1970 reads
/// as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The wall clock. It may step backwards; what must not be is measured by
    /// [`std::time::Instant`].
    pub fn now() -> Self {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().into()
    }

    /// From whole seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// From milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn secs(self) -> u64 {
        self.0 / 1_000
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970 as tokens carry them; from 2106 on, the last moment they can say.
    pub const fn stamp(self) -> u32 {
        if self.secs() > u32::MAX as u64 {
            u32::MAX
        } else {
            self.secs() as u32
        }
    }

    /// Later by `duration`.
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero where it is still to come.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for UnixTime {
    /// A duration since 1970, cut to milliseconds.
    fn from(since: Duration) -> Self {
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<UnixTime> for SystemTime {
    fn from(time: UnixTime) -> Self {
        UNIX_EPOCH
            .checked_add(Duration::from_millis(time.0))
            .unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time past the range of a token's field must not wrap into the past, where the token would
    /// be void.
    #[test]
    fn ends_of_the_range() {
        assert_eq!(UnixTime::from_secs(1 << 40).stamp(), u32::MAX);
        assert_eq!(UnixTime::from_millis(1_999).secs(), 1);
        assert_eq!(UnixTime::from_secs(1).since(UnixTime::from_secs(2)), Duration::ZERO);
        assert_eq!(UnixTime::from_secs(1).after(Duration::MAX).millis(), u64::MAX);
    }
}
