//! Where [penalties](crate::penalty) are kept: a table of our own in two maps that the daemon
//! writes through its memory, without system calls, and that the program reads.
//!
//! # Layout
//! `PENALTIES` is an array of [`Bucket`]s, one cache line each, with room for three penalties. A
//! subject's [`Spread`] names two buckets, and its penalty stands in either (Azar, Broder, Karlin,
//! Upfal, "Balanced allocations", SIAM J. Comput. 29(1), 1999); where both are full the daemon
//! moves others to their second bucket (Pagh, Rodler, "Cuckoo hashing", J. Algorithms 51(2), 2004).
//! Half as many buckets as penalties at most, so the table is at most two thirds full, and 32 bytes
//! are spent for each: 320 MB for 10 million. `PENALTY_FRONT` has the key of the hash and 524,288
//! bits: one that is off says that nobody of its kind is penalised, so most clean clients cost one
//! load of it while there are few penalties, and no look at a bucket.
//!
//! Subjects are compared whole, so nobody is ever penalised for another's sake. The hash is keyed,
//! so nobody can choose addresses that fill a bucket: it is a filter's, not a MAC, and its results
//! never leave the machine.
//!
//! # Who writes
//! The daemon, one thread at a time. The program writes the
//! [window](crate::penalty::Penalty::window) of a budget and, once, that a penalty was run into, by
//! compare-and-swap: where there is no room, one that nobody has run into lately goes first. An
//! entry is taken out of sight (its kind becomes 0) before it becomes another's; what is moved is
//! written to its new place before it goes from the old one. A program that reads meanwhile may
//! miss a penalty, or judge one attempt by half of an older one, as long as that takes: one packet,
//! nothing that lasts.

use core::sync::atomic::AtomicU64;

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU32, Ordering};

use crate::penalty::{BLOCKED, DEFERRED, HOLD, OPERATOR, Penalty, SECOND};

/// Penalties in a [`Bucket`].
pub const WAYS: usize = 3;
/// Bits of a [`Front`].
pub const BITS: usize = 1 << 19;

/// Bits of a way's kind that say what its key is.
const KEYED: u32 = 0x1f;
/// Its other bits: the penalty's level.
const BLOCKED_BIT: u32 = 1 << 5;
const OPERATOR_BIT: u32 = 1 << 6;
const HOLD_BIT: u32 = 1 << 7;

/// Bits of a state: the window, that the penalty was run into, and (16 each) the budget and the
/// probation's seconds.
const WINDOW: u64 = (1 << 31) - 1;
const MET: u64 = 1 << 31;
const BUDGET_SHIFT: u32 = 32;
const PROBATION_SHIFT: u32 = 48;

/// A way's end is in units of 2^27 ns, some 134 ms, rounded up: 18 years fit.
const END_SHIFT: u32 = 27;
/// Nanoseconds of such a unit.
pub const END_UNIT: u64 = 1 << END_SHIFT;
/// Its window in units of 256 ns, modulo 2^31 of them (9 minutes). So budgets of tens of thousands
/// a second are met within a hundredth, and one that nobody has used for minutes may seem used up
/// for one second in each nine minutes.
const WINDOW_SHIFT: u32 = 8;

/// Whose penalty it is: what the key of a subject says. Numbers, because they lie in maps; 0 is
/// nobody.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A client id.
    Client = 1,
    /// An IPv4 address or an IPv6 /64, see [`address_key`](crate::penalty::address_key).
    Address = 2,
    /// The IPv4 /24 or the IPv6 /56 around it, see [`network_key`](crate::penalty::network_key).
    Network = 3,
    /// The IPv6 /48 around it, see [`site_key`](crate::penalty::site_key).
    Site = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Client, Self::Address, Self::Network, Self::Site];

    #[cfg(not(target_arch = "bpf"))]
    const fn of(bits: u32) -> Option<Self> {
        match bits & KEYED {
            1 => Some(Self::Client),
            2 => Some(Self::Address),
            3 => Some(Self::Network),
            4 => Some(Self::Site),
            _ => None,
        }
    }
}

/// Who is penalised, as the table knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Subject {
    /// What the key says.
    pub kind: Kind,
    /// A client id, or the key of an address or a network.
    pub key: u64,
}

