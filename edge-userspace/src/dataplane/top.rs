//! Whom dropped packets come from: the client prefixes that most samples of the last minute or two
//! name, by reason. `events` hands it the samples; `edge top-sources` shows it.
//!
//! A flood from addresses that are each seen once must not fill memory, nor hide who comes again
//! and again: so there are [`COUNTERS`] counters, and a source that is not counted takes over the
//! smallest, with its count as what may be too much (Metwally, Agrawal, El Abbadi, "Efficient
//! computation of frequent and top-k elements in data streams", ICDT 2005). Whoever sends more than
//! one in `COUNTERS` of the samples is among them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Sources that are counted at once: some 40 KiB, twice.
const COUNTERS: usize = 512;
/// How long is counted before it begins anew; what was before is kept as long.
const SPAN: Duration = Duration::from_secs(60);

/// Counts of this minute, and of the last one.
#[derive(Debug, Default)]
pub struct TopSources(Mutex<Spans>);

#[derive(Debug, Default)]
struct Spans {
    now: Counts,
    before: Counts,
    /// When `now` began.
    begun: Option<Instant>,
}

type Counts = HashMap<(u32, IpAddr), Count>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    samples: u64,
    /// Of them at most these are another's, whose counter it was.
    doubtful: u64,
}

/// A source of dropped packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSource {
    /// IPv4 address, or the first address of an IPv6 /64.
    pub prefix: IpAddr,
    /// Why they were dropped: a reason of `edge_common`.
    pub reason: u32,
    /// Samples in the time that is counted.
    pub samples: u64,
    /// Seconds that are counted: up to two minutes.
    pub seconds: u64,
}

impl TopSources {
    /// Counts a sample.
    pub(super) fn note(&self, now: Instant, reason: u32, prefix: IpAddr) {
        let mut spans = self.spans();
        spans.turn(now);
        let counts = &mut spans.now;
        let key = (reason, prefix);
        if let Some(count) = counts.get_mut(&key) {
            count.samples += 1;
            return;
        }
        let mut fresh = Count {
            samples: 1,
            doubtful: 0,
        };
        if counts.len() >= COUNTERS
            && let Some((smallest, count)) = counts
                .iter()
                .map(|(key, count)| (*key, *count))
                .min_by_key(|(key, count)| (count.samples, *key))
        {
            counts.remove(&smallest);
            fresh = Count {
                samples: count.samples + 1,
                doubtful: count.samples,
            };
        }
        counts.insert(key, fresh);
    }

    /// The `most` sources that most samples came from for sure, the first one first.
    pub fn list(&self, now: Instant, most: usize) -> Vec<TopSource> {
        let mut spans = self.spans();
        spans.turn(now);
        let Some(begun) = spans.begun else { return Vec::new() };
        let mut sums: Counts = spans.now.clone();
        for (key, count) in &spans.before {
            let sum = sums.entry(*key).or_default();
            sum.samples += count.samples;
            sum.doubtful += count.doubtful;
        }
        let before = if spans.before.is_empty() { Duration::ZERO } else { SPAN };
        let seconds = (now.saturating_duration_since(begun) + before).as_secs().max(1);
        let mut all: Vec<TopSource> = sums
            .into_iter()
            .map(|((reason, prefix), count)| TopSource {
                prefix,
                reason,
                samples: count.samples - count.doubtful,
                seconds,
            })
            .collect();
        all.sort_by_key(|source| (std::cmp::Reverse(source.samples), source.reason, source.prefix));
        all.truncate(most);
        all
    }

    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spans {
    fn turn(&mut self, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let passed = now.saturating_duration_since(begun);
        if passed < SPAN {
            return;
        }
        let last = std::mem::take(&mut self.now);
        self.before = if passed < 2 * SPAN { last } else { Counts::new() };
        self.begun = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }

    /// Who comes again and again would be lost among spoofed addresses that come once; or those
    /// would fill memory.
    #[test]
    fn who_sends_most_is_found_among_strangers() {
        let top = TopSources::default();
        let now = Instant::now();
        for n in 0..100_000_u32 {
            top.note(now, 32, address(0x0a00_0000 + n));
            if n % 50 == 0 {
                top.note(now, 36, address(7));
            }
        }
        let list = top.list(now, 3);
        let [first, rest @ ..] = &list[..] else {
            panic!("nobody")
        };
        assert_eq!((first.prefix, first.reason), (address(7), 36));
        assert!((1_900..=2_000).contains(&first.samples), "{first:?}");
        assert!(rest.iter().all(|source| source.samples <= 1), "{rest:?}");
        assert!(top.spans().now.len() <= COUNTERS);
    }

    /// A list of last hour's attackers is worth nothing in this one.
    #[test]
    fn what_was_long_ago_is_forgotten() {
        let top = TopSources::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        top.note(at(0), 32, address(1));
        top.note(at(70), 32, address(2));
        let listed =
            |seconds| -> Vec<IpAddr> { top.list(at(seconds), 10).iter().map(|source| source.prefix).collect() };
        assert_eq!(listed(75), [address(1), address(2)]);
        assert_eq!(top.list(at(75), 10)[0].seconds, 65);
        assert_eq!(listed(135), [address(2)]);
        assert!(listed(400).is_empty());
    }
}
