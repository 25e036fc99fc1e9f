//! How many proven clients an address stood for lately: an address is not a client, and one with
//! neighbours behind it is never blocked whole. A `Crowd` counts the first four exactly and more
//! of them by linear counting, in two generations, in a table of fixed size.
//!
//! Clients that were told to wait and have not come back yet prove nothing: an abuser is told as
//! often as it asks. They count during a trial, of which `penalty` says what it is worth: the first
//! waits told behind an address. If one of them is kept, its client is proven and counts as such;
//! if none is, the address has had its trial, and gets another only much later. Trials cost
//! handshakes, so a node holds few at once, and only where somebody has been struck: a crowd of
//! addresses costs it no more than that.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::nanos;
use super::penalty::{Book, Company};
use super::prefixes;
use super::table::{Table, Worth};
use crate::base::penalty::Subject;

/// A generation; a client counts for one to two of them after it was last seen.
const GENERATION: Duration = Duration::from_secs(300);
/// How late a client may come that was told to wait, and the longest trial.
const LATE: Duration = Duration::from_secs(5);
const TRIAL: Duration = Duration::from_secs(60);
/// From one trial to the next.
const TRIALS: Duration = Duration::from_secs(900);

/// The addresses of a node.
#[derive(Debug)]
pub struct Neighbours {
    seen: Table<IpAddr, Seen>,
    trials: Box<[Room]>,
}

/// A place for a trial.
#[derive(Debug, Default)]
struct Room {
    /// When the trial ends at the latest: nanoseconds, 0 while there is none.
    until: AtomicU64,
    /// The site that it is held for.
    site: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    generation: u64,
    now: Crowd,
    before: Crowd,
    trial: Option<Trial>,
}

/// Different clients, in 16 bytes: the tags of the first four, so that one who is alone with an
/// offender is not taken for it, and all of them by linear counting (Whang et al. 1990).
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    bits: u64,
    /// 0: free.
    tags: [u16; 4],
}

impl Crowd {
    fn bit(client: u64) -> u64 {
        1 << (client % 64)
    }

    /// Of other bits than [`Crowd::bit`]'s; one in 65,535 is another client's.
    fn tag(client: u64) -> u16 {
        ((client >> 6) as u16).max(1)
    }

    fn add(&mut self, client: u64) {
        self.bits |= Self::bit(client);
        self.keep(Self::tag(client));
    }

    fn keep(&mut self, tag: u16) {
        if !self.tags.contains(&tag)
            && let Some(free) = self.tags.iter_mut().find(|tag| **tag == 0)
        {
            *free = tag;
        }
    }

    /// Whether `client` may have been added; of the first four that is certain.
    fn has(&self, client: u64) -> bool {
        self.tags.contains(&Self::tag(client)) || self.is_large() && self.bits & Self::bit(client) != 0
    }

    /// Whether it may have more clients than tags.
    fn is_large(&self) -> bool {
        self.tags.iter().all(|tag| *tag != 0)
    }

    fn with(mut self, other: Self) -> Self {
        self.bits |= other.bits;
        other
            .tags
            .iter()
            .filter(|tag| **tag != 0)
            .for_each(|tag| self.keep(*tag));
        self
    }

    /// How many there are `except` that one: exact up to four, then at most 64, and never too many.
    fn least(&self, except: Option<u64>) -> u32 {
        let tag = except.map_or(0, Self::tag);
        let kept = self.tags.iter().filter(|kept| **kept != 0 && **kept != tag).count() as u32;
        if !self.is_large() {
            return kept;
        }
        let bits = self.bits & !except.map_or(0, Self::bit);
        bits.count_ones().max(kept)
    }

    /// The same, but for many an estimate up to about 200.
    fn count(&self, except: Option<u64>) -> u32 {
        let least = self.least(except);
        if !self.is_large() {
            return least;
        }
        let zeros = 64_u32.saturating_sub(least).max(3);
        // -m ln(V), rounded.
        let estimate = (-64.0 * (f64::from(zeros) / 64.0).ln()).round();
        (estimate as u32).max(least)
    }
}

