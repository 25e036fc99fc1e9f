//! How many connections there may be, in all and per client. `front` asks before any cryptography;
//! the answer is a permit that lives inside the connection. Shared by all workers.
//!
//! A network counts as few clients: an IPv6 /56 has as many connections as one address, a /48
//! four times as many; and the last 64th of all places is for networks (/48, IPv4 /24) that hold
//! few.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use prometheus_client::metrics::gauge::Gauge;

use crate::base::peer::{client_prefix, networks};

/// Enough that workers rarely meet at one lock; a power of two.
const SHARDS: usize = 64;
/// A site (IPv6 /48) may have the connections of this many addresses.
const OF_SITE: usize = 4;
/// The part of all places that is kept for networks that hold few, and the part of those that are
/// few.
const RESERVE: usize = 64;
const FEW: usize = 16;

/// Counts connections. One per process.
#[derive(Debug)]
pub struct Limiter {
    total: AtomicUsize,
    most: AtomicUsize,
    most_per_address: AtomicUsize,
    /// Proxies that speak for many clients, of which no address is counted.
    trusted: ArcSwap<Vec<IpNet>>,
    /// Keyed by an unguessable hash, so that a client cannot fill one shard.
    hasher: RandomState,
    shards: [Mutex<HashMap<IpNet, usize>>; SHARDS],
    gauge: Gauge,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    client: Option<IpAddr>,
}

impl Limiter {
    /// Bounds for connections in all and per IPv4 address or IPv6 /64; `gauge` follows the count.
    pub fn new(most: usize, most_per_address: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            most_per_address: AtomicUsize::new(most_per_address),
            trusted: ArcSwap::default(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            gauge,
        })
    }

    /// Has connections of these networks counted among all, and not by address: they are of
    /// proxies, which name their clients.
    pub fn trust(&self, networks: Vec<IpNet>) {
        self.trusted.store(Arc::new(networks));
    }

    /// Whether `address` is such a proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.load().iter().any(|network| network.contains(&address))
    }

    /// Other bounds from now on; connections above them stay.
    pub fn adjust(&self, most: usize, most_per_address: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_address.store(most_per_address, Ordering::Relaxed);
    }

    /// A place among all connections, or `None` when there is none left.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        // Counted first, so that workers racing for the last place cannot both get it.
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        if before >= self.most.load(Ordering::Relaxed) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.gauge.inc();
        Some(Permit {
            limiter: self.clone(),
            client: None,
        })
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Connections that a network may have now: an address, or what is around it.
    fn room(&self, network: IpNet) -> usize {
        let one = self.most_per_address.load(Ordering::Relaxed);
        let own = match network {
            IpNet::V4(v4) if v4.prefix_len() == 32 => return one,
            IpNet::V6(v6) if v6.prefix_len() > 48 => return one,
            IpNet::V4(_) => usize::MAX,
            IpNet::V6(_) => one.saturating_mul(OF_SITE),
        };
        let most = self.most.load(Ordering::Relaxed);
        let reserve = most / RESERVE;
        match most.saturating_sub(self.connections()) < reserve {
            true => own.min((reserve / FEW).max(1)),
            false => own,
        }
    }

    /// Counts one connection more of a network, if it has room.
    fn take(&self, network: IpNet) -> bool {
        let room = self.room(network);
        let mut shard = self.shard(&network).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(network).or_insert(0);
        if *count >= room {
            if *count == 0 {
                shard.remove(&network);
            }
            return false;
        }
        *count += 1;
        true
    }

    fn give(&self, network: IpNet) {
        let mut shard = self.shard(&network).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = shard.entry(network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn shard(&self, prefix: &IpNet) -> &Mutex<HashMap<IpNet, usize>> {
        let hash = self.hasher.hash_one(prefix);
        // The remainder is below the array's length.
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        &self.shards[hash as usize % SHARDS]
    }
}

/// What a connection of `client` is counted for: its address, and the networks around it.
fn counted(client: IpAddr) -> impl Iterator<Item = IpNet> {
    std::iter::once(IpNet::from(client_prefix(client))).chain(networks(client))
}

impl Permit {
    /// Whether `client` is a trusted proxy's address.
    #[must_use]
    pub fn trusts(&self, client: IpAddr) -> bool {
        self.limiter.trusts(client)
    }

    /// Counts the connection to `client`; once. False when that client, or a network around it, has
    /// as many as it may.
    #[must_use]
    pub fn claim(&mut self, client: IpAddr) -> bool {
        if self.limiter.trusts(client) {
            return true;
        }
        if self.client.is_some() {
            return false;
        }
        for (taken, network) in counted(client).enumerate() {
            if !self.limiter.take(network) {
                counted(client)
                    .take(taken)
                    .for_each(|network| self.limiter.give(network));
                return false;
            }
        }
        self.client = Some(client);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            counted(client).for_each(|network| self.limiter.give(network));
        }
        self.limiter.total.fetch_sub(1, Ordering::Relaxed);
        self.limiter.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// One client could take every connection, or the edge run out of memory.
    #[test]
    fn bounds_hold_and_places_come_back() {
        let limiter = Limiter::new(3, 2, Gauge::default());
        let mut a = limiter.enter().unwrap();
        assert!(a.claim(address("2001:db8::1")));
        let mut b = limiter.enter().unwrap();
        assert!(b.claim(address("2001:db8::2")), "the same /64, second of two");
        let mut c = limiter.enter().unwrap();
        assert!(!c.claim(address("2001:db8::3")), "a third of one /64");
        assert!(limiter.enter().is_none(), "a fourth in all");
        drop(a);
        assert!(c.claim(address("2001:db8::3")));
        drop((b, c));
        assert_eq!(limiter.connections(), 0);
        assert!(
            limiter.shards.iter().all(|s| s.lock().unwrap().is_empty()),
            "counts of clients gone must not pile up"
        );
    }

    /// One site would hold all connections, from addresses of which each is within its bound; or
    /// the rest of the world would find none left.
    #[test]
    fn a_network_is_no_crowd() {
        let limiter = Limiter::new(6_400, 10, Gauge::default());
        let open = |text: String| {
            let mut permit = limiter.enter()?;
            permit.claim(address(&text)).then_some(permit)
        };
        let mut held: Vec<_> = (0..600).filter_map(|n| open(format!("2001:db8:1:{n:x}::1"))).collect();
        assert_eq!(held.len(), 30, "a /56 has ten, and there are three of them");
        held.extend((0..200).filter_map(|n| open(format!("2001:db8:1:{:x}::1", n << 8))));
        assert_eq!(held.len(), 40);
        held.extend((0..40).filter_map(|n| open(format!("2001:db8:2:{n:x}::1"))));
        assert_eq!(held.len(), 50);
        drop(held);
        assert!(limiter.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        // Enough IPv4 networks to take all: the last 64th is for who has none.
        let held: Vec<_> = (0..10_000u32)
            .filter_map(|n| open(format!("198.18.{}.{}", n % 8, n / 8 % 256)))
            .collect();
        assert_eq!(held.len(), 6_400 - 100);
        let others: Vec<_> = (0..100).filter_map(|n| open(format!("203.0.{n}.1"))).collect();
        assert_eq!((others.len(), limiter.enter().is_none()), (100, true));
    }

    /// Racing workers must not let more in than the bound.
    #[test]
    fn races() {
        let limiter = Limiter::new(50, 1_000, Gauge::default());
        let held: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let limiter = limiter.clone();
                    scope.spawn(move || (0..100).filter_map(|_| limiter.enter()).map(std::mem::forget).count())
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(held, 50);
    }
}
