//! How often one token may come. A token is a bearer: whoever holds it can send it again, from its
//! own address, for as long as it lives, and each time the daemon would begin a handshake. The
//! program counts the genuine ones by their MAC.
//!
//! # What an honest client sends
//! Every Initial of a connection carries its token (RFC 9000 sections 8.1.2 and 8.1.3): two or
//! three datagrams of a ClientHello with a post-quantum share, some ten more where the path loses
//! them (two a probe timeout, which doubles: section 6.2 of RFC 9002), and an acknowledgement for
//! each Initial that the server sends or repeats. Even a path that loses nearly everything for ten
//! seconds stays below [`BURST`]. 0-RTT packets are no Initials and are not counted. A client
//! should not use a token for a second connection (section 8.1.3); one that does so now and then
//! stays within as well.
//!
//! # What an attacker gets
//! [`BURST`] Initials for each genuine token and one more each [`STEP`]: for a Retry token some 50
//! in its life, and each costs it a round trip from an address of its own.
//!
//! # Where counts are kept
//! In a table of [`Set`]s, one cache line each. A token's MAC names two of them, and it may stand
//! in either: a new one goes where more ways are free (Azar, Broder, Karlin, Upfal, "Balanced
//! allocations", SIAM J. Comput. 29(1), 1999). A way is free as soon as what it counts has been
//! paid for, a second after a token's only Initial: forgetting such a count changes nothing. Only
//! when all eight ways are in use is a count lost, the smallest: so those who send a token once or
//! twice displace each other, and never one that is held back. Tokens are told apart by the whole
//! MAC, so none is ever refused for another's sake.
//!
//! A token's holder sees its MAC, so where it stands, but cannot choose it, because the MAC is
//! keyed. Up to a third of the ways in use (so many tokens in the same second, each obtained by a
//! round trip) no count is lost; beyond, some crowd each other out, and who is crowded out begins
//! anew. The daemon bounds handshakes, and penalties their addresses, whatever comes through here.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::Relaxed;

/// Initials with one token that pass at once.
pub const BURST: u64 = 32;
/// Nanoseconds until one more passes.
pub const STEP: u64 = crate::penalty::SECOND;

/// Counts in a [`Set`].
pub const WAYS: usize = 4;
/// Times that a count is tried when another processor changes it meanwhile.
const TRIES: usize = 2;

/// Value of the map `REPLAY`: where a few tokens are counted. All zeros, as a fresh map has it, is
/// empty.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Set {
    ways: [Way; WAYS],
}

/// One token's count. Both words change while others read them, each in one piece.
#[repr(C)]
#[derive(Debug, Default)]
struct Way {
    /// The token's MAC, as it stands in the token: little-endian.
    mac: AtomicU64,
    /// When what has passed will have been paid for, in nanoseconds of `CLOCK_MONOTONIC` (the
    /// theoretical arrival time of the generic cell rate algorithm, ITU-T I.371). In the past: the
    /// way is free.
    paid: AtomicU64,
}

const _: () = {
    assert!(size_of::<Way>() == 16 && size_of::<Set>() == 64 && align_of::<Set>() == 8);
    assert!(core::mem::offset_of!(Way, paid) == 8);
};

/// Sets that hold the counts of at least `entries` tokens; at least one.
pub const fn sets(entries: u32) -> u32 {
    let sets = entries.div_ceil(WAYS as u32);
    if sets == 0 { 1 } else { sets }
}

/// The two of `sets` sets that the token with this MAC may stand in; may be the same. Each half of
/// the MAC is taken for a fraction of 2^32.
#[inline(always)]
pub const fn places(mac: u64, sets: u32) -> [u32; 2] {
    [
        (((mac >> 32) * sets as u64) >> 32) as u32,
        (((mac & 0xffff_ffff) * sets as u64) >> 32) as u32,
    ]
}

