//! A guest's store: what of it every kind of worker has in common. A kind's own data holds a
//! [`Base`] and is opened by [`open`], so that no kind can forget a limit.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, Store};

use super::budget::{Meter, Start};
use super::engine::Engine;
use super::error::Ended;
use super::memory::Account;
use crate::config::isolate::Limits;

/// Bytes that a guest may pass to the host in one call: the largest value it may store, a write, a
/// list of fields.
const HOSTCALL_BYTES: usize = 2 << 20;
/// Handles of components, and of host resources, that one guest may hold.
pub(super) const HANDLES: usize = 512;
/// Core instances, tables and memories of one guest.
const INSTANCES: usize = 32;
const TABLES: usize = 16;
const MEMORIES: usize = 4;

/// What every guest's store holds.
#[derive(Debug)]
pub struct Base {
    /// The account of the request under way.
    pub meter: Arc<Meter>,
    account: Arc<Account>,
    memory: usize,
    table: usize,
    table_most: usize,
}

/// A store's data that holds a [`Base`].
pub trait Hosted: Send + 'static {
    /// It.
    fn base(&mut self) -> &mut Base;
}

impl Base {
    /// For a request with `meter`, under the zone's `limits`; its memory is on `account`.
    pub(super) fn new(meter: Arc<Meter>, limits: &Limits, account: Arc<Account>) -> Self {
        Self {
            meter,
            account,
            memory: 0,
            table: 0,
            table_most: limits.table_elements,
        }
    }

    /// For a zone that has no worker any more: nothing.
    pub(super) fn none(meter: Arc<Meter>) -> Self {
        Self {
            meter,
            account: Account::alone(0),
            memory: 0,
            table: 0,
            table_most: 0,
        }
    }

    /// What the instance holds, itself and by the host.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The next request, or the first one, of an instance that waited for it: it pays for itself.
    pub fn renew(&mut self, meter: Arc<Meter>, start: Start) {
        meter.holds(self.memory);
        meter.started(start);
        self.meter = meter;
    }
}

impl ResourceLimiter for Base {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let all = self.memory.saturating_sub(current).saturating_add(desired);
        self.account.take(all.saturating_sub(self.memory))?;
        self.memory = all;
        self.meter.holds(all);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Ended::Memory.into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let all = self.table.saturating_sub(current).saturating_add(desired);
        if all > self.table_most {
            return Err(Ended::Table.into());
        }
        self.table = all;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Ended::Table.into())
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// A store under all limits. The guest is to be polled within `Metered`, which the handler does.
pub fn open<T: Hosted>(engine: &Engine, data: T) -> Store<T> {
    let mut store = Store::new(engine.wasm(), data);
    store.limiter(|data| data.base());
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(HANDLES);
    store.epoch_deadline_callback(|mut context| context.data_mut().base().meter.tick());
    store.set_epoch_deadline(1);
    store
}
