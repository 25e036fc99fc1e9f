//! Requests for the same thing at the same moment: the first fetches, and where its answer may
//! serve others too, those that came meanwhile get it. Whether it may is only known once it is
//! there; who waited in vain fetches alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, header};
use tokio::sync::watch;

use super::digest::Digest;

/// Fetches under way, by what is asked for.
#[derive(Debug)]
pub(super) struct Flights<T>(Arc<Mutex<Map<T>>>);

type Map<T> = HashMap<Digest, watch::Receiver<Option<Landed<T>>>>;

/// How a fetch ended.
#[derive(Clone, Debug)]
enum Landed<T> {
    /// Its answer serves every request alike in the fields that it varies by.
    Shared(Arc<(HeaderMap, T)>),
    Alone,
}

/// What a request is told.
pub(super) enum Turn<T> {
    /// Fetch, and say what came of it.
    Lead(Lead<T>),
    /// Somebody else's answer.
    Given(T),
    /// Fetch alone.
    Alone,
}

/// The duty to say what came of a fetch; dropped, it says that nothing did.
pub(super) struct Lead<T> {
    map: Arc<Mutex<Map<T>>>,
    id: Digest,
    say: watch::Sender<Option<Landed<T>>>,
    landed: bool,
}

impl<T: Clone> Flights<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// A request for `id` with `headers`; waits while another one fetches.
    pub(super) async fn join(&self, id: Digest, headers: &HeaderMap) -> Turn<T> {
        let mut flight = {
            let mut map = lock(&self.0);
            match map.get(&id) {
                Some(flight) => flight.clone(),
                None => {
                    let (say, flight) = watch::channel(None);
                    map.insert(id, flight);
                    let map = self.0.clone();
                    return Turn::Lead(Lead {
                        map,
                        id,
                        say,
                        landed: false,
                    });
                }
            }
        };
        match flight.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Landed::Shared(shared))) if alike(&shared.0, headers) => Turn::Given(shared.1.clone()),
            _ => Turn::Alone,
        }
    }
}

impl<T> Lead<T> {
    /// The answer serves all whose `asked` fields are alike by `varies`, the answer's `Vary` as
    /// names and our own values.
    pub(super) fn share(self, by: HeaderMap, answer: T) {
        self.land(Landed::Shared(Arc::new((by, answer))));
    }

    /// The answer is for one.
    pub(super) fn alone(self) {
        self.land(Landed::Alone);
    }

    fn land(mut self, how: Landed<T>) {
        lock(&self.map).remove(&self.id);
        self.landed = true;
        // Nobody may be waiting.
        let _ = self.say.send(Some(how));
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        // After landing the place may be another fetch's.
        if !self.landed {
            lock(&self.map).remove(&self.id);
        }
    }
}

/// The fields of `asked` that `Vary` in `given` names, with an empty list for those that are not
/// there.
pub(super) fn varying(asked: &HeaderMap, given: &HeaderMap) -> HeaderMap {
    let mut by = HeaderMap::new();
    for field in given.get_all(header::VARY) {
        for name in field.as_bytes().split(|b| *b == b',') {
            let Ok(name) = http::HeaderName::from_bytes(name.trim_ascii()) else {
                continue;
            };
            let value = joined(asked, &name);
            by.insert(name, value);
        }
    }
    by
}

fn alike(by: &HeaderMap, headers: &HeaderMap) -> bool {
    by.iter().all(|(name, value)| joined(headers, name) == *value)
}

fn joined(headers: &HeaderMap, name: &http::HeaderName) -> http::HeaderValue {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    http::HeaderValue::from_bytes(&values.join(&b", "[..])).unwrap_or_else(|_| http::HeaderValue::from_static(""))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
