//! Who was told to wait and came all the same: attempts within the grace, strikes beyond it, and the penalties they bring.
//! The book is a table of fixed size. In a full set the record without a penalty goes first, then the penalty that ends
//! soonest; a record without a penalty never displaces one with. What operators add is kept apart and never displaced.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clock::nanos;
use super::feed::Feed;
use super::table::{Table, Worth};

/// SYNs per second that pass for a deferred address without neighbours, and more for each neighbour.
const SYN_BUDGET: u16 = 4;
const SYN_BUDGET_EACH: u16 = 4;
/// Who comes back on time must not find the kernel's clock a tick behind, and lose a second to its own repeat.
const PUNCTUAL: Duration = Duration::from_millis(100);
/// So many neighbours an address counts for in its trial.
const TRIAL: u32 = 16;
/// And so many newcomers per second it keeps then at least: about half of those whose SYN has passed.
const TRIAL_SHARE: u32 = 32;
/// Newcomers per second that a penalised address keeps, one more for each so many neighbours, and how many at once.
const SHARE: Duration = Duration::from_secs(1);
const SHARE_NEIGHBOURS: u32 = 2;
const SHARE_BURST: u64 = 5;
/// In place of a zone: what holds for the node, as the kernel has it. No zone's number but by a chance of 2^-64.
pub const NODE: u64 = 0;
/// Penalties that operators may add.
const OPERATORS: usize = 65_536;

/// Who is penalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// An address prefix, as `base::peer::client_prefix` makes it.
    Address(IpAddr),
    /// A proven client.
    Client(u64),
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// A budget passes, because others share the address.
    Deferred,
    /// Nothing passes.
    Blocked,
}

/// News for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltyChange {
    /// Who.
    pub key: Subject,
    /// How hard; `None`: lifted.
    pub level: Option<Level>,
    /// Until when, on the gate's steady clock.
    pub until: Duration,
    /// SYNs per second that pass at level [`Level::Deferred`].
    pub syn_budget: u16,
    /// How long behind its end the kernel still keeps to a larger budget. Nobody is told to wait then, nor listed.
    pub probation: Duration,
}

/// Who else is behind an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// Clients that proved themselves lately.
    pub proven: u32,
    /// Clients that wait as they were told, as far as is known.
    pub waiting: u32,
}

impl Company {
    /// As many as count. Those who wait may be one and the same, and few are heard while one takes all turns: so in a trial
    /// the address is taken for one of many from the start, however many wait, and for no more.
    fn counted(self) -> u32 {
        self.proven.saturating_add(self.trial(TRIAL))
    }

    /// This, in a trial.
    fn trial(self, some: u32) -> u32 {
        if self.waiting == 0 { 0 } else { some }
    }

    /// SYNs per second that pass for a deferred address.
    pub fn syn_budget(self) -> u16 {
        let counted = u16::try_from(self.counted()).unwrap_or(u16::MAX);
        SYN_BUDGET.saturating_add(SYN_BUDGET_EACH.saturating_mul(counted))
    }

    /// Nanoseconds between two newcomers.
    fn share(self) -> u64 {
        nanos(SHARE) / u64::from(1 + (self.proven / SHARE_NEIGHBOURS).max(self.trial(TRIAL_SHARE)))
    }
}

/// How a zone counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Early attempts without a strike.
    pub grace: u32,
    /// The first strike's penalty.
    pub base: Duration,
    /// The longest penalty.
    pub cap: Duration,
    /// One strike is forgiven for each such time without one.
    pub forgive: Duration,
}

/// What an attempt that should not have come leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Within the grace; so many by now.
    Grace(u32),
    /// Beyond it.
    Strike(Strike),
}

/// A strike, and what it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Strikes by now.
    pub strikes: u8,
    /// When the penalty ends.
    pub until: Duration,
    /// How long behind it the kernel keeps to a larger budget: until the strike is forgiven.
    pub probation: Duration,
}

/// Records of a node, per zone and subject.
#[derive(Debug)]
pub struct Book {
    records: Table<(u64, Subject), Record>,
    operators: Mutex<HashMap<Subject, PenaltyChange>>,
    /// Operators have added any: spares requests the lock.
    any_added: AtomicBool,
    feed: Feed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Told to wait until then.
    told: Duration,
    /// Early attempts since it last behaved.
    attempts: u32,
    strikes: u8,
    struck: Duration,
    level: Option<Level>,
    until: Duration,
    /// Nanoseconds; the share's theoretical arrival time.
    share: u64,
    syn_budget: u16,
    /// Seconds.
    probation: u16,
}

impl Worth for Record {
    const KEEPS: bool = true;

