//! The near end of this node: its far ends as zones of their own, which the room `origin` connects
//! to like to any server.

use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::config::{self, Config, Faults};
use crate::delta::near::{FarEnd, Shared};
use crate::delta::{Metrics, near};
use crate::zones::{Zone, Zones};

/// What all workers share; made even where no zone has a far end, so that a reload can bring one.
pub(super) fn start(config: &Config, registry: &mut Registry) -> Arc<Shared> {
    let delta = &config.delta;
    near::Shared::new(delta.memory, delta.object_bytes, Metrics::near(registry))
}

/// The zones of `config`, and behind them one for each far end. For the fleet alone: no host leads
/// to a far end.
pub(super) fn with_far_ends(config: &Config) -> Zones {
    let mut zones = config.zones.clone();
    zones.extend(config.far_ends.iter().map(|end| {
        // Letters that no operator's zone has, so that metrics and status tell them apart.
        let name = format!("far:{}", end.name).into();
        let origin = config::Origin::Servers(end.upstream.clone());
        config::Zone::bare(name, end.place.clone(), origin, config.limits.body_timeout)
    }));
    Zones::new(&zones)
}

/// Hands the `found` faults of the fleet on to `faults`: a far end that cannot be connected to
/// stops the zones that it is for, and the node if it is for none. Returns the names of those far
/// ends, as [`with_far_ends`] has them.
pub(super) fn attribute(config: &Config, found: Faults, faults: &mut Faults) -> BTreeSet<String> {
    let mut lost = BTreeSet::new();
    for (zone, mistakes) in found.of_zones() {
        let Some(end) = zone.strip_prefix("far:") else {
            for mistake in mistakes {
                faults.zone(zone, mistake.clone());
            }
            continue;
        };
        lost.insert(zone.to_string());
        let users: Vec<_> = config
            .zones
            .iter()
            .filter(|zone| zone.delta.as_deref() == Some(end))
            .collect();
        for mistake in mistakes {
            for user in &users {
                faults.zone(&user.name, mistake.clone());
            }
            if users.is_empty() {
                faults.node(mistake.clone());
            }
        }
    }
    lost
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
