//! When a node locks down: attempts that prove nothing are then answered with a Retry, in the
//! kernel where XDP runs, else by `front`, so that a flood from spoofed addresses costs a packet
//! each (RFC 9000 section 8.1.2). Pure; `node` hands in the count of such attempts several times a
//! second and carries out what comes of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::{LockdownMode, Quic};

/// Rates are over this time: a page's handful of connections is none.
const WINDOW: Duration = Duration::from_secs(1);
/// Counts kept; more than fit the window.
const COUNTS: usize = 16;

/// Whether the node is locked down, and why.
#[derive(Debug)]
pub struct Lockdown {
    settings: Quic,
    /// An operator's word, which wins over the settings until taken back or the end of the process.
    ordered: Option<LockdownMode>,
    on: bool,
    /// Since when the rate has been low.
    calm: Option<Duration>,
    counts: VecDeque<(Duration, u64)>,
    rate: u64,
}

impl Lockdown {
    /// By `settings`; `on`: as an earlier daemon left it, which ends as if it had begun now.
    pub fn new(settings: Quic, on: bool) -> Self {
        let mut this = Self {
            settings,
            ordered: None,
            on,
            calm: None,
            counts: VecDeque::with_capacity(COUNTS),
            rate: 0,
        };
        this.settle();
        this
    }

    /// Takes over other settings; an operator's order stays.
    pub fn reload(&mut self, settings: Quic) {
        self.settings = settings;
        self.settle();
    }

    /// Does what an operator says: on, off, or by the rate again.
    pub fn order(&mut self, mode: LockdownMode) {
        self.ordered = Some(mode);
        self.settle();
    }

    /// What is in force: the order, or the settings.
    pub fn mode(&self) -> LockdownMode {
        self.ordered.unwrap_or(self.settings.lockdown)
    }

    /// Whether the node is locked down.
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// Attempts a second that proved nothing, over the last second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// `total` attempts without proof have come by `now`, on any steady clock; a smaller total than
    /// before begins anew. To be called several times a second.
    pub fn count(&mut self, now: Duration, total: u64) {
        if self.counts.back().is_some_and(|(_, last)| *last > total) {
            self.counts.clear();
        }
        self.counts.push_back((now, total));
        // The oldest one that is kept is the last at least a window old.
        while self.counts.len() > COUNTS
            || self
                .counts
                .get(1)
                .is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
        {
            self.counts.pop_front();
        }
        let (since, before) = self.counts.front().copied().unwrap_or((now, total));
        let time = now.saturating_sub(since).max(WINDOW).as_millis();
        let rate = u128::from(total.saturating_sub(before)).saturating_mul(1_000) / time.max(1);
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if self.mode() != LockdownMode::Auto {
            return;
        }
        if self.rate > self.settings.lockdown_above.into() {
            self.on = true;
        }
        if self.rate >= self.settings.lockdown_below.into() {
            self.calm = None;
            return;
        }
        let calm = *self.calm.get_or_insert(now);
        if now.saturating_sub(calm) >= self.settings.lockdown_hold {
            self.on = false;
        }
    }

    fn settle(&mut self) {
        self.calm = None;
        match self.mode() {
            LockdownMode::Auto => {}
            LockdownMode::On => self.on = true,
            LockdownMode::Off => self.on = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lockdown() -> Lockdown {
        let settings = Quic {
            lockdown: LockdownMode::Auto,
            lockdown_above: 1_000,
            lockdown_below: 200,
            lockdown_hold: Duration::from_secs(10),
        };
        Lockdown::new(settings, false)
    }

    /// Runs for `seconds` at `rate` attempts a second, four counts a second; when it changed, in
    /// milliseconds from the start.
    fn run(lockdown: &mut Lockdown, clock: &mut (u64, u64), seconds: u64, rate: u64) -> Option<u64> {
        let was = lockdown.is_on();
        let mut changed = None;
        for step in 1..=seconds * 4 {
            clock.0 += 250;
            clock.1 += rate / 4;
            lockdown.count(Duration::from_millis(clock.0), clock.1);
            if changed.is_none() && lockdown.is_on() != was {
                changed = Some(step * 250);
            }
        }
        changed
    }

    /// Late, the flood takes the node down; too easily, every client pays a round trip; ended at
    /// the first lull, it flaps.
    #[test]
    fn a_flood_locks_down_at_once_and_calm_must_last() {
        let (mut lockdown, mut clock) = (lockdown(), (5_000, 77));
        assert_eq!(run(&mut lockdown, &mut clock, 20, 900), None);
        assert_eq!(run(&mut lockdown, &mut clock, 3, 100_000), Some(250));
        // Between the two thresholds it stays, however long.
        assert_eq!(run(&mut lockdown, &mut clock, 60, 400), None);
        // A lull shorter than the hold is none.
        assert_eq!(run(&mut lockdown, &mut clock, 8, 0), None);
        assert_eq!(run(&mut lockdown, &mut clock, 2, 400), None);
        let ended = run(&mut lockdown, &mut clock, 30, 100).unwrap();
        assert!((10_000..12_000).contains(&ended), "{ended}");
        assert_eq!(run(&mut lockdown, &mut clock, 30, 100), None);
    }

    /// An operator's word must hold against the rate, and be taken back.
    #[test]
    fn orders_win() {
        let (mut lockdown, mut clock) = (lockdown(), (0, 0));
        lockdown.order(LockdownMode::On);
        assert!(lockdown.is_on());
        assert_eq!(run(&mut lockdown, &mut clock, 60, 0), None);
        lockdown.order(LockdownMode::Off);
        assert!(!lockdown.is_on());
        assert_eq!(run(&mut lockdown, &mut clock, 5, 50_000), None);
        assert_eq!(lockdown.rate(), 50_000);
        lockdown.order(LockdownMode::Auto);
        assert_eq!(run(&mut lockdown, &mut clock, 1, 50_000), Some(250));
    }

    /// A daemon that starts within a flood must not open the door first; counters that begin anew
    /// are no flood.
    #[test]
    fn a_lockdown_outlives_the_daemon_and_counters_may_begin_anew() {
        let mut settings = lockdown().settings;
        let mut taken_over = Lockdown::new(settings.clone(), true);
        let mut clock = (0, u64::MAX / 2);
        assert_eq!(run(&mut taken_over, &mut clock, 9, 0), None);
        assert!(run(&mut taken_over, &mut clock, 9, 0).is_some());
        clock.1 = 0;
        assert_eq!(run(&mut taken_over, &mut clock, 2, 10), None);
        settings.lockdown = LockdownMode::Off;
        assert!(!Lockdown::new(settings, true).is_on());
    }
}
