//! The near end's versions: of each resource, variant and, where content is not for everybody,
//! holder of credentials the last one. In memory, within one bound of bytes; shared by all workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, header};

use super::codec::Dictionary;
use super::digest::{Digest, Hasher};
use super::lru::Lru;
use super::metrics::{Metrics, Store};
use super::privacy::{Keep, Shown};
use crate::http::message::Exchange;

/// Fields that one `Vary` may name; a response that names more has no variant.
const MOST_NAMES: usize = 16;

/// A version, and what is needed to give it when nobody can be asked.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) version: Dictionary,
    pub(super) spare: Option<Arc<Spare>>,
}

/// The head of a version that may be given stale.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub(super) headers: HeaderMap,
    /// When the far end was asked: a purge after that voids it.
    pub(super) asked: Instant,
    pub(super) came: Instant,
    /// Also to who shows `Authorization`.
    pub(super) for_authorized: bool,
    /// It may be given for so long after it came.
    pub(super) lasts: Duration,
}

/// Where versions of one request's resource are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    shared: Digest,
    apart: Option<Digest>,
}

#[derive(Clone, Debug)]
enum Slot {
    Base(Base),
    Varies(Arc<[HeaderName]>),
}

/// The store.
#[derive(Debug)]
pub(super) struct Bases {
    slots: Mutex<Lru<Digest, Slot>>,
    metrics: Metrics,
}

impl Place {
    /// Of a request for `target` (path and query).
    pub(super) fn of(exchange: &Exchange, target: &str, headers: &HeaderMap) -> Self {
        let scheme = exchange.peer.scheme();
        let mut hasher = Hasher::new();
        for part in [&*exchange.zone.name, scheme, &*exchange.host, target] {
            add(&mut hasher, part.as_bytes());
        }
        let shared = hasher.clone().finish();
        let apart = Shown::by(headers).any().then(|| {
            for name in [header::AUTHORIZATION, header::COOKIE] {
                for value in headers.get_all(&name) {
                    add(&mut hasher, name.as_str().as_bytes());
                    add(&mut hasher, value.as_bytes());
                }
            }
            hasher.finish()
        });
        Self { shared, apart }
    }
}

/// With its length, so that two lists of parts never look alike.
fn add(hasher: &mut Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

impl Bases {
    /// Holds at most `bytes`.
    pub(super) fn new(bytes: usize, metrics: Metrics) -> Self {
        Self {
            slots: Mutex::new(Lru::new(bytes)),
            metrics,
        }
    }

    /// The last version that a request with `headers` may refer to.
    pub(super) fn find(&self, place: &Place, headers: &HeaderMap) -> Option<Base> {
        let found = {
            let mut slots = self.lock();
            let apart = place.apart.and_then(|id| look(&mut slots, id, headers));
            apart.or_else(|| look(&mut slots, place.shared, headers))
        };
        self.metrics.looked_up(Store::Bases, found.is_some());
        found
    }

    /// Keeps `base`, the version that a request with `asked` got with `given`.
    pub(super) fn put(&self, place: &Place, keep: Keep, asked: &HeaderMap, given: &HeaderMap, base: Base) {
        let id = match (keep, place.apart) {
            (Keep::Shared, _) => place.shared,
            (Keep::Apart, Some(apart)) => apart,
            (Keep::Apart, None) | (Keep::Not, _) => return,
        };
        let Some(names) = varies(given) else { return };
        let weight = base.version.content().len();
        let mut slots = self.lock();
        if names.is_empty() {
            slots.put(id, Slot::Base(base), weight);
        } else {
            slots.put(variant(id, &names, asked), Slot::Base(base), weight);
            slots.put(id, Slot::Varies(names.into()), 0);
        }
        let (bytes, entries) = slots.fill();
        drop(slots);
        self.metrics.holds(Store::Bases, bytes, entries);
    }

    /// Forgets the version that a request with `headers` would find: it has turned out to be no
    /// good.
    pub(super) fn forget(&self, place: &Place, headers: &HeaderMap) {
        let mut slots = self.lock();
        for id in place.apart.into_iter().chain([place.shared]) {
            match slots.get(&id) {
                Some(Slot::Varies(names)) => drop(slots.remove(&variant(id, &names, headers))),
                Some(Slot::Base(_)) => drop(slots.remove(&id)),
                None => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lru<Digest, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(slots: &mut Lru<Digest, Slot>, id: Digest, headers: &HeaderMap) -> Option<Base> {
    match slots.get(&id)? {
        Slot::Base(base) => Some(base),
        Slot::Varies(names) => match slots.get(&variant(id, &names, headers))? {
            Slot::Base(base) => Some(base),
            Slot::Varies(_) => None,
        },
    }
}

/// The names in `Vary`, in order; `Accept-Encoding` aside, which never crosses the hop, and `*`,
/// for which any variant is as good a guess as another. `None`: too many.
fn varies(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for field in headers.get_all(header::VARY) {
        for name in field.as_bytes().split(|b| *b == b',') {
            match HeaderName::from_bytes(name.trim_ascii()) {
                Ok(name) if name != header::ACCEPT_ENCODING && name.as_str() != "*" => names.push(name),
                _ => {}
            }
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    (names.len() <= MOST_NAMES).then_some(names)
}

fn variant(id: Digest, names: &[HeaderName], headers: &HeaderMap) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(id.as_bytes());
    for name in names {
        add(&mut hasher, name.as_str().as_bytes());
        for value in headers.get_all(name) {
            add(&mut hasher, value.as_bytes());
        }
    }
    hasher.finish()
}
