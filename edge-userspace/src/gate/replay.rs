//! Tokens that were used: each is admitted once. The decision asks before it lets a mature token
//! in, and spends it when every rule has let it in; who is told to wait once more, a poll of a
//! waiting room for one, spends nothing.
//!
//! A set of ids in two generations. An id belongs to the generation of its token's *end* on the
//! steady clock, so a generation can go as one when the last end in it has passed; with generations
//! at least as long as a token's life, two cover every token alive. Nothing is ever evicted before
//! its end. When there is no room the answer is [`Refusal::Full`]: a client that waited keeps its
//! place and is asked to come again, because a store that forgets would admit one token any number
//! of times. Only tokens that are genuine and mature reach the store, so filling it costs an
//! attacker a full wait for each id; and what one zone's attacker fills leaves a quarter to the
//! other zones.
//!
//! What it does not know: uses on other nodes, and those before a restart. A token may be admitted
//! once by each.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use edge_common::token::SKEW;

use super::clock::Now;
use super::keys::Epochs;

/// Locks among which the ids are spread.
const SHARDS: usize = 64;

/// Why a token is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It was used before.
    #[error("the token was used before")]
    Used,
    /// There is no room to remember it.
    #[error("too many tokens are remembered already")]
    Full,
    /// Its end is beyond what two generations cover, or before what they still remember.
    #[error("the token's end is out of the range that is remembered")]
    OutOfRange,
}

impl Refusal {
    /// A word for labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Full => "full",
            Self::OutOfRange => "out_of_range",
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    /// Number of the elder generation.
    elder: u64,
    /// The elder generation and the one after it.
    generations: [Generation; 2],
}

#[derive(Debug, Default)]
struct Generation {
    ids: HashSet<u64>,
    /// How many of them each zone has; no more zones than the configuration names.
    zones: HashMap<u64, usize>,
}

impl Generation {
    /// Whether an id of `zone` fits. Three quarters are for whoever comes first, the rest is shared
    /// by the zones alike: no zone's waits, however many, keep another zone's visitors from
    /// entering.
    fn has_room(&self, room: usize, zone: u64) -> bool {
        let (taken, own) = (self.ids.len(), self.zones.get(&zone).copied().unwrap_or(0));
        let zones = self.zones.len() + usize::from(own == 0);
        taken < room - room / 4 || taken < room && own < (room / 4).div_ceil(zones)
    }
}

/// The used tokens of this process, shared by its workers. Takes about 18 bytes an id, as they
/// come.
#[derive(Debug)]
pub struct Replay {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Seconds.
    generation: u64,
    /// Ids in one generation of one shard.
    room: usize,
    /// How often there was no room.
    full: AtomicU64,
}

