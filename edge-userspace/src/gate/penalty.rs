//! Who was told to wait and came all the same: attempts within the grace (`attempts`), strikes
//! beyond it, and the penalties they bring. The book is a table of fixed size. In a full set a
//! record without a penalty goes first, then one of whoever has most there, and of those the
//! penalty that ends soonest. What operators add is kept apart and never displaced.
//!
//! Several penalties against one subject (of zones, of operators) are one step function: the
//! hardest of all at each moment. Two ends say it, of blocking and of deferring. A strike only ever
//! moves an end further away, and what the kernel is told is always the whole function as it
//! stands, never the last strike alone. Only `vouch` and an operator's lift ease it.
//!
//! A network of which many addresses are struck is a subject of its own, beside them: what is in
//! force against it holds for all of them, and is one record here and in the kernel.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use super::attempts::Attempts;
use super::clock::nanos;
use super::feed::Feed;
use super::prefixes;
use super::table::{Table, Worth};
use crate::base::penalty::{Level, Origin, Subject};

/// SYNs per second that pass for a deferred address without neighbours, and more for each
/// neighbour.
const SYN_BUDGET: u16 = 4;
const SYN_BUDGET_EACH: u16 = 4;
/// And for an IPv4 /24, in which many may live that have nothing to do with each other: as for an
/// address in its trial.
const SYN_BUDGET_SHARED: u16 = 64;
/// Who comes back on time must not find the kernel's clock a tick behind, and lose a second to its
/// own repeat.
const PUNCTUAL: Duration = Duration::from_millis(100);
/// So many neighbours an address counts for in its trial.
const TRIAL: u32 = 16;
/// And so many newcomers per second it keeps then at least: about half of those whose SYN has
/// passed.
const TRIAL_SHARE: u32 = 32;
/// Newcomers per second that a penalised address keeps, one more for each so many neighbours, and
/// how many at once.
const SHARE: Duration = Duration::from_secs(1);
const SHARE_NEIGHBOURS: u32 = 2;
const SHARE_BURST: u64 = 5;
/// An IPv4 /24 has as many times the share.
const SHARED: u64 = 16;
/// In place of a zone: what holds for the node, as the kernel has it. No zone's number but by a
/// chance of 2^-64.
pub const NODE: u64 = 0;
/// Penalties that operators may add.
const OPERATORS: usize = 65_536;

impl Subject {
    /// An address of it, by which owners of records are told apart.
    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(prefix) => Some(prefix),
            Self::Network(net) => Some(net.network()),
            Self::Client(_) => None,
        }
    }

    /// Nothing tells the clients of an IPv4 network from each other: it is never blocked whole.
    fn is_shared(self) -> bool {
        matches!(self, Self::Network(IpNet::V4(_)))
    }

    /// SYNs per second that pass if it is deferred, with that company.
    fn syn_budget(self, company: Company) -> u16 {
        match self.is_shared() {
            true => company.syn_budget().saturating_add(SYN_BUDGET_SHARED - SYN_BUDGET),
            false => company.syn_budget(),
        }
    }
}

/// News for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltyChange {
    /// Who.
    pub key: Subject,
    /// Whose word it is.
    pub origin: Origin,
    /// How hard; `None`: lifted.
    pub level: Option<Level>,
    /// Until when, on the gate's steady clock.
    pub until: Duration,
    /// SYNs per second that pass at level [`Level::Deferred`].
    pub syn_budget: u16,
    /// How long behind its end the kernel still keeps to a larger budget. Nobody is told to wait
    /// then, nor listed.
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
    /// As many as count. Those who wait may be one and the same, and few are heard while one takes
    /// all turns: so in a trial the address is taken for one of many from the start, however many
    /// wait, and for no more.
    fn counted(self) -> u32 {
        self.proven.saturating_add(self.trial(TRIAL))
    }

    /// This, in a trial.
    fn trial(self, some: u32) -> u32 {
        if self.waiting == 0 { 0 } else { some }
    }

    /// This, or one client.
    fn or_one(self) -> Self {
        let proven = if self.counted() == 0 { 1 } else { self.proven };
        Self { proven, ..self }
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
    /// Early attempts without a strike; 0: the next one is a strike.
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

/// Whose attempt is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Who.
    pub subject: Subject,
    /// The prefix of the address that it comes from.
    pub from: IpAddr,
    /// The early attempts and the strikes that its token carries from other nodes.
    pub carried: (u8, u8),
}

