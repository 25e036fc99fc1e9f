//! What the node counts of itself: reloads, and zones that could not be prepared.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::state::State;
use crate::base::clock::UnixTime;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfZone {
    zone: String,
    state: &'static str,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    reloads: Family<Outcome, Counter>,
    loaded: Gauge,
    failed: Family<OfZone, Gauge>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "edge_config_reloads",
            "Reloads of the configuration",
            this.reloads.clone(),
        );
        registry.register(
            "edge_config_loaded_timestamp_seconds",
            "When the configuration in force was loaded, in seconds since 1970",
            this.loaded.clone(),
        );
        registry.register(
            "edge_config_zones_failed",
            "Zones that could not be prepared: kept as they were, or out of service",
            this.failed.clone(),
        );
        this
    }

    /// A reload was taken or refused.
    pub(super) fn reload(&self, taken: bool) {
        let outcome = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }

    /// What is in force from now on.
    pub(super) fn zones(&self, state: &State) {
        self.loaded
            .set(i64::try_from(UnixTime::now().secs()).unwrap_or(i64::MAX));
        self.failed.clear();
        for (zone, kept) in state.failed() {
            let state = if kept { "kept" } else { "out" };
            let zone = zone.to_owned();
            self.failed.get_or_create(&OfZone { zone, state }).set(1);
        }
    }
}