/// Value of the map `PENALTIES`: some penalties. All zeros, as a fresh map has it, is empty.
/// Everything changes while others read it, each word in one piece.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Bucket {
    keys: [AtomicU64; WAYS],
    /// One word, so that a program which takes from a budget cannot write back another penalty's.
    states: [AtomicU64; WAYS],
    ends: [Half; WAYS],
    /// A byte for each way, the first one lowest: kind and level.
    kinds: Half,
}

/// A word of 32 bits that changes while others read it. The kernel's machine has no such type in
/// Rust, but reads it in one piece.
#[repr(transparent)]
#[derive(Debug, Default)]
struct Half(
    #[cfg(not(target_arch = "bpf"))] AtomicU32,
    #[cfg(target_arch = "bpf")] core::cell::UnsafeCell<u32>,
);

// SAFETY: only read, each time whole.
#[cfg(target_arch = "bpf")]
unsafe impl Sync for Half {}

/// The one element of the map `PENALTY_FRONT`. All zeros, as a fresh map has it: nobody is
/// penalised, and the key must be written first.
#[repr(C)]
#[derive(Debug)]
pub struct Front {
    /// Key of the hash: random for each machine.
    pub seed: [AtomicU64; 2],
    bits: [AtomicU64; BITS / 64],
}

const _: () = {
    assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 8);
    assert!(core::mem::offset_of!(Bucket, states) == 24);
    assert!(core::mem::offset_of!(Bucket, ends) == 48);
    assert!(core::mem::offset_of!(Bucket, kinds) == 60);
    assert!(size_of::<Front>() == 16 + BITS / 8);
};

/// Buckets for this many penalties; at least one.
pub const fn buckets(entries: u32) -> u32 {
    let buckets = entries.div_ceil(2);
    if buckets == 0 { 1 } else { buckets }
}

/// Where a subject's penalty may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spread(u64);

impl Spread {
    /// Of a subject, under a key. Multiplication by secret odd numbers, mixed in between: for
    /// whoever does not know them two subjects meet as seldom as by chance (Dietzfelbinger et al.,
    /// "A reliable randomized algorithm for the closest-pair problem", J. Algorithms 25(1), 1997).
    #[inline(always)]
    pub const fn of(seed: [u64; 2], subject: Subject) -> Self {
        let mut x = subject.key ^ seed[0].wrapping_mul(2 * subject.kind as u64 + 1);
        x = (x ^ (x >> 32)).wrapping_mul(seed[1] | 1);
        x = (x ^ (x >> 29)).wrapping_mul(seed[0] | 1);
        Self(x ^ (x >> 32))
    }

    /// The two of `buckets` buckets; may be the same. Each half is taken for a fraction of 2^32.
    #[inline(always)]
    pub const fn places(self, buckets: u32) -> [u32; 2] {
        [
            (((self.0 >> 32) * buckets as u64) >> 32) as u32,
            (((self.0 & 0xffff_ffff) * buckets as u64) >> 32) as u32,
        ]
    }

    /// The number of its bit in the front; below [`BITS`].
    #[inline(always)]
    pub const fn bit(self) -> usize {
        (self.0 >> 13) as usize & (BITS - 1)
    }
}

impl Front {
    /// As a fresh map has it.
    #[cfg(not(target_arch = "bpf"))]
    pub const fn empty() -> Self {
        Self {
            seed: [const { AtomicU64::new(0) }; 2],
            bits: [const { AtomicU64::new(0) }; BITS / 64],
        }
    }

    /// The hash's key.
    #[inline(always)]
    pub fn key(&self) -> [u64; 2] {
        [load(&self.seed[0]), load(&self.seed[1])]
    }

    /// Whether somebody with this bit may be penalised.
    #[inline(always)]
    pub fn is_set(&self, bit: usize) -> bool {
        // At most BITS / 64 - 1 whatever the bit.
        load(&self.bits[(bit >> 6) & (BITS / 64 - 1)]) >> (bit & 63) & 1 != 0
    }

    /// Turns a bit on, before the first penalty that it stands for, or off after the last one. For
    /// one writer at a time.
    #[cfg(not(target_arch = "bpf"))]
    pub fn set(&self, bit: usize, on: bool) {
        let word = &self.bits[(bit >> 6) & (BITS / 64 - 1)];
        let mask = 1 << (bit & 63);
        let old = load(word);
        store(word, if on { old | mask } else { old & !mask });
    }
}

/// A penalty's place in the table.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// To be swapped when a budget is taken from, or [`met`] says so.
    pub state: &'a AtomicU64,
    end: u32,
    kind: u32,
}