/// Waits told behind an address.
#[derive(Clone, Copy, Debug)]
struct Trial {
    opened: Duration,
    /// When the last of them should have come back.
    until: Duration,
    /// Those who wait.
    waiting: Crowd,
    /// Its place among the node's, once it was asked for.
    place: Option<usize>,
}

impl Seen {
    fn new(generation: u64) -> Self {
        Self {
            generation,
            now: Crowd::default(),
            before: Crowd::default(),
            trial: None,
        }
    }

    fn roll(&mut self, generation: u64) {
        match generation.saturating_sub(self.generation) {
            0 => {}
            1 => (self.before, self.now) = (self.now, Crowd::default()),
            _ => (self.before, self.now) = Default::default(),
        }
        self.generation = self.generation.max(generation);
    }
}

impl Worth for Seen {
    const KEEPS: bool = false;

    /// The longer ago and the fewer clients, the sooner it is forgotten: the address loses its good
    /// name, nothing more. An address that nobody has proven himself behind, however many were told
    /// to wait there, makes room for every other.
    fn worth(&self, now: Duration) -> u64 {
        match u64::from(self.now.with(self.before).least(None)) {
            0 => u64::from(self.trial.is_some_and(|trial| now < trial.opened + TRIALS)),
            proven => self.generation << 8 | proven,
        }
    }
}

impl Neighbours {
    /// Room for `entries` addresses, and `trials` at once.
    pub fn new(entries: usize, trials: usize) -> Self {
        Self {
            seen: Table::new(entries),
            trials: (0..trials).map(|_| Room::default()).collect(),
        }
    }

    /// `client` has proven itself behind `prefix`, and so in the networks around it.
    /// `true` if it did not count before: there is one more.
    pub fn seen(&self, now: Duration, prefix: IpAddr, client: u64) -> bool {
        let (new, first) = self.count_in(now, prefix, client);
        if first {
            for network in prefixes::around(prefix) {
                self.count_in(now, network.key, client);
            }
        }
        new
    }

    /// Whether `client` did not count under `key` before, and whether it has not been counted in
    /// this generation.
    fn count_in(&self, now: Duration, key: IpAddr, client: u64) -> (bool, bool) {
        let generation = now.as_secs() / GENERATION.as_secs();
        let fresh = || Seen::new(generation);
        self.seen.update(key, now, fresh, |seen| {
            seen.roll(generation);
            let first = !seen.now.has(client);
            let new = first && !seen.before.has(client);
            seen.now.add(client);
            (new, first)
        })
    }

    /// `client`, who has proven nothing yet, was told behind `prefix` to come back at `due`.
    pub fn told(&self, now: Duration, prefix: IpAddr, client: u64, due: Duration) {
        let fresh = || Seen::new(now.as_secs() / GENERATION.as_secs());
        self.seen.update(prefix, now, fresh, |seen| {
            let old = seen.trial.filter(|trial| now < trial.opened + TRIALS);
            let trial = seen.trial.insert(old.unwrap_or(Trial {
                opened: now,
                until: now,
                waiting: Crowd::default(),
                place: None,
            }));
            let last = trial.opened + TRIAL;
            if now < last {
                if now >= trial.until {
                    // Its place may be another's by now.
                    trial.place = None;
                }
                trial.waiting.add(client);
                trial.until = trial.until.max(due.saturating_add(LATE)).min(last);
                if let Some(room) = trial.place.and_then(|place| self.trials.get(place)) {
                    room.until.fetch_max(nanos(trial.until), Ordering::Relaxed);
                }
            }
        });
    }

    /// Who is behind `prefix`, `except` that client.
    pub fn company(&self, now: Duration, prefix: IpAddr, except: Option<u64>) -> Company {
        Company {
            proven: self.count(now, prefix, except),
            waiting: self.waiting(now, prefix, except),
        }
    }

