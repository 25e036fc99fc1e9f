//! Requests for the same resource at the same time: one goes to the origin, the others wait for
//! what becomes of it (RFC 9111 section 4, "collapse"). `handler` joins; what turns out not to be
//! for all sends everybody on its own way at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::fill::Fill;
use super::resource::Variant;
use crate::http::handler::{Failure, Reason};

/// What became of the request that flew.
#[derive(Clone)]
pub(super) enum Landing {
    /// The store has it now.
    Stored,
    /// It streams, with a known length: join it.
    Streaming(Arc<Variant>, Arc<Fill>),
    /// Not for others.
    Alone,
    /// The origin failed, in a way that has nothing to do with the request ([`shared`]).
    Failed(Reason, Arc<str>),
    /// It came to nothing for a reason of its own: its client went away, or the origin did not like
    /// it. The next one flies.
    Gone,
}

impl Landing {
    /// What a failure is to those who wait.
    pub(super) fn of(failure: &Failure) -> Self {
        match shared(failure.reason) {
            true => Self::Failed(failure.reason, failure.detail.as_str().into()),
            false => Self::Gone,
        }
    }
}

/// Requests under way, by resource.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<String, UnderWay>>,
    /// Numbers the flights, so that one that was detached does not take its successor away.
    next: AtomicU64,
}

/// What is under way for one resource.
#[derive(Default)]
struct UnderWay {
    /// The flight that others may join.
    joinable: Option<(u64, watch::Receiver<Option<Landing>>)>,
    /// Requests at the origin whose responses may be stored, whether others may join them or not.
    trips: usize,
}

impl UnderWay {
    fn idle(&self) -> bool {
        self.joinable.is_none() && self.trips == 0
    }
}

/// What [`Flights::join`] gives.
pub(super) enum Seat {
    /// Nobody is under way: fly, and land.
    Pilot(Pilot),
    /// Somebody is.
    Passenger(watch::Receiver<Option<Landing>>),
}

/// Flies for the others; lands when dropped, at the latest.
pub(super) struct Pilot {
    flights: Arc<Flights>,
    key: String,
    number: u64,
    sender: watch::Sender<Option<Landing>>,
}

/// A request at the origin whose response may be stored: as long as it lasts, [`Flights::has`]
/// knows of it.
pub(super) struct Trip {
    flights: Arc<Flights>,
    key: String,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat for `key`.
    pub(super) fn join(self: &Arc<Self>, key: &str) -> Seat {
        let mut flights = self.lock();
        let known = flights.entry(key.to_owned()).or_default();
        if let Some((_, receiver)) = &known.joinable {
            return Seat::Passenger(receiver.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        known.joinable = Some((number, receiver));
        Seat::Pilot(Pilot {
            flights: self.clone(),
            key: key.to_owned(),
            number,
            sender,
        })
    }

    /// A request for `key` goes to the origin.
    pub(super) fn depart(self: &Arc<Self>, key: &str) -> Trip {
        self.lock().entry(key.to_owned()).or_default().trips += 1;
        Trip {
            flights: self.clone(),
            key: key.to_owned(),
        }
    }

    /// Whether somebody is under way for `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }

    /// Nobody joins the flights that are under way for the resources that `meant` means any more:
    /// what they bring is void. Who comes later flies anew.
    pub(super) fn detach(&self, meant: impl Fn(&str) -> bool) {
        self.lock().retain(|key, known| {
            if meant(key) {
                known.joinable = None;
            }
            !known.idle()
        });
    }

    /// As [`Flights::detach`], of one resource.
    pub(super) fn detach_one(&self, key: &str) {
        let mut flights = self.lock();
        if let Some(known) = flights.get_mut(key) {
            known.joinable = None;
            if known.idle() {
                flights.remove(key);
            }
        }
    }
}

impl Pilot {
    /// Tells the passengers, those who come until [`Pilot::close`] included.
    pub(super) fn land(&self, landing: Landing) {
        self.sender.send_replace(Some(landing));
    }

    /// Tells them, and lets the next one fly.
    pub(super) fn close(self, landing: Landing) {
        self.land(landing);
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if let Some(known) = flights.get_mut(&self.key) {
            if known
                .joinable
                .as_ref()
                .is_some_and(|(number, _)| *number == self.number)
            {
                known.joinable = None;
            }
            if known.idle() {
                flights.remove(&self.key);
            }
        }
        drop(flights);
        self.sender.send_if_modified(|landing| {
            let none = landing.is_none();
            if none {
                *landing = Some(Landing::Gone);
            }
            none
        });
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if let Some(known) = flights.get_mut(&self.key) {
            known.trips = known.trips.saturating_sub(1);
            if known.idle() {
                flights.remove(&self.key);
            }
        }
    }
}

/// Waits for the landing, at most `patience`; `None`: go alone.
pub(super) async fn wait(mut receiver: watch::Receiver<Option<Landing>>, patience: Duration) -> Option<Landing> {
    let landed = tokio::time::timeout(patience, receiver.wait_for(Option::is_some)).await;
    landed.ok()?.ok()?.clone()
}

/// Whether a failure is everybody's who asks for the same: only what is found out before the origin
/// has seen anything of the request cannot depend on it.
fn shared(reason: Reason) -> bool {
    matches!(reason, Reason::OriginUnreachable | Reason::Overload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a purge nobody is given what was asked for before, and the flight that was detached
    /// ends without taking its successor along.
    #[test]
    fn detached() {
        let flights = Arc::new(Flights::default());
        let Seat::Pilot(first) = flights.join("z a") else {
            panic!("somebody flew before")
        };
        assert!(matches!(flights.join("z a"), Seat::Passenger(_)));
        flights.detach(|key| key.starts_with("z "));
        let Seat::Pilot(second) = flights.join("z a") else {
            panic!("joined what was purged")
        };
        drop(first);
        assert!(matches!(flights.join("z a"), Seat::Passenger(_)));
        flights.detach_one("z a");
        assert!(!flights.has("z a"));
        let Seat::Pilot(third) = flights.join("z a") else {
            panic!("joined what was purged")
        };
        drop(second);
        assert!(flights.has("z a"));
        drop(third);
        assert!(!flights.has("z a"), "nothing is left behind");
    }

    /// An invalidation finds a response that nobody could join.
    #[test]
    fn trips() {
        let flights = Arc::new(Flights::default());
        let trips = [flights.depart("z a"), flights.depart("z a")];
        assert!(flights.has("z a") && matches!(flights.join("z a"), Seat::Pilot(_)));
        flights.detach(|_| true);
        assert!(flights.has("z a"));
        drop(trips);
        assert!(!flights.has("z a"));
    }
}
