//! A map bounded by bytes, which forgets what was used least recently. `bases`, `versions` and
//! `encodings` hold theirs in it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What each entry costs beside its content: keys, map nodes, heads.
const OVERHEAD: usize = 256;

/// The map. Not shared by itself; its owner puts a lock around it.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys by the turn of their last use.
    turns: BTreeMap<u64, K>,
    turn: u64,
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    turn: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Lru<K, V> {
    /// Holds at most `most` bytes, a few hundred counted for each entry.
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            bytes: 0,
            most,
        }
    }

    /// The value, which is now the one used last.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.turns.remove(&entry.turn);
        self.turn = self.turn.saturating_add(1);
        entry.turn = self.turn;
        self.turns.insert(self.turn, key.clone());
        Some(entry.value.clone())
    }

    /// Puts `value` of `weight` bytes in, in place of an older one, and gives back what had to go.
    /// A value that is too large by itself is not taken.
    pub(super) fn put(&mut self, key: K, value: V, weight: usize) -> Vec<(K, V)> {
        self.remove(&key);
        let weight = weight.saturating_add(OVERHEAD);
        if weight > self.most {
            return Vec::new();
        }
        let mut gone = Vec::new();
        while self.bytes.saturating_add(weight) > self.most {
            let Some((_, oldest)) = self.turns.pop_first() else {
                break;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(entry.weight);
                gone.push((oldest, entry.value));
            }
        }
        self.turn = self.turn.saturating_add(1);
        self.turns.insert(self.turn, key.clone());
        self.bytes = self.bytes.saturating_add(weight);
        let turn = self.turn;
        self.entries.insert(key, Entry { value, weight, turn });
        gone
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.turns.remove(&entry.turn);
        self.bytes = self.bytes.saturating_sub(entry.weight);
        Some(entry.value)
    }

    /// Bytes held, and entries.
    pub(super) fn fill(&self) -> (usize, usize) {
        (self.bytes, self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map that outgrew its bound would take the daemon with it; one that forgot what is in use
    /// would never hit.
    #[test]
    fn bounded_and_recent_first() {
        let mut lru = Lru::new(10 * (100 + OVERHEAD));
        for n in 0..10 {
            assert!(lru.put(n, n, 100).is_empty());
        }
        assert_eq!(lru.get(&0), Some(0));
        let gone = lru.put(10, 10, 100);
        assert_eq!(gone, [(1, 1)]);
        assert_eq!(lru.get(&1), None);
        assert_eq!(lru.put(11, 11, 300).len(), 2, "a larger one takes the place of several");
        assert!(lru.put(12, 12, 1 << 20).is_empty(), "too large by itself");
        assert_eq!(lru.get(&12), None);
        assert_eq!(lru.get(&0), Some(0));
        for n in 0..100_000_u64 {
            lru.put((n % 40) as i32, 0, (n % 500) as usize);
        }
        let (bytes, entries) = lru.fill();
        assert!(bytes <= 10 * (100 + OVERHEAD) && entries == lru.turns.len());
        for key in 0..40 {
            lru.remove(&key);
        }
        assert_eq!(lru.fill(), (0, 0));
    }
}