impl Replay {
    /// Room for `capacity` ids in each of the two generations. They are spread over shards by
    /// chance, so each shard has room for four standard deviations more than its share; a full one
    /// refuses even if another is not.
    pub fn new(epochs: Epochs, capacity: usize) -> Self {
        let share = capacity.div_ceil(SHARDS).max(1);
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            // No token lives longer than two epochs, and none is taken after its end and the
            // tolerance.
            generation: epochs.length().as_secs() * 2 + SKEW + 1,
            room: share.saturating_add(share.isqrt().saturating_mul(4)),
            full: AtomicU64::new(0),
        }
    }

    /// Uses up the admission `id` of `zone`, which several tokens may stand for, the last of which
    /// ends at `expires` (seconds since 1970). `Ok` once. Constant time, apart from the growth of a
    /// set and the end of a generation.
    ///
    /// # Errors
    /// Why it must not be admitted.
    pub fn spend(&self, now: Now, zone: u64, id: u64, expires: u32) -> Result<(), Refusal> {
        let mut shard = self.shard(id);
        self.advance(&mut shard, now);
        // Asked of both: tokens of one admission may end in different generations.
        if shard.holds(id) {
            return Err(Refusal::Used);
        }
        let left = (u64::from(expires) + SKEW).checked_sub(now.unix.as_secs());
        let left = left
            .filter(|left| *left <= self.generation)
            .ok_or(Refusal::OutOfRange)?;
        // By the steady clock: the wall's may step, and what was used stays used for as long as it
        // would have been good.
        let own = (now.mono.as_secs() + left) / self.generation;
        let generation = match own.checked_sub(shard.elder) {
            Some(0) => &mut shard.generations[0],
            Some(1) => &mut shard.generations[1],
            _ => return Err(Refusal::OutOfRange),
        };
        if !generation.has_room(self.room, zone) {
            self.full.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
        generation.ids.insert(id);
        *generation.zones.entry(zone).or_default() += 1;
        Ok(())
    }

    /// Whether the admission `id` is used up. Changes nothing.
    pub fn is_spent(&self, id: u64) -> bool {
        self.shard(id).holds(id)
    }

    /// Drops generations that ended. Needs no call while tokens are spent; a timer may call it to
    /// give memory back.
    pub fn sweep(&self, now: Now) {
        for shard in &self.shards {
            self.advance(&mut shard.lock().unwrap_or_else(PoisonError::into_inner), now);
        }
    }

    /// Ids remembered, ids there is room for, and how often there was none, for the gauges.
    pub fn fill(&self) -> (usize, usize, u64) {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard
                .generations
                .iter()
                .map(|generation| generation.ids.len())
                .sum::<usize>()
        };
        let room = self.room.saturating_mul(SHARDS * 2);
        (
            self.shards.iter().map(count).sum(),
            room,
            self.full.load(Ordering::Relaxed),
        )
    }

    /// How long an id is remembered at most.
    pub fn memory(&self) -> Duration {
        Duration::from_secs(self.generation * 2)
    }

    fn shard(&self, id: u64) -> std::sync::MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(id);
        let n = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        // A panic while the lock was held leaves at worst an id too many.
        self.shards[n].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on to the elder generation that may hold a token still taken at `now`.
    fn advance(&self, shard: &mut Shard, now: Now) {
        let elder = now.mono.as_secs() / self.generation;
        match elder.checked_sub(shard.elder) {
            None | Some(0) => return,
            Some(1) => {
                shard.generations.swap(0, 1);
                shard.generations[1] = Generation::default();
            }
            Some(_) => shard.generations = Default::default(),
        }
        shard.elder = elder;
    }
}

impl Shard {
    fn holds(&self, id: u64) -> bool {
        self.generations.iter().any(|generation| generation.ids.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const T: u64 = 1_700_000_000;

    fn epochs() -> Epochs {
        Epochs::new(Duration::from_secs(60)).unwrap()
    }

    fn at(secs: u64) -> Now {
        Now {
            mono: Duration::from_secs(secs - T),
            unix: Duration::from_secs(secs),
            ..Now::default()
        }
    }

    /// A token that is used twice gives one wait's reward to two requests.
    #[test]
    fn once_until_its_end() {
        let replay = Replay::new(epochs(), 4_096);
        for life in 0..=120 {
            let end = u32::try_from(T + life).unwrap();
            assert_eq!(replay.spend(at(T), 1, life, end), Ok(()));
            // To its end and through the tolerance after it, whatever generations pass meanwhile.
            for now in T..T + life + SKEW {
                assert_eq!(
                    replay.spend(at(now), 1, life, end),
                    Err(Refusal::Used),
                    "life {life} at {now}"
                );
            }
        }
    }

    /// Forgetting early admits a token again, whatever generation border its life crosses.
    #[test]
    fn every_offset_to_a_generations_border() {
        for offset in 0..122 {
            let replay = Replay::new(epochs(), 64 * 4);
            let start = T + offset;
            let end = u32::try_from(start + 120).unwrap();
            assert_eq!(replay.spend(at(start), 1, 7, end), Ok(()));
            for now in start..start + 120 + SKEW {
                assert_eq!(replay.spend(at(now), 1, 7, end), Err(Refusal::Used), "{now}");
            }
            // Nobody asks about an expired token; if it were, it is not taken for a new one that
            // must be remembered.
            replay.sweep(at(start + 10_000));
            assert!(replay.fill().0 == 0);
            assert_eq!(replay.spend(at(start + 10_000), 1, 7, end), Err(Refusal::OutOfRange));
        }
    }

    /// Two tokens of one wait, written at different times, are one admission even if a border lies
    /// between their ends.
    #[test]
    fn one_admission_with_two_ends() {
        for offset in 0..122 {
            let replay = Replay::new(epochs(), 4_096);
            let end = |secs| u32::try_from(T + offset + secs).unwrap();
            assert_eq!(replay.spend(at(T + offset), 1, 7, end(100)), Ok(()));
            assert_eq!(replay.spend(at(T + offset + 1), 1, 7, end(120)), Err(Refusal::Used));
            assert_eq!(replay.spend(at(T + offset + 1), 1, 7, end(10)), Err(Refusal::Used));
        }
    }

    /// Beyond the bound it refuses rather than forgets, takes no memory, and recovers by itself.
    #[test]
    fn full_refuses_and_recovers() {
        let capacity = 64 * 1_000;
        let replay = Replay::new(epochs(), capacity);
        let end = u32::try_from(T + 30).unwrap();
        let mut taken = Vec::new();
        let mut first_refusal = None;
        for id in 0..2 * capacity as u64 {
            match replay.spend(at(T), 1, id, end) {
                Ok(()) => taken.push(id),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Full);
                    first_refusal.get_or_insert(id);
                }
            }
        }
        assert!(
            first_refusal.unwrap() >= capacity as u64 * 3 / 4 * 95 / 100,
            "{first_refusal:?}"
        );
        assert!(taken.len() < capacity * 5 / 4 && replay.fill().0 == taken.len());
        for id in &taken {
            assert_eq!(replay.spend(at(T + 1), 1, *id, end), Err(Refusal::Used));
        }
        let later = T + 10 * 60;
        assert_eq!(
            replay.spend(at(later), 1, 1, u32::try_from(later + 30).unwrap()),
            Ok(())
        );
        replay.sweep(at(later));
        assert_eq!(replay.fill().0, 1);
    }

