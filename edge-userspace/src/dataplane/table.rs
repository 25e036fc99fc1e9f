//! The writer of the [table](edge_common::table) of penalties: finds places, makes room, and knows
//! which bits of the front are on for how many. `penalties` hands it penalties, under its lock.

use std::collections::VecDeque;
use std::ops::{Deref, Range};

use edge_common::penalty::{self, HOLD, OPERATOR, SECOND};
use edge_common::table::{BITS, Bucket, Front, Kind, Spread, Subject, WAYS};

/// Buckets that are looked at for a way to make room by moving others: at two thirds full one or
/// two are enough.
const SEARCHED: usize = 64;

/// The table, and what its writer knows of it.
#[derive(Debug)]
pub(super) struct Table<B, F> {
    buckets: B,
    front: F,
    /// Penalties that each bit of the front stands for. One that is too many for a count is never
    /// turned off.
    counts: Vec<u16>,
    seed: [u64; 2],
}

/// A way of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    bucket: u32,
    way: usize,
}

/// A bucket that is looked at for room, and the way of which bucket leads there.
struct Step {
    bucket: u32,
    from: Option<(usize, usize)>,
}

impl<B: Deref<Target = [Bucket]>, F: Deref<Target = Front>> Table<B, F> {
    /// The table in this memory. `random` becomes the key of the hash if there is none yet.
    pub(super) fn new(buckets: B, front: F, random: [u64; 2]) -> Self {
        if front.key() == [0, 0] {
            for (word, random) in front.seed.iter().zip(random) {
                word.store(random, std::sync::atomic::Ordering::Release);
            }
        }
        let mut this = Self {
            seed: front.key(),
            buckets,
            front,
            counts: vec![0; BITS],
        };
        this.take_stock();
        this
    }

    /// Counts what each bit stands for, and mends what a writer that was killed has left: a penalty
    /// in both of its places, a bit that stands for nobody.
    fn take_stock(&mut self) {
        for index in 0..self.count() {
            for way in 0..WAYS {
                let Some(subject) = self.bucket(index).and_then(|bucket| bucket.subject(way)) else {
                    continue;
                };
                let twice = self
                    .find(subject)
                    .is_none_or(|first| first != At { bucket: index, way });
                if twice {
                    self.clear(At { bucket: index, way });
                } else {
                    self.noted(subject);
                }
            }
        }
        for bit in 0..BITS {
            let on = self.counts.get(bit).is_some_and(|count| *count != 0);
            if on != self.front.is_set(bit) {
                self.front.set(bit, on);
            }
        }
    }

