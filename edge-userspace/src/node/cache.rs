//! The cache's place in the node: one store for all workers, its purges, how it is filled, and its
//! gauges.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{ControlError, PurgeOrder, Purged, WarmOrder, WarmState, Warmed};
use crate::base::directory;
use crate::base::ledger::Ledger;
use crate::cache::purge::{Effect, Purge};
use crate::cache::{self, Cache, Shared, Store};
use crate::config::{Config, Mistake};
use crate::http::handler::Handler;
use crate::http::stored::Became;
use crate::http::warm::{Job, Outcome, Warmer};
use crate::isolate::isolates::Isolates;
use crate::isolate::made::Named;
use crate::zones::{self, Zones};

/// Whether a zone of `config` has a cache, or one that a fleet's manifest brings may have one.
pub(super) fn wanted(config: &Config) -> bool {
    config.fleet.is_some() || config.zones.iter().any(|zone| zone.cache.is_some())
}

/// Opens the store, where a zone has a cache.
///
/// # Errors
/// When the directory cannot be used.
pub(super) fn start(
    config: &Config,
    ledger: &Ledger,
    registry: &mut Registry,
) -> Result<Option<Arc<Shared>>, cache::Error> {
    if !wanted(config) {
        return Ok(None);
    }
    let largest = config.zones.iter().filter_map(|zone| zone.cache.as_ref());
    let largest = largest.map(|cache| cache.object_bytes).max().unwrap_or(0);
    // Zones that are still to come store as much as zones do by default.
    let coming = config
        .fleet
        .as_ref()
        .map_or(0, |_| crate::config::cache::Cache::default().object_bytes);
    let largest = largest.max(coming);
    Ok(Some(Shared::new(Store::open(
        &config.cache,
        largest,
        ledger,
        registry,
    )?)))
}

/// Whether [`start`] can write to the cache's directory. Nothing is made.
///
/// # Errors
/// The operator's mistake.
pub(super) fn check_directory(config: &Config) -> Result<(), Mistake> {
    let (path, place) = &config.cache.directory;
    if !wanted(config) || config.cache.disk == 0 {
        return Ok(());
    }
    directory::can_be_written(path).map_err(|error| {
        let what = format!("the cache's directory {} cannot be used: {error}", path.display());
        place.mistake(what, "make it, writable for edge, or name another")
    })
}

/// `handler` behind the store.
pub(super) fn around(shared: Option<&Arc<Shared>>, handler: Arc<dyn Handler>) -> Arc<dyn Handler> {
    match shared {
        Some(shared) => Arc::new(Cache::new(shared.clone(), handler)),
        None => handler,
    }
}

/// `worker` behind the store, in zones that store what their workers make.
pub(super) fn around_worker(
    shared: Option<&Arc<Shared>>,
    isolates: &Arc<Isolates>,
    worker: Arc<dyn Handler>,
) -> Arc<dyn Handler> {
    match shared {
        Some(shared) => {
            let stored = Arc::new(Cache::of_workers(shared.clone(), worker));
            Arc::new(Named::new(isolates.clone(), stored))
        }
        None => worker,
    }
}

fn none() -> ControlError {
    ControlError("no zone has a cache; write [zone.cache] and start the node again".to_owned())
}

/// Carries out an operator's purge.
pub(super) fn purge(shared: Option<&Arc<Shared>>, zones: &Zones, order: &PurgeOrder) -> Result<(), ControlError> {
    let shared = shared.ok_or_else(none)?;
    let purge = match &order.what {
        Purged::Url { url } => Purge::Url(url),
        Purged::Prefix { prefix } => Purge::Prefix(prefix),
        Purged::Tag { zone, tag } => Purge::Tag(zone, tag),
        Purged::Zone { zone } => Purge::Zone(zone),
        Purged::All { .. } => Purge::All,
    };
    let effect = if order.soft { Effect::Stale } else { Effect::Void };
    shared
        .purge(purge, effect, zones)
        .map_err(|error| ControlError(error.to_string()))
}

/// Where orders to fill the cache go, and where they are taken from: by one thread.
pub(super) struct Warming {
    orders: mpsc::Sender<Job>,
    jobs: Mutex<Option<mpsc::Receiver<Job>>>,
}

impl Warming {
    /// No order yet. One more may wait than is carried out.
    pub(super) fn new() -> Self {
        let (orders, jobs) = mpsc::channel(1);
        Self {
            orders,
            jobs: Mutex::new(Some(jobs)),
        }
    }

    /// What carries orders out, for the first thread that asks for it.
    pub(super) fn warmer(&self, next: &Arc<dyn Handler>, zones: &zones::Current) -> Option<Warmer> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Warmer::new(next.clone(), zones.clone(), jobs))
    }

    /// Has what an operator names stored.
    ///
    /// # Errors
    /// The node stores nothing, or ends.
    pub(super) async fn warm(&self, stores: bool, order: WarmOrder) -> Result<Value, ControlError> {
        if !stores {
            return Err(none());
        }
        let mut fields = HeaderMap::new();
        for (name, value) in &order.fields {
            let read = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::try_from(value.as_str()),
            );
            if let (Ok(name), Ok(value)) = read {
                fields.append(name, value);
            }
        }
        let (done, outcomes) = oneshot::channel();
        let job = Job {
            urls: order.urls.clone(),
            fields,
            at_once: order.at_once.max(1),
            gap: Duration::from_secs(1) / order.per_second.max(1),
            done,
        };
        let ends = || ControlError("the node is about to end".to_owned());
        self.orders.send(job).await.map_err(|_| ends())?;
        let outcomes = outcomes.await.map_err(|_| ends())?;
        let warmed: Vec<Warmed> = order.urls.into_iter().zip(outcomes).map(warmed).collect();
        serde_json::to_value(&warmed).map_err(|error| ControlError(error.to_string()))
    }
}

fn warmed((url, outcome): (String, Outcome)) -> Warmed {
    let status = outcome.status.map(|status| status.as_u16());
    let (state, why) = match (outcome.became, outcome.failure) {
        (Some(Became::Stored), _) => (WarmState::Stored, None),
        (Some(Became::Known), _) => (WarmState::Known, None),
        (Some(Became::Not(why)), _) => (WarmState::Not, Some(why.to_owned())),
        (None, Some(failure)) => (WarmState::Not, Some(failure)),
        (None, None) => {
            let why = "a rule, a worker or files answered, in front of the cache";
            (WarmState::Not, Some(why.to_owned()))
        }
    };
    Warmed {
        url,
        state,
        status,
        why,
    }
}

/// Sets the gauges, once a second.
pub(super) async fn tick(shared: Option<Arc<Shared>>) {
    let Some(shared) = shared else { return };
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        shared.tick();
    }
}
