//! Memory of guests: linear memories, and what the host keeps for them (content read whole, values
//! of a store, codecs, handles). Each instance has an [`Account`] with the zone's `memory` as its
//! bound; all accounts draw on the node's [`Memory`], `[isolate] memory` bytes, which the ledger
//! counts as `guests`. `store` and `js::traffic` charge; whoever makes an instance opens its
//! account.
//!
//! Of the node's bytes a zone gets more only while more are free than it holds: one zone that takes
//! all it can has half of them, two have a third each, and there is always room for who comes next.
//! A node whose one zone has a worker gives it all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Ended;
use crate::base::ledger::{Common, Kind, Ledger};

/// Bytes that an account takes from the node at once, so that threads rarely meet at its lock.
const LUMP: u64 = 256 << 10;

/// The node's bytes for guests.
#[derive(Debug)]
pub(super) struct Memory(Mutex<State>);

#[derive(Debug)]
struct State {
    most: u64,
    held: HashMap<Arc<str>, u64>,
    total: u64,
    /// Zones that have a worker.
    zones: usize,
    ledger: Common,
}

/// What one instance holds, itself and by the host. What it took from the node is given back when
/// it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    of: Option<(Arc<Memory>, Arc<str>)>,
    most: u64,
    used: AtomicU64,
    /// What of the node's is taken for it, at least `used`.
    taken: Mutex<u64>,
}

/// Some bytes of an account, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    account: Arc<Account>,
    bytes: u64,
}

impl Memory {
    /// `most` bytes, counted by `ledger`.
    pub(super) fn new(most: u64, ledger: &Ledger) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            most,
            held: HashMap::new(),
            total: 0,
            zones: 1,
            ledger: ledger.common(Kind::Guests),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many zones have a worker from now on.
    pub(super) fn among(&self, zones: usize) {
        self.state().zones = zones;
    }

    /// Opens the account of an instance of `zone`, with at most `most` bytes.
    pub(super) fn open(self: &Arc<Self>, zone: &Arc<str>, most: usize) -> Arc<Account> {
        Arc::new(Account::new(Some((self.clone(), zone.clone())), most))
    }

    fn take(&self, zone: &Arc<str>, bytes: u64) -> bool {
        let mut state = self.state();
        let held = state.held.get(zone).copied().unwrap_or(0);
        let total = state.total.saturating_add(bytes);
        let free = state.most.saturating_sub(total);
        let fair = state.zones <= 1 || held.saturating_add(bytes) <= free;
        if total > state.most || !fair {
            return false;
        }
        if !state.ledger.set(total) {
            return false;
        }
        state.total = total;
        *state.held.entry(zone.clone()).or_default() = held.saturating_add(bytes);
        true
    }

    fn give_back(&self, zone: &Arc<str>, bytes: u64) {
        let mut state = self.state();
        state.total = state.total.saturating_sub(bytes);
        let total = state.total;
        // Less is always taken.
        let _ = state.ledger.set(total);
        if let Some(held) = state.held.get_mut(zone) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                state.held.remove(zone);
            }
        }
    }
}

impl Account {
    /// Of no node: for the process that compiles, and for what a request has before its instance.
    pub(super) fn alone(most: usize) -> Arc<Self> {
        Arc::new(Self::new(None, most))
    }

    fn new(of: Option<(Arc<Memory>, Arc<str>)>, most: usize) -> Self {
        Self {
            of,
            most: u64::try_from(most).unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
            taken: Mutex::new(0),
        }
    }