/// Whether the genuine token with this MAC may pass at `now` (nanoseconds of `CLOCK_MONOTONIC`), by
/// the sets at its [`places`]; counts it. `swap` writes its third argument if the second is still
/// there, in one step, and gives what was there.
///
/// Processors that count at once: of one token each count is taken once, and the loser tries again;
/// who loses `TRIES` times is refused, which takes a flood of that very token. A token that comes
/// first to two processors may be counted in two ways, and one whose way is given away meanwhile is
/// not: either passes one Initial more than its due. Whoever takes a way over may be charged an
/// Initial of who stood there.
#[inline(always)]
pub fn admit(sets: [&Set; 2], mac: u64, now: u64, swap: impl Fn(&AtomicU64, u64, u64) -> u64) -> bool {
    let [one, other] = sets;
    let one = match one.look(mac, now) {
        Look::Here(way, paid) => return way.charge(mac, paid, now, swap),
        Look::Room(room) => room,
    };
    let other = match other.look(mac, now) {
        Look::Here(way, paid) => return way.charge(mac, paid, now, swap),
        Look::Room(room) => room,
    };
    let room = if other.free > one.free || (other.free == one.free && other.paid < one.paid) {
        other
    } else {
        one
    };
    // Another processor's token has just moved in: this Initial goes uncounted.
    if swap(&room.way.paid, room.paid, first(now)) == room.paid {
        store(&room.way.mac, mac);
    }
    true
}

/// What a set has for a token.
enum Look<'a> {
    /// Its count, and what that was.
    Here(&'a Way, u64),
    /// Room for it.
    Room(Room<'a>),
}

/// The way of a set that is the least loss, what it counts, and how many ways of the set are free.
struct Room<'a> {
    free: u64,
    way: &'a Way,
    paid: u64,
}

impl Set {
    #[inline(always)]
    fn look(&self, mac: u64, now: u64) -> Look<'_> {
        let [first, others @ ..] = &self.ways;
        let paid = load(&first.paid);
        if load(&first.mac) == mac {
            return Look::Here(first, paid);
        }
        let mut room = Room {
            free: free(paid, now),
            way: first,
            paid,
        };
        for way in others {
            let paid = load(&way.paid);
            if load(&way.mac) == mac {
                return Look::Here(way, paid);
            }
            room.free += free(paid, now);
            if paid < room.paid {
                (room.way, room.paid) = (way, paid);
            }
        }
        Look::Room(room)
    }
}

impl Way {
    /// Counts one Initial more of the token that stands here with `paid`; whether it passes.
    #[inline(always)]
    fn charge(&self, mac: u64, mut paid: u64, now: u64, swap: impl Fn(&AtomicU64, u64, u64) -> u64) -> bool {
        for _ in 0..TRIES {
            let Some(next) = again(paid, now) else {
                return false;
            };
            let found = swap(&self.paid, paid, next);
            // Or its way was given away: then this is not its count.
            if found == paid || load(&self.mac) != mac {
                return true;
            }
            paid = found;
        }
        false
    }
}

/// 1 if what passed has been paid for, else 0. Without a branch, because the kernel's verifier
/// follows each branch to the end.
#[inline(always)]
const fn free(paid: u64, now: u64) -> u64 {
    paid.wrapping_sub(now.wrapping_add(1)) >> 63
}

/// Reads a word in one piece. The compiler's atomic loads and stores do not exist for the kernel's
/// machine, where each aligned word is read and written so.
#[inline(always)]
fn load(word: &AtomicU64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: a reference is aligned and readable; volatile, so once and whole.
    unsafe {
        word.as_ptr().read_volatile()
    }
    #[cfg(not(target_arch = "bpf"))]
    word.load(Relaxed)
}

/// Writes a word in one piece.
#[inline(always)]
fn store(word: &AtomicU64, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: a reference is aligned, and an atomic's may be written through.
    unsafe {
        word.as_ptr().write_volatile(value);
    }
    #[cfg(not(target_arch = "bpf"))]
    word.store(value, Relaxed);
}

/// What is kept of a token that is seen for the first time at `now`.
#[inline(always)]
const fn first(now: u64) -> u64 {
    now.wrapping_add(STEP)
}

