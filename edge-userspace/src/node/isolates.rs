//! The workers of this node: the room `isolate` with what operators ask of it. None where no zone
//! has a worker: then no address space is reserved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::Node;
use crate::admin::{ControlError, KeyOrder, SecretOrder, WorkerOrder};
use crate::base::directory;
use crate::base::ledger::Ledger;
use crate::config::{Config, Faults, Mistake};
use crate::isolate::isolates::Isolates;
use crate::isolate::metrics::Metrics;
use crate::isolate::versions::Aim;
use crate::zones;

/// Whether any zone has a worker, or one that a fleet's manifest brings may have one.
pub(super) fn wanted(config: &Config) -> bool {
    config.fleet.is_some() || config.zones.iter().any(|zone| zone.worker.is_some())
}

/// Whether workers can be run, and their state written. Nothing is made.
///
/// # Errors
/// The operator's mistake.
pub(super) fn check_directory(config: &Config) -> Result<(), Mistake> {
    let path = &config.isolate.state_directory;
    if !wanted(config) {
        return Ok(());
    }
    directory::can_be_written(path).map_err(|error| {
        let what = format!("{} cannot be used: {error}", path.display());
        config
            .isolate
            .place
            .mistake(what, "make it, writable for the user edge runs as, or name another")
    })
}

/// Compiles and links every worker that the file names, and throws away what comes of it.
pub(super) fn try_files(config: &Config, faults: &mut Faults) {
    let files = config
        .zones
        .iter()
        .filter(|zone| zone.worker.as_ref().is_some_and(|worker| worker.file.is_some()));
    if files.count() > 0 {
        let ledger = Ledger::new(config.limits.memory, u64::MAX);
        Isolates::try_files(&config.zones, &config.isolate, &ledger, faults);
    }
}

/// The room, before any worker is loaded.
///
/// # Errors
/// The engine, or the state directory.
pub(super) fn start(
    config: &Config,
    zones: zones::Current,
    ledger: &Ledger,
    registry: &mut Registry,
) -> anyhow::Result<Option<Arc<Isolates>>> {
    if !wanted(config) {
        return Ok(None);
    }
    let metrics = Metrics::default();
    metrics.register(registry);
    Ok(Some(Isolates::new(
        &config.isolate,
        config.server.workers,
        zones,
        metrics,
        ledger,
    )?))
}

/// Lets go, once a second, of what nobody wants.
pub(super) async fn tick(node: Arc<Node>) {
    let Some(isolates) = &node.isolates else { return };
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        isolates.tick(Instant::now());
        let stores = isolates.clone();
        // Only one at a time; a panic was reported by the hook.
        let kept = move || {
            stores.sweep_stores();
            stores.settle_rollouts();
        };
        let _ = tokio::task::spawn_blocking(kept).await;
    }
}

/// Does what an operator asked.
///
/// # Errors
/// Why not, in words for the operator.
pub(super) async fn order(node: &Node, order: WorkerOrder) -> Result<Value, ControlError> {
    let isolates = node.isolates.clone().ok_or_else(|| {
        ControlError("no zone had a [zone.worker] when the node started; write one and start it again".to_owned())
    })?;
    // Compiling takes seconds, and this thread has others to answer.
    let done = tokio::task::spawn_blocking(move || obey(&isolates, order)).await;
    done.map_err(|_| ControlError("a defect: the order was not carried out, see the log".to_owned()))?
}

fn obey(isolates: &Isolates, order: WorkerOrder) -> Result<Value, ControlError> {
    let words = |error: crate::isolate::error::Error| ControlError(error.to_string());
    match order {
        WorkerOrder::Deploy {
            zone,
            bytes,
            percent,
            preview,
        } => {
            let aim = match (preview, percent) {
                (true, _) => Aim::Preview,
                (false, Some(percent)) => Aim::Percent(percent),
                (false, None) => Aim::All,
            };
            Ok(json!(isolates.deploy(&zone, &bytes, aim).map_err(words)?))
        }
        WorkerOrder::Rollout { zone, percent } => Ok(json!(isolates.roll_out(&zone, percent).map_err(words)?)),
        WorkerOrder::Secret { zone, order } => match order {
            SecretOrder::List => Ok(json!(isolates.secrets(&zone).map_err(words)?)),
            SecretOrder::Put(name, value) => {
                isolates.keep_secret(&zone, &name, &value).map_err(words)?;
                Ok(json!(null))
            }
            SecretOrder::Delete(name) => {
                isolates.drop_secret(&zone, &name).map_err(words)?;
                Ok(json!(null))
            }
        },
        WorkerOrder::Rollback { zone, version } => Ok(json!(isolates.rollback(&zone, version).map_err(words)?)),
        WorkerOrder::List { zone } => {
            let mut all = isolates.status();
            if let Some(zone) = zone {
                all.retain(|status| status.zone == zone);
                if all.is_empty() {
                    return Err(words(crate::isolate::error::Error::NoWorker(zone)));
                }
            }
            Ok(json!(all))
        }
        WorkerOrder::Key { zone, order } => {
            let tenant = isolates.tenant(&zone);
            let tenant = tenant.ok_or_else(|| words(crate::isolate::error::Error::NoWorker(zone)))?;
            let answer = match order {
                KeyOrder::Get(key) => tenant.stored(&key).map(|found| json!(found)),
                KeyOrder::List(prefix, after) => tenant.keys(&prefix, after.as_deref()).map(|found| json!(found)),
                KeyOrder::Put(key, value, until) => tenant.store(&key, &value, until).map(|()| json!(null)),
                KeyOrder::Delete(key) => tenant.forget(&key).map(|()| json!(null)),
            };
            answer.map_err(ControlError)
        }
        WorkerOrder::Logs { zone, after } => {
            let tenant = isolates.tenant(&zone);
            let tenant = tenant.ok_or_else(|| words(crate::isolate::error::Error::NoWorker(zone)))?;
            Ok(json!(tenant.lines(after)))
        }
    }
}