impl Way<'_> {
    /// The penalty in it at `now`, and the state that was read.
    #[inline(always)]
    pub fn read(&self, now: u64) -> (Penalty, u64) {
        let state = load(self.state);
        (unpacked(self.end, self.kind, state, now), state)
    }

    /// Whether it is blocked at `now`, which takes less to say.
    #[inline(always)]
    pub const fn is_blocked(&self, now: u64) -> bool {
        self.kind & BLOCKED_BIT != 0 && now < (self.end as u64) << END_SHIFT
    }

    /// Whether an operator's penalty is in force at `now`.
    #[inline(always)]
    pub const fn is_barred(&self, now: u64) -> bool {
        self.kind & OPERATOR_BIT != 0 && now < (self.end as u64) << END_SHIFT
    }
}

/// The state with another window, of a penalty that was run into; `window` as a
/// [judgement](crate::penalty::Judgement::Budgeted) gives it.
#[inline(always)]
pub const fn with_window(state: u64, window: u64) -> u64 {
    state & !WINDOW | MET | (window >> WINDOW_SHIFT) & WINDOW
}

/// The state of a penalty that was run into, if it does not say so yet.
#[inline(always)]
pub const fn met(state: u64) -> Option<u64> {
    if state & MET != 0 {
        return None;
    }
    Some(state | MET)
}

impl Bucket {
    /// The way of a subject.
    #[inline(always)]
    pub fn find(&self, subject: Subject) -> Option<Way<'_>> {
        let kinds = load32(&self.kinds);
        // Written out, so that every offset is known to the kernel's verifier.
        if self.is(0, kinds, subject) {
            return Some(self.way(0, kinds));
        }
        if self.is(1, kinds, subject) {
            return Some(self.way(1, kinds));
        }
        if self.is(2, kinds, subject) {
            return Some(self.way(2, kinds));
        }
        None
    }

    #[inline(always)]
    fn is(&self, way: usize, kinds: u32, subject: Subject) -> bool {
        load(&self.keys[way]) == subject.key && kinds >> (8 * way) & KEYED == subject.kind as u32
    }

    #[inline(always)]
    fn way(&self, way: usize, kinds: u32) -> Way<'_> {
        Way {
            state: &self.states[way],
            end: load32(&self.ends[way]),
            kind: kinds >> (8 * way) & 0xff,
        }
    }
}

/// For the daemon, which alone puts penalties in and takes them out, one thread at a time.
#[cfg(not(target_arch = "bpf"))]
impl Bucket {
    /// Which way a subject has. Below [`WAYS`].
    pub fn position(&self, subject: Subject) -> Option<usize> {
        let kinds = load32(&self.kinds);
        (0..WAYS).find(|way| self.is(*way, kinds, subject))
    }

    /// Who has this way; `None` if nobody does, or there is no such way.
    pub fn subject(&self, way: usize) -> Option<Subject> {
        let kind = Kind::of(load32(&self.kinds) >> (8 * (way % WAYS)))?;
        let key = load(self.keys.get(way)?);
        Some(Subject { kind, key })
    }

    /// The penalty in this way as it is at `now`.
    pub fn penalty(&self, way: usize, now: u64) -> Option<Penalty> {
        self.subject(way)?;
        Some(self.way(way, load32(&self.kinds)).read(now).0)
    }

    /// Puts a penalty into a way: a free one, another's, or its own, whose window stays as it is.
    pub fn put(&self, way: usize, subject: Subject, penalty: &Penalty) {
        let Some(((key, state), end)) = self.keys.get(way).zip(self.states.get(way)).zip(self.ends.get(way)) else {
            return;
        };
        let packed = state_of(penalty);
        if self.subject(way) == Some(subject) {
            change(state, |old| packed & !(WINDOW | MET) | old & (WINDOW | MET));
        } else {
            self.clear(way);
            store(state, packed);
            store(key, subject.key);
        }
        end.0.store(end_of(penalty.until), Ordering::Release);
        self.name(way, kind_of(subject.kind, penalty.level));
    }

    /// Whether a penalty was run into since [`take_met`](Self::take_met) asked last.
    pub fn is_met(&self, way: usize) -> bool {
        self.states.get(way).is_some_and(|state| load(state) & MET != 0)
    }

    /// The same, and forgets it.
    pub fn take_met(&self, way: usize) -> bool {
        let Some(state) = self.states.get(way) else {
            return false;
        };
        load(state) & MET != 0 && change(state, |old| old & !MET) & MET != 0
    }

