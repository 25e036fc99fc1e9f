//! Content coded once for many: what the cache holds gets coded in the background, with more effort
//! than there is while a client waits, and is kept within a byte bound. Shared by all workers.
//! `browser` asks it and has it filled.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, S3FifoConfig};

use super::super::digest::Digest;
use crate::http::message::ContentName;

/// Codings under way at once.
const AT_ONCE: usize = 1;
/// Codings that wait; beyond, a later request will ask again.
const WAITING: usize = 64;

/// What was made of which content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Label {
    /// The content.
    pub(in super::super) content: ContentName,
    /// The coding's token.
    pub(in super::super) coding: &'static str,
    /// The dictionary it refers to.
    pub(in super::super) dictionary: Option<Digest>,
}

/// Coded content.
pub(in super::super) struct Shelf {
    coded: Cache<Label, Bytes>,
    under_way: Mutex<HashSet<Label>>,
    turns: tokio::sync::Semaphore,
}

impl Shelf {
    /// With room for `bytes`.
    pub(in super::super) fn new(bytes: u64) -> Arc<Self> {
        let coded = CacheBuilder::new(usize::try_from(bytes).unwrap_or(usize::MAX))
            .with_shards(4)
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|_: &Label, bytes: &Bytes| bytes.len().saturating_add(128))
            .build();
        Arc::new(Self {
            coded,
            under_way: Mutex::default(),
            turns: tokio::sync::Semaphore::new(AT_ONCE),
        })
    }

    /// What was made, empty where it would not shrink.
    pub(in super::super) fn get(&self, label: &Label) -> Option<Bytes> {
        self.coded.get(label).map(|entry| entry.value().clone())
    }

    /// Keeps it.
    pub(in super::super) fn put(&self, label: Label, coded: Bytes) {
        drop(self.coded.insert(label, coded));
    }

    /// Bytes kept.
    pub(in super::super) fn usage(&self) -> u64 {
        self.coded.usage() as u64
    }

    /// Has `make` run in the background, once, and keeps what it makes.
    pub(in super::super) fn order(
        self: &Arc<Self>,
        label: Label,
        make: impl FnOnce() -> Option<Vec<u8>> + Send + 'static,
    ) {
        {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if under_way.len() >= WAITING || !under_way.insert(label) {
                return;
            }
        }
        let this = self.clone();
        tokio::spawn(async move {
            let _done = Done(&this, label);
            let Ok(_turn) = this.turns.acquire().await else { return };
            if let Ok(Some(coded)) = tokio::task::spawn_blocking(make).await {
                this.put(label, coded.into());
            }
        });
    }
}

/// Takes the order off the list, whatever became of it.
struct Done<'a>(&'a Shelf, Label);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.1);
    }
}
