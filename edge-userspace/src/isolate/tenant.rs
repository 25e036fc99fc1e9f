//! A zone as its workers know it, over reloads and whatever version answers: its slots, its log,
//! what it stores, its figures.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Semaphore;

pub use super::keyvalue::Listed;
use super::keyvalue::{Stored, Vault};
use super::log::{Line, Log};
use super::memory::{Account, Memory};
use super::metrics::{Counts, Metrics, Summary};
use super::secrets::Secrets;
use super::slots::Slots;
use crate::config::isolate::Limits;

/// What all runs of a zone's workers have in common.
pub struct Tenant {
    /// The zone's name.
    pub name: Arc<str>,
    /// Secrets that an operator gave.
    pub(super) secrets: ArcSwap<Secrets>,
    pub(super) slots: ArcSwap<Slots>,
    /// Guests that compute for longer than a tick, all threads together.
    pub(super) turns: Arc<Semaphore>,
    pub(super) counts: Counts,
    memory: Arc<Memory>,
    pub(super) log: Log,
    pub(super) vault: ArcSwapOption<Vault>,
}

/// A stored value, as `edge kv get` is told.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct Entry {
    /// The value, base64.
    pub value: String,
    /// When it ends, milliseconds since 1970; 0: never.
    pub until: u64,
    /// What its writer said about it, JSON; empty: nothing.
    pub metadata: String,
}

impl Tenant {
    /// As `limits` say; `turns` guests at once may compute for long.
    pub(super) fn new(name: Arc<str>, limits: &Limits, turns: usize, memory: Arc<Memory>, metrics: &Metrics) -> Self {
        Self {
            secrets: ArcSwap::default(),
            slots: ArcSwap::from_pointee(Slots::new(limits.concurrency, limits.nested)),
            turns: Arc::new(Semaphore::new(turns)),
            counts: metrics.zone(&name),
            memory,
            log: Log::new(),
            vault: ArcSwapOption::empty(),
            name,
        }
    }

    /// The account of a new instance under `limits`.
    pub(super) fn account(&self, limits: &Limits) -> Arc<Account> {
        self.memory.open(&self.name, limits.memory)
    }

    /// Bytes that the zone may store; `None`: it stores nothing.
    #[cfg(test)]
    pub(crate) fn stored_bytes_at_most(&self) -> Option<u64> {
        Some(self.vault.load().as_ref()?.limits().bytes)
    }

    /// The zone's lines behind number `after`.
    pub fn lines(&self, after: u64) -> Vec<Line> {
        self.log.read(&self.name, after)
    }

    fn opened(&self) -> Result<Arc<Vault>, String> {
        let none = || format!("zone \"{}\" stores nothing; write [zone.worker.keyvalue]", self.name);
        self.vault.load_full().ok_or_else(none)
    }

    /// A value that the zone's workers stored, or an operator, if there is one. Blocks.
    ///
    /// # Errors
    /// In words for the operator, as of the calls below: the zone has no store, or the store's own
    /// reason.
    pub fn stored(&self, key: &str) -> Result<Option<Entry>, String> {
        let found = self.opened()?.items(&[key.to_owned()]).map_err(|e| e.to_string())?;
        Ok(found.into_iter().flatten().next().map(|item| Entry {
            value: data_encoding::BASE64.encode(&item.value),
            until: item.until,
            metadata: item.about,
        }))
    }

    /// At most 1,000 keys behind `after`, in order, each with its end and what is stored about it;
    /// and where to go on. Blocks.
    ///
    /// # Errors
    /// As of [`Tenant::stored`].
    pub fn keys(&self, prefix: &str, after: Option<&str>) -> Result<(Vec<Listed>, Option<String>), String> {
        self.opened()?.list(prefix, after, 1_000).map_err(|e| e.to_string())
    }

    /// Stores a value until milliseconds since 1970; 0: for ever. Blocks.
    ///
    /// # Errors
    /// As of [`Tenant::stored`].
    pub fn store(&self, key: &str, value: &[u8], until: u64) -> Result<(), String> {
        let item = Stored {
            value: value.to_vec(),
            until,
            about: String::new(),
        };
        self.opened()?
            .store(&[(key.to_owned(), item)])
            .map_err(|e| e.to_string())
    }

    /// Removes a value. Blocks.
    ///
    /// # Errors
    /// As of [`Tenant::stored`].
    pub fn forget(&self, key: &str) -> Result<(), String> {
        self.opened()?.delete(&[key.to_owned()]).map_err(|e| e.to_string())
    }

    /// The zone's figures.
    pub fn summary(&self) -> Summary {
        self.counts.summary()
    }
}
