//! A zone as this room knows it, over reloads: its active program, its slots, its log, what it
//! stores, its figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Semaphore;

use super::engine::Rest;
use super::grant::Grant;
pub use super::keyvalue::Listed;
use super::keyvalue::{Stored, Vault};
use super::log::{Level, Line, Log};
use super::memory::{Account, Memory};
use super::metrics::{Counts, Metrics, Summary};
use super::preview::Previews;
use super::program::Program;
use super::rollout::Rollout;
use super::secrets::Secrets;
use super::slots::Slots;
use crate::config::isolate::Limits;

/// Seconds without a request until a zone's code gives its memory back.
const QUIET: u32 = 30;

/// A zone's part of the room.
pub struct Tenant {
    /// The zone's name.
    pub name: Arc<str>,
    pub(super) active: ArcSwapOption<Active>,
    /// A version on trial beside it.
    pub(super) rollout: ArcSwapOption<Rollout>,
    /// Versions under hosts of their own.
    pub(super) previews: ArcSwap<Previews>,
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

/// What answers.
pub(super) struct Active {
    pub(super) program: Arc<dyn Program>,
    /// The number of the version; 0 for a file of the configuration.
    pub(super) version: u64,
    /// Names the content: hexadecimal SHA-256.
    pub(super) digest: String,
    code: Arc<dyn Rest>,
    /// Requests of the zone when they were last looked at, and for how long it has had no other.
    seen: AtomicU64,
    quiet: AtomicU32,
}

impl Active {
    pub(super) fn new(program: Arc<dyn Program>, code: Arc<dyn Rest>, version: u64, digest: String) -> Self {
        Self {
            program,
            version,
            digest,
            code,
            seen: AtomicU64::new(0),
            quiet: AtomicU32::new(0),
        }
    }
}

impl Tenant {
    /// As `limits` say; `turns` guests at once may compute for long.
    pub(super) fn new(name: Arc<str>, limits: &Limits, turns: usize, memory: Arc<Memory>, metrics: &Metrics) -> Self {
        Self {
            active: ArcSwapOption::empty(),
            rollout: ArcSwapOption::empty(),
            previews: ArcSwap::default(),
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

    /// Once a second: what has waited for long is let go.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(rollout) = self.rollout.load().as_ref() {
            rollout.active.program.sweep(now);
        }
        for preview in self.previews.load().values() {
            preview.program.sweep(now);
        }
        let active = self.active.load();
        let Some(active) = active.as_ref() else { return };
        active.program.sweep(now);
        let requests = self.counts.begun();
        if active.seen.swap(requests, Relaxed) != requests {
            active.quiet.store(0, Relaxed);
        } else if active.quiet.fetch_add(1, Relaxed) == QUIET {
            active.code.rest();
        }
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

impl Grant {
    /// Says why the guest's run came to a bad end. Not counted among the lines it may write: this
    /// is what the log is read for.
    pub fn reason(&self, text: &str) {
        let (tenant, now) = (&self.tenant, Instant::now());
        for line in text.lines().filter(|line| !line.is_empty()) {
            tenant.log.always(&tenant.name, self.exchange.id, line, now);
        }
    }

    /// Writes what the guest says, line by line, within the request's and the zone's limits.
    pub fn say(&self, level: Level, text: &str) {
        let rate = self
            .exchange
            .zone
            .worker
            .as_ref()
            .map_or(0, |worker| worker.limits.log_rate);
        let now = Instant::now();
        let mut dropped = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let fits = |left: usize| left.checked_sub(line.len());
            let fits = self.log_left.fetch_update(Relaxed, Relaxed, fits).is_ok();
            let tenant = &self.tenant;
            if !fits {
                tenant.log.beyond(self.exchange.id);
                dropped += 1;
            } else if !tenant.log.write(&tenant.name, self.exchange.id, level, line, rate, now) {
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.tenant.counts.log_dropped(dropped);
        }
    }

    /// A setting or secret of the zone. The configuration's come before those that were given by a
    /// command.
    pub fn setting(&self, name: &str) -> Option<String> {
        let worker = self.exchange.zone.worker.as_deref()?;
        let plain = worker.settings.iter().find(|(known, _)| known == name);
        let written = plain.map(|(_, value)| value.as_str()).or_else(|| {
            let secret = worker.secrets.iter().find(|(known, _)| known == name);
            secret.map(|(_, value)| value.0.as_str())
        });
        let given = self.tenant.secrets.load();
        written
            .or_else(|| given.get(name).map(|value| value.0.as_str()))
            .map(ToOwned::to_owned)
    }

    /// All settings and secrets of the zone, by name.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let given = self.tenant.secrets.load();
        let given = given.iter().map(|(name, value)| (name.as_str(), value.0.as_str()));
        let worker = self.exchange.zone.worker.as_deref();
        let plain = worker.into_iter().flat_map(|w| &w.settings);
        let plain = plain.map(|(name, value)| (name.as_str(), value.as_str()));
        let secret = worker.into_iter().flat_map(|w| &w.secrets);
        let secret = secret.map(|(name, value)| (name.as_str(), value.0.as_str()));
        // A later one takes the place of an earlier one.
        let all = given.chain(secret).chain(plain);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
