//! How soon one server answers, and whether that is late beside the others of its pool: what `slow`
//! of an origin judges by. No clock and no I/O; `fleet` reports and asks. Shared by all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Answers until a server's mean says something, and from one look at it to the next.
const ENOUGH: u32 = 20;
/// One answer moves the mean by this part of what it differs by: the last some 16 count.
const SMOOTH: u64 = 16;

/// The moving mean of the times from a request to the first byte of its answer.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Microseconds.
    mean: AtomicU64,
    answers: AtomicU32,
}

impl Pace {
    /// An answer took this long. True when it is time to look at the mean. Workers that report at
    /// once may lose an answer to each other, which the mean does not notice.
    pub(super) fn took(&self, time: Duration) -> bool {
        let took = micros(time);
        let answers = self.answers.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mean = self.mean.load(Ordering::Relaxed);
        let part = u64::from(answers).clamp(1, SMOOTH);
        let next = match took.checked_sub(mean) {
            Some(later) => mean.saturating_add(later / part),
            None => mean.saturating_sub(mean.saturating_sub(took) / part),
        };
        self.mean.store(next, Ordering::Relaxed);
        answers >= ENOUGH && answers.is_multiple_of(ENOUGH)
    }

    /// Microseconds; `None` as long as they say nothing.
    pub(super) fn mean(&self) -> Option<u64> {
        let enough = self.answers.load(Ordering::Relaxed) >= ENOUGH;
        enough.then(|| self.mean.load(Ordering::Relaxed))
    }

    /// What was known is of another time.
    pub(super) fn forget(&self) {
        self.answers.store(0, Ordering::Relaxed);
        self.mean.store(0, Ordering::Relaxed);
    }
}

/// Whether a server whose mean is `mean` is late beside `others`: at least `factor` times their
/// median, and `least`.
pub(super) fn is_slow(mean: u64, mut others: Vec<u64>, factor: u32, least: Duration) -> bool {
    others.sort_unstable();
    let median = others.get(others.len() / 2);
    median.is_some_and(|median| mean >= micros(least) && mean >= median.saturating_mul(u64::from(factor)))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has become slow would go on to get its share, or one that is as all others are
    /// would lose it.
    #[test]
    fn a_mean_beside_the_others() {
        let pace = Pace::default();
        for n in 1..=ENOUGH {
            assert_eq!(pace.mean(), None, "{n}");
            assert_eq!(pace.took(Duration::from_millis(10)), n == ENOUGH);
        }
        assert_eq!(pace.mean(), Some(10_000));
        // One outlier of an answer is none of a server.
        pace.took(Duration::from_millis(100));
        assert!(pace.mean().unwrap() < 20_000, "{pace:?}");
        for _ in 0..100 {
            pace.took(Duration::from_millis(50));
        }
        let mean = pace.mean().unwrap();
        assert!((48_000..=50_100).contains(&mean), "{mean}");
        let least = Duration::from_millis(20);
        for (others, factor, slow) in [
            (vec![10_000, 12_000, 9_000], 4, true),
            (vec![10_000, 12_000, 9_000], 6, false),
            (vec![40_000, 45_000], 3, false),
            // One other that is even slower does not excuse.
            (vec![10_000, 9_000, 900_000], 4, true),
            (vec![], 2, false),
        ] {
            assert_eq!(
                is_slow(mean, others.clone(), factor, least),
                slow,
                "{others:?} {factor}"
            );
        }
        assert!(!is_slow(900, vec![100], 4, least), "nobody notices a millisecond");
        pace.forget();
        assert_eq!(pace.mean(), None);
    }
}
