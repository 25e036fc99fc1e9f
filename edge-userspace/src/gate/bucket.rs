//! Token buckets per client, as GCRA: one number a client, the theoretical arrival time (ITU-T
//! I.371; Brandur's "cells"). A table of fixed size holds them. In a full set the bucket with the
//! least debt is forgotten: a bucket that has refilled loses nothing, any other forgives its client
//! less than each of the seven kept. So a flood of new addresses, one request each, forgets its
//! own; to wash out one drained bucket it needs eight that are drained deeper, in a set it cannot
//! aim at.

use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use super::clock::nanos;
use super::prefixes;
use super::table::{Table, Worth};

/// The longest time for which a bucket is in debt, whatever responses say that requests cost.
const DEEPEST: Duration = Duration::from_secs(86_400);

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

    /// Requests left at once when the bucket runs `ahead` nanoseconds ahead of the steady rate and
    /// one more is taken, and until one more is left.
    fn left(self, ahead: u64) -> (u64, Duration) {
        let room = self.tolerance.saturating_sub(ahead);
        let more = Duration::from_nanos(self.interval - room % self.interval);
        (room / self.interval, more)
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
    /// With this one request only: for a client that was an anonymous part of its address until
    /// now, where that address has had its burst for new names.
    Drained,
}

/// All buckets of a node: those of clients and addresses, and those of keys that requests name.
/// Keys are free to make up, so they have a table of their own, in which whoever has most makes
/// room.
#[derive(Debug)]
pub struct Buckets {
    clients: Table<u64, Arrival>,
    keys: Table<u64, Owned>,
}

/// One bucket, to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    key: u64,
    rate: Rate,
    /// Whose the bucket is if it is in the table of keys: of whoever named the key first.
    owners: Option<[u32; 2]>,
}

impl Take {
    /// The bucket of a client or address with the key of [`Buckets::key`].
    pub fn client(key: u64, rate: Rate) -> Self {
        Self {
            key,
            rate,
            owners: None,
        }
    }

    /// Nanoseconds between two requests at the steady rate.
    pub fn interval(&self) -> u64 {
        self.rate.interval
    }

    /// Requests that a full bucket gives at once.
    pub fn burst(&self) -> u64 {
        self.rate.tolerance / self.rate.interval + 1
    }
}

/// A key's bucket.
#[derive(Clone, Copy, Debug)]
struct Owned {
    arrival: Arrival,
    owners: [u32; 2],
}

impl Worth for Owned {
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        self.arrival.worth(now)
    }

    fn owners(&self) -> [u32; 2] {
        self.owners
    }
}

/// Theoretical arrival time, steady nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Arrival(u64);

impl Worth for Arrival {
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        self.0.saturating_sub(nanos(now))
    }
}

impl Arrival {
    fn take(&mut self, at: u64, rate: Rate) -> Taken {
        let from = self.0.max(at);
        let ahead = from - at;
        if ahead > rate.tolerance {
            return Taken::No {
                wait: Duration::from_nanos(ahead - rate.tolerance),
            };
        }
        self.0 = from.saturating_add(rate.interval);
        let (left, more) = rate.left(ahead);
        Taken::Yes { left, more }
    }

    /// Takes `n` requests that have been served already; gives what is left.
    fn charge(&mut self, at: u64, rate: Rate, n: u64) -> (u64, Duration) {
        let most = at.saturating_add(rate.tolerance).saturating_add(nanos(DEEPEST));
        let charged = self.0.max(at).saturating_add(rate.interval.saturating_mul(n));
        self.0 = charged.min(most.max(self.0));
        let ahead = self.0 - at;
        match ahead.checked_sub(rate.tolerance.saturating_add(rate.interval)) {
            Some(beyond) => (0, Duration::from_nanos(beyond)),
            None => rate.left(ahead.saturating_sub(rate.interval)),
        }
    }
}

impl Buckets {
    /// Room for `clients` buckets of clients, 24 bytes each, and `keys` of keys, 32 bytes each.
    pub fn new(clients: usize, keys: usize) -> Self {
        Self {
            clients: Table::new(clients),
            keys: Table::new(keys),
        }
    }

    /// The key of whatever names a bucket; differs from run to run.
    pub fn key(&self, name: impl Hash) -> u64 {
        self.clients.hash(name)
    }