/// Records of a node, per zone and subject.
#[derive(Debug)]
pub struct Book {
    records: Table<(u64, Subject), Record>,
    attempts: Attempts,
    operators: Mutex<HashMap<Subject, PenaltyChange>>,
    /// Operators have added any: spares requests the lock.
    any_added: AtomicBool,
    /// A network has been penalised: spares requests the looks.
    any_network: AtomicBool,
    feed: Feed,
}

/// Strikes and penalties of one subject, in one zone or, under [`NODE`], the hardest of all zones.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    strikes: u8,
    struck: Duration,
    /// Seconds until a strike is forgiven.
    forgive: u16,
    /// Blocked until then.
    blocked: Duration,
    /// Deferred until then, from the end of the blocking on; never before `blocked`.
    until: Duration,
    /// Nanoseconds; the share's theoretical arrival time.
    share: u64,
    syn_budget: u16,
    /// Seconds.
    probation: u16,
    owners: [u32; 2],
}

impl Worth for Record {
    const KEEPS: bool = false;

    /// After the penalty, strikes that are not forgiven yet are worth more than nothing, and less
    /// than any penalty.
    fn worth(&self, now: Duration) -> u64 {
        let forgiven = self.struck + Duration::from_secs(self.forgive.into());
        let remembered = u64::from(self.strikes > 0 && forgiven > now);
        nanos(self.until.saturating_sub(now)).max(remembered)
    }

    fn owners(&self) -> [u32; 2] {
        self.owners
    }
}

impl Record {
    fn of(from: IpAddr) -> Self {
        Self {
            owners: prefixes::owners(from),
            ..Self::default()
        }
    }

    /// What is in force at `now`, and until when.
    fn in_force(&self, now: Duration) -> Option<(Level, Duration)> {
        if self.blocked > now {
            Some((Level::Blocked, self.blocked))
        } else {
            (self.until > now).then_some((Level::Deferred, self.until))
        }
    }

    /// One penalty more: at no moment from `now` on less is in force than without it.
    fn strengthen(&mut self, now: Duration, level: Level, until: Duration, syn_budget: u16, probation: u16) {
        self.probation = if self.until > now {
            self.probation.max(probation)
        } else {
            probation
        };
        if level == Level::Blocked {
            self.blocked = self.blocked.max(until);
        }
        self.until = self.until.max(until);
        self.syn_budget = syn_budget;
    }

    /// The same as the kernel takes it: one level until one end. If deferring follows blocking,
    /// [`Book::turn`] tells the kernel when that time comes; until then the probation covers it.
    fn change(&self, now: Duration, key: Subject) -> Option<PenaltyChange> {
        let (level, until) = self.in_force(now)?;
        Some(PenaltyChange {
            key,
            origin: Origin::Gate,
            level: Some(level),
            until,
            syn_budget: self.syn_budget,
            probation: self.until.saturating_sub(until) + Duration::from_secs(self.probation.into()),
        })
    }
}

/// The harder of two, and of two alike the longer.
fn harder(a: Option<(Level, Duration)>, b: Option<(Level, Duration)>) -> Option<(Level, Duration)> {
    let hardness = |p: &Option<(Level, Duration)>| p.map(|(level, until)| (level == Level::Blocked, until));
    if hardness(&b) > hardness(&a) { b } else { a }
}

impl Book {
    /// Room for `entries` records, and as many counts of attempts; changes go to `feed`.
    pub fn new(entries: usize, feed: Feed) -> Self {
        Self {
            records: Table::new(entries),
            attempts: Attempts::new(entries),
            operators: Mutex::default(),
            any_added: AtomicBool::new(false),
            any_network: AtomicBool::new(false),
            feed,
        }
    }

    /// The penalty in force against `subject` in `zone`: the harder one of an operator's and the
    /// gate's own.
    pub fn penalty(&self, now: Duration, zone: u64, subject: Subject) -> Option<(Level, Duration)> {
        let own = self.records.find((zone, subject));
        harder(self.added(now, subject), own.and_then(|record| record.in_force(now)))
    }

    /// The hardest penalty in force in `zone` against the networks around a client's prefix.
    pub fn around(&self, now: Duration, zone: u64, prefix: IpAddr) -> Option<(Level, Duration)> {
        if !self.any_network() {
            return None;
        }
        let of = |network: prefixes::Network| self.penalty(now, zone, Subject::Network(network.net));
        prefixes::around(prefix).map(of).fold(None, harder)
    }

