//! Requests for the same resource at the same time: one goes to the origin, the others wait for what becomes of it (RFC 9111
//! section 4, "collapse"). `handler` joins; what turns out not to be for all sends everybody on its own way at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::fill::Fill;
use super::resource::Variant;
use crate::http::handler::Reason;

/// What became of the request that flew.
#[derive(Clone)]
pub(super) enum Landing {
    /// The store has it now.
    Stored,
    /// It streams, with a known length: join it.
    Streaming(Arc<Variant>, Arc<Fill>),
    /// Not for others.
    Alone,
    /// The origin failed.
    Failed(Reason, Arc<str>),
    /// Its client went away.
    Gone,
}

/// Requests under way, by resource.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<String, watch::Receiver<Option<Landing>>>>);

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
    sender: watch::Sender<Option<Landing>>,
}

impl Flights {
    /// Takes a seat for `key`.
    pub(super) fn join(self: &Arc<Self>, key: &str) -> Seat {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = flights.get(key) {
            return Seat::Passenger(receiver.clone());
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.to_owned(), receiver);
        Seat::Pilot(Pilot {
            flights: self.clone(),
            key: key.to_owned(),
            sender,
        })
    }
}

impl Flights {
    /// Whether somebody is under way for `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        let flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.contains_key(key)
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
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&self.key);
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

/// Waits for the landing, at most `patience`; `None`: go alone.
pub(super) async fn wait(mut receiver: watch::Receiver<Option<Landing>>, patience: Duration) -> Option<Landing> {
    let landed = tokio::time::timeout(patience, receiver.wait_for(Option::is_some)).await;
    landed.ok()?.ok()?.clone()
}