    fn worth(&self, now: Duration) -> u64 {
        nanos(self.until.saturating_sub(now))
    }
}

impl Book {
    /// Room for `entries` records; changes go to `feed`.
    pub fn new(entries: usize, feed: Feed) -> Self {
        Self {
            records: Table::new(entries),
            operators: Mutex::default(),
            any_added: AtomicBool::new(false),
            feed,
        }
    }

    /// The penalty in force against `subject` in `zone`, an operator's before the gate's own.
    pub fn penalty(&self, now: Duration, zone: u64, subject: Subject) -> Option<(Level, Duration)> {
        if let Some(added) = self.added(now, subject) {
            return Some(added);
        }
        let record = self.records.find((zone, subject)).filter(|r| r.until > now)?;
        Some((record.level?, record.until))
    }

    /// The penalty that an operator put on `subject`.
    pub fn added(&self, now: Duration, subject: Subject) -> Option<(Level, Duration)> {
        if !self.any_added.load(Ordering::Acquire) {
            return None;
        }
        let change = self.operators().get(&subject).copied().filter(|c| c.until > now)?;
        Some((change.level?, change.until))
    }

    /// Whether `subject` was told to wait and the wait is not over.
    pub fn is_told(&self, now: Duration, zone: u64, subject: Subject) -> bool {
        self.records.find((zone, subject)).is_some_and(|r| r.told > now)
    }

    /// `subject` is told to wait until `until`.
    pub fn tell(&self, now: Duration, zone: u64, subject: Subject, until: Duration) {
        self.records.update((zone, subject), now, Record::default, |record| {
            if record.told <= now && record.until <= now {
                record.attempts = 0;
            }
            record.told = record.told.max(until);
        });
    }

    /// `subject` waited as it was told: its attempts are forgotten, its strikes are not.
    pub fn behaved(&self, zone: u64, subject: Subject) {
        self.records.amend((zone, subject), |record| {
            record.attempts = 0;
            record.told = Duration::ZERO;
        });
    }

    /// Counts an attempt that should not have come. `carried` are the early attempts and strikes that its token carries
    /// from other nodes.
    pub fn offend(&self, now: Duration, zone: u64, subject: Subject, terms: Terms, carried: (u8, u8)) -> Offence {
        self.records.update((zone, subject), now, Record::default, |record| {
            record.attempts = record.attempts.max(carried.0.into()).saturating_add(1);
            if record.attempts <= terms.grace {
                return Offence::Grace(record.attempts);
            }
            record.attempts = 0;
            let idle = nanos(now.saturating_sub(record.struck)) / nanos(terms.forgive).max(1);
            let left = record.strikes.saturating_sub(u8::try_from(idle).unwrap_or(u8::MAX));
            record.strikes = left.max(carried.1).saturating_add(1);
            record.struck = now;
            let doubled = 1u32.checked_shl(u32::from(record.strikes) - 1).unwrap_or(u32::MAX);
            let until = now + terms.base.saturating_mul(doubled).min(terms.cap);
            record.told = record.told.max(until);
            Offence::Strike(Strike {
                strikes: record.strikes,
                until,
                probation: terms.forgive,
            })
        })
    }

    /// Puts the penalty of a strike in force. An address with `company`, or at its first strike, is deferred, not blocked:
    /// those told to wait beside the offender must be able to come back.
    pub fn penalise(&self, now: Duration, zone: u64, subject: Subject, strike: Strike, company: Company) {
        let Strike {
            strikes,
            until,
            probation,
        } = strike;
        let level = match subject {
            Subject::Address(_) if company != Company::default() || strikes < 2 => Level::Deferred,
            Subject::Address(_) | Subject::Client(_) => Level::Blocked,
        };
        let seconds = u16::try_from(probation.as_secs()).unwrap_or(u16::MAX);
        let change = PenaltyChange {
            key: subject,
            level: Some(level),
            until,
            syn_budget: company.syn_budget(),
            probation: Duration::from_secs(seconds.into()),
        };
        for zone in [zone, NODE] {
            self.records.update((zone, subject), now, Record::default, |record| {
                record.level = Some(level);
                record.until = record.until.max(until);
                record.syn_budget = change.syn_budget;
                record.probation = seconds;
            });
        }
        if !self.is_barred(now, subject) {
            self.feed.send(change);
        }
    }

    /// `client` is told to wait until `until`, and its QUIC tokens say who it is: until then the kernel drops what it begins. That
    /// is no penalty: nothing is held against it, nor listed.
    pub fn hold(&self, now: Duration, client: u64, until: Duration) {
        let key = Subject::Client(client);
        // A penalty is longer, and stays.
        if self.penalty(now, NODE, key).is_none() {
            self.feed.send(PenaltyChange {
                key,
                level: Some(Level::Deferred),
                until: until.saturating_sub(PUNCTUAL),
                syn_budget: 0,
                probation: Duration::ZERO,
            });
        }
    }

