//! How many handshakes there may be with addresses that have proven nothing, on the whole node and
//! for each client prefix. Places among connections are for addresses that are proven
//! ([`Limiter`](crate::tls::limits::Limiter)): whoever sends Initial packets in another's name
//! takes none of his. `front` asks for each attempt that brings no token.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::peer::client_prefix;

/// Handshakes with unproven addresses on the node at once, whatever the number of workers and
/// listeners: further ones get a Retry. Each holds some 40 KiB until its deadline: 40 MiB in all.
const MOST: usize = 1_024;
/// Of one IPv4 address or IPv6 /64: enough for a browser that opens several connections at once.
const FEW: usize = 8;

/// Counts them. One per node.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// No more than `all`.
    by_prefix: HashMap<IpAddr, usize>,
}

/// One handshake's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    prefix: IpAddr,
}

impl Strangers {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a handshake with `client`; `None`: it has to prove its address first.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Stranger> {
        let prefix = client_prefix(client);
        let mut counts = self.counts();
        if counts.all >= MOST {
            return None;
        }
        let count = counts.by_prefix.entry(prefix).or_default();
        if *count >= FEW {
            return None;
        }
        *count += 1;
        counts.all += 1;
        Some(Stranger {
            strangers: self.clone(),
            prefix,
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.strangers.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Entry::Occupied(mut count) = counts.by_prefix.entry(self.prefix) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spoofed attempts would hold the node's memory, or cost every client behind the abused
    /// address a place.
    #[test]
    fn few_of_an_address_and_not_too_many_of_all() {
        let strangers = Arc::new(Strangers::default());
        let one = IpAddr::from([192, 0, 2, 1]);
        let few: Vec<_> = (0..FEW).map(|_| strangers.admit(one).unwrap()).collect();
        assert!(strangers.admit(one).is_none());
        assert!(strangers.admit("::ffff:192.0.2.1".parse().unwrap()).is_none());
        let others: Vec<_> = (0..u32::MAX)
            .map_while(|n| strangers.admit(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, (n >> 16) as u16, n as u16])))
            .collect();
        // One /64: few.
        assert_eq!(others.len(), FEW);
        drop(others);
        let spread: Vec<_> = (0..u32::MAX)
            .map_while(|n| strangers.admit(IpAddr::from(n.to_be_bytes())))
            .collect();
        assert_eq!(spread.len() + few.len(), MOST);
        drop(few);
        drop(spread);
        let counts = strangers.counts();
        assert!(counts.all == 0 && counts.by_prefix.is_empty());
    }
}
