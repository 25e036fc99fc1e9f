//! Token buckets per client, as GCRA: one number a client, the theoretical arrival time (ITU-T I.371; Brandur's "cells").
//! A table of fixed size holds them. In a full set the bucket with the least debt is forgotten: a bucket that has refilled
//! loses nothing, any other forgives its client less than each of the seven kept. So a flood of new addresses, one request
//! each, forgets its own; to wash out one drained bucket it needs eight that are drained deeper, in a set it cannot aim at.

use std::hash::Hash;
use std::time::Duration;

use super::clock::nanos;
use super::table::{Table, Worth};

/// `requests` in `per`, and `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two requests at the steady rate, at least 1.
    interval: u64,
    /// Nanoseconds a client may run ahead of the steady rate.
    tolerance: u64,
}

impl Rate {
    /// All three at least 1 (the configuration's check sees to it).
    pub fn new(requests: u32, per: Duration, burst: u32) -> Self {
        let interval = (nanos(per) / u64::from(requests.max(1))).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(burst.max(1)) - 1),
        }
    }

    /// The same for `n` clients together: `n` times the rate and `n` times the burst.
    pub fn times(self, n: u32) -> Self {
        let n = u64::from(n.max(1));
        let burst = self.tolerance / self.interval + 1;
        let interval = (self.interval / n).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.saturating_mul(n) - 1),
        }
    }
}

/// What asking a bucket gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// One request was taken.
    Yes {
        /// Requests left at once.
        left: u64,
        /// Until one more is left.
        more: Duration,
    },
    /// None was left.
    No {
        /// Until one is.
        wait: Duration,
    },
}

/// How the bucket of a client that is not in the table begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With its burst.
    Full,
    /// With this one request only: for a client that was an anonymous part of its address until now, where that address has
    /// had its burst for new names.
    Drained,
}

/// All buckets of a node.
#[derive(Debug)]
pub struct Buckets(Table<u64, Arrival>);

/// Theoretical arrival time, steady nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Arrival(u64);

impl Worth for Arrival {
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        self.0.saturating_sub(nanos(now))
    }
}

impl Buckets {
    /// Room for `entries` buckets of 24 bytes.
    pub fn new(entries: usize) -> Self {
        Self(Table::new(entries))
    }

    /// The key of whatever names a bucket; differs from run to run.
    pub fn key(&self, name: impl Hash) -> u64 {
        self.0.hash(name)
    }

    /// Takes one request. Over any stretch of `t` seconds a bucket that is not forgotten gives at most `burst + rate * t`.
    pub fn take(&self, now: Duration, key: u64, rate: Rate, start: Start) -> Taken {
        let at = nanos(now);
        let fresh = || match start {
            Start::Full => Arrival(at),
            Start::Drained => Arrival(at.saturating_add(rate.tolerance)),
        };
        self.0.update(key, now, fresh, |arrival| {
            let from = arrival.0.max(at);
            let ahead = from - at;
            if ahead > rate.tolerance {
                return Taken::No {
                    wait: Duration::from_nanos(ahead - rate.tolerance),
                };
            }
            arrival.0 = from.saturating_add(rate.interval);
            let room = rate.tolerance.saturating_sub(ahead);
            Taken::Yes {
                left: room / rate.interval,
                more: Duration::from_nanos(rate.interval - room % rate.interval),
            }
        })
    }

    /// The rate at which whole bursts may be given: one each time a burst has been earned, and one at once.
    pub fn of_bursts(rate: Rate) -> Rate {
        Rate {
            interval: rate.tolerance.saturating_add(rate.interval),
            tolerance: 0,
        }
    }

    /// Gives one request back, taken for what was refused elsewhere.
    pub fn refund(&self, key: u64, rate: Rate) {
        self.0
            .amend(key, |arrival| arrival.0 = arrival.0.saturating_sub(rate.interval));
    }

    /// Whether `key` has a bucket.
    pub fn knows(&self, key: u64) -> bool {
        self.0.find(key).is_some()
    }

