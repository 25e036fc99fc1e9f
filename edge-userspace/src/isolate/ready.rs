//! Instances that wait for a request: used ones of zones that reuse them, and new ones, made behind
//! a response so that the next client does not wait for that. Of the node's pool, they have what
//! slots leave ([`Place`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::config::isolate::Worker;

/// Of one program.
const MOST: usize = 8;
/// How long a used one waits.
pub(super) const USED_LIFE: Duration = Duration::from_secs(10);
/// How long a new one does.
pub(super) const NEW_LIFE: Duration = Duration::from_secs(2);
/// A zone whose requests are further apart gets no instance in advance: it would wait in vain.
const SOON: Duration = Duration::from_secs(1);

/// Room for one instance that answers no request; given back when dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// A program's instances that wait.
#[derive(Debug)]
pub(super) struct Ready<I>(Mutex<State<I>>);

#[derive(Debug)]
struct State<I> {
    waiting: Vec<Waiting<I>>,
    asked: Option<Instant>,
    /// The last two requests came soon after one another.
    busy: bool,
}

#[derive(Debug)]
struct Waiting<I> {
    instance: I,
    /// Under what settings and limits it was made.
    worker: Arc<Worker>,
    until: Instant,
    _place: Place,
}

impl<I> Default for Ready<I> {
    fn default() -> Self {
        Self(Mutex::new(State {
            waiting: Vec::new(),
            asked: None,
            busy: false,
        }))
    }
}

impl<I> Ready<I> {
    fn state(&self) -> MutexGuard<'_, State<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance for a request that came at `now` to a zone whose worker is `worker`, if one
    /// waits. Those of a configuration before it go.
    pub(super) fn take(&self, worker: &Arc<Worker>, now: Instant) -> Option<I> {
        let mut state = self.state();
        let before = state.asked.replace(now);
        state.busy = before.is_some_and(|before| now.saturating_duration_since(before) < SOON);
        while let Some(waiting) = state.waiting.pop() {
            if Arc::ptr_eq(&waiting.worker, worker) {
                return Some(waiting.instance);
            }
        }
        None
    }

    /// Whether one made now is likely to be used.
    pub(super) fn wants_new(&self) -> bool {
        let state = self.state();
        state.busy && state.waiting.len() < MOST
    }

    /// Has `instance`, made for `worker`, wait until `until`, if there is room.
    pub(super) fn put(&self, instance: I, worker: Arc<Worker>, until: Instant, place: Place) {
        let mut state = self.state();
        if state.waiting.len() < MOST {
            state.waiting.push(Waiting {
                instance,
                worker,
                until,
                _place: place,
            });
        }
    }

    /// Lets go of those that have waited in vain.
    pub(super) fn sweep(&self, now: Instant) {
        self.state().waiting.retain(|waiting| now < waiting.until);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn worker() -> Arc<Worker> {
        let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.test\"]\n[zone.worker]\n";
        let config = crate::config::Config::parse(std::path::Path::new("edge.toml"), text).unwrap();
        config.zones[0].worker.clone().unwrap()
    }

    /// A zone asked once a minute would pay for two instances each time, or a busy one never find
    /// one.
    #[test]
    fn new_ones_are_made_for_who_is_asked_often() {
        let (ready, worker, began) = (Ready::<u8>::default(), worker(), Instant::now());
        assert!(ready.take(&worker, began).is_none());
        assert!(!ready.wants_new());
        assert!(ready.take(&worker, began + SOON / 2).is_none());
        assert!(ready.wants_new());
        assert!(ready.take(&worker, began + SOON * 2).is_none());
        assert!(!ready.wants_new());
    }

    /// Settings that were withdrawn would be there for one more request; or many zones would fill
    /// the pool with what waits.
    #[test]
    fn what_waits_is_of_the_zone_as_it_is_and_is_bounded() {
        let (ready, worker, now) = (Ready::default(), worker(), Instant::now());
        let places = Arc::new(Semaphore::new(20));
        let place = || places.clone().try_acquire_owned().unwrap();
        let changed = Arc::new((*worker).clone());
        ready.put(1, worker.clone(), now + USED_LIFE, place());
        assert!(ready.take(&changed, now).is_none());
        assert_eq!(places.available_permits(), 20, "it is gone");
        for n in 0..20 {
            ready.put(n, worker.clone(), now + NEW_LIFE, place());
        }
        assert_eq!(places.available_permits(), 20 - MOST);
        assert_eq!(ready.take(&worker, now), Some(7), "the warmest first");
        ready.sweep(now + NEW_LIFE / 2);
        assert!(ready.take(&worker, now).is_some());
        ready.sweep(now + NEW_LIFE);
        assert!(ready.take(&worker, now).is_none());
        assert_eq!(places.available_permits(), 20);
    }
}