    /// The bucket of a key that a request from `prefix` names.
    pub fn keyed(&self, name: impl Hash, prefix: IpAddr, rate: Rate) -> Take {
        Take {
            key: self.keys.hash(name),
            rate,
            owners: Some(prefixes::owners(prefix)),
        }
    }

    /// Takes one request of a bucket that begins full.
    pub fn ask(&self, now: Duration, take: Take) -> Taken {
        self.update(now, take, |arrival, at| arrival.take(at, take.rate))
    }

    /// What taking one request of a client's bucket would give. Takes none.
    pub fn look(&self, now: Duration, key: u64, rate: Rate) -> Taken {
        let at = nanos(now);
        self.clients.find(key).unwrap_or(Arrival(at)).take(at, rate)
    }

    /// Takes `n` requests that have been served already, at most a day's debt. What is left, and
    /// until when there is more.
    pub fn charge(&self, now: Duration, take: Take, n: u64) -> (u64, Duration) {
        self.update(now, take, |arrival, at| arrival.charge(at, take.rate, n))
    }

    /// Changes a bucket, which begins full, in the table that it is in.
    fn update<R>(&self, now: Duration, take: Take, change: impl FnOnce(&mut Arrival, u64) -> R) -> R {
        let at = nanos(now);
        let arrival = Arrival(at);
        match take.owners {
            None => self
                .clients
                .update(take.key, now, || arrival, |arrival| change(arrival, at)),
            Some(owners) => self.keys.update(
                take.key,
                now,
                || Owned { arrival, owners },
                |owned| change(&mut owned.arrival, at),
            ),
        }
    }

    /// Takes one request. Over any stretch of `t` seconds a bucket that is not forgotten gives at
    /// most `burst + rate * t`.
    pub fn take(&self, now: Duration, key: u64, rate: Rate, start: Start) -> Taken {
        let at = nanos(now);
        let fresh = || match start {
            Start::Full => Arrival(at),
            Start::Drained => Arrival(at.saturating_add(rate.tolerance)),
        };
        self.clients.update(key, now, fresh, |arrival| arrival.take(at, rate))
    }

    /// The rate at which whole bursts may be given: one each time a burst has been earned, and one
    /// at once.
    pub fn of_bursts(rate: Rate) -> Rate {
        Rate {
            interval: rate.tolerance.saturating_add(rate.interval),
            tolerance: 0,
        }
    }

    /// Gives one request back, taken for what was refused elsewhere.
    pub fn refund(&self, take: Take) {
        let back = |arrival: &mut Arrival| arrival.0 = arrival.0.saturating_sub(take.rate.interval);
        match take.owners {
            None => self.clients.amend(take.key, back),
            Some(_) => self.keys.amend(take.key, |owned| back(&mut owned.arrival)),
        };
    }

    /// Whether `key` has a bucket.
    pub fn knows(&self, key: u64) -> bool {
        self.clients.find(key).is_some()
    }

    /// Puts one more behind those who wait already and says how long that is, at `rate`; `None`
    /// beyond `longest`, and then nothing is booked.
    pub fn book(&self, now: Duration, key: u64, rate: Rate, longest: Duration) -> Option<Duration> {
        let at = nanos(now);
        self.clients.update(
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

    /// Places taken, places there are, bytes of all: of clients, and of keys.
    pub fn fill(&self) -> [(usize, usize, usize); 2] {
        let Self { clients, keys } = self;
        [
            (clients.filled(), clients.capacity(), clients.bytes()),
            (keys.filled(), keys.capacity(), keys.bytes()),
        ]
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
            let buckets = Buckets::new(64, 0);
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

    /// A million addresses must neither grow the table nor free the one client that is over its
    /// limit.
    #[test]
    fn a_flood_forgets_itself() {
        let rate = Rate::new(10, Duration::from_secs(60), 5);
        let buckets = Buckets::new(8_192, 0);
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
        let [(filled, capacity, bytes), _] = buckets.fill();
        assert!(filled <= capacity && capacity == 8_192 && bytes == capacity * 24);
    }

    /// New names must not be new bursts, and waiting turns must not overlap.
    #[test]
    fn drained_starts_and_booked_turns() {
        let rate = Rate::new(1, Duration::from_secs(10), 5);
        let buckets = Buckets::new(64, 0);
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
