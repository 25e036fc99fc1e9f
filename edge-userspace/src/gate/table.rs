//! A table of fixed memory for state per client: sharded, set-associative, keyed by a secret hash.
//! Whoever floods it with new keys replaces, in each set of eight, the entry whose loss harms
//! least: [`Worth`] says which, `bucket` and `penalty` how.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Entries of one set, scanned one by one.
const WAYS: usize = 8;
/// Locks; more than threads, so that two rarely meet.
const SHARDS: usize = 64;

/// What the loss of an entry would forgive.
pub(super) trait Worth {
    /// An entry is never replaced by one that is not worth more: the newcomer goes unrecorded
    /// instead. Where false, the newcomer always gets the place of the set's least.
    const KEEPS: bool;

    /// 0: nothing is lost by forgetting it now.
    fn worth(&self, now: Duration) -> u64;

    /// Whose it is ([`owners`](super::prefixes::owners)). In a full set of entries that are all
    /// worth something, whoever has most of them makes room, the newcomer counted: first of an
    /// allocation's, then of a site's, then the one worth least. So however many prefixes one
    /// allocation fills the table from, it displaces one of eight entries of others, and no second.
    fn owners(&self) -> [u32; 2] {
        [0; 2]
    }
}

/// Set `hash % sets` of shard `hash >> 58`.
pub(super) struct Table<K, V> {
    shards: Box<[Shard<K, V>]>,
    sets: usize,
    hasher: RandomState,
    filled: AtomicUsize,
}

/// The sets of one lock, in one slice.
type Shard<K, V> = Mutex<Box<[Option<(K, V)>]>>;

impl<K: Copy + Eq + Hash, V: Copy + Worth> Table<K, V> {
    /// Room for `entries`, rounded up to 512, 1024, 1536, …; all of it is allocated here and never
    /// more.
    pub(super) fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS * SHARDS).max(1);
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(vec![None; sets * WAYS].into()))
            .collect();
        Self {
            shards,
            sets,
            hasher: RandomState::new(),
            filled: AtomicUsize::new(0),
        }
    }

    /// Applies `change` to the entry of `key`, made by `fresh` where there is none.
    pub(super) fn update<R>(
        &self,
        key: K,
        now: Duration,
        fresh: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> R {
        self.in_set(key, |set| {
            if let Some((_, value)) = set.iter_mut().flatten().find(|(k, _)| *k == key) {
                return change(value);
            }
            let mut value = fresh();
            let result = change(&mut value);
            if let Some(slot) = set.get_mut(room(set, &value, now)) {
                let least = slot.as_ref().map(|(_, v)| v.worth(now));
                if least.is_none() {
                    self.filled.fetch_add(1, Ordering::Relaxed);
                }
                if !V::KEEPS || least.is_none_or(|least| least < value.worth(now)) {
                    *slot = Some((key, value));
                }
            }
            result
        })
    }

    /// The entry of `key`, copied.
    pub(super) fn find(&self, key: K) -> Option<V> {
        self.in_set(key, |set| {
            set.iter().flatten().find(|(k, _)| *k == key).map(|(_, v)| *v)
        })
    }

    /// Applies `change` to the entry of `key` where there is one.
    pub(super) fn amend<R>(&self, key: K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.in_set(key, |set| {
            let (_, value) = set.iter_mut().flatten().find(|(k, _)| *k == key)?;
            Some(change(value))
        })
    }

    /// Every entry that `pick` wants, shard by shard.
    pub(super) fn collect<R>(&self, mut pick: impl FnMut(&K, &V) -> Option<R>) -> Vec<R> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let entries = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(entries.iter().flatten().filter_map(|(k, v)| pick(k, v)));
        }
        all
    }

    /// Places taken; an entry stays until another needs its place.
    pub(super) fn filled(&self) -> usize {
        self.filled.load(Ordering::Relaxed)
    }

    /// Places there are.
    pub(super) fn capacity(&self) -> usize {
        self.sets * WAYS * SHARDS
    }

    /// Bytes of all places.
    pub(super) fn bytes(&self) -> usize {
        self.capacity() * size_of::<Option<(K, V)>>()
    }

    /// A number for `key` that nobody outside can foretell.
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn in_set<R>(&self, key: K, act: impl FnOnce(&mut [Option<(K, V)>]) -> R) -> R {
        let hash = self.hasher.hash_one(key);
        let set = (hash & u64::from(u32::MAX)) as usize % self.sets;
        let shard = (hash >> 58) as usize % SHARDS;
        // Both are in bounds by their remainders; the empty slice only spares the compiler a panic.
        match self.shards.get(shard) {
            Some(shard) => {
                let mut entries = shard.lock().unwrap_or_else(PoisonError::into_inner);
                act(entries.get_mut(set * WAYS..(set + 1) * WAYS).unwrap_or_default())
            }
            None => act(&mut []),
        }
    }
}