    /// A token that ends later than the store can remember must not slip in unremembered.
    #[test]
    fn too_long_a_life_is_refused() {
        let replay = Replay::new(epochs(), 4_096);
        assert_eq!(replay.spend(at(T), 1, 1, u32::MAX), Err(Refusal::OutOfRange));
        assert_eq!(replay.spend(at(T), 1, 1, 0), Err(Refusal::OutOfRange));
    }

    /// A clock that was ahead for a while would make the store refuse every wait until the clock
    /// gets there once more.
    #[test]
    fn a_clock_that_steps_back() {
        let replay = Replay::new(epochs(), 4_096);
        let wall = |mono: u64, unix: u64| Now {
            mono: Duration::from_secs(mono),
            unix: Duration::from_secs(unix),
            ..Now::default()
        };
        let end = |unix: u64| u32::try_from(unix + 60).unwrap();
        let ahead = T + 3 * 86_400;
        assert_eq!(replay.spend(wall(10, ahead), 1, 1, end(ahead)), Ok(()));
        assert_eq!(replay.spend(wall(12, T), 1, 2, end(T)), Ok(()));
        assert_eq!(replay.spend(wall(13, T + 1), 1, 2, end(T)), Err(Refusal::Used));
        assert_eq!(replay.spend(wall(14, T + 2), 1, 1, end(T)), Err(Refusal::Used));
    }

    /// One zone whose waits fill the store would close all others.
    #[test]
    fn a_full_store_keeps_a_reserve_for_other_zones() {
        let capacity = 64 * 100;
        let replay = Replay::new(epochs(), capacity);
        let end = u32::try_from(T + 60).unwrap();
        let spent = |zone: u64, many: u64| {
            let spend = |id: &u64| {
                replay
                    .spend(at(T), zone, super::super::pass::mix(zone << 32 | *id), end)
                    .is_ok()
            };
            (0..many).filter(spend).count()
        };
        let first = spent(1, 40_000);
        assert!((capacity * 3 / 4..=capacity * 3 / 2).contains(&first), "{first}");
        let others = [spent(2, 500), spent(3, 500)];
        // Some of a shard's places are taken by chance: the hash has a key of its own at each
        // start.
        assert!(others.iter().all(|entered| *entered > 440), "{others:?}");
        assert!(replay.fill().2 > 0);
    }

    /// Of all workers that get the same token at once, one admits it.
    #[test]
    fn one_worker_wins() {
        let replay = Replay::new(epochs(), 100_000);
        let admitted = AtomicUsize::new(0);
        let end = u32::try_from(T + 30).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..8_u64 {
                let (replay, admitted) = (&replay, &admitted);
                scope.spawn(move || {
                    for n in 0..20_000_u64 {
                        let id = (n + worker * 2_500) % 20_000;
                        if replay.spend(at(T), 1, id, end).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 20_000);
    }
}
