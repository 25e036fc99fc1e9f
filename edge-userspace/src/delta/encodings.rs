//! The far end's encoder: makes what changed between two versions, once for all who ask at the same
//! moment; and for those that are asked for again, better in the background, on a thread that
//! yields to everything else.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::codec::dcz::{self, Prepared};
use super::codec::{Dictionary, Level};
use super::digest::Digest;
use super::lru::Lru;
use super::metrics::{Metrics, Store};

/// Content that is encoded on the worker itself; more would keep its other requests waiting, and
/// goes to a thread.
const INLINE: usize = Prepared::MOST;
/// Better encodings that may wait, and the largest content worth one: 3 s at 3 MB/s.
const WAITING: usize = 32;
const MOST_LATER: usize = 8 << 20;

/// From which version (none: plain zstd) to which.
type Pair = (Option<Digest>, Digest);

type Cell = OnceCell<Option<Bytes>>;

/// The encoder; shared by all workers.
pub(super) struct Encodings {
    shared: Arc<Shared>,
    under_way: Mutex<HashMap<Pair, Weak<Cell>>>,
    /// Versions that were referred to more than once; `None`: once.
    prepared: Mutex<Lru<Digest, Option<Arc<Prepared>>>>,
    later: SyncSender<(Option<Dictionary>, Dictionary)>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Shared {
    ready: Mutex<Lru<Pair, Ready>>,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Ready {
    stream: Bytes,
    /// It will not get any better.
    best: bool,
}

impl Encodings {
    /// Holds at most `bytes`: of encodings that are asked for again three quarters, the rest of
    /// versions that are referred to again.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn new(bytes: usize, metrics: Metrics) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            ready: Mutex::new(Lru::new(bytes / 4 * 3)),
            metrics: metrics.clone(),
        });
        let (later, queue) = sync_channel(WAITING);
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("encoder".to_owned())
            .spawn(move || work(&queue, &theirs))?;
        Ok(Self {
            shared,
            under_way: Mutex::default(),
            prepared: Mutex::new(Lru::new(bytes / 4)),
            later,
            metrics,
        })
    }

    /// `new` as what changed since `old`, or as plain zstd without one. `again`: this pair may well
    /// be asked for once more. `None` when it cannot be encoded.
    pub(super) async fn get(&self, old: Option<&Dictionary>, new: &Dictionary, again: bool) -> Option<Bytes> {
        let pair = (old.map(Dictionary::digest), new.digest());
        if again {
            let ready = lock(&self.shared.ready).get(&pair);
            self.metrics.looked_up(Store::Encodings, ready.is_some());
            if let Some(ready) = ready {
                if !ready.best {
                    self.improve(pair, old, new, ready.stream.clone());
                }
                return Some(ready.stream);
            }
        }
        let cell = {
            let mut under_way = lock(&self.under_way);
            match under_way.get(&pair).and_then(Weak::upgrade) {
                Some(cell) => {
                    self.metrics.coalesced();
                    cell
                }
                None => {
                    let cell = Arc::new(Cell::new());
                    under_way.insert(pair, Arc::downgrade(&cell));
                    cell
                }
            }
        };
        let stream = cell.get_or_init(|| self.now(old.cloned(), new.clone())).await.clone();
        drop(cell);
        {
            let mut under_way = lock(&self.under_way);
            if under_way.get(&pair).is_some_and(|cell| cell.strong_count() == 0) {
                under_way.remove(&pair);
            }
            if under_way.len() > 1_024 {
                // Left by requests that were cancelled.
                under_way.retain(|_, cell| cell.strong_count() > 0);
            }
        }
        if again && let Some(stream) = &stream {
            self.shared.hold(pair, stream.clone(), false);
        }
        stream
    }

    async fn now(&self, old: Option<Dictionary>, new: Dictionary) -> Option<Bytes> {
        let both = new
            .content()
            .len()
            .max(old.as_ref().map_or(0, |old| old.content().len()));
        let metrics = self.metrics.clone();
        if both <= INLINE
            && let Some(prepared) = old.as_ref().and_then(|old| self.prepared(old))
        {
            let begun = Instant::now();
            let stream = prepared.encode(new.content());
            metrics.encoded(Level::Now, begun.elapsed());
            return stream.ok().map(Bytes::from);
        }
        let work = move || encode(Level::Now, old.as_ref(), &new, &metrics);
        if both <= INLINE {
            work()
        } else {
            tokio::task::spawn_blocking(work).await.ok().flatten()
        }
    }

    /// `old`, made ready, from the second time on that it is referred to: a page that changes on
    /// every request is, as long as its changes are small.
    fn prepared(&self, old: &Dictionary) -> Option<Arc<Prepared>> {
        let id = old.digest();
        let known = lock(&self.prepared).get(&id);
        let ready = match known {
            Some(Some(ready)) => return Some(ready),
            Some(None) => Some(Arc::new(Prepared::new(old).ok()?)),
            None => None,
        };
        let weight = ready.as_ref().map_or(0, |ready| ready.size());
        let mut prepared = lock(&self.prepared);
        prepared.put(id, ready.clone(), weight);
        let (bytes, entries) = prepared.fill();
        drop(prepared);
        self.metrics.holds(Store::Prepared, bytes, entries);
        ready
    }

    fn improve(&self, pair: Pair, old: Option<&Dictionary>, new: &Dictionary, stream: Bytes) {
        if new.content().len() > MOST_LATER {
            return;
        }
        match self.later.try_send((old.cloned(), new.clone())) {
            // Not asked for twice while it waits.
            Ok(()) => self.shared.hold(pair, stream, true),
            Err(_) => self.metrics.skipped(),
        }
    }
}

impl Shared {
    fn hold(&self, pair: Pair, stream: Bytes, best: bool) {
        let mut ready = lock(&self.ready);
        let weight = stream.len();
        ready.put(pair, Ready { stream, best }, weight);
        let (bytes, entries) = ready.fill();
        drop(ready);
        self.metrics.holds(Store::Encodings, bytes, entries);
    }
}

/// The background thread: ends with the encoder.
fn work(queue: &Receiver<(Option<Dictionary>, Dictionary)>, shared: &Shared) {
    // On Linux the nice value is a thread's own (sched(7)). Without the right to change it, it
    // works at the usual priority.
    let _ = rustix::process::nice(19);
    while let Ok((old, new)) = queue.recv() {
        let pair = (old.as_ref().map(Dictionary::digest), new.digest());
        if let Some(stream) = encode(Level::Later, old.as_ref(), &new, &shared.metrics) {
            shared.hold(pair, stream, true);
        }
    }
}

fn encode(level: Level, old: Option<&Dictionary>, new: &Dictionary, metrics: &Metrics) -> Option<Bytes> {
    let begun = Instant::now();
    let stream = match old {
        Some(old) => dcz::encode(level, old, new.content()),
        None => dcz::encode_plain(level, new.content()),
    };
    metrics.encoded(level, begun.elapsed());
    stream.ok().map(Bytes::from)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
