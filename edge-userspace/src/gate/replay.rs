//! Tokens that were used: each is admitted once. The policies ask before they let a mature token in.
//!
//! A set of token ids in two generations. A token belongs to the generation of its *end*, so a generation can go as one when
//! the last end in it has passed; with generations at least as long as a token's life, two cover every token alive. Nothing
//! is ever evicted before its end. When there is no room the answer is [`Refusal::Full`]: a client that waited is asked to
//! wait again, because a store that forgets would admit one token any number of times. Only tokens that are genuine and
//! mature reach the store, so filling it costs an attacker a full wait for each place.
//!
//! What it does not know: uses on other nodes, and those before a restart. A token may be admitted once by each.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use edge_common::token::SKEW;

use super::keys::Epochs;
use crate::base::clock::UnixTime;

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
    /// Number of the elder generation; it never goes back, even if the clock does.
    elder: u64,
    /// The elder generation and the one after it.
    ids: [HashSet<u64>; 2],
}

/// The used tokens of this process, shared by its workers. Takes about 18 bytes an id, as they come.
#[derive(Debug)]
pub struct Replay {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Seconds.
    generation: u64,
    /// Ids in one generation of one shard.
    room: usize,
}

impl Replay {
    /// Room for `capacity` ids in each of the two generations. They are spread over shards by chance, so each shard has room
    /// for four standard deviations more than its share; a full one refuses even if another is not.
    pub fn new(epochs: Epochs, capacity: usize) -> Self {
        let share = capacity.div_ceil(SHARDS).max(1);
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            // No token lives longer than two epochs, and none is taken after its end and the tolerance.
            generation: epochs.length().as_secs() * 2 + SKEW,
            room: share.saturating_add(share.isqrt().saturating_mul(4)),
        }
    }

    /// Uses up the token with this id ([`Opened::id`](super::token::Opened::id), or any number that names the admission which
    /// several tokens stand for) and end (seconds since 1970; of several tokens, the latest end). `Ok` once. Constant time,
    /// apart from the growth of a set and the end of a generation.
    ///
    /// # Errors
    /// Why it must not be admitted.
    pub fn spend(&self, now: UnixTime, id: u64, expires: u32) -> Result<(), Refusal> {
        let own = u64::from(expires) / self.generation;
        let mut shard = self.shard(id);
        self.advance(&mut shard, now);
        // Asked of both: tokens of one admission may end in different generations.
        if shard.ids.iter().any(|ids| ids.contains(&id)) {
            return Err(Refusal::Used);
        }
        let ids = match own.checked_sub(shard.elder) {
            Some(0) => &mut shard.ids[0],
            Some(1) => &mut shard.ids[1],
            _ => return Err(Refusal::OutOfRange),
        };
        if ids.len() >= self.room {
            return Err(Refusal::Full);
        }
        ids.insert(id);
        Ok(())
    }

    /// Drops generations that ended. Needs no call while tokens are spent; a timer may call it to give memory back.
    pub fn sweep(&self, now: UnixTime) {
        for shard in &self.shards {
            self.advance(&mut shard.lock().unwrap_or_else(PoisonError::into_inner), now);
        }
    }

    /// Ids remembered, for a gauge.
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.ids.iter().map(HashSet::len).sum::<usize>()
        };
        self.shards.iter().map(count).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    fn advance(&self, shard: &mut Shard, now: UnixTime) {
        let elder = now.secs().saturating_sub(SKEW) / self.generation;
        match elder.checked_sub(shard.elder) {
            None | Some(0) => return,
            Some(1) => {
                shard.ids.swap(0, 1);
                shard.ids[1] = HashSet::new();
            }
            Some(_) => shard.ids = Default::default(),
        }
        shard.elder = elder;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const T: u64 = 1_700_000_000;

    fn epochs() -> Epochs {
        Epochs::new(Duration::from_secs(60)).unwrap()
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    /// A token that is used twice gives one wait's reward to two requests.
    #[test]
    fn once_until_its_end() {
        let replay = Replay::new(epochs(), 4_096);
        for life in 0..=120 {
            let end = u32::try_from(T + life).unwrap();
            assert_eq!(replay.spend(at(T), life, end), Ok(()));
            // To its end and through the tolerance after it, whatever generations pass meanwhile.
            for now in T..T + life + SKEW {
                assert_eq!(
                    replay.spend(at(now), life, end),
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
            assert_eq!(replay.spend(at(start), 7, end), Ok(()));
            for now in start..start + 120 + SKEW {
                assert_eq!(replay.spend(at(now), 7, end), Err(Refusal::Used), "{now}");
            }
            // Nobody asks about an expired token; if it were, it is not taken for a new one that must be remembered.
            replay.sweep(at(start + 10_000));
            assert!(replay.is_empty());
            assert_eq!(replay.spend(at(start + 10_000), 7, end), Err(Refusal::OutOfRange));
            // A clock that steps back does not revive what was forgotten.
            assert_eq!(replay.spend(at(start), 7, end), Err(Refusal::OutOfRange));
        }
    }

    /// Two tokens of one wait, written at different times, are one admission even if a border lies between their ends.
    #[test]
    fn one_admission_with_two_ends() {
        for offset in 0..122 {
            let replay = Replay::new(epochs(), 4_096);
            let end = |secs| u32::try_from(T + offset + secs).unwrap();
            assert_eq!(replay.spend(at(T + offset), 7, end(100)), Ok(()));
            assert_eq!(replay.spend(at(T + offset + 1), 7, end(120)), Err(Refusal::Used));
            assert_eq!(replay.spend(at(T + offset + 1), 7, end(10)), Err(Refusal::Used));
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
            match replay.spend(at(T), id, end) {
                Ok(()) => taken.push(id),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Full);
                    first_refusal.get_or_insert(id);
                }
            }
        }
        assert!(
            first_refusal.unwrap() >= capacity as u64 * 95 / 100,
            "{first_refusal:?}"
        );
        assert!(taken.len() < capacity * 5 / 4 && replay.len() == taken.len());
        for id in &taken {
            assert_eq!(replay.spend(at(T + 1), *id, end), Err(Refusal::Used));
        }
        let later = T + 10 * 60;
        assert_eq!(replay.spend(at(later), 1, u32::try_from(later + 30).unwrap()), Ok(()));
        replay.sweep(at(later));
        assert_eq!(replay.len(), 1);
    }

    /// A token that ends later than the store can remember must not slip in unremembered.
    #[test]
    fn too_long_a_life_is_refused() {
        let replay = Replay::new(epochs(), 4_096);
        assert_eq!(replay.spend(at(T), 1, u32::MAX), Err(Refusal::OutOfRange));
        assert_eq!(replay.spend(at(T), 1, 0), Err(Refusal::OutOfRange));
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
                        if replay.spend(at(T), id, end).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 20_000);
    }
}
