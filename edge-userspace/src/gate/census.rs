//! How many wait, and since when, without a record of any one of them: counts by place, entered
//! when a waiter is told to come back and taken out when it does. Who does not come back falls out
//! with the generation it was expected in. 20 KiB.

const BINS: usize = 1_024;
const GENERATIONS: u64 = 4;
/// A bin is 2^7 = 128 ms wide at first, and doubles whenever the places outgrow the bins.
const NARROWEST: u32 = 7;

/// The waiting of one queue. Places and times are milliseconds, by whatever clock the queue reckons
/// them.
#[derive(Debug)]
pub(super) struct Census {
    /// Place at which the first bin begins.
    base: u64,
    /// Binary logarithm of a bin's width.
    width: u32,
    /// By the time the waiter is expected at, in periods.
    generations: Vec<Generation>,
    sums: Box<[u32]>,
    total: u64,
    /// The longest wait between two visits; a waiter may be late by as much.
    period: u64,
}

#[derive(Debug)]
struct Generation {
    epoch: u64,
    bins: Box<[u32]>,
}

impl Census {
    pub(super) fn new(period_ms: u64) -> Self {
        let bins = || vec![0; BINS].into_boxed_slice();
        let generation = |epoch| Generation { epoch, bins: bins() };
        Self {
            base: 0,
            width: NARROWEST,
            generations: (0..GENERATIONS).map(generation).collect(),
            sums: bins(),
            total: 0,
            period: period_ms.max(1_000),
        }
    }

    /// All who wait.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Forgets those who are late by more than a period.
    pub(super) fn sweep(&mut self, now: u64) {
        let current = now / self.period;
        for generation in &mut self.generations {
            if generation.epoch + 2 <= current {
                for (sum, bin) in self.sums.iter_mut().zip(&mut generation.bins) {
                    *sum -= *bin;
                    self.total -= u64::from(*bin);
                    *bin = 0;
                }
            }
        }
    }

    /// Someone with `place` was told to come back at `due`.
    pub(super) fn add(&mut self, place: u64, due: u64) {
        let bin = self.fit(place);
        let epoch = due / self.period;
        let Some(generation) = self.generations.get_mut((epoch % GENERATIONS) as usize) else {
            return;
        };
        if generation.epoch != epoch {
            // At most one period ahead is ever added, so what this held has been swept.
            generation.epoch = epoch;
        }
        if let (Some(count), Some(sum)) = (generation.bins.get_mut(bin), self.sums.get_mut(bin)) {
            *count += 1;
            *sum += 1;
            self.total += 1;
        }
    }

    /// Someone with `place` came, who was told to come at `due`; no effect if this census never
    /// knew it.
    pub(super) fn remove(&mut self, place: u64, due: u64) {
        if place < self.base {
            return;
        }
        let bin = self.bin(place);
        let epoch = due / self.period;
        let Some(generation) = self.generations.get_mut((epoch % GENERATIONS) as usize) else {
            return;
        };
        if generation.epoch == epoch
            && let (Some(count), Some(sum)) = (generation.bins.get_mut(bin), self.sums.get_mut(bin))
            && *count > 0
        {
            *count -= 1;
            *sum -= 1;
            self.total -= 1;
        }
    }

    /// How many wait with an earlier place; within the place's own bin by proportion.
    pub(super) fn ahead(&self, place: u64) -> u64 {
        let offset = place.saturating_sub(self.base);
        let bin = self.bin(place);
        let before: u64 = self.sums.iter().take(bin).map(|n| u64::from(*n)).sum();
        let within = if offset >> self.width >= BINS as u64 {
            1 << self.width
        } else {
            offset & ((1 << self.width) - 1)
        };
        let here = u64::from(self.sums.get(bin).copied().unwrap_or(0));
        before + ((here * within) >> self.width)
    }

    /// The place up to which `free` of those who wait would be let in.
    pub(super) fn horizon(&self, free: u64, now: u64) -> u64 {
        let mut left = free;
        for (i, count) in self.sums.iter().enumerate() {
            let count = u64::from(*count);
            let start = self.base + ((i as u64) << self.width);
            if count > left {
                return start + (left << self.width) / count;
            }
            left -= count;
        }
        now
    }