    /// There is more `company` behind `address` than when it was penalised: it is not blocked any more, and its budget grows.
    /// What an operator added stays.
    pub fn vouch(&self, now: Duration, zone: u64, address: IpAddr, company: Company) {
        let key = Subject::Address(address);
        let syn_budget = company.syn_budget();
        let grown = [zone, NODE].map(|zone| {
            let grow = |record: &mut Record| {
                let less = record.level == Some(Level::Blocked) || record.syn_budget < syn_budget;
                if record.level.is_none() || record.until <= now || !less {
                    return None;
                }
                record.level = Some(Level::Deferred);
                record.syn_budget = syn_budget;
                Some((record.until, record.probation))
            };
            self.records.amend((zone, key), grow).flatten()
        });
        let until = grown.into_iter().flatten().max();
        if let Some((until, probation)) = until.filter(|_| !self.is_barred(now, key)) {
            self.feed.send(PenaltyChange {
                key,
                level: Some(Level::Deferred),
                until,
                syn_budget,
                probation: Duration::from_secs(probation.into()),
            });
        }
    }

    /// Whether one newcomer more of a penalised address is within its small share, which grows with its `company`.
    pub fn share(&self, now: Duration, zone: u64, address: IpAddr, company: Company) -> bool {
        let at = nanos(now);
        let step = company.share();
        let within = self.records.amend((zone, Subject::Address(address)), |record| {
            let from = record.share.max(at);
            let within = from - at <= step * (SHARE_BURST - 1);
            if within {
                record.share = from + step;
            }
            within
        });
        within.unwrap_or(true)
    }

    /// All penalties in force, each subject once: the operators', and of the zones' the hardest and longest.
    pub fn list(&self, now: Duration) -> Vec<PenaltyChange> {
        let mut all: HashMap<Subject, PenaltyChange> = HashMap::new();
        let own = self.records.collect(|(_, key), record| {
            (record.level.is_some() && record.until > now).then_some(PenaltyChange {
                key: *key,
                level: record.level,
                until: record.until,
                syn_budget: record.syn_budget,
                probation: Duration::from_secs(record.probation.into()),
            })
        });
        let hardness = |c: &PenaltyChange| (c.level == Some(Level::Blocked), c.until);
        for change in own {
            let kept = all.entry(change.key).or_insert(change);
            if hardness(&change) > hardness(kept) {
                *kept = change;
            }
        }
        all.extend(
            self.operators()
                .iter()
                .filter(|(_, c)| c.until > now)
                .map(|(k, c)| (*k, *c)),
        );
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|change| change.key);
        all
    }

    /// Adds a penalty by an operator's word, in all zones; `false` if there are too many already.
    pub fn add(&self, now: Duration, key: Subject, level: Level, lasts: Duration) -> bool {
        let change = PenaltyChange {
            key,
            level: Some(level),
            until: now.saturating_add(lasts),
            syn_budget: SYN_BUDGET,
            probation: Duration::ZERO,
        };
        let mut operators = self.operators();
        operators.retain(|_, change| change.until > now);
        if operators.len() >= OPERATORS && !operators.contains_key(&key) {
            return false;
        }
        operators.insert(key, change);
        self.any_added.store(true, Ordering::Release);
        drop(operators);
        self.feed.send(change);
        true
    }

    /// Lifts whatever is in force against `key`, strikes included, in all zones; `false` if nothing was.
    pub fn lift(&self, now: Duration, key: Subject) -> bool {
        let mut found = self.operators().remove(&key).is_some_and(|c| c.until > now);
        let keys = self
            .records
            .collect(|of, record| (of.1 == key).then_some((*of, record.until > now)));
        for (of, in_force) in keys {
            found |= in_force;
            self.records.amend(of, |record| *record = Record::default());
        }
        self.feed.send(PenaltyChange {
            key,
            level: None,
            until: now,
            syn_budget: 0,
            probation: Duration::ZERO,
        });
        found
    }

    /// Places taken, places there are, bytes of all.
    pub fn fill(&self) -> (usize, usize, usize) {
        (self.records.filled(), self.records.capacity(), self.records.bytes())
    }

    /// An operator has blocked it: the kernel is not told anything softer.
    fn is_barred(&self, now: Duration, subject: Subject) -> bool {
        matches!(self.added(now, subject), Some((Level::Blocked, _)))
    }

    /// Where the changes go.
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    fn operators(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, PenaltyChange>> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