    /// Who has proven himself in a network.
    pub(super) fn company_in(&self, now: Duration, network: prefixes::Network) -> Company {
        Company {
            proven: self.count(now, network.key, None),
            waiting: 0,
        }
    }

    /// Whether one newcomer more of `prefix` is within the shares that `zone` leaves the penalised
    /// networks around it.
    pub(super) fn within(&self, now: Duration, zone: u64, prefix: IpAddr, book: &Book) -> bool {
        let within = |network: prefixes::Network| {
            let subject = Subject::Network(network.net);
            book.share(now, zone, subject, self.company_in(now, network))
        };
        !book.any_network() || prefixes::around(prefix).all(within)
    }

    /// How many wait behind `prefix` in a trial, `except` that one; at most 64. Asking begins the
    /// trial, if the node has room for one more: ask of a penalised address only.
    pub fn waiting(&self, now: Duration, prefix: IpAddr, except: Option<u64>) -> u32 {
        let waiting = self.seen.amend(prefix, |seen| {
            let trial = seen.trial.as_mut().filter(|trial| now < trial.until)?;
            let waiting = trial.waiting.least(except);
            if waiting > 0 && trial.place.is_none() {
                trial.place = self.place(now, prefixes::site(prefix), trial.until);
            }
            trial.place.map(|_| waiting)
        });
        waiting.flatten().unwrap_or(0)
    }

