//! Who was told to wait, until when, and how often it came all the same: counted apart from the
//! penalties that follow, so that a book full of penalties keeps no fresh offender from being
//! counted. A count is worth more the further it has gone, and counts of one network make room for
//! each other first: see [`Worth::owners`].

use std::net::IpAddr;
use std::time::Duration;

use super::prefixes;
use super::table::{Table, Worth};
use crate::base::penalty::Subject;

/// The waits told on a node, per zone and subject.
#[derive(Debug)]
pub(super) struct Attempts(Table<(u64, Subject), Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    /// Told to wait until then.
    told: Duration,
    /// Early attempts since it last behaved.
    early: u32,
    owners: [u32; 2],
}

impl Worth for Count {
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        if self.told > now { u64::from(self.early) + 1 } else { 0 }
    }

    fn owners(&self) -> [u32; 2] {
        self.owners
    }
}

impl Attempts {
    pub(super) fn new(entries: usize) -> Self {
        Self(Table::new(entries))
    }

    /// Until when `subject` was told to wait, if that is to come.
    pub(super) fn told(&self, now: Duration, zone: u64, subject: Subject) -> Option<Duration> {
        self.0
            .find((zone, subject))
            .map(|count| count.told)
            .filter(|told| *told > now)
    }

    /// Whether `subject`, which is not told to wait now, was told and has come since.
    pub(super) fn waited(&self, now: Duration, zone: u64, subject: Subject) -> bool {
        let count = self.0.find((zone, subject));
        count.is_some_and(|count| !count.told.is_zero() && count.told <= now)
    }

    /// `subject`, at an address of prefix `from`, is told to wait until `until`. A wait that
    /// follows another one's end begins with no early attempts, unless the subject is `penalised`.
    pub(super) fn tell(
        &self,
        now: Duration,
        zone: u64,
        subject: Subject,
        from: IpAddr,
        until: Duration,
        penalised: bool,
    ) {
        self.0.update(
            (zone, subject),
            now,
            || Count::of(from),
            |count| {
                if count.told <= now && !penalised {
                    count.early = 0;
                }
                count.told = count.told.max(until);
            },
        );
    }

    /// `subject` waited as it was told.
    pub(super) fn behaved(&self, zone: u64, subject: Subject) {
        self.0.amend((zone, subject), |count| {
            count.early = 0;
            count.told = Duration::ZERO;
        });
    }

    /// One early attempt more, beyond those that its token `carried` from other nodes; how many
    /// that makes.
    pub(super) fn early(&self, now: Duration, zone: u64, subject: Subject, from: IpAddr, carried: u8) -> u32 {
        self.0.update(
            (zone, subject),
            now,
            || Count::of(from),
            |count| {
                count.early = count.early.max(carried.into()).saturating_add(1);
                count.early
            },
        )
    }

    /// The attempts have become a strike, which tells it to wait until `until`.
    pub(super) fn struck(&self, zone: u64, subject: Subject, until: Duration) {
        self.0.amend((zone, subject), |count| {
            count.early = 0;
            count.told = count.told.max(until);
        });
    }

    /// Nothing is held against `subject` any more, in any zone.
    pub(super) fn forget(&self, subject: Subject) {
        let keys = self.0.collect(|of, _| (of.1 == subject).then_some(*of));
        for of in keys {
            self.0.amend(of, |count| {
                count.early = 0;
                count.told = Duration::ZERO;
            });
        }
    }

    /// Places taken, places there are, bytes of all.
    pub(super) fn fill(&self) -> (usize, usize, usize) {
        (self.0.filled(), self.0.capacity(), self.0.bytes())
    }
}

impl Count {
    fn of(from: IpAddr) -> Self {
        Self {
            told: Duration::ZERO,
            early: 0,
            owners: prefixes::owners(from),
        }
    }
}
