//! Clocks as guests see them: to the millisecond. What a guest could measure more finely, it could
//! use to read caches and branch predictors of others (Spectre, and what came after it).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// What a guest's clock is rounded down to.
pub const GRAIN: Duration = Duration::from_millis(1);

/// Time since 1970.
pub(super) struct Wall;

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        GRAIN
    }

    fn now(&self) -> Duration {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        coarse(since)
    }
}

/// Time since the instance was made.
pub(super) struct Monotonic(Instant);

impl Monotonic {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        u64::try_from(GRAIN.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(coarse(self.0.elapsed()).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Rounded down to [`GRAIN`].
pub fn coarse(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