/// What is kept after one more at `now`; `None` if that is one too many. `kept` may be any number.
#[inline(always)]
const fn again(kept: u64, now: u64) -> Option<u64> {
    let from = if kept > now { kept } else { now };
    // Neither wraps before the year 2554: `kept` is at most BURST steps beyond the clock.
    let next = from.wrapping_add(STEP);
    if next > now.wrapping_add(BURST * STEP) {
        return None;
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::thread;
    use std::vec::Vec;

    use super::*;

    struct Table(Vec<Set>);

    impl Table {
        fn new(entries: u32) -> Self {
            Self((0..sets(entries)).map(|_| Set::default()).collect())
        }

        fn sets(&self, mac: u64) -> [&Set; 2] {
            let count = u32::try_from(self.0.len()).unwrap();
            places(mac, count).map(|place| &self.0[place as usize])
        }

        fn admit(&self, mac: u64, now: u64) -> bool {
            admit(self.sets(mac), mac, now, |word, old, new| {
                word.compare_exchange(old, new, Relaxed, Relaxed)
                    .unwrap_or_else(|found| found)
            })
        }
    }

    /// SplitMix64: MACs as good as any, the same in each run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }
    }

    fn passed(times: impl Iterator<Item = u64>) -> u64 {
        let table = Table::new(1_024);
        times.map(|now| u64::from(table.admit(7, now))).sum()
    }

    /// Handshakes over bad paths would fail for good.
    #[test]
    fn the_worst_honest_client_is_not_counted_out() {
        // Three datagrams, again two at each probe timeout of 300 ms, doubled, and one
        // acknowledgement for each that the server repeats just as often.
        let probes = [0, 300, 900, 2_100, 4_500, 9_300];
        let flight = probes.iter().flat_map(|at| [at * 1_000_000; 5]);
        let sent = flight.clone().count() as u64;
        assert_eq!(passed(flight.map(|at| at + 7 * STEP)), sent);
        // Two connections at once with the same token, each of them of three datagrams that are
        // repeated twice.
        assert_eq!(passed([0; 18].into_iter()), 18);
    }

    /// One token would be as many handshakes as its holder likes.
    #[test]
    fn a_flood_is_held_to_the_burst_and_the_rate() {
        assert_eq!(passed(core::iter::repeat_n(5 * STEP, 1_000)), BURST);
        let ten_seconds = (0..100_000).map(|n| 5 * STEP + n * STEP / 10_000);
        assert_eq!(passed(ten_seconds), BURST + 9);
        // A clock that starts over, or a value of another's, neither passes for ever nor panics.
        assert_eq!(again(u64::MAX, 1), Some(u64::MAX.wrapping_add(STEP)));
        assert_eq!(again(0, 0), Some(STEP));
    }

    /// Whatever comes in whatever order: a table with room says what exact counts would say, and a
    /// crowded one never refuses what those would let pass, because that would be one client's
    /// token refused for another's.
    #[test]
    fn a_table_is_exact_while_there_is_room_and_lenient_beyond() {
        for (entries, tokens, exact) in [(4_096, 1_500, true), (1, 1, true), (64, 200, false), (1, 9, false)] {
            for seed in 0..20 {
                let mut random = Random(seed);
                let table = Table::new(entries);
                let macs: Vec<_> = (0..tokens).map(|_| random.next()).collect();
                // What has passed of each, exactly.
                let mut counts = HashMap::new();
                let mut now = 10 * STEP;
                let mut lenient = 0;
                for _ in 0..40_000 {
                    now += random.below(STEP / 500);
                    // Some come far more often than others.
                    let most = random.below(macs.len() as u64) + 1;
                    let mac = macs[usize::try_from(random.below(most)).unwrap()];
                    let count: &mut u64 = counts.entry(mac).or_default();
                    let due = again(*count, now).is_some();
                    if table.admit(mac, now) {
                        *count = STEP + now.max(*count);
                        lenient += u32::from(!due);
                    } else {
                        assert!(!due, "seed {seed}: refused for others' sake");
                    }
                }
                assert!(!exact || lenient == 0, "seed {seed}: {lenient} forgotten");
            }
        }
    }

    /// As the documentation says: a third of the ways in use, at whatever size, and no count is
    /// lost.
    #[test]
    fn no_count_is_lost_while_a_third_of_the_ways_is_in_use() {
        for entries in [1_024, 16_384, 131_072] {
            for seed in 0..5 {
                let mut random = Random(seed);
                let table = Table::new(entries);
                let macs: Vec<_> = (0..entries / 3).map(|_| random.next()).collect();
                for mac in &macs {
                    assert!(table.admit(*mac, STEP));
                }
                let held = |mac: &u64| {
                    let ways = table.sets(*mac).map(|set| &set.ways);
                    ways.iter()
                        .any(|ways| ways.iter().any(|way| way.mac.load(Relaxed) == *mac))
                };
                let lost = macs.iter().filter(|mac| !held(mac)).count();
                assert_eq!(lost, 0, "{entries} entries, seed {seed}");
            }
        }
    }

    /// A token that is being replayed would be washed out by others that its holder sends once
    /// each.
    #[test]
    fn a_million_tokens_that_come_twice_displace_none_that_is_held_back() {
        let mut random = Random(1);
        let table = Table::new(1_024);
        let held: Vec<_> = (0..100).map(|_| random.next()).collect();
        let now = 100 * STEP;
        for mac in &held {
            for n in 0..BURST {
                assert!(table.admit(*mac, now), "{n}");
            }
        }
        for n in 0..1_000_000 {
            let mac = random.next();
            assert!(table.admit(mac, now) && table.admit(mac, now));
            if n % 1_000 == 0 {
                assert!(held.iter().all(|mac| !table.admit(*mac, now)), "after {n}");
            }
        }
        // Of those a thousandth is left, and each of them is told from the rest.
        let mut macs: Vec<_> = table
            .0
            .iter()
            .flat_map(|set| &set.ways)
            .map(|way| way.mac.load(Relaxed))
            .collect();
        macs.sort_unstable();
        macs.dedup();
        assert_eq!(macs.len(), 1_024);
    }

    /// A count that has been paid for must not keep a place from another, nor be added to what
    /// comes later.
    #[test]
    fn what_is_paid_for_is_free() {
        let table = Table::new(1);
        let mut now = STEP;
        for round in 0..1_000_u64 {
            for mac in 0..4 {
                for _ in 0..BURST {
                    assert!(table.admit(round * 4 + mac, now));
                }
                assert!(!table.admit(round * 4 + mac, now));
            }
            now += BURST * STEP;
        }
    }

    #[test]
    fn places_are_in_the_table_and_spread_over_it() {
        assert_eq!(
            (sets(0), sets(1), sets(4), sets(5), sets(u32::MAX)),
            (1, 1, 1, 2, 1 << 30)
        );
        for count in [1, 2, 3, 1_000, 32_768, u32::MAX] {
            for mac in [0, 1, u64::MAX, u64::MAX << 32, u64::MAX >> 32] {
                assert!(places(mac, count).iter().all(|place| *place < count));
            }
        }
        let mut hits = [0_u32; 10];
        let mut random = Random(3);
        for _ in 0..50_000 {
            for place in places(random.next(), 10) {
                hits[place as usize] += 1;
            }
        }
        assert!(hits.iter().all(|hits| (9_500..10_500).contains(hits)), "{hits:?}");
    }

    /// Processors that race would let a flood through, or refuse a neighbour.
    #[test]
    fn processors_that_race_admit_little_more() {
        for round in 0..200_u64 {
            let table = Table::new(8);
            let barrier = Barrier::new(4);
            let work = |mine: u64| {
                let (table, barrier) = (&table, &barrier);
                move || {
                    barrier.wait();
                    let mut shared = 0;
                    for n in 0..BURST {
                        shared += u64::from(table.admit(round << 40 | 7, STEP));
                        // A neighbour that comes more rarely than it may, beside a flood.
                        assert!(n >= 8 || table.admit(mine << 50 | round, STEP), "{mine} at {n}");
                    }
                    shared
                }
            };
            let passed: u64 = thread::scope(|scope| {
                let threads: Vec<_> = (1..5).map(|mine| scope.spawn(work(mine))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            // Each of the others may have begun a count of its own before it saw the first.
            assert!((BURST / 2..=BURST + 3).contains(&passed), "round {round}: {passed}");
        }
    }
}