    /// Whether any network has been penalised since the start.
    pub fn any_network(&self) -> bool {
        self.any_network.load(Ordering::Acquire)
    }

    /// From now on networks are looked up, if `subject` is one.
    fn announce(&self, subject: Subject) {
        if matches!(subject, Subject::Network(_)) {
            self.any_network.store(true, Ordering::Release);
        }
    }

    /// The penalty that an operator put on `subject`.
    pub fn added(&self, now: Duration, subject: Subject) -> Option<(Level, Duration)> {
        if !self.any_added() {
            return None;
        }
        let change = self.operators().get(&subject).copied().filter(|c| c.until > now)?;
        Some((change.level?, change.until))
    }

    /// Whether operators have penalised anybody since the start.
    pub fn any_added(&self) -> bool {
        self.any_added.load(Ordering::Acquire)
    }

    /// Until when `subject` was told to wait, if that is to come.
    pub fn told(&self, now: Duration, zone: u64, subject: Subject) -> Option<Duration> {
        self.attempts.told(now, zone, subject)
    }

    /// Whether `subject` was told to wait, has not come since, and may come now.
    pub fn waited(&self, now: Duration, zone: u64, subject: Subject) -> bool {
        self.attempts.waited(now, zone, subject)
    }

    /// `subject`, at an address of prefix `from`, is told to wait until `until`.
    pub fn tell(&self, now: Duration, zone: u64, subject: Subject, from: IpAddr, until: Duration) {
        let penalised = self.penalty(now, zone, subject).is_some();
        self.attempts.tell(now, zone, subject, from, until, penalised);
    }

    /// `subject` waited as it was told: its attempts are forgotten, its strikes are not.
    pub fn behaved(&self, zone: u64, subject: Subject) {
        self.attempts.behaved(zone, subject);
    }

    /// Counts an attempt that should not have come.
    pub fn offend(&self, now: Duration, zone: u64, offender: Offender, terms: Terms) -> Offence {
        let Offender { subject, from, carried } = offender;
        let early = self.attempts.early(now, zone, subject, from, carried.0);
        if early <= terms.grace {
            return Offence::Grace(early);
        }
        Offence::Strike(self.strike(now, zone, (subject, from), carried.1, terms))
    }

    /// One strike more, beyond those that a token `carried` from other nodes.
    pub fn strike(
        &self,
        now: Duration,
        zone: u64,
        (subject, from): (Subject, IpAddr),
        carried: u8,
        terms: Terms,
    ) -> Strike {
        let strike = self.records.update(
            (zone, subject),
            now,
            || Record::of(from),
            |record| {
                let idle = nanos(now.saturating_sub(record.struck)) / nanos(terms.forgive).max(1);
                let left = record.strikes.saturating_sub(u8::try_from(idle).unwrap_or(u8::MAX));
                record.strikes = left.max(carried).saturating_add(1);
                record.struck = now;
                record.forgive = u16::try_from(terms.forgive.as_secs()).unwrap_or(u16::MAX);
                let doubled = 1u32.checked_shl(u32::from(record.strikes) - 1).unwrap_or(u32::MAX);
                Strike {
                    strikes: record.strikes,
                    until: now + terms.base.saturating_mul(doubled).min(terms.cap),
                    probation: terms.forgive,
                }
            },
        );
        self.attempts.struck(zone, subject, strike.until);
        strike
    }

    /// Puts the penalty of a strike in force, beside what is in force already, and gives what is in
    /// force in `zone` then. An address with `company`, or at its first strike, is deferred, not
    /// blocked: those told to wait beside the offender must be able to come back. Without `feeds`
    /// it is in force in `zone` alone: the kernel is told nothing, since it does not see whom a
    /// trusted proxy speaks for.
    pub fn penalise(
        &self,
        now: Duration,
        zone: u64,
        (subject, from): (Subject, IpAddr),
        (strike, company): (Strike, Company),
        feeds: bool,
    ) -> (Level, Duration) {
        let Strike {
            strikes,
            until,
            probation,
        } = strike;
        let level = match subject {
            Subject::Client(_) => Level::Blocked,
            _ if subject.is_shared() || company != Company::default() || strikes < 2 => Level::Deferred,
            Subject::Address(_) | Subject::Network(_) => Level::Blocked,
        };
        self.announce(subject);
        let probation = u16::try_from(probation.as_secs()).unwrap_or(u16::MAX);
        // Who else is there could not show it yet, beside one that takes all it can of the budget.
        let budget = subject.syn_budget(if strikes < 2 { company.or_one() } else { company });
        let before = self.whole(now, subject);
        let strengthen = |zone| {
            self.records.update(
                (zone, subject),
                now,
                || Record::of(from),
                |record| {
                    record.strengthen(now, level, until, budget, probation);
                    record.in_force(now)
                },
            )
        };
        let own = strengthen(zone);
        if feeds {
            strengthen(NODE);
            self.feed_changed(now, subject, before);
        }
        self.attempts.struck(zone, subject, until);
        harder(self.added(now, subject), own).unwrap_or((level, until))
    }