    fn bin(&self, place: u64) -> usize {
        usize::try_from(place.saturating_sub(self.base) >> self.width).map_or(BINS - 1, |bin| bin.min(BINS - 1))
    }

    /// The bin of `place`, after making the bins reach it: empty ones at the other end are given
    /// up, then widths doubled. A place may come before all that are known: of somebody who waited
    /// at another node, or before a restart.
    fn fit(&mut self, place: u64) -> usize {
        if self.total == 0 {
            self.base = place;
            self.width = NARROWEST;
        }
        let reaches = |this: &Self| place.saturating_sub(this.base) >> this.width < BINS as u64;
        if !reaches(self) {
            let empty = self.sums.iter().take_while(|n| **n == 0).count();
            self.base += (empty as u64) << self.width;
            self.each(|bins| bins.rotate_left(empty));
        }
        while !reaches(self) {
            self.widen();
        }
        while place < self.base {
            let short = (self.base - place).div_ceil(1 << self.width);
            let empty = self.sums.iter().rev().take_while(|n| **n == 0).count();
            match usize::try_from(short) {
                Ok(short) if short <= empty => {
                    self.base = self.base.saturating_sub((short as u64) << self.width);
                    self.each(|bins| bins.rotate_right(short));
                }
                _ => self.widen(),
            }
        }
        self.bin(place)
    }

    fn widen(&mut self) {
        self.width += 1;
        self.each(|bins| {
            for i in 0..BINS {
                let pair = |n: usize| bins.get(n).copied().unwrap_or(0);
                let merged = pair(2 * i) + pair(2 * i + 1);
                if let Some(bin) = bins.get_mut(i) {
                    *bin = merged;
                }
            }
        });
    }

    fn each(&mut self, change: impl Fn(&mut [u32])) {
        change(&mut self.sums);
        for generation in &mut self.generations {
            change(&mut generation.bins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places would be lost or counted twice when the queue grows long, and nobody's turn would be
    /// right.
    #[test]
    fn counts_survive_growth_and_absence() {
        let mut census = Census::new(10_000);
        let start = 1_700_000_000_000;
        for n in 0..10_000u64 {
            census.add(start + n * 400, start + 5_000);
        }
        assert_eq!(census.total(), 10_000);
        for n in [0u64, 10, 5_000, 9_999] {
            let ahead = census.ahead(start + n * 400);
            assert!(ahead.abs_diff(n) <= 11, "{ahead} ahead of {n}");
        }
        let horizon = census.horizon(100, u64::MAX);
        assert!(horizon.abs_diff(start + 100 * 400) <= 4_096, "{}", horizon - start);
        census.remove(start, start + 5_000);
        census.remove(start, start + 90_000);
        assert_eq!(census.total(), 9_999, "only who was expected is taken out");
        census.sweep(start + 14_000);
        assert_eq!(census.total(), 9_999);
        census.sweep(start + 30_000);
        assert_eq!((census.total(), census.ahead(u64::MAX)), (0, 0));
    }

    /// Of those who waited elsewhere, or before a restart, each would be taken for the first.
    #[test]
    fn earlier_places_keep_their_order() {
        for (apart, shift) in [(1_000, 3_600_000), (40, 100), (90_000, 1), (10, 86_400_000)] {
            let mut census = Census::new(10_000);
            let start = 1_700_000_000_000u64;
            for n in 0..100 {
                census.add(start + n * apart, start + 5_000);
            }
            for n in 0..100 {
                census.add(start - shift - n * apart, start + 5_000);
            }
            assert_eq!(census.total(), 200);
            for n in [0u64, 50, 99] {
                let ahead = census.ahead(start - shift - n * apart);
                assert!(
                    ahead.abs_diff(99 - n) <= 100_u64.max(shift / 100_000) / 5,
                    "{apart} {shift}: {ahead} of {n}"
                );
                assert!(
                    census.ahead(start + n * apart).abs_diff(100 + n) <= 100,
                    "{apart} {shift} {n}"
                );
            }
            census.remove(1, start + 5_000);
            assert_eq!(census.total(), 200);
        }
    }
}
