//! Consistent hashing: which server a key belongs to, alike on every thread and node, with few keys
//! that move when servers come and go. A Maglev table (Eisenbud et al., NSDI 2016, section 3.4) by
//! XXH3; bounded load after Mirrokni, Thorup and Zadimoghaddam (2016). `balance` asks.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Places of a table, a prime: two bytes each, 128 KiB for each group of servers that is hashed to.
/// With 100 servers each has 655 or 656 places, and 1.6 % of the keys move if one goes. The size is
/// the same for every group: a table of another size would move all keys.
const PLACES: usize = 65_537;
/// A server is passed over while it has this many percent of the mean load.
const BOUND_PERCENT: u128 = 125;
/// Further places looked at for a key whose server is not to be asked; then the turn decides.
const STEPS: usize = 4_096;

/// The table of one group.
#[derive(Debug)]
pub(super) struct Table(Box<[u16]>);

/// The hash of what a request is placed by.
pub(super) fn key(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

impl Table {
    /// For servers with these names and weights. At most 65,535 of them count.
    pub(super) fn new<'a>(servers: impl Iterator<Item = (&'a str, u32)>) -> Self {
        const NOBODY: u16 = u16::MAX;
        // Each server fills the places of its own permutation in turn; one of a larger weight has
        // more turns.
        let mut turns: Vec<(usize, usize, u32)> = servers
            .take(usize::from(NOBODY))
            .map(|(name, weight)| {
                let offset = xxh3_64_with_seed(name.as_bytes(), 0) % PLACES as u64;
                let skip = xxh3_64_with_seed(name.as_bytes(), 1) % (PLACES as u64 - 1) + 1;
                // Both are below PLACES.
                (
                    usize::try_from(offset).unwrap_or(0),
                    usize::try_from(skip).unwrap_or(1),
                    weight,
                )
            })
            .collect();
        let most = turns.iter().map(|(.., weight)| *weight).max().unwrap_or(0);
        let mut places = vec![NOBODY; PLACES].into_boxed_slice();
        if most == 0 {
            return Self(Box::default());
        }
        let mut credit = vec![0u32; turns.len()];
        let mut left = PLACES;
        loop {
            for (server, ((next, skip, weight), credit)) in turns.iter_mut().zip(&mut credit).enumerate() {
                *credit = credit.saturating_add(*weight);
                if *credit < most {
                    continue;
                }
                *credit -= most;
                // As long as a place is free, the permutation leads to one.
                while places.get(*next).is_some_and(|place| *place != NOBODY) {
                    *next = (*next + *skip) % PLACES;
                }
                if let (Some(place), Ok(server)) = (places.get_mut(*next), u16::try_from(server)) {
                    *place = server;
                }
                left -= 1;
                if left == 0 {
                    return Self(places);
                }
            }
        }
    }

    /// The server of `key`, or the next one from its place on that `takes` it. `None`: none of the
    /// places looked at does.
    pub(super) fn find(&self, key: u64, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let places = u64::try_from(self.0.len()).ok().filter(|places| *places > 0)?;
        let mut at = usize::try_from(key % places).ok()?;
        // A walk of its own for each key, so that the keys of a server that is away spread over all
        // others.
        let step = usize::try_from((key >> 32) % (places - 1) + 1).ok()?;
        for _ in 0..STEPS {
            let server = usize::from(*self.0.get(at)?);
            if takes(server) {
                return Some(server);
            }
            at = (at + step) % self.0.len();
        }
        None
    }
}

/// Whether a server with `load` of the `total` requests under way has room for one more, given its
/// `weight` of `all`.
pub(super) fn has_room(load: usize, total: usize, weight: u32, all: u64) -> bool {
    // ceil(1.25 * (total + 1) * weight / all), without rounding down to nothing.
    let share = (total as u128 + 1) * u128::from(weight) * BOUND_PERCENT;
    (load as u128) < share.div_ceil(100 * u128::from(all.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 1_000_000;

    fn names(n: usize) -> Vec<String> {
        (0..n)
            .map(|n| format!("http://10.0.{}.{}:80", n / 250, n % 250))
            .collect()
    }

    fn table(names: &[String]) -> Table {
        Table::new(names.iter().map(|name| (name.as_str(), 1)))
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..KEYS).map(|n| key(&n.to_le_bytes()))
    }

    /// A server would get much more than the others; or adding one would empty the caches of all.
    #[test]
    fn loads_are_even_and_few_keys_move() {
        let names = names(100);
        let all = table(&names);
        let mut loads = vec![0u64; 100];
        for key in keys() {
            loads[all.find(key, |_| true).unwrap()] += 1;
        }
        let most = *loads.iter().max().unwrap();
        // 1.05 times the mean.
        assert!(most * 100 <= 105 * KEYS / 100, "{most} of {KEYS}");
        // One goes: by configuration, and by its health.
        let gone = 37;
        let rest: Vec<String> = names
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != gone)
            .map(|(_, name)| name.clone())
            .collect();
        let smaller = table(&rest);
        let (mut configured, mut unhealthy) = (0, 0);
        for key in keys() {
            let before = all.find(key, |_| true).unwrap();
            let after = smaller.find(key, |_| true).unwrap();
            configured += u64::from(rest[after] != names[before]);
            let now = all.find(key, |server| server != gone).unwrap();
            assert!(
                now != gone && (before == gone || now == before),
                "only its own keys move"
            );
            unhealthy += u64::from(now != before);
        }
        // At most 2 % of the keys.
        assert!(configured * 50 <= KEYS, "{configured} of {KEYS} moved");
        assert!(unhealthy * 50 <= KEYS, "{unhealthy} of {KEYS} moved");
    }

    /// A server of twice the size would be given no more than the others.
    #[test]
    fn weights_count() {
        let table = Table::new([("a", 1), ("b", 2), ("c", 5)].into_iter());
        let mut loads = [0u64; 3];
        for key in keys() {
            loads[table.find(key, |_| true).unwrap()] += 1;
        }
        for (load, weight) in loads.into_iter().zip([1, 2, 5]) {
            let fair = KEYS * weight / 8;
            assert!(load.abs_diff(fair) * 50 < fair, "{loads:?}");
        }
    }

    /// One popular key would bury its server.
    #[test]
    fn load_is_bounded() {
        let table = table(&names(10));
        let mut loads = [0usize; 10];
        for total in 0..1_000 {
            let server = table
                .find(key(b"everybody asks for this"), |server| {
                    has_room(loads[server], total, 1, 10)
                })
                .unwrap();
            loads[server] += 1;
        }
        let most = loads.iter().max().unwrap();
        assert!(*most <= 126, "{loads:?}");
        assert!(has_room(0, 0, 1, 1_000_000), "somebody always has room");
    }

    /// No servers, or none that may be asked, must be told and not searched for ever.
    #[test]
    fn nobody_to_find() {
        assert_eq!(Table::new(std::iter::empty()).find(1, |_| true), None);
        assert_eq!(table(&names(3)).find(1, |_| false), None);
    }
}