    /// Writes what is in a way into one of another bucket, and takes it out of sight here.
    pub fn relocate(&self, way: usize, to: &Self, other: usize) {
        let here = (self.keys.get(way), self.states.get(way), self.ends.get(way));
        let there = (to.keys.get(other), to.states.get(other), to.ends.get(other));
        let ((Some(key), Some(state), Some(end)), (Some(to_key), Some(to_state), Some(to_end))) = (here, there) else {
            return;
        };
        to.clear(other);
        store(to_state, load(state));
        store(to_key, load(key));
        to_end.0.store(load32(end), Ordering::Release);
        to.name(other, load32(&self.kinds) >> (8 * way) & 0xff);
        self.clear(way);
    }

    /// Takes whatever is in a way out of sight.
    pub fn clear(&self, way: usize) {
        self.name(way, 0);
    }

    fn name(&self, way: usize, kind: u32) {
        let shift = 8 * (way % WAYS);
        let others = load32(&self.kinds) & !(0xff << shift);
        self.kinds.0.store(others | kind << shift, Ordering::Release);
    }
}

/// Changes a word in one step; what it was before.
#[cfg(not(target_arch = "bpf"))]
fn change(word: &AtomicU64, new: impl Fn(u64) -> u64) -> u64 {
    let changed = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| Some(new(old)));
    changed.unwrap_or_else(|old| old)
}

/// Rounded up: a penalty never ends early, and never at 0.
#[cfg(not(target_arch = "bpf"))]
const fn end_of(until: u64) -> u32 {
    let end = until.saturating_add((1 << END_SHIFT) - 1) >> END_SHIFT;
    if end > u32::MAX as u64 { u32::MAX } else { end as u32 }
}

#[cfg(not(target_arch = "bpf"))]
const fn kind_of(kind: Kind, level: u16) -> u32 {
    let mut bits = kind as u32;
    if level & 0xff == BLOCKED {
        bits |= BLOCKED_BIT;
    }
    if level & OPERATOR != 0 {
        bits |= OPERATOR_BIT;
    }
    if level & HOLD != 0 {
        bits |= HOLD_BIT;
    }
    bits
}

#[cfg(not(target_arch = "bpf"))]
const fn state_of(penalty: &Penalty) -> u64 {
    (penalty.budget as u64) << BUDGET_SHIFT
        | (penalty.probation as u64) << PROBATION_SHIFT
        | (penalty.window >> WINDOW_SHIFT) & WINDOW
}

/// A window is at most a second ahead of the clock of who wrote it, and a processor that was held
/// up judges by an older clock, by less than another second: what looked to it as if it were over
/// would give the whole budget anew. What looks further ahead was written long ago: over.
#[inline(always)]
const fn unpacked(end: u32, kind: u32, state: u64, now: u64) -> Penalty {
    let ahead = state.wrapping_sub(now >> WINDOW_SHIFT) & WINDOW;
    let window = if ahead <= (2 * SECOND) >> WINDOW_SHIFT {
        ((now >> WINDOW_SHIFT) + ahead) << WINDOW_SHIFT
    } else {
        0
    };
    let mut level = if kind & BLOCKED_BIT != 0 { BLOCKED } else { DEFERRED };
    if kind & OPERATOR_BIT != 0 {
        level |= OPERATOR;
    }
    if kind & HOLD_BIT != 0 {
        level |= HOLD;
    }
    Penalty {
        until: (end as u64) << END_SHIFT,
        window,
        budget: (state >> BUDGET_SHIFT) as u16,
        level,
        probation: (state >> PROBATION_SHIFT) as u16,
    }
}

/// Reads a word in one piece. The compiler's atomic loads and stores do not exist for the kernel's
/// machine, where each aligned word is read and written so.
#[inline(always)]
pub fn load(word: &AtomicU64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: a reference is aligned and readable; volatile, so once and whole.
    unsafe {
        word.as_ptr().read_volatile()
    }
    #[cfg(not(target_arch = "bpf"))]
    word.load(Ordering::Acquire)
}

#[inline(always)]
fn load32(word: &Half) -> u32 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: as in `load`.
    unsafe {
        word.0.get().read_volatile()
    }
    #[cfg(not(target_arch = "bpf"))]
    word.0.load(Ordering::Acquire)
}