    /// Buckets.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.buckets.len()).unwrap_or(u32::MAX)
    }

    /// Puts a penalty in force, or in the place of the one there is, whose window stays. Who had to
    /// go for it, for want of room.
    pub(super) fn put(&mut self, subject: Subject, penalty: &penalty::Penalty, now: u64) -> Option<Subject> {
        if let Some(at) = self.find(subject) {
            self.write(at, subject, penalty);
            return None;
        }
        let places = self.places(subject);
        let (at, gone) = match self.room(places, now) {
            Some(at) => (at, None),
            None => {
                let at = self.weakest(places, now);
                (at, self.subject(at))
            }
        };
        // What ended in that place goes, too.
        self.drop_at(at);
        self.noted(subject);
        self.write(at, subject, penalty);
        gone
    }

    /// Lifts a penalty, if there is one.
    pub(super) fn remove(&mut self, subject: Subject) {
        if let Some(at) = self.find(subject) {
            self.drop_at(at);
        }
    }

    /// Every penalty in some of the buckets, those that are over included.
    pub(super) fn each(&self, buckets: Range<u32>, now: u64, mut each: impl FnMut(Subject, penalty::Penalty)) {
        for index in buckets {
            let Some(bucket) = self.bucket(index) else { return };
            for way in 0..WAYS {
                if let (Some(subject), Some(penalty)) = (bucket.subject(way), bucket.penalty(way, now)) {
                    each(subject, penalty);
                }
            }
        }
    }

    /// Takes out of some of the buckets what is over at `now`, with its probation; and forgets who
    /// was run into, so that whoever gives up makes room.
    pub(super) fn sweep(&mut self, buckets: Range<u32>, now: u64) {
        for index in buckets {
            for way in 0..WAYS {
                let at = At { bucket: index, way };
                let Some(bucket) = self.bucket(index) else { return };
                if bucket.penalty(way, now).is_some_and(|penalty| is_over(&penalty, now)) {
                    self.drop_at(at);
                } else {
                    bucket.take_met(way);
                }
            }
        }
    }

    /// Takes everything out of some of the buckets.
    pub(super) fn clear_all(&mut self, buckets: Range<u32>) {
        for index in buckets {
            for way in 0..WAYS {
                self.drop_at(At { bucket: index, way });
            }
        }
    }

    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.buckets.get(usize::try_from(index).ok()?)
    }

    fn spread(&self, subject: Subject) -> Spread {
        Spread::of(self.seed, subject)
    }

    fn places(&self, subject: Subject) -> [u32; 2] {
        self.spread(subject).places(self.count())
    }

    fn subject(&self, at: At) -> Option<Subject> {
        self.bucket(at.bucket)?.subject(at.way)
    }

    fn penalty(&self, at: At, now: u64) -> Option<penalty::Penalty> {
        self.bucket(at.bucket)?.penalty(at.way, now)
    }

    /// As the program looks: the first place, then the other one.
    fn find(&self, subject: Subject) -> Option<At> {
        self.places(subject).into_iter().find_map(|bucket| {
            let way = self.bucket(bucket)?.position(subject)?;
            Some(At { bucket, way })
        })
    }

    /// Nobody has it, or one whose penalty is over.
    fn is_free(&self, at: At, now: u64) -> bool {
        self.penalty(at, now).is_none_or(|penalty| is_over(&penalty, now))
    }

    fn free(&self, bucket: u32, now: u64) -> impl Iterator<Item = At> {
        let ways = (0..WAYS).map(move |way| At { bucket, way });
        ways.filter(move |at| self.is_free(*at, now))
    }

    /// A free way: in the emptier of the two buckets, or else in one of them after others have
    /// moved. `None`: there is none near.
    fn room(&mut self, [one, other]: [u32; 2], now: u64) -> Option<At> {
        let (here, there) = (self.free(one, now).count(), self.free(other, now).count());
        let emptier = if there > here { other } else { one };
        let free = self.free(emptier, now).next();
        if free.is_some() {
            return free;
        }
        let mut steps: Vec<Step> = [one, other].map(|bucket| Step { bucket, from: None }).into();
        let mut queue: VecDeque<usize> = (0..steps.len()).collect();
        while let Some(index) = queue.pop_front() {
            let bucket = steps.get(index)?.bucket;
            for way in 0..WAYS {
                let Some(subject) = self.subject(At { bucket, way }) else {
                    continue;
                };
                let [first, second] = self.places(subject);
                let next = if first == bucket { second } else { first };
                if steps.iter().any(|step| step.bucket == next) {
                    continue;
                }
                let from = Some((index, way));
                let free = self.free(next, now).next();
                if let Some(free) = free {
                    return self.shift(&steps, (index, way), free);
                }
                if steps.len() < SEARCHED {
                    queue.push_back(steps.len());
                    steps.push(Step { bucket: next, from });
                }
            }
        }
        None
    }

    /// Moves what is on the way to a free place, the last one first; the place that is free then.
    fn shift(&mut self, steps: &[Step], mut last: (usize, usize), mut free: At) -> Option<At> {
        loop {
            let (index, way) = last;
            let step = steps.get(index)?;
            // Who had it and is over.
            self.drop_at(free);
            let from = At {
                bucket: step.bucket,
                way,
            };
            self.bucket(from.bucket)?
                .relocate(way, self.bucket(free.bucket)?, free.way);
            free = from;
            match step.from {
                Some(before) => last = before,
                None => return Some(free),
            }
        }
    }

    /// Of the six penalties of two full buckets the one that is the least loss: one that nobody has
    /// run into lately, of the gate before an operator's, which ends first.
    fn weakest(&self, places: [u32; 2], now: u64) -> At {
        let ways = places
            .into_iter()
            .flat_map(|bucket| (0..WAYS).map(move |way| At { bucket, way }));
        let loss = |at: &At| {
            let met = self.bucket(at.bucket).is_some_and(|bucket| bucket.is_met(at.way));
            let penalty = self.penalty(*at, now);
            let (operator, until) = penalty.map_or((false, 0), |p| (p.level & OPERATOR != 0, p.until));
            (operator, met, until)
        };
        let [bucket, _] = places;
        ways.min_by_key(loss).unwrap_or(At { bucket, way: 0 })
    }

    fn write(&self, at: At, subject: Subject, penalty: &penalty::Penalty) {
        if let Some(bucket) = self.bucket(at.bucket) {
            bucket.put(at.way, subject, penalty);
        }
    }

    fn clear(&self, at: At) {
        if let Some(bucket) = self.bucket(at.bucket) {
            bucket.clear(at.way);
        }
    }

    /// Takes a penalty out, and its bit if it was the last one of it.
    fn drop_at(&mut self, at: At) {
        let Some(subject) = self.subject(at) else { return };
        self.clear(at);
        let bit = self.spread(subject).bit();
        if let Some(count) = self.counts.get_mut(bit)
            && *count != u16::MAX
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.front.set(bit, false);
            }
        }
    }

    /// Turns a subject's bit on.
    fn noted(&mut self, subject: Subject) {
        let bit = self.spread(subject).bit();
        if let Some(count) = self.counts.get_mut(bit) {
            *count = count.saturating_add(1);
        }
        if !self.front.is_set(bit) {
            self.front.set(bit, true);
        }
    }
}

