//! The store of all zones: resources and bodies in memory and, where the file asks for it, on disk,
//! by the library foyer. All workers share one. `handler` asks and fills it.
//!
//! A resource and its bodies are records of their own: a validation rewrites only the small one.
//! Either may be evicted by itself; a resource without its body is a miss. foyer puts a checksum
//! around each record on disk and drops what does not match. It is asked to write on insertion, so
//! that a daemon that is killed loses little, and to log deletions, so that none comes back; purges
//! are held beside it (`bans`), because those must be in force for responses still under way, too.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig, RecoverMode, S3FifoConfig, Spawner,
};
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use super::bans::{self, Ban, Effect, Purges};
use super::metrics::Metrics;
use super::record::{Key, Record};
use super::resource::{self, BodyId, Resource, Variant};
use crate::base::clock::UnixTime;
use crate::base::ledger::{Common, Kind, Ledger};
use crate::config::Mistakes;
use crate::config::cache::Node;

/// Locks for changing resources, by hash.
const LOCKS: usize = 64;
/// A block of the disk's part: twice the longest object, and not less than this.
const LEAST_BLOCK: u64 = 16 << 20;
/// What waits to be written to disk is at most so many blocks; more is not written.
const QUEUED_BLOCKS: u64 = 2;
/// Invalidations that wait to be written down; more wait for room.
const QUEUED_LINES: usize = 1_024;
/// A disk that takes longer than this to answer is as if it had nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory, or what is in it, cannot be used: the operator's to mend.
    #[error(transparent)]
    Directory(#[from] Mistakes),
    /// No thread for the disk's tasks.
    #[error("the cache's threads cannot be started: {0}")]
    Threads(#[source] io::Error),
}

/// The store.
pub struct Store {
    records: HybridCache<Key, Record>,
    purges: Arc<RwLock<Purges>>,
    log: Option<Written>,
    locks: Vec<AsyncMutex<()>>,
    filling: Arc<AtomicU64>,
    filling_most: u64,
    ledger: Ledger,
    metrics: Metrics,
    /// Of the disk's tasks; kept while the store is.
    _runtime: Option<tokio::runtime::Runtime>,
}

/// The purges' file, and the way to it for those who must not wait for a disk.
struct Written {
    log: Arc<Mutex<bans::Log>>,
    queue: mpsc::Sender<Line>,
}

/// A purge that is to be written down, and who waits for that.
struct Line {
    effect: Effect,
    ban: Ban,
    time: UnixTime,
    done: oneshot::Sender<io::Result<()>>,
}

/// Room for a response on its way into the store; given back when dropped.
pub(super) struct Room {
    held: u64,
    filling: Arc<AtomicU64>,
    most: u64,
    /// On the node's account: what several clients may read is none's.
    charge: Common,
}

impl Room {
    /// Room for `bytes` in all; `false` where there is none.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.held);
        if more > 0 && !self.charge.set(bytes) {
            return false;
        }
        let grown = self
            .filling
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|used| *used <= self.most)
            })
            .is_ok();
        if grown {
            self.held = self.held.max(bytes);
        } else {
            self.charge.set(self.held);
        }
        grown
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.filling.fetch_sub(self.held, Ordering::Relaxed);
    }
}

