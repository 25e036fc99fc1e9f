//! What the room counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Handles; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Family<Ordered, Counter>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ordered {
    zone: String,
    outcome: &'static str,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let orders = Family::default();
        registry.register(
            "edge_acme_orders",
            "Certificates ordered by ACME, by zone and how that ended",
            orders.clone(),
        );
        Self(orders)
    }

    pub(super) fn ordered(&self, zone: &Arc<str>, issued: bool) {
        let outcome = if issued { "issued" } else { "failed" };
        let zone = zone.to_string();
        self.0.get_or_create(&Ordered { zone, outcome }).inc();
    }
}
