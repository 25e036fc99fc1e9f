//! The near end of this node: its far ends as zones of their own, which the room `origin` connects to like to any server.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::config::{self, Config};
use crate::delta::near::{FarEnd, Shared};
use crate::delta::{Metrics, near};
use crate::zones::{Zone, Zones};

/// What all workers share; made even where no zone has a far end, so that a reload can bring one.
pub(super) fn start(config: &Config, registry: &mut Registry) -> Arc<Shared> {
    let delta = &config.delta;
    near::Shared::new(delta.memory, delta.object_bytes, Metrics::near(registry))
}

/// The zones of `config`, and behind them one for each far end. For the fleet alone: no host leads to a far end.
pub(super) fn with_far_ends(config: &Config) -> Zones {
    let mut zones = config.zones.clone();
    zones.extend(config.far_ends.iter().map(|end| config::Zone {
        // Letters that no operator's zone has, so that metrics and status tell them apart.
        name: format!("far:{}", end.name).into(),
        hosts: Vec::new(),
        default: false,
        certificate: None,
        early_data: false,
        body_bytes: None,
        body_timeout: config.limits.body_timeout,
        request_timeout: None,
        gate: None,
        delta: None,
        cache: None,
        coding: None,
        worker: None,
        routes: Vec::new(),
        origin: config::Origin::Servers(end.upstream.clone()),
    }));
    Zones::new(&zones)
}

/// Puts the far ends of `config`, found among `zones`, into force.
pub(super) fn install(near: &Shared, config: &Config, zones: &Zones) {
    let zone = |end: &config::delta::FarEnd| -> Option<Arc<Zone>> {
        let name = format!("far:{}", end.name);
        zones.all().iter().find(|zone| *zone.name == *name).cloned()
    };
    near.install(config.far_ends.iter().filter_map(|end| {
        let known = FarEnd {
            zone: zone(end)?,
            keep_no_store: end.keep_no_store,
        };
        Some((end.name.clone(), known))
    }));
}