/// Which entry of a set makes room for `new`: a free place, then one that is worth nothing, then as
/// [`Worth::owners`] says.
fn room<K, V: Worth>(set: &[Option<(K, V)>], new: &V, now: Duration) -> usize {
    let worth = |slot: &Option<(K, V)>| slot.as_ref().map(|(_, v)| v.worth(now));
    let least = set.iter().enumerate().min_by_key(|(_, slot)| worth(slot));
    match least {
        Some((n, slot)) if worth(slot).is_none_or(|worth| worth == 0) => return n,
        None => return 0,
        Some(_) => {}
    }
    let owners = new.owners();
    let of = |slot: &Option<(K, V)>| slot.as_ref().map(|(_, v)| v.owners()).unwrap_or_default();
    let held = |level: usize, slot: &Option<(K, V)>| {
        let same = |owner: [u32; 2]| owner.get(level) == of(slot).get(level);
        set.iter().filter(|other| same(of(other))).count() + usize::from(same(owners))
    };
    let chosen = set.iter().enumerate().max_by_key(|(_, slot)| {
        (
            held(0, slot),
            held(1, slot),
            std::cmp::Reverse(worth(slot).unwrap_or_default()),
        )
    });
    chosen.map_or(0, |(n, _)| n)
}

impl<K, V> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({:?} of {})", self.filled, self.sets * WAYS * SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Heavy<const KEEPS: bool>(u64);
    impl<const K: bool> Worth for Heavy<K> {
        const KEEPS: bool = K;
        fn worth(&self, _: Duration) -> u64 {
            self.0
        }
    }

    fn flooded<const K: bool>() -> (Table<u64, Heavy<K>>, usize) {
        let table = Table::<u64, Heavy<K>>::new(4096);
        for key in 0..200 {
            table.update(key, Duration::ZERO, || Heavy(100), |_| ());
        }
        for key in 1_000..1_001_000 {
            table.update(key, Duration::ZERO, || Heavy(1), |_| ());
        }
        let kept = (0..200).filter(|key| table.find(*key).is_some()).count();
        (table, kept)
    }

    #[derive(Clone, Copy)]
    struct Owned(u64, [u32; 2]);
    impl Worth for Owned {
        const KEEPS: bool = false;
        fn worth(&self, _: Duration) -> u64 {
            self.0
        }
        fn owners(&self) -> [u32; 2] {
            self.1
        }
    }

    /// One allocation of IPv6 would fill the table, and whoever else offends would go free.
    #[test]
    fn one_allocation_makes_room_for_others() {
        let table = Table::<u64, Owned>::new(512);
        for key in 0..100_000 {
            table.update(key, Duration::ZERO, || Owned(1_000, [1, key as u32]), |_| ());
        }
        let others = 1_000_000..1_000_100;
        for key in others.clone() {
            table.update(key, Duration::ZERO, || Owned(1, [2, 7]), |_| ());
        }
        for key in 100_000..200_000 {
            table.update(key, Duration::ZERO, || Owned(1_000, [1, key as u32]), |_| ());
        }
        let kept = others.filter(|key| table.find(*key).is_some()).count();
        assert!(kept >= 95, "{kept} of 100 kept, though all are worth less");
    }

    /// A flood of new keys would take all memory, or wash out the entries that matter.
    #[test]
    fn bounded_and_keeps_the_worthy() {
        let (table, kept) = flooded::<true>();
        assert_eq!((table.capacity(), kept), (4096, 200));
        assert!(table.filled() <= 4096 && table.bytes() <= 4096 * 24);
        assert!(flooded::<false>().1 >= 199, "light newcomers replace one another first");
    }
}
