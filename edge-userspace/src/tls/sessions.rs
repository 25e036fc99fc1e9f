//! Sessions that this node keeps and gives out once, for zones that take early data: rustls takes
//! it in no others, because that is what tells a copy of a client's first flight (RFC 8446 section
//! 8.1). A session is taken when it is asked for, whatever comes of it. What is kept is sealed as
//! tickets are ([`Ticketer`](super::tickets::Ticketer)): bound to the client's address prefix, with
//! its id and an end. `quic` equips connections by
//! [`Tickets::equip_once`](super::tickets::Tickets::equip_once).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::{ProducesTickets, StoresServerSessions};

/// Bytes kept at most, names included; half of them are younger than the other half. A session
/// without a certificate of the client's takes some 300.
const MOST: usize = 16 << 20;
/// What a session takes beside its bytes, about.
const BESIDE: usize = 128;

/// The sessions of one node.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Generations>);

/// When the younger half is full it becomes the elder, and what was the elder is forgotten: its
/// clients shake hands in full.
#[derive(Default)]
struct Generations {
    young: HashMap<Box<[u8]>, Box<[u8]>>,
    old: HashMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
}

impl fmt::Debug for Generations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generations")
            .field("count", &self.young.len().saturating_add(self.old.len()))
            .finish_non_exhaustive()
    }
}

impl Sessions {
    fn put(&self, name: Vec<u8>, session: Vec<u8>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = name.len().saturating_add(session.len()).saturating_add(BESIDE);
        if more > MOST / 16 {
            return false;
        }
        if kept.bytes.saturating_add(more) > MOST / 2 {
            kept.old = std::mem::take(&mut kept.young);
            kept.bytes = 0;
        }
        kept.bytes = kept.bytes.saturating_add(more);
        kept.young.insert(name.into(), session.into());
        true
    }

    /// Nobody gets it a second time. Its place is free when its half is forgotten.
    fn take(&self, name: &[u8]) -> Option<Vec<u8>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.young.remove(name);
        found.or_else(|| kept.old.remove(name)).map(Vec::from)
    }
}

/// The sessions as rustls asks for them on one connection.
pub(super) struct Keeper {
    sessions: Arc<Sessions>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Keeper {
    /// What `ticketer` seals is kept in `sessions`.
    pub(super) fn new(sessions: Arc<Sessions>, ticketer: Arc<dyn ProducesTickets>) -> Arc<Self> {
        Arc::new(Self { sessions, ticketer })
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl StoresServerSessions for Keeper {
    fn put(&self, name: Vec<u8>, session: Vec<u8>) -> bool {
        let session = zeroize::Zeroizing::new(session);
        match self.ticketer.encrypt(&session) {
            Some(sealed) => self.sessions.put(name, sealed),
            None => false,
        }
    }

    /// TLS 1.2's: never over QUIC.
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.ticketer.decrypt(&self.sessions.take(name)?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// In place of a ticketer: rustls takes early data only where there is none.
#[derive(Debug)]
pub(super) struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that was copied would be served again.
    #[test]
    fn a_session_is_given_once() {
        let sessions = Sessions::default();
        assert!(sessions.put(vec![1; 32], vec![7; 200]));
        assert!(sessions.put(vec![2; 32], vec![8; 200]));
        assert_eq!(sessions.take(&[1; 32]), Some(vec![7; 200]));
        assert_eq!(sessions.take(&[1; 32]), None);
        assert_eq!(sessions.take(&[2; 32]), Some(vec![8; 200]));
        assert_eq!(sessions.take(&[3; 32]), None);
    }

    /// Who shakes hands for ever would fill the node's memory.
    #[test]
    fn what_is_kept_has_a_bound_and_the_youngest_stay() {
        let sessions = Sessions::default();
        let name = |n: u32| [n.to_be_bytes(); 8].concat();
        let last = 200_000;
        for n in 0..=last {
            assert!(sessions.put(name(n), vec![0; 200]));
        }
        let kept = sessions.0.lock().unwrap();
        let count = kept.young.len() + kept.old.len();
        assert!(count * (32 + 200 + BESIDE) <= MOST && count > 20_000, "{count}");
        drop(kept);
        assert!(sessions.take(&name(last)).is_some());
        assert!(sessions.take(&name(last - 20_000)).is_some());
        assert!(sessions.take(&name(0)).is_none());
        assert!(!sessions.put(name(0), vec![0; MOST]));
    }
}