    /// Puts one more behind those who wait already and says how long that is, at `rate`; `None` beyond `longest`, and then
    /// nothing is booked.
    pub fn book(&self, now: Duration, key: u64, rate: Rate, longest: Duration) -> Option<Duration> {
        let at = nanos(now);
        self.0.update(
            key,
            now,
            || Arrival(at),
            |arrival| {
                let turn = arrival.0.max(at).saturating_add(rate.interval);
                let wait = Duration::from_nanos(turn - at);
                (wait <= longest.max(Duration::from_nanos(rate.interval))).then(|| {
                    arrival.0 = turn;
                    wait
                })
            },
        )
    }

    /// Places taken, places there are, bytes of all.
    pub fn fill(&self) -> (usize, usize, usize) {
        (self.0.filled(), self.0.capacity(), self.0.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: a property test's source of cases, the same in each run.
    struct Random(u64);
    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % n
        }
    }

    /// A client would get more than the operator granted, or less than its steady share.
    #[test]
    fn never_more_than_burst_and_rate() {
        let mut random = Random(7);
        for _ in 0..200 {
            let (requests, per, burst) = (1 + random.below(500), 1 + random.below(120), 1 + random.below(50));
            let rate = Rate::new(requests as u32, Duration::from_secs(per), burst as u32);
            let buckets = Buckets::new(64);
            let key = buckets.key("client");
            let (mut now, mut given) = (Duration::from_secs(5), Vec::new());
            for _ in 0..400 {
                now += Duration::from_nanos(random.below(3 * rate.interval / 2));
                match buckets.take(now, key, rate, Start::Full) {
                    Taken::Yes { left, more } => {
                        assert!(left < burst);
                        assert!(!more.is_zero() && nanos(more) <= rate.interval);
                        given.push(now);
                    }
                    Taken::No { wait } => {
                        let early = buckets.take(now + wait - Duration::from_nanos(1), key, rate, Start::Full);
                        assert!(matches!(early, Taken::No { .. }), "the wait is too long");
                        now += wait;
                        let due = buckets.take(now, key, rate, Start::Full);
                        assert!(matches!(due, Taken::Yes { .. }), "the wait is too short");
                        given.push(now);
                    }
                }
            }
            for (i, from) in given.iter().enumerate() {
                for (j, to) in given.iter().enumerate().skip(i) {
                    let earned = nanos(*to - *from) / rate.interval;
                    assert!((j - i + 1) as u64 <= burst + earned, "{requests}/{per}s burst {burst}");
                }
            }
        }
    }

    /// A million addresses must neither grow the table nor free the one client that is over its limit.
    #[test]
    fn a_flood_forgets_itself() {
        let rate = Rate::new(10, Duration::from_secs(60), 5);
        let buckets = Buckets::new(8_192);
        let now = Duration::from_secs(1);
        let drained: Vec<u64> = (0..100).map(|n| buckets.key(("drained", n))).collect();
        for key in &drained {
            while let Taken::Yes { .. } = buckets.take(now, *key, rate, Start::Full) {}
        }
        for n in 0..1_000_000u32 {
            let at = now + Duration::from_micros(n.into());
            buckets.take(at, buckets.key(("flood", n)), rate, Start::Full);
        }
        let after = now + Duration::from_secs(1);
        let still = drained
            .iter()
            .filter(|key| matches!(buckets.take(after, **key, rate, Start::Full), Taken::No { .. }));
        assert_eq!(still.count(), 100);
        let (filled, capacity, bytes) = buckets.fill();
        assert!(filled <= capacity && capacity == 8_192 && bytes == capacity * 24);
    }

    /// New names must not be new bursts, and waiting turns must not overlap.
    #[test]
    fn drained_starts_and_booked_turns() {
        let rate = Rate::new(1, Duration::from_secs(10), 5);
        let buckets = Buckets::new(64);
        let take = |s, start| buckets.take(Duration::from_secs(s), 1, rate, start);
        assert!(matches!(take(0, Start::Drained), Taken::Yes { left: 0, .. }));
        assert_eq!(
            take(4, Start::Drained),
            Taken::No {
                wait: Duration::from_secs(6)
            }
        );
        let book = || buckets.book(Duration::ZERO, 2, rate, Duration::from_secs(25));
        assert_eq!(
            [book(), book(), book()].map(|t| t.map(|t| t.as_secs())),
            [Some(10), Some(20), None]
        );
        let many = rate.times(10);
        assert_eq!((many.interval, many.tolerance), (1_000_000_000, 49_000_000_000));
    }
}
