//! The room as a whole: the engine, the tenants, what is deployed and what it was compiled to. Made
//! by `node`, shared by all worker threads; asked by the control commands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};

use super::artifact::{Artifacts, directory};
use super::deployment::Deployment;
use super::engine::{Engine, Mapped};
use super::error::Error;
use super::host::Host;
use super::js::Scripts;
use super::memory::Memory;
use super::metrics::Metrics;
use super::shares::Shares;
use super::tenant::Tenant;
use crate::base::digest::Digest;
use crate::base::ledger::Ledger;
use crate::config;
use crate::zones::Current;

/// Code that is mapped: zones that deploy the same share it.
type Known = HashMap<Digest, Weak<Mapped<Component>>>;

/// Everything that workers need.
pub struct Isolates {
    engine: Engine,
    pub(super) linker: Linker<Host>,
    zones: Current,
    pub(super) deployments: ArcSwap<HashMap<Arc<str>, Arc<Deployment>>>,
    shares: Arc<Shares>,
    pub(super) memory: Arc<Memory>,
    places: Arc<Semaphore>,
    pub(super) metrics: Metrics,
    pub(super) config: config::isolate::Node,
    pub(super) turns: usize,
    pub(super) artifacts: Artifacts,
    pub(super) mapped: Mutex<Known>,
    pub(super) scripts: Scripts,
    /// Held by whoever changes what is deployed.
    pub(super) busy: Mutex<()>,
}

impl Isolates {
    /// For the zones that have a worker, of which `turns` guests of each may compute for long at
    /// once; `ledger` counts their memory. What they stored and deployed is opened by
    /// [`Isolates::plan`].
    ///
    /// # Errors
    /// The engine or the state directory cannot be had.
    pub fn new(
        config: &config::isolate::Node,
        turns: usize,
        zones: Current,
        metrics: Metrics,
        ledger: &Ledger,
    ) -> Result<Arc<Self>, Error> {
        let engine = Engine::new(config.instances)?;
        let linker = super::component::linker(&engine)?;
        directory(&config.state_directory)?;
        let artifacts = Artifacts::open(&config.state_directory, engine.fingerprint())?;
        let all = usize::try_from(config.instances).unwrap_or(usize::MAX);
        Ok(Arc::new(Self {
            linker,
            zones,
            deployments: ArcSwap::default(),
            shares: Shares::new(all / 8 * 5, all / 8 * 2),
            // What is left of the pool: for instances that wait for a request, or for their end.
            places: Arc::new(Semaphore::new(all / 8)),
            memory: Memory::new(config.memory, ledger),
            metrics,
            config: config.clone(),
            turns,
            artifacts,
            mapped: Mutex::default(),
            scripts: Scripts::new()?,
            busy: Mutex::default(),
            engine,
        }))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn zones(&self) -> &Current {
        &self.zones
    }

    pub(super) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    pub(super) fn places(&self) -> &Arc<Semaphore> {
        &self.places
    }

    /// What answers for a zone that has a worker.
    pub(super) fn deployment(&self, zone: &str) -> Option<Arc<Deployment>> {
        self.deployments.load().get(zone).cloned()
    }

    /// A zone that has a worker.
    pub fn tenant(&self, zone: &str) -> Option<Arc<Tenant>> {
        self.deployment(zone).map(|deployment| deployment.tenant.clone())
    }

    /// Once a second: instances that nobody wanted go, and the memory of code that nobody runs.
    pub fn tick(&self, now: Instant) {
        for deployment in self.deployments.load().values() {
            deployment.sweep(now);
        }
    }

    /// Removes what is over of what workers stored. Blocks.
    pub fn sweep_stores(&self) {
        for deployment in self.deployments.load().values() {
            if let Some(vault) = deployment.tenant.vault.load_full() {
                // What cannot be read or written is logged there.
                let _ = vault.sweep();
            }
        }
    }
}
