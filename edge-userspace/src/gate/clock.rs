//! The two times the gate's cores are given: a steady one for all that is the node's own (limits,
//! penalties, seats), the wall's for what other nodes must understand (tokens, places).
//!
//! A wall clock that is wrong at the start and set right later jumps. That is noticed by the steady
//! clock, said in the log, and remembered for as long as a token lives: what was written by the
//! time before the jump is read by it, too.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edge_common::token::SKEW;

/// What the wall clock was ahead of the present one by, before it jumped; at most so many jumps are
/// remembered.
const JUMPS: usize = 2;
/// For so long: no token lives longer.
const MEMORY: Duration = Duration::from_secs(7 * 3_600);

/// One moment. The cores never read a clock: they take this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the gate's clock was made; never goes back.
    pub mono: Duration,
    /// Since the epoch; may step. Only what other nodes must understand is reckoned by it.
    pub unix: Duration,
    /// Milliseconds by which the wall clock was ahead of what it says now, before it jumped lately;
    /// 0: it did not.
    pub ahead: [i64; JUMPS],
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

/// The real clock; copies of it share what they know of jumps.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    wall: Arc<Wall>,
}

/// What is known of the wall clock.
#[derive(Debug, Default)]
struct Wall {
    /// Milliseconds since the epoch when the steady clock began, as the wall clock says now.
    offset: AtomicI64,
    /// It has jumped lately: spares requests the lock.
    jumped: AtomicBool,
    /// What it said before, and until when that is remembered.
    before: Mutex<Vec<(i64, Duration)>>,
}

impl Clock {
    /// Its steady time begins now.
    pub fn new() -> Self {
        let wall = Wall::default();
        wall.offset.store(millis(wall_clock()), Ordering::Relaxed);
        Self {
            start: Instant::now(),
            wall: Arc::new(wall),
        }
    }

    /// This moment.
    pub fn now(&self) -> Now {
        let (mono, unix) = (self.start.elapsed(), wall_clock());
        Now {
            mono,
            unix,
            ahead: self.wall.ahead(mono, unix),
        }
    }
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Wall {
    /// By how much the wall clock was ahead of `unix` before its last jumps.
    fn ahead(&self, mono: Duration, unix: Duration) -> [i64; JUMPS] {
        let offset = millis(unix).saturating_sub(millis(mono));
        let known = self.offset.load(Ordering::Relaxed);
        let step = offset.saturating_sub(known);
        // Smaller steps, and a clock that is slewed, are within the tolerance of tokens.
        if step.unsigned_abs() > SKEW * 1_000 {
            let swapped = self
                .offset
                .compare_exchange(known, offset, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                self.jump(mono, known, step);
            }
        } else if step.unsigned_abs() > 100 {
            self.offset.store(offset, Ordering::Relaxed);
        }
        let mut ahead = [0; JUMPS];
        if self.jumped.load(Ordering::Acquire) {
            let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            before.retain(|(_, until)| *until > mono);
            for (slot, (was, _)) in ahead.iter_mut().zip(before.iter().rev()) {
                *slot = was.saturating_sub(offset);
            }
            self.jumped.store(!before.is_empty(), Ordering::Release);
        }
        ahead
    }

    fn jump(&self, mono: Duration, known: i64, step: i64) {
        tracing::warn!(
            target: "edge::gate",
            seconds = step / 1_000,
            "the wall clock jumped; waits that were told before are reckoned by the clock of then"
        );
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.push((known, mono.saturating_add(MEMORY)));
        if before.len() > JUMPS {
            before.remove(0);
        }
        self.jumped.store(true, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Everybody's wait would be void when a clock that was wrong at the start is set right.
    #[test]
    fn jumps_are_remembered_for_a_while() {
        let wall = Wall::default();
        let (at, day) = (Duration::from_secs, 86_400_000);
        let unix = |seconds: u64| at(1_700_000_000 + seconds);
        wall.offset.store(millis(unix(0)), Ordering::Relaxed);
        assert_eq!(wall.ahead(at(1), unix(1)), [0, 0]);
        // Slewed, and within the tolerance.
        assert_eq!(wall.ahead(at(100), unix(101)), [0, 0]);
        assert_eq!(wall.ahead(at(200), unix(202)), [0, 0]);
        // Three days ahead for ten seconds: then it was three days ahead, and before that nothing.
        assert_eq!(wall.ahead(at(210), unix(212 + 3 * 86_400)), [-3 * day, 0]);
        assert_eq!(wall.ahead(at(220), unix(222)), [3 * day, 0]);
        assert_eq!(wall.ahead(at(221), unix(223)), [3 * day, 0]);
        assert_eq!(wall.ahead(at(8 * 3_600), unix(8 * 3_600 + 2)), [0, 0]);
    }
}
