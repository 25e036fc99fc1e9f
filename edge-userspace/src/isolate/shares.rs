//! How many guests run at once on the node, by zone. A zone gets a slot only while more are free
//! than it holds: one zone that takes all it can has half of them, two have a third each, and there
//! is always one for who comes next. Nobody is sent away for those that hang in another zone. A
//! node whose one zone has a worker gives it all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::error::Ended;

/// How long a client's request waits for a slot.
const PATIENCE: Duration = Duration::from_secs(1);

/// Slots of the node.
#[derive(Debug)]
pub(super) struct Shares {
    state: Mutex<State>,
    /// Told whenever a slot is given back.
    given_back: Notify,
    waiting: AtomicUsize,
    waiting_most: usize,
}

#[derive(Debug)]
struct State {
    outer: Pool,
    /// For requests that guests made, which no client's request can take.
    nested: Pool,
    /// Zones that have a worker.
    zones: usize,
}

#[derive(Debug)]
struct Pool {
    free: usize,
    held: HashMap<Arc<str>, usize>,
}

/// A slot of the node; free again when dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    zone: Arc<str>,
    nested: bool,
}

impl Pool {
    fn take(&mut self, zone: &Arc<str>, alone: bool) -> bool {
        let held = self.held.get(zone).copied().unwrap_or(0);
        if self.free == 0 || (held >= self.free && !alone) {
            return false;
        }
        self.free = self.free.saturating_sub(1);
        *self.held.entry(zone.clone()).or_default() = held.saturating_add(1);
        true
    }

    fn give_back(&mut self, zone: &Arc<str>) {
        self.free = self.free.saturating_add(1);
        if let Some(held) = self.held.get_mut(zone) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(zone);
            }
        }
    }
}

impl Shares {
    /// `outer` for all, `nested` more for sub-requests; at most `outer` clients' requests wait.
    pub(super) fn new(outer: usize, nested: usize) -> Arc<Self> {
        let pool = |free| Pool {
            free,
            held: HashMap::new(),
        };
        Arc::new(Self {
            state: Mutex::new(State {
                outer: pool(outer),
                nested: pool(nested),
                zones: 1,
            }),
            given_back: Notify::new(),
            waiting: AtomicUsize::new(0),
            waiting_most: outer,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many zones have a worker from now on.
    pub(super) fn among(&self, zones: usize) {
        self.state().zones = zones;
    }

    fn try_take(self: &Arc<Self>, zone: &Arc<str>, nested: bool) -> Option<Share> {
        let mut state = self.state();
        let alone = state.zones <= 1;
        let taken = |nested| Share {
            of: self.clone(),
            zone: zone.clone(),
            nested,
        };
        if state.outer.take(zone, alone) {
            return Some(taken(false));
        }
        (nested && state.nested.take(zone, alone)).then(|| taken(true))
    }

    /// A slot for a request of `zone` that a client made, or another guest.
    ///
    /// # Errors
    /// [`Ended::Overload`].
    pub(super) async fn take(self: &Arc<Self>, zone: &Arc<str>, nested: bool) -> Result<Share, Ended> {
        if let Some(share) = self.try_take(zone, nested) {
            return Ok(share);
        }
        let more = |n: usize| (n < self.waiting_most).then_some(n.saturating_add(1));
        if nested || self.waiting.fetch_update(Relaxed, Relaxed, more).is_err() {
            return Err(Ended::Overload);
        }
        let _waiting = Waiting(&self.waiting);
        let wait = async {
            loop {
                let mut told = std::pin::pin!(self.given_back.notified());
                // Registered before it is tried: what is given back in between is not missed.
                told.as_mut().enable();
                if let Some(share) = self.try_take(zone, false) {
                    return share;
                }
                told.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| Ended::Overload)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.of.state();
        let pool = if self.nested {
            &mut state.nested
        } else {
            &mut state.outer
        };
        pool.give_back(&self.zone);
        drop(state);
        self.of.given_back.notify_waiters();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Arc<str> {
        name.into()
    }

    /// One zone whose requests hang would be an outage of all others' workers.
    #[tokio::test]
    async fn zones_that_hang_leave_room_for_the_others() {
        let shares = Shares::new(25, 10);
        shares.among(30);
        let mut held = Vec::new();
        for hanging in ["a", "b", "c", "d"] {
            while let Some(share) = shares.try_take(&zone(hanging), false) {
                held.push(share);
            }
            for other in ["x", "y"] {
                let got = shares.take(&zone(other), false).await;
                assert!(got.is_ok(), "{other} beside {hanging}");
            }
        }
        assert!(shares.take(&zone("a"), false).await.is_err(), "and has to wait itself");
        held.retain(|share| &*share.zone != "a");
        assert!(shares.take(&zone("a"), false).await.is_ok());
    }

    /// A node of one tenant would leave half of its room unused.
    #[tokio::test]
    async fn one_zone_alone_has_all() {
        let shares = Shares::new(4, 1);
        let held: Vec<_> = std::iter::from_fn(|| shares.try_take(&zone("a"), false)).collect();
        assert_eq!(held.len(), 4);
        assert!(
            shares.take(&zone("a"), true).await.is_ok(),
            "its own sub-requests have more"
        );
        let own = zone("a");
        let waits = shares.take(&own, false);
        let frees = async move { drop(held) };
        let (got, ()) = tokio::join!(waits, frees);
        assert!(got.is_ok(), "who waits is told");
        assert_eq!(shares.waiting.load(Relaxed), 0);
    }
}