    /// Tells the kernel all that is in force against `subject`, if that is not what it was
    /// `before`.
    fn feed_changed(&self, now: Duration, subject: Subject, before: Option<PenaltyChange>) {
        let whole = self.whole(now, subject);
        if let Some(change) = whole.filter(|_| whole != before) {
            self.feed.send(change);
        }
    }

    /// Tells the kernel all that is in force against `subject`.
    fn feed_whole(&self, now: Duration, subject: Subject) {
        if let Some(change) = self.whole(now, subject) {
            self.feed.send(change);
        }
    }

    /// All that is in force against `subject` on the node, as the kernel takes it.
    fn whole(&self, now: Duration, subject: Subject) -> Option<PenaltyChange> {
        let record = self.records.find((NODE, subject));
        self.joined(now, subject, record)
    }

    /// `record`, and what operators have added.
    fn joined(&self, now: Duration, subject: Subject, record: Option<Record>) -> Option<PenaltyChange> {
        let added = self.added(now, subject);
        let Some((level, until)) = added else {
            return record.and_then(|record| record.change(now, subject));
        };
        let own = record.filter(|record| record.until > now);
        let mut whole = own.unwrap_or(Record {
            syn_budget: SYN_BUDGET,
            ..Record::default()
        });
        let budget = whole.syn_budget.min(SYN_BUDGET);
        whole.strengthen(now, level, until, budget, 0);
        let change = whole.change(now, subject)?;
        if level == Level::Deferred {
            return Some(change);
        }
        // While an operator blocks, that is all there is to say; what goes on behind it is said
        // when it ends (`turn`).
        Some(PenaltyChange {
            origin: Origin::Operator,
            until,
            probation: change.probation + change.until.saturating_sub(until),
            ..change
        })
    }

    /// Tells the kernel of whom deferring has followed blocking; once a second or so.
    pub fn turn(&self, now: Duration, since: Duration) {
        let turned = self.records.collect(|(zone, key), record| {
            let over = record.blocked > since && record.blocked <= now && record.until > now;
            (*zone == NODE && over).then_some(*key)
        });
        let ended: Vec<Subject> = match self.any_added() {
            true => {
                let operators = self.operators();
                let over = |change: &PenaltyChange| change.until > since && change.until <= now;
                operators
                    .iter()
                    .filter(|(_, change)| over(change))
                    .map(|(key, _)| *key)
                    .collect()
            }
            false => Vec::new(),
        };
        for key in turned.into_iter().chain(ended) {
            self.feed_whole(now, key);
        }
    }

    /// Takes over what the kernel has `held` since a daemon before this one: as whose word it was,
    /// with its budget and probation. The kernel is told nothing, since it has it already. A zone's
    /// own record is lost: there the subject begins anew.
    pub fn adopt(&self, now: Duration, held: PenaltyChange) {
        let Some(level) = held.level.filter(|_| held.origin != Origin::Hold && held.until > now) else {
            return;
        };
        if held.origin == Origin::Operator {
            let mut operators = self.operators();
            if operators.len() < OPERATORS {
                operators.insert(held.key, held);
                self.any_added.store(true, Ordering::Release);
                return;
            }
        }
        self.announce(held.key);
        let fresh = || held.key.address().map_or_else(Record::default, Record::of);
        let probation = u16::try_from(held.probation.as_secs()).unwrap_or(u16::MAX);
        let budget = held.syn_budget.max(SYN_BUDGET);
        self.records.update((NODE, held.key), now, fresh, |record| {
            record.strengthen(now, level, held.until, budget, probation);
        });
    }

