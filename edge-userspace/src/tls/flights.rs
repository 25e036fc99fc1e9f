//! Handshakes that wait for a key server: how many there may be in all, and whose share is whose.
//! `keyless` asks before anything is signed; the answer is a place that lives as long as the
//! handshake.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::base::peer::client_prefix;

/// Counts them. One per process.
#[derive(Debug, Default)]
pub struct Flights {
    state: Mutex<State>,
    waiting: Gauge,
    shed: Family<Reason, Counter>,
}

#[derive(Debug, Default)]
struct State {
    most: usize,
    most_per_address: usize,
    total: usize,
    zones: HashMap<Arc<str>, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// Why a handshake may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// There are as many as there may be.
    Total,
    /// It is crowded, and the zone has its share.
    Zone,
    /// The client has its share.
    Address,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A handshake's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    flights: Arc<Flights>,
    zone: Arc<str>,
    address: IpAddr,
}

impl Flights {
    /// Bounds for all, and for one IPv4 address or IPv6 /64.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        let this = Self::default();
        this.adjust(most, most_per_address);
        Arc::new(this)
    }

    /// Other bounds from now on; who waits already may go on.
    pub fn adjust(&self, most: usize, most_per_address: usize) {
        let mut state = self.lock();
        state.most = most;
        state.most_per_address = most_per_address;
    }

    /// Registers what is counted; once per process.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "edge_tls_handshakes_waiting",
            "Handshakes that wait for a key server now",
            self.waiting.clone(),
        );
        registry.register(
            "edge_tls_handshakes_shed",
            "Handshakes refused because too many wait for key servers",
            self.shed.clone(),
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a handshake of `zone` by `client`.
    ///
    /// Up to half of all, a zone may have what it needs; beyond, no more than its equal part, so
    /// that one zone's flood leaves room for the others.
    ///
    /// # Errors
    /// Which bound is reached; counted.
    pub fn board(self: &Arc<Self>, zone: &Arc<str>, client: IpAddr) -> Result<Place, Shed> {
        let address = client_prefix(client);
        let mut state = self.lock();
        let of_zone = state.zones.get(zone).copied().unwrap_or(0);
        let of_address = state.addresses.get(&address).copied().unwrap_or(0);
        let zones = state.zones.len() + usize::from(of_zone == 0);
        let shed = if state.total >= state.most {
            Some(Shed::Total)
        } else if of_address >= state.most_per_address {
            Some(Shed::Address)
        } else if state.total >= state.most / 2 && zones > 1 && of_zone >= (state.most / zones).max(1) {
            Some(Shed::Zone)
        } else {
            None
        };
        if let Some(shed) = shed {
            drop(state);
            let reason = match shed {
                Shed::Total => "total",
                Shed::Zone => "zone",
                Shed::Address => "address",
            };
            self.shed.get_or_create(&Reason { reason }).inc();
            return Err(shed);
        }
        state.total += 1;
        *state.zones.entry(zone.clone()).or_insert(0) += 1;
        *state.addresses.entry(address).or_insert(0) += 1;
        drop(state);
        self.waiting.inc();
        Ok(Place {
            flights: self.clone(),
            zone: zone.clone(),
            address,
        })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().total
    }
}

fn leave<K: Eq + Hash>(map: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut entry) = map.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.flights.lock();
        state.total -= 1;
        leave(&mut state.zones, self.zone.clone());
        leave(&mut state.addresses, self.address);
        drop(state);
        self.flights.waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// One zone's flood, or one client's, would keep everybody's handshakes out.
    #[test]
    fn shares_hold_and_places_come_back() {
        let flights = Flights::new(10, 3);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let places: Vec<_> = (0..9).map(|n| flights.board(&a, client(n)).unwrap()).collect();
        let first = flights.board(&b, client(100)).unwrap();
        assert_eq!(flights.board(&b, client(1)).unwrap_err(), Shed::Total);
        drop(places);
        assert_eq!(flights.waiting(), 1);
        let _more: Vec<_> = (0..5).map(|n| flights.board(&a, client(n)).unwrap()).collect();
        assert_eq!(
            flights.board(&a, client(9)).unwrap_err(),
            Shed::Zone,
            "b has the other half"
        );
        let _b: Vec<_> = (0..3).map(|n| flights.board(&b, client(n)).unwrap()).collect();
        drop(first);
        assert_eq!(flights.waiting(), 8);
    }

    #[test]
    fn a_client_has_its_share() {
        let flights = Flights::new(100, 2);
        let zone: Arc<str> = "a".into();
        let same = |n: u16| format!("2001:db8::{n}").parse::<IpAddr>().unwrap();
        let _first = flights.board(&zone, same(1)).unwrap();
        let second = flights.board(&zone, same(2)).unwrap();
        assert_eq!(flights.board(&zone, same(3)).unwrap_err(), Shed::Address);
        drop(second);
        assert!(flights.board(&zone, same(3)).is_ok());
        assert_eq!(flights.lock().addresses.len(), 1, "who is gone must not pile up");
    }
}
