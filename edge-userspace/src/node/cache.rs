//! The cache's place in the node: one store for all workers, its purges, and its gauges.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::admin::{ControlError, Purged};
use crate::base::directory;
use crate::base::ledger::Ledger;
use crate::cache::purge::Purge;
use crate::cache::{self, Cache, Shared, Store};
use crate::config::{Config, Mistake};
use crate::http::handler::Handler;
use crate::zones::Zones;

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

/// Carries out an operator's purge.
pub(super) fn purge(shared: Option<&Arc<Shared>>, zones: &Zones, what: &Purged) -> Result<(), ControlError> {
    let shared = shared
        .ok_or_else(|| ControlError("no zone has a cache; write [zone.cache] and start the node again".to_owned()))?;
    let purge = match what {
        Purged::Url { url } => Purge::Url(url),
        Purged::Prefix { prefix } => Purge::Prefix(prefix),
        Purged::Tag { zone, tag } => Purge::Tag(zone, tag),
        Purged::All { .. } => Purge::All,
    };
    shared
        .purge(purge, zones)
        .map_err(|error| ControlError(error.to_string()))
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
