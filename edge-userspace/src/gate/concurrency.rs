//! Permits for requests in flight at a zone's origin. A permit is held until the origin has sent
//! the response's content, or it is dropped.
//!
//! Nobody holds so many that others find none: an address may take one more while it holds less
//! than twice what is free, the network around it (IPv6 /48, IPv4 /24) while that holds less than
//! four times as much (dynamic thresholds, Choudhury and Hahne 1998). So one address alone has two
//! thirds of the permits, and a network four fifths; the next one finds two thirds of the rest, and
//! so on. With one permit in all there is nothing to share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::prefixes;

/// An address may take one more while it holds less than so many times what is free; and its
/// network.
const OF_ADDRESS: usize = 2;
const OF_NETWORK: usize = 4;

/// `most` permits, a quarter of them kept for clients that have waited.
#[derive(Debug)]
pub struct Pool {
    most: usize,
    newcomers: usize,
    held: Mutex<Held>,
}

/// Who holds how many; no more entries than permits that are held.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    by_network: HashMap<u32, usize>,
}

/// One request in flight; dropping it makes room.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<Pool>,
    prefix: IpAddr,
}

impl Pool {
    /// A pool of `most` permits, at least 1. Newcomers may hold three quarters, and at least one.
    pub fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self {
            most,
            newcomers: (most - most / 4).max(1),
            held: Mutex::default(),
        })
    }

    /// A permit for a request from `prefix`, if there is one; the reserve is for those who
    /// `waited`.
    pub fn take(self: &Arc<Self>, waited: bool, prefix: IpAddr) -> Option<Permit> {
        let limit = if waited { self.most } else { self.newcomers };
        let network = prefixes::site(prefix);
        let mut held = self.held();
        let free = limit.saturating_sub(held.all);
        let of_address = held.by_address.get(&prefix).copied().unwrap_or(0);
        let of_network = held.by_network.get(&network).copied().unwrap_or(0);
        if of_address >= free.saturating_mul(OF_ADDRESS) || of_network >= free.saturating_mul(OF_NETWORK) {
            return None;
        }
        held.all += 1;
        *held.by_address.entry(prefix).or_default() += 1;
        *held.by_network.entry(network).or_default() += 1;
        Some(Permit {
            pool: self.clone(),
            prefix,
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permits in all.
    pub fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.pool.held();
        held.all = held.all.saturating_sub(1);
        give(&mut held.by_address, self.prefix);
        give(&mut held.by_network, prefixes::site(self.prefix));
    }
}

/// One less, and no entry for nothing.
fn give<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, n, 0, 1])
    }

    fn held(pool: &Pool) -> usize {
        pool.held().all
    }

    /// An origin would get more than it can bear, newcomers would starve those who waited, or
    /// permits would leak away.
    #[test]
    fn bounded_reserved_returned() {
        let pool = Pool::new(8);
        let newcomers: Vec<_> = (0..20).filter_map(|n| pool.take(false, address(n))).collect();
        assert_eq!(newcomers.len(), 6);
        let waited: Vec<_> = (0..20).filter_map(|n| pool.take(true, address(n))).collect();
        assert_eq!((waited.len(), held(&pool)), (2, 8));
        drop(newcomers);
        assert_eq!(held(&pool), 2);
        let more = (20..40).map_while(|n| pool.take(false, address(n)).map(std::mem::forget));
        assert_eq!(more.count(), 4);
        assert!(Pool::new(1).take(false, address(1)).is_some());
        drop(waited);
        assert_eq!(
            (held(&pool), pool.held().by_address.len()),
            (4, 4),
            "nothing is kept of who left"
        );
    }

    /// One address, or one network, would take all permits and keep them, by slow downloads or
    /// uploads.
    #[test]
    fn nobody_takes_all() {
        let pool = Pool::new(8);
        let one: Vec<_> = (0..20).map_while(|_| pool.take(false, address(1))).collect();
        assert_eq!(one.len(), 4);
        let others: Vec<_> = (2..4).filter_map(|n| pool.take(false, address(n))).collect();
        assert_eq!(others.len(), 2);
        // Who waited has the reserve, whatever the others hold.
        assert!(pool.take(true, address(9)).is_some());
        let pool = Pool::new(100);
        let of_site = |n: u128| IpAddr::from(std::net::Ipv6Addr::from(0x2001_0db8_0001 << 80 | n << 64));
        let network: Vec<_> = (0..1_000).filter_map(|n| pool.take(false, of_site(n))).collect();
        assert_eq!(network.len(), 60);
        assert_eq!(
            (0..15)
                .filter_map(|n| pool.take(false, address(n)).map(std::mem::forget))
                .count(),
            15
        );
    }
}