    /// A place for a trial that lasts `until` then, where there is one. One site has at most a
    /// quarter of the node's, and one at least, so that its addresses do not keep those of others
    /// from theirs.
    fn place(&self, now: Duration, site: u32, until: Duration) -> Option<usize> {
        let now = nanos(now);
        let held = |room: &&Room| room.until.load(Ordering::Relaxed) > now && room.site.load(Ordering::Relaxed) == site;
        if self.trials.iter().filter(held).count() >= (self.trials.len() / 4).max(1) {
            return None;
        }
        let place = self.trials.iter().position(|room| {
            let ends = room.until.load(Ordering::Relaxed);
            let until = nanos(until);
            ends <= now
                && room
                    .until
                    .compare_exchange(ends, until, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        })?;
        self.trials.get(place)?.site.store(site, Ordering::Relaxed);
        Some(place)
    }

    /// How many clients proved themselves lately behind `prefix`, `except` that one: exact for few,
    /// an estimate up to about 200.
    pub fn count(&self, now: Duration, prefix: IpAddr, except: Option<u64>) -> u32 {
        let Some(mut seen) = self.seen.find(prefix) else {
            return 0;
        };
        seen.roll(now.as_secs() / GENERATION.as_secs());
        seen.now.with(seen.before).count(except)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::pass::mix;

    /// A shared address would be blocked whole, or an abuser would vouch for itself.
    #[test]
    fn counts_and_forgets() {
        let neighbours = Neighbours::new(64, 2);
        let address = IpAddr::from([192, 0, 2, 1]);
        for n in 0..50u64 {
            neighbours.seen(Duration::ZERO, address, mix(n));
        }
        let count = |s, except| neighbours.count(Duration::from_secs(s), address, except);
        assert!((35..=70).contains(&count(10, None)), "{}", count(10, None));
        assert_eq!(count(700, None), 0);
        neighbours.seen(Duration::from_secs(700), address, 9);
        assert_eq!(
            (count(1_100, None), count(1_100, Some(9)), count(1_600, None)),
            (1, 0, 0)
        );
    }

    /// Who is alone with an offender would be taken for it, and locked out with it: one in 64
    /// would.
    #[test]
    fn few_are_told_apart_and_many_are_counted() {
        let alike = |n: u64| n << 6;
        let mut crowd = Crowd::default();
        for n in 1..=4 {
            crowd.add(alike(n));
            crowd.add(alike(n));
            assert_eq!(
                (crowd.least(None), crowd.least(Some(alike(1)))),
                (n as u32, n as u32 - 1)
            );
            assert_eq!(crowd.count(Some(alike(99))), if n < 4 { n as u32 } else { 4 });
        }
        assert!(crowd.has(alike(2)) && !crowd.has(mix(5) | 1));
        for n in 0..50 {
            crowd.add(mix(n));
        }
        let count = crowd.count(None);
        assert!((38..=75).contains(&count), "{count}");

        // Two generations of few are not many.
        let (mut now, mut before) = (Crowd::default(), Crowd::default());
        for n in [1, 2] {
            now.add(alike(n));
            before.add(alike(n + 1));
        }
        let both = now.with(before);
        assert_eq!((both.count(None), both.count(Some(alike(2)))), (3, 2));
    }

    /// Those who were told to wait would be locked out with the one who does not; or who never
    /// waits would be spared for ever, by the waits that it is told.
    #[test]
    fn one_trial_for_those_who_wait() {
        let neighbours = Neighbours::new(64, 2);
        let address = IpAddr::from([192, 0, 2, 1]);
        let seconds = Duration::from_secs;
        let told = |s, client: u64, due| neighbours.told(seconds(s), address, mix(client), seconds(due));
        let waiting = |s| neighbours.waiting(seconds(s), address, Some(mix(1)));
        told(10, 1, 20);
        assert_eq!(waiting(11), 0, "the one that asks");
        told(11, 2, 30);
        told(12, 3, 5_000);
        assert_eq!((waiting(12), waiting(69), waiting(70)), (2, 2, 0));
        told(80, 4, 90);
        assert_eq!(waiting(81), 0, "nobody came back");
        told(910, 5, 920);
        assert_eq!((waiting(924), waiting(925)), (1, 0), "another trial");
    }

    /// The addresses of one site would hold all trials of the node, and shared addresses elsewhere
    /// would be blocked whole.
    #[test]
    fn a_site_holds_a_quarter_of_the_trials() {
        let neighbours = Neighbours::new(1_024, 8);
        let at = Duration::from_secs(10);
        let trial = |address: IpAddr| {
            neighbours.told(at, address, 1, at + Duration::from_secs(10));
            neighbours.waiting(at, address, None)
        };
        let of_site: u32 = (0..20)
            .map(|n| trial(format!("2001:db8:1:{n:x}::").parse().unwrap()))
            .sum();
        let others: u32 = (0..20).map(|n| trial(IpAddr::from([192, 0, n, 1]))).sum();
        assert_eq!((of_site, others), (2, 6));
    }

    /// Newcomers who prove nothing, however many, would wash out who has.
    #[test]
    fn a_flood_of_newcomers_keeps_the_proven() {
        let neighbours = Neighbours::new(1_024, 2);
        let at = Duration::from_secs;
        let home = IpAddr::from([192, 0, 2, 1]);
        neighbours.seen(at(290), home, 9);
        for n in 0..100_000u32 {
            neighbours.told(at(310), IpAddr::from(n.to_be_bytes()), 1, at(320));
        }
        assert_eq!(neighbours.count(at(320), home, None), 1);
    }

    /// A botnet would be due as many handshakes as it has addresses.
    #[test]
    fn few_trials_at_once() {
        let neighbours = Neighbours::new(64, 2);
        let address = |n| IpAddr::from([192, 0, n, 1]);
        let seconds = Duration::from_secs;
        let told = |s, n, due| neighbours.told(seconds(s), address(n), 1, seconds(due));
        let waiting = |s, n| neighbours.waiting(seconds(s), address(n), None);
        for n in 1..=4 {
            told(10, n, 20);
        }
        assert_eq!((waiting(10, 4), waiting(10, 3)), (1, 1), "who is asked of first");
        assert_eq!((waiting(11, 2), waiting(11, 1)), (0, 0), "no room");
        told(12, 4, 40);
        told(24, 2, 60);
        assert_eq!((waiting(24, 2), waiting(25, 2)), (0, 1), "the third is over");
        told(44, 1, 60);
        assert_eq!((waiting(44, 4), waiting(44, 1), waiting(45, 1)), (1, 0, 1));
        told(46, 4, 60);
        assert_eq!(waiting(46, 4), 0, "its place is another's");
    }
}