impl Store {
    /// Opens it: what is on disk is found again. `largest`: the longest content of all zones,
    /// bytes.
    ///
    /// # Errors
    /// When the directory or what is in it cannot be used.
    pub fn open(node: &Node, largest: u64, ledger: &Ledger, registry: &mut Registry) -> Result<Arc<Self>, Error> {
        let metrics = Metrics::register(registry);
        let (path, place) = &node.directory;
        let directory = |source: io::Error| {
            let what = format!("the cache's directory {} cannot be used: {source}", path.display());
            Mistakes(vec![place.mistake(what, "make it, writable for edge, or name another")])
        };
        let store = |source: foyer::Error| {
            let what = format!("what is in the cache's directory cannot be used: {source}");
            Mistakes(vec![
                place.mistake(what, "remove its content to begin anew, or name another"),
            ])
        };
        // The disk's own tasks stay off the workers; the control thread's runtime may be the one we
        // are called on.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(8)
            .thread_name("cache-disk")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let (mut opened, mut purges) = (None, Purges::default());
        let builder = HybridCacheBuilder::new()
            .with_name("edge")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .with_event_listener(Arc::new(metrics.listener()))
            .memory(usize::try_from(node.memory).unwrap_or(usize::MAX))
            .with_shards(8)
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|key: &Key, record: &Record| key.weight().saturating_add(record.weight()))
            .storage()
            .with_spawner(Spawner::from(runtime.handle().clone()));
        let builder = if node.disk > 0 {
            std::fs::create_dir_all(path).map_err(directory)?;
            let (file, known) = bans::Log::open(path).map_err(directory)?;
            (opened, purges) = (Some(Arc::new(Mutex::new(file))), known);
            let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let block = largest.saturating_mul(2).max(LEAST_BLOCK);
            let device = FsDeviceBuilder::new(path.join("records")).with_capacity(size(node.disk));
            let queued = size(block.saturating_mul(QUEUED_BLOCKS));
            builder
                .with_io_engine_config(PsyncIoEngineConfig::new())
                .with_recover_mode(RecoverMode::Quiet)
                .with_engine_config(
                    BlockEngineConfig::new(device.build().map_err(store)?)
                        .with_block_size(size(block))
                        .with_buffer_pool_size(queued)
                        .with_submit_queue_size_threshold(queued)
                        .with_tombstone_log(true),
                )
        } else {
            builder
        };
        // On a thread of its own: blocking within the caller's runtime is not allowed.
        let records = std::thread::scope(|scope| {
            scope
                .spawn(|| runtime.block_on(async move { builder.build().await }))
                .join()
                .unwrap_or_else(|_| Err(foyer::Error::new(foyer::ErrorKind::Recover, "recovery failed")))
        })
        .map_err(store)?;
        let purges = Arc::new(RwLock::new(purges));
        let log = match opened {
            Some(log) => Some(Written::start(log, purges.clone()).map_err(Error::Threads)?),
            None => None,
        };
        Ok(Arc::new(Self {
            records,
            purges,
            log,
            locks: (0..LOCKS).map(|_| AsyncMutex::new(())).collect(),
            filling: Arc::default(),
            filling_most: node.filling,
            ledger: ledger.clone(),
            metrics,
            _runtime: Some(runtime),
        }))
    }

    /// The room's counters.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// An empty room for a response on its way.
    pub(super) fn room(&self) -> Room {
        Room {
            held: 0,
            filling: self.filling.clone(),
            most: self.filling_most,
            charge: self.ledger.common(Kind::Fills),
        }
    }

    async fn record(&self, key: &Key) -> Option<Record> {
        // What is in memory costs no task.
        if let Some(entry) = self.records.memory().get(key) {
            return Some(entry.value().clone());
        }
        if !self.records.is_hybrid() || !self.records.storage().may_contains(key) {
            return None;
        }
        match tokio::time::timeout(PATIENCE, self.records.get(key)).await {
            Ok(Ok(entry)) => entry.map(|entry| entry.value().clone()),
            Ok(Err(error)) => {
                self.metrics.disk_error();
                tracing::warn!(target: "edge::cache", error = error.message(), "a record cannot be read from disk");
                None
            }
            Err(_) => {
                self.metrics.disk_error();
                None
            }
        }
    }

    /// What is stored under `key`, without what was purged, and with what was purged softly stale.
    pub(super) async fn find(&self, key: &str) -> Option<Arc<Resource>> {
        let Record::Resource(resource) = self.record(&Key::Resource(key.to_owned())).await? else {
            return None;
        };
        let Purges { void, stale } = &*self.purges.read().unwrap_or_else(PoisonError::into_inner);
        let meant = |variant: &Variant| void.covers(key, variant) || stale.covers(key, variant);
        if !resource.variants.iter().any(meant) {
            return Some(resource);
        }
        let kept = resource.variants.iter().filter(|variant| !void.covers(key, variant));
        let variants: Vec<Variant> = kept
            .cloned()
            .map(|mut variant| {
                if let Some(time) = stale.since(key, &variant) {
                    variant.softly(time);
                }
                variant
            })
            .collect();
        (!variants.is_empty()).then(|| Arc::new(Resource { variants }))
    }

    /// A stored content; `None` where it is gone, or is not what the variant says.
    pub(super) async fn body(&self, variant: &Variant) -> Option<Bytes> {
        if variant.length == 0 {
            return Some(Bytes::new());
        }
        match self.record(&Key::Body(variant.body)).await? {
            Record::Body(bytes) if bytes.len() as u64 == variant.length => Some(bytes),
            _ => None,
        }
    }

    /// Stores `variant` with its content, in place of what answered the same requests.
    pub(super) async fn put(&self, key: &str, variant: Variant, body: Bytes) {
        if !body.is_empty() {
            self.records.insert(Key::Body(variant.body), Record::Body(body));
        }
        self.change(key, |resource| {
            // A slower, older response must not replace a newer one.
            let newer = |known: &&Variant| known.vary == variant.vary && known.asked > variant.asked;
            if resource.variants.iter().find(newer).is_some() {
                return None;
            }
            Some(resource.with(variant))
        })
        .await;
    }

    /// Puts `variant` in the place of the one whose content it has, if that is still there.
    pub(super) async fn refresh(&self, key: &str, variant: Variant) {
        self.change(key, |resource| {
            let known = resource.variants.iter().any(|known| known.body == variant.body);
            known.then(|| resource.without(variant.body).with(variant))
        })
        .await;
    }

    /// Drops the variant whose content is `body`.
    pub(super) async fn drop_variant(&self, key: &str, body: BodyId) {
        self.change(key, |resource| Some(resource.without(body))).await;
        self.records.remove(&Key::Body(body));
    }

    /// Drops all that is stored under `key`; whether there was something.
    pub(super) async fn forget(&self, key: &str) -> bool {
        let mut had = false;
        self.change(key, |known| {
            had = !known.variants.is_empty();
            Some(Resource::default())
        })
        .await;
        had
    }

    async fn change(&self, key: &str, change: impl FnOnce(&Resource) -> Option<Resource>) {
        let hash = self.records.memory().hash(&Key::Resource(key.to_owned()));
        let lock = self.locks.get(usize::try_from(hash).unwrap_or(0) % LOCKS);
        let _changing = match lock {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let known = self.find(key).await;
        let empty = Arc::default();
        let known = known.as_ref().unwrap_or(&empty);
        let Some(changed) = change(known) else { return };
        let gone = known
            .variants
            .iter()
            .filter(|old| changed.variants.iter().all(|new| new.body != old.body));
        for variant in gone {
            self.records.remove(&Key::Body(variant.body));
        }
        let key = Key::Resource(key.to_owned());
        if changed.variants.is_empty() {
            self.records.remove(&key);
        } else {
            self.records.insert(key, Record::Resource(Arc::new(changed)));
        }
    }

    /// Whether something may be stored under `key`.
    pub(super) fn may_have(&self, key: &str) -> bool {
        self.records.contains(&Key::Resource(key.to_owned()))
    }

    /// Voids what is stored, or under way, now, or makes it stale, and returns once that outlasts a
    /// power failure: waits for the disk.
    ///
    /// # Errors
    /// When it is in force, but could not be written down.
    pub(super) fn purge(&self, effect: Effect, ban: Ban, now: UnixTime) -> io::Result<()> {
        self.ban(effect, &ban, now);
        match &self.log {
            None => Ok(()),
            Some(written) => add(&written.log, &self.purges, (effect, &ban), now, true),
        }
    }

    /// Voids one URL, and returns once that outlasts the daemon: no thread waits for the disk.
    ///
    /// # Errors
    /// When it is in force, but could not be written down.
    pub(super) async fn void(&self, key: String, now: UnixTime) -> io::Result<()> {
        // Of every pool that answers for the URL.
        let ban = Ban::url(resource::url_of(&key));
        let effect = Effect::Void;
        self.ban(effect, &ban, now);
        let Some(written) = &self.log else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        let line = Line {
            effect,
            ban,
            time: now,
            done,
        };
        let gone = || io::Error::other("the thread that writes purges down is gone");
        written.queue.send(line).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Puts it in force. Whoever looks something up waits for this and no disk.
    fn ban(&self, effect: Effect, ban: &Ban, now: UnixTime) {
        let mut purges = self.purges.write().unwrap_or_else(PoisonError::into_inner);
        purges.add(effect, ban.clone(), now);
        drop(purges);
        if let (Effect::Void, Ban::Url(key)) = (effect, ban) {
            self.records.remove(&Key::Resource(key.clone()));
        }
        self.metrics.purged(effect, ban);
    }

    /// Sets the gauges.
    pub(super) fn tick(&self) {
        let memory = self.records.memory();
        self.metrics.set_fill(
            memory.usage() as u64,
            memory.capacity() as u64,
            memory.entries() as u64,
            self.filling.load(Ordering::Relaxed),
        );
        let disk = self.records.statistics();
        self.metrics
            .set_disk(disk.disk_read_bytes() as u64, disk.disk_write_bytes() as u64);
    }
}

impl Written {
    /// Starts the thread that writes invalidations down.
    fn start(log: Arc<Mutex<bans::Log>>, purges: Arc<RwLock<Purges>>) -> io::Result<Self> {
        let (queue, mut lines) = mpsc::channel::<Line>(QUEUED_LINES);
        let own = log.clone();
        // Ends with the store, whose sender it waits for.
        std::thread::Builder::new()
            .name("cache-purges".to_owned())
            .spawn(move || {
                while let Some(line) = lines.blocking_recv() {
                    let written = add(&own, &purges, (line.effect, &line.ban), line.time, false);
                    // Who asked may have gone; it is written down all the same.
                    drop(line.done.send(written));
                }
            })?;
        Ok(Self { log, queue })
    }
}

fn add(
    log: &Mutex<bans::Log>,
    purges: &RwLock<Purges>,
    purge: (Effect, &Ban),
    time: UnixTime,
    durable: bool,
) -> io::Result<()> {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.add(purge, time, durable, || {
        purges.read().unwrap_or_else(PoisonError::into_inner).lines()
    })
}

impl Drop for Store {
    fn drop(&mut self) {
        // Dropping a runtime within another one is not allowed; its tasks have nothing that must be
        // finished.
        if let Some(runtime) = self._runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