/// Whether a penalty and its probation are over.
pub(super) const fn is_over(penalty: &penalty::Penalty, now: u64) -> bool {
    now >= penalty.until.saturating_add(penalty.probation as u64 * SECOND)
}

/// Whether it is one that operators are shown: in force, and no hold.
pub(super) const fn is_penalty(penalty: &penalty::Penalty, now: u64) -> bool {
    now < penalty.until && penalty.level & HOLD == 0
}

/// Whether it is a client id, and no address.
pub(super) const fn is_client(subject: Subject) -> bool {
    matches!(subject.kind, Kind::Client)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use edge_common::penalty::{BLOCKED, DEFERRED, Penalty};
    use edge_common::table::{self, buckets};

    use super::*;

    const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0x0f1e_2d3c_4b5a_6978];

    fn empty(entries: u32) -> Table<Vec<Bucket>, Box<Front>> {
        let buckets = (0..buckets(entries)).map(|_| Bucket::default()).collect();
        Table::new(buckets, Box::new(Front::empty()), SEED)
    }

    fn penalty(until: u64) -> Penalty {
        Penalty {
            until: until * SECOND,
            window: 0,
            budget: 0,
            level: BLOCKED,
            probation: 0,
        }
    }

    fn address(n: u32) -> Subject {
        Subject {
            kind: Kind::Address,
            key: u64::from(n) << 32,
        }
    }

    /// As the program finds it.
    fn is_found(table: &Table<Vec<Bucket>, Box<Front>>, subject: Subject) -> bool {
        let spread = Spread::of(table.front.key(), subject);
        let mut places = spread.places(table.count()).into_iter();
        table.front.is_set(spread.bit()) && places.any(|place| table.buckets[place as usize].find(subject).is_some())
    }

    fn bits(table: &Table<Vec<Bucket>, Box<Front>>) -> usize {
        (0..BITS).filter(|bit| table.front.is_set(*bit)).count()
    }

    /// Penalties that were promised room would not be in force.
    #[test]
    fn as_many_fit_as_there_is_room_for_and_a_quarter_more() {
        let room = 40_000;
        let mut table = empty(room);
        for n in 0..room * 5 / 4 {
            assert_eq!(table.put(address(n), &penalty(100), SECOND), None, "{n}");
        }
        assert!((0..room * 5 / 4).all(|n| is_found(&table, address(n))));
        assert!((room * 2..room * 2 + 1_000).all(|n| !is_found(&table, address(n))));
        let mut seen = 0;
        table.each(0..table.count(), SECOND, |_, _| seen += 1);
        assert_eq!(seen, room * 5 / 4);
    }

    /// A flood of new offenders would free those who are still at it; or operators' blocks would go
    /// first.
    #[test]
    fn a_full_table_forgets_who_has_given_up() {
        let room = 1_024;
        let mut table = empty(room);
        let blocks =
            |range: std::ops::Range<u32>, level| range.map(move |n| (address(n), Penalty { level, ..penalty(100) }));
        let (active, operators, idle) = (0..100, 1_000..1_050, 2_000..2_100);
        for (who, penalty) in blocks(active.clone(), BLOCKED)
            .chain(blocks(operators.clone(), BLOCKED | OPERATOR))
            .chain(blocks(idle.clone(), BLOCKED))
        {
            table.put(who, &penalty, SECOND);
        }
        for round in 0..100 {
            for n in active.clone() {
                // As the program does.
                let at = table.find(address(n)).unwrap();
                let way = table.bucket(at.bucket).unwrap().find(address(n)).unwrap();
                let (_, state) = way.read(SECOND);
                if let Some(next) = table::met(state) {
                    way.state.store(next, std::sync::atomic::Ordering::Release);
                }
            }
            for (who, penalty) in blocks(10_000 + round * 100..10_100 + round * 100, BLOCKED) {
                table.put(
                    who,
                    &Penalty {
                        until: 1_000 * SECOND,
                        ..penalty
                    },
                    SECOND,
                );
            }
        }
        let found = |range: std::ops::Range<u32>| range.filter(|n| is_found(&table, address(*n))).count();
        assert_eq!((found(active), found(operators)), (100, 50));
        assert!(found(idle) < 10);
    }

    /// What is over would fill the table, and its bits cost every client a look.
    #[test]
    fn what_is_over_goes() {
        let mut table = empty(2_000);
        for n in 0..1_000 {
            let probation = if n < 500 { 0 } else { 50 };
            table.put(
                address(n),
                &Penalty {
                    probation,
                    ..penalty(10)
                },
                SECOND,
            );
        }
        let all = table.count();
        table.sweep(0..all, 11 * SECOND);
        assert!((0..500).all(|n| !is_found(&table, address(n))));
        assert!((500..1_000).all(|n| is_found(&table, address(n))));
        table.sweep(0..all, 61 * SECOND);
        assert_eq!(bits(&table), 0);
        // And makes room before that.
        for n in 0..100_000 {
            table.put(address(n), &penalty(u64::from(n) / 1_000), u64::from(n) * SECOND / 500);
        }
        table.clear_all(0..all);
        assert_eq!(
            (bits(&table), table.counts.iter().filter(|count| **count != 0).count()),
            (0, 0)
        );
    }

    /// Whatever is done to it, the table is what was asked for.
    #[test]
    fn it_agrees_with_a_model() {
        let mut table = empty(3_000);
        let mut model: HashMap<Subject, u16> = HashMap::new();
        let mut random = 1_u64;
        for _ in 0..200_000 {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let kind = if random >> 20 & 1 == 0 {
                Kind::Client
            } else {
                Kind::Address
            };
            let subject = Subject {
                kind,
                key: random >> 33 & 0x7ff,
            };
            let budget = (random >> 21) as u16;
            if random >> 60 < 9 {
                let wanted = Penalty {
                    budget,
                    level: DEFERRED,
                    ..penalty(100)
                };
                assert_eq!(table.put(subject, &wanted, SECOND), None);
                model.insert(subject, budget);
            } else {
                table.remove(subject);
                model.remove(&subject);
            }
        }
        let mut found = HashMap::new();
        table.each(0..table.count(), SECOND, |subject, penalty| {
            assert_eq!(found.insert(subject, penalty.budget), None, "{subject:?} twice");
        });
        assert_eq!(found, model);
        assert!(model.keys().all(|subject| is_found(&table, *subject)));
        // Another writer takes it over as it is, and mends what the first one could not end.
        let Table { buckets, front, .. } = table;
        front.set(7, true);
        let (subject, _) = model.iter().next().unwrap();
        let again = Table::new(buckets, front, [9, 9]);
        assert_eq!(again.seed, SEED);
        let [one, other] = again.places(*subject);
        if one != other {
            let free = (0..WAYS).find(|way| again.buckets[other as usize].subject(*way).is_none());
            if let (Some(free), Some(way)) = (free, again.buckets[one as usize].position(*subject)) {
                let penalty = again.buckets[one as usize].penalty(way, SECOND).unwrap();
                again.buckets[other as usize].put(free, *subject, &penalty);
            }
        }
        let mut mended = Table::new(again.buckets, again.front, [9, 9]);
        let mut count = 0;
        mended.each(0..mended.count(), SECOND, |_, _| count += 1);
        assert_eq!(count, model.len());
        for subject in model.keys() {
            mended.remove(*subject);
        }
        assert_eq!(bits(&mended), 0);
    }
}
