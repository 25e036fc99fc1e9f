//! What a node counts of its fleet. Labels are closed sets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    what: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    action: &'static str,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    connected: Gauge,
    counter: Gauge,
    signed: Gauge,
    manifests: Family<Outcome, Counter>,
    rejected: Family<Rejected, Counter>,
    events: Family<Of, Counter>,
    gaps: Counter,
    lag: Gauge<f64, std::sync::atomic::AtomicU64>,
    fetched: Counter,
    ticket_keys: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        let this = self;
        registry.register(
            "edge_fleet_connected",
            "Whether this node is connected to the fleet's engine",
            this.connected.clone(),
        );
        registry.register(
            "edge_fleet_manifest_counter",
            "The counter of the manifest in force; 0: none yet",
            this.counter.clone(),
        );
        registry.register(
            "edge_fleet_manifest_timestamp_seconds",
            "When the manifest in force was signed, in seconds since 1970",
            this.signed.clone(),
        );
        registry.register(
            "edge_fleet_manifests",
            "Newer manifests: put into force, fetched for later, or not prepared",
            this.manifests.clone(),
        );
        registry.register(
            "edge_fleet_rejected",
            "Heads, events, receipts and ticket keys that were not taken, by reason",
            this.rejected.clone(),
        );
        registry.register("edge_fleet_events", "Events that were taken", this.events.clone());
        registry.register(
            "edge_fleet_gaps",
            "Events that were missed, so that everything stored was voided",
            this.gaps.clone(),
        );
        registry.register(
            "edge_fleet_event_lag_seconds",
            "From an event's issue to here, of the last one, by both clocks",
            this.lag.clone(),
        );
        registry.register(
            "edge_fleet_fetched_bytes",
            "Bytes of blobs that came from the engine",
            this.fetched.clone(),
        );
        registry.register(
            "edge_fleet_ticket_keys",
            "Keys of session tickets that this node shares with others",
            this.ticket_keys.clone(),
        );
    }

    pub(super) fn connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    pub(super) fn in_force(&self, counter: u64, signed_secs: u64) {
        self.counter.set(i64::try_from(counter).unwrap_or(i64::MAX));
        self.signed.set(i64::try_from(signed_secs).unwrap_or(i64::MAX));
    }

    pub(super) fn manifest(&self, outcome: &'static str) {
        self.manifests.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn rejected(&self, what: &'static str, reason: &'static str) {
        self.rejected.get_or_create(&Rejected { what, reason }).inc();
    }

    pub(super) fn event(&self, action: &'static str, lag_millis: u64) {
        self.events.get_or_create(&Of { action }).inc();
        // 2^53 ms are 285,000 years.
        self.lag.set(lag_millis as f64 / 1_000.0);
    }

    pub(super) fn gap(&self) {
        self.gaps.inc();
    }

    pub(super) fn ticket_keys(&self, keys: usize) {
        self.ticket_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    pub(super) fn fetched(&self, bytes: u64) {
        self.fetched.inc_by(bytes);
    }

    /// Bytes of blobs that came from the engine so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.get()
    }
}