    /// `client` is told to wait until `until`, and its QUIC tokens say who it is: until then the
    /// kernel drops what it begins. That is no penalty: nothing is held against it, nor listed.
    pub fn hold(&self, now: Duration, client: u64, until: Duration) {
        let key = Subject::Client(client);
        // A penalty is longer, and stays.
        if self.penalty(now, NODE, key).is_none() {
            self.feed.send(PenaltyChange {
                key,
                origin: Origin::Hold,
                level: Some(Level::Deferred),
                until: until.saturating_sub(PUNCTUAL),
                syn_budget: 0,
                probation: Duration::ZERO,
            });
        }
    }

    /// There is more `company` behind an address, or in a network, than when it was penalised: it
    /// is not blocked any more, and its budget grows. What an operator added stays.
    pub fn vouch(&self, now: Duration, zone: u64, key: Subject, company: Company) {
        let syn_budget = key.syn_budget(company);
        let before = self.whole(now, key);
        for zone in [zone, NODE] {
            let grow = |record: &mut Record| {
                let less = record.blocked > now || record.syn_budget < syn_budget;
                if record.until > now && less {
                    record.blocked = Duration::ZERO;
                    record.syn_budget = record.syn_budget.max(syn_budget);
                }
            };
            self.records.amend((zone, key), grow);
        }
        self.feed_changed(now, key, before);
    }

    /// Whether one newcomer more of a penalised address or network is within its small share, which
    /// grows with its `company`. Of what is not penalised everybody is.
    pub fn share(&self, now: Duration, zone: u64, subject: Subject, company: Company) -> bool {
        let at = nanos(now);
        let step = company.share() / if subject.is_shared() { SHARED } else { 1 };
        let within = self.records.amend((zone, subject), |record| {
            if record.until <= now {
                return true;
            }
            let from = record.share.max(at);
            let within = from - at <= step * (SHARE_BURST - 1);
            if within {
                record.share = from + step;
            }
            within
        });
        within.unwrap_or(true)
    }

    /// All penalties in force, each subject once: the operators', and of the zones' the hardest and
    /// longest.
    pub fn list(&self, now: Duration) -> Vec<PenaltyChange> {
        // A zone's record stands for the node's if that was displaced.
        let mut own: HashMap<Subject, (u64, Record)> = HashMap::new();
        for (zone, key, record) in self
            .records
            .collect(|(zone, key), record| (record.until > now).then_some((*zone, *key, *record)))
        {
            let kept = own.entry(key).or_insert((zone, record));
            if kept.0 != NODE && (zone == NODE || record.in_force(now) > kept.1.in_force(now)) {
                *kept = (zone, record);
            }
        }
        let added: Vec<Subject> = match self.any_added() {
            true => self.operators().keys().copied().collect(),
            false => Vec::new(),
        };
        let mut all: Vec<_> = own
            .iter()
            .filter_map(|(key, (_, record))| self.joined(now, *key, Some(*record)))
            .collect();
        let others = added.into_iter().filter(|key| !own.contains_key(key));
        all.extend(others.filter_map(|key| self.joined(now, key, None)));
        all.sort_by_key(|change| change.key);
        all
    }

    /// Adds a penalty by an operator's word, in all zones; `false` if there are too many already.
    pub fn add(&self, now: Duration, key: Subject, level: Level, lasts: Duration) -> bool {
        let change = PenaltyChange {
            key,
            origin: Origin::Operator,
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
        self.feed_whole(now, key);
        true
    }

    /// Lifts whatever is in force against `key`, strikes included, in all zones; `false` if nothing
    /// was.
    pub fn lift(&self, now: Duration, key: Subject) -> bool {
        let mut found = self.operators().remove(&key).is_some_and(|c| c.until > now);
        let keys = self
            .records
            .collect(|of, record| (of.1 == key).then_some((*of, record.until > now)));
        for (of, in_force) in keys {
            found |= in_force;
            self.records.amend(of, |record| *record = Record::default());
        }
        self.attempts.forget(key);
        self.feed.send(PenaltyChange {
            key,
            origin: Origin::Gate,
            level: None,
            until: now,
            syn_budget: 0,
            probation: Duration::ZERO,
        });
        found
    }

    /// Places taken, places there are, bytes of all: of penalties, and of counts of attempts.
    pub fn fill(&self) -> [(usize, usize, usize); 2] {
        let records = &self.records;
        let penalties = (records.filled(), records.capacity(), records.bytes());
        [penalties, self.attempts.fill()]
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