    /// Takes `bytes` more, until [`Account::release`].
    ///
    /// # Errors
    /// [`Ended::Memory`]: it is more than the zone allows one instance. [`Ended::Overload`]: it is
    /// more than the zone's share of what the node has now.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Ended> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.most);
        let used = self
            .used
            .fetch_update(Relaxed, Relaxed, more)
            .map_err(|_| Ended::Memory)?
            .saturating_add(bytes);
        if self.reserve(used) {
            return Ok(());
        }
        self.used.fetch_sub(bytes, Relaxed);
        Err(Ended::Overload)
    }

    /// Has at least `used` bytes of the node.
    fn reserve(&self, used: u64) -> bool {
        let Some((memory, zone)) = &self.of else { return true };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(short) = used.checked_sub(*taken).filter(|short| *short > 0) else {
            return true;
        };
        let lump = short.next_multiple_of(LUMP);
        // When memory is short, what is asked for and no more.
        for bytes in [lump, short] {
            if memory.take(zone, bytes) {
                *taken = taken.saturating_add(bytes);
                return true;
            }
        }
        false
    }

    /// Gives `bytes` back to the account. What it took from the node it keeps, up to twice a lump
    /// beyond what it uses.
    pub(super) fn release(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let used = self.used.fetch_sub(bytes, Relaxed).saturating_sub(bytes);
        let Some((memory, zone)) = &self.of else { return };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = taken.saturating_sub(used);
        if spare > 2 * LUMP {
            *taken = taken.saturating_sub(spare);
            memory.give_back(zone, spare);
        }
    }

    /// As [`Account::take`], given back by dropping.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, Ended> {
        self.take(bytes)?;
        Ok(Held {
            account: self.clone(),
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((memory, zone)) = &self.of
            && taken > 0
        {
            memory.give_back(zone, taken);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.release(usize::try_from(self.bytes).unwrap_or(usize::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(most: u64, zones: usize) -> (Arc<Memory>, Ledger) {
        let ledger = Ledger::new(1 << 40, 1 << 40);
        let memory = Memory::new(most, &ledger);
        memory.among(zones);
        (memory, ledger)
    }

    /// One tenant would take the node's memory by adding up what each request may have, and others'
    /// requests fail.
    #[test]
    fn a_zone_that_takes_all_leaves_room_for_the_others() {
        let (memory, ledger) = memory(64 << 20, 10);
        let guests = || ledger.figures().kinds[Kind::Guests as usize];
        let mut held = Vec::new();
        for greedy in ["a", "b", "c"] {
            let zone: Arc<str> = greedy.into();
            loop {
                let account = memory.open(&zone, 4 << 20);
                match account.take(2 << 20) {
                    Ok(()) => held.push(account),
                    Err(ended) => break assert_eq!(ended, Ended::Overload),
                }
            }
            let other = memory.open(&"z".into(), 4 << 20);
            assert!(other.take(1 << 20).is_ok(), "beside {greedy}");
        }
        assert!(guests() <= 64 << 20);
        assert!(guests() > 40 << 20, "what there is is used");
        drop(held);
        assert_eq!(guests(), 0, "all is given back");
        assert!(memory.state().held.is_empty());
    }

    /// A node of one tenant would leave half of its memory unused.
    #[test]
    fn one_zone_alone_has_all() {
        let (memory, _ledger) = memory(8 << 20, 1);
        let account = memory.open(&"a".into(), 64 << 20);
        assert!(account.take(8 << 20).is_ok());
        assert_eq!(account.take(1).unwrap_err(), Ended::Overload);
        account.release(8 << 20);
        assert!(memory.open(&"b".into(), 64 << 20).take(4 << 20).is_ok());
    }

    /// A guest's memory and what the host keeps for it would each have the zone's bound.
    #[test]
    fn an_instance_has_one_bound_for_all_it_holds() {
        let (memory, _ledger) = memory(1 << 30, 2);
        let account = memory.open(&"a".into(), 1 << 20);
        account.take(600 << 10).unwrap();
        let held = account.hold(400 << 10).unwrap();
        assert_eq!(account.take(100 << 10).unwrap_err(), Ended::Memory);
        drop(held);
        assert!(account.take(100 << 10).is_ok());
    }

    /// The ledger's own bound holds for guests as for clients.
    #[test]
    fn the_ledger_may_refuse() {
        let ledger = Ledger::new(1 << 20, 1 << 20);
        let memory = Memory::new(64 << 20, &ledger);
        let account = memory.open(&"a".into(), 64 << 20);
        assert!(account.take(1 << 20).is_ok());
        assert_eq!(account.take(1).unwrap_err(), Ended::Overload);
    }
}