/// Writes a word in one piece, after everything that was written before it.
#[cfg(not(target_arch = "bpf"))]
fn store(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::Ordering::Relaxed;
    use std::vec::Vec;

    use super::*;
    use crate::penalty::Judgement;

    fn swap(word: &AtomicU64, old: u64, new: u64) -> u64 {
        word.compare_exchange(old, new, Relaxed, Relaxed)
            .unwrap_or_else(|found| found)
    }

    fn penalty(until: u64, budget: u16, level: u16) -> Penalty {
        Penalty {
            until,
            window: 0,
            budget,
            level,
            probation: 600,
        }
    }

    const ADDRESS: Subject = Subject {
        kind: Kind::Address,
        key: 7,
    };
    const CLIENT: Subject = Subject {
        kind: Kind::Client,
        key: 7,
    };

    /// Another's penalty, a shorter one or a softer one would be in force.
    #[test]
    fn a_penalty_comes_back_as_it_was() {
        let bucket = Bucket::default();
        assert!(bucket.find(ADDRESS).is_none());
        let both = [(ADDRESS, BLOCKED | OPERATOR), (CLIENT, DEFERRED | HOLD)];
        for (way, (subject, level)) in both.into_iter().enumerate() {
            bucket.put(way, subject, &penalty(100 * SECOND, 65_535, level));
            let (found, _) = bucket.find(subject).unwrap().read(SECOND);
            assert_eq!((found.budget, found.level, found.probation), (65_535, level, 600));
            assert!(found.until >= 100 * SECOND && found.until < 100 * SECOND + (1 << END_SHIFT));
            assert_eq!(bucket.position(subject), Some(way));
            assert_eq!(bucket.subject(way), Some(subject));
        }
        let blocked = bucket.find(ADDRESS).unwrap();
        assert!(blocked.is_blocked(99 * SECOND) && blocked.is_barred(99 * SECOND) && !blocked.is_blocked(101 * SECOND));
        assert!(!bucket.find(CLIENT).unwrap().is_blocked(0));
        bucket.clear(0);
        assert!(bucket.find(ADDRESS).is_none() && bucket.find(CLIENT).is_some());
        assert_eq!(bucket.subject(0), None);
        assert_eq!(bucket.subject(WAYS), None);
        let other = Bucket::default();
        bucket.relocate(1, &other, 2);
        assert!(bucket.find(CLIENT).is_none());
        let (moved, _) = other.find(CLIENT).unwrap().read(SECOND);
        assert_eq!(
            (moved.budget, moved.level, other.position(CLIENT)),
            (65_535, DEFERRED | HOLD, Some(2))
        );
        // For ever is not for a moment.
        bucket.put(0, ADDRESS, &penalty(u64::MAX, 0, BLOCKED));
        assert!(
            bucket
                .find(ADDRESS)
                .unwrap()
                .is_blocked(u64::from(u32::MAX - 1) << END_SHIFT)
        );
    }

    /// A rewrite that refills budgets lets through as much as there are strikes; one that keeps
    /// another's takes from the innocent.
    #[test]
    fn a_budget_is_kept_by_a_rewrite_and_not_by_a_successor() {
        let bucket = Bucket::default();
        let now = 5_000 * SECOND + 77;
        bucket.put(1, ADDRESS, &penalty(9_000 * SECOND, 4, DEFERRED));
        let take = || {
            let way = bucket.find(ADDRESS).unwrap();
            let (penalty, state) = way.read(now);
            match penalty.judge(now) {
                Judgement::Budgeted(window) => swap(way.state, state, with_window(state, window)) == state,
                _ => false,
            }
        };
        assert!((0..4).all(|_| take()) && !take());
        assert!(bucket.take_met(1) && !bucket.take_met(1));
        assert_eq!(met(0), Some(MET));
        assert_eq!(met(MET), None);
        bucket.put(1, ADDRESS, &penalty(9_500 * SECOND, 4, DEFERRED));
        assert!(!take());
        bucket.put(1, CLIENT, &penalty(9_500 * SECOND, 4, DEFERRED));
        assert!(!bucket.take_met(1), "nobody has run into the new one");
        let (other, _) = bucket.find(CLIENT).unwrap().read(now);
        assert!(matches!(other.judge(now), Judgement::Budgeted(_)));
        assert_eq!(other.window, 0);
    }

    /// What was used up an hour ago would be held against a client, whenever the clock comes round.
    #[test]
    fn an_old_window_is_over() {
        for budget in [1, 4, 1_000, u16::MAX] {
            for start in [10 * SECOND, 1_000 * SECOND, 4_000_000 * SECOND + 123_456_789] {
                let bucket = Bucket::default();
                bucket.put(0, ADDRESS, &penalty(u64::MAX, budget, DEFERRED));
                let mut passed = 0_u64;
                for tick in 0..100_000_u64 {
                    let now = start + tick * 20_000;
                    let way = bucket.find(ADDRESS).unwrap();
                    let (penalty, state) = way.read(now);
                    if let Judgement::Budgeted(window) = penalty.judge(now) {
                        assert_eq!(swap(way.state, state, with_window(state, window)), state);
                        passed += 1;
                    }
                }
                // Two seconds and the burst; windows are cut to 256 ns, so that of many attempts
                // some more pass.
                let most = u64::from(budget) * 3;
                let most = (most + most / 50).min(100_000);
                assert!(
                    passed <= most && passed + 1 + most / 25 >= most,
                    "{budget}: {passed} of {most}"
                );
                let seems_used = |tenth: u64| {
                    let (later, _) = bucket
                        .find(ADDRESS)
                        .unwrap()
                        .read(start + 5 * SECOND + tenth * SECOND / 10);
                    later.window != 0
                };
                let used = (0..20_000).filter(|tenth| seems_used(*tenth)).count();
                assert!(used <= 84, "{used} of 20,000 tenths of a second");
            }
        }
    }

    /// Under a flood on all processors, one that was held up would give the whole budget anew.
    #[test]
    fn an_older_clock_gives_no_second_budget() {
        let (bucket, now) = (Bucket::default(), 1_000 * SECOND);
        bucket.put(0, ADDRESS, &penalty(u64::MAX, 4, DEFERRED));
        let passes = |now: u64| {
            let way = bucket.find(ADDRESS).unwrap();
            let (penalty, state) = way.read(now);
            let Judgement::Budgeted(window) = penalty.judge(now) else {
                return false;
            };
            swap(way.state, state, with_window(state, window)) == state
        };
        let passed = (0..100).filter(|_| passes(now)).count();
        assert!((4..=5).contains(&passed), "{passed}");
        for late in [256, 1_000, 1_000_000, SECOND - 1_000] {
            assert!(!passes(now - late), "{late} ns behind");
        }
    }

    /// A bucket that attackers can fill is a penalty that cannot be put in force.
    #[test]
    fn neighbours_are_spread() {
        let seed = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211];
        let count = 4_096;
        let mut load = std::vec![0_u32; count as usize];
        let mut bits = std::collections::HashSet::new();
        // 8,192 addresses of one network, as keys have them: consecutive in network order.
        for host in 0..8_192_u32 {
            let address = (0x0a00_0000 + host).to_be_bytes();
            let key = u64::from(u32::from_le_bytes(address)) << 32;
            let spread = Spread::of(
                seed,
                Subject {
                    kind: Kind::Address,
                    key,
                },
            );
            assert!(spread.bit() < BITS);
            bits.insert(spread.bit());
            for place in spread.places(count) {
                load[place as usize] += 1;
            }
        }
        // Four each on average: a Poisson distribution has 17 once in some thousand runs.
        assert!(*load.iter().max().unwrap() < 18, "{:?}", load.iter().max());
        assert!(bits.len() > 8_000, "{}", bits.len());
        let of = |seed, kind| Spread::of(seed, Subject { kind, key: 9 });
        assert_ne!(of(seed, Kind::Address), of(seed, Kind::Client));
        assert_ne!(of(seed, Kind::Address), of([1, 2], Kind::Address));
    }

    #[test]
    fn a_front_has_the_bits_that_were_set() {
        let front = Front {
            seed: [AtomicU64::new(1), AtomicU64::new(2)],
            ..Front::empty()
        };
        assert_eq!(front.key(), [1, 2]);
        for bit in [0, 63, 64, BITS - 1] {
            front.set(bit, true);
        }
        let set: Vec<usize> = (0..BITS).filter(|bit| front.is_set(*bit)).collect();
        assert_eq!(set, [0, 63, 64, BITS - 1]);
        front.set(63, false);
        assert!(!front.is_set(63) && front.is_set(64));
    }

    /// The table's size is what the documentation tells operators to reckon with.
    #[test]
    fn ten_million_fit_in_320_megabytes() {
        assert_eq!(u64::from(buckets(10_000_000)) * 64, 320_000_000);
        assert_eq!(buckets(0), 1);
        assert_eq!(buckets(3), 2);
    }
}
