//! What is counted of key servers. A server's name is the operator's, as a zone's is.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Refusal;

/// Shared by all key servers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Outcome, Counter>,
    latency: Family<Name, Histogram, fn() -> Histogram>,
    hedges: Family<Name, Counter>,
    open: Family<Name, Gauge>,
    connections: Family<Name, Gauge>,
    pending: Family<Name, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Name {
    server: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    server: String,
    outcome: &'static str,
}

/// One server's handles.
#[derive(Debug)]
pub(super) struct Handles {
    family: Family<Outcome, Counter>,
    server: String,
    ok: Counter,
    pub(super) latency: Histogram,
    pub(super) hedges: Counter,
    pub(super) open: Gauge,
    pub(super) connections: Gauge,
    pub(super) pending: Gauge,
}

fn latencies() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(latencies),
            hedges: Family::default(),
            open: Family::default(),
            connections: Family::default(),
            pending: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers them; once per process.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "edge_tls_keyserver_requests",
            "Requests to key servers, by what came of them",
            self.requests.clone(),
        );
        registry.register(
            "edge_tls_keyserver_latency_seconds",
            "From a request to its answer",
            self.latency.clone(),
        );
        registry.register(
            "edge_tls_keyserver_hedges",
            "Requests sent to a further server because this one took long",
            self.hedges.clone(),
        );
        registry.register(
            "edge_tls_keyserver_breaker_open",
            "1 while the breaker keeps requests from this server",
            self.open.clone(),
        );
        registry.register(
            "edge_tls_keyserver_connections",
            "Connections to this server now",
            self.connections.clone(),
        );
        registry.register(
            "edge_tls_keyserver_pending",
            "Requests that wait for an answer now",
            self.pending.clone(),
        );
    }

    pub(super) fn of(&self, server: &str) -> Handles {
        let name = Name {
            server: server.to_owned(),
        };
        let ok = Outcome {
            server: server.to_owned(),
            outcome: "ok",
        };
        Handles {
            ok: self.requests.get_or_create_owned(&ok),
            family: self.requests.clone(),
            server: server.to_owned(),
            latency: self.latency.get_or_create_owned(&name),
            hedges: self.hedges.get_or_create_owned(&name),
            open: self.open.get_or_create_owned(&name),
            connections: self.connections.get_or_create_owned(&name),
            pending: self.pending.get_or_create_owned(&name),
        }
    }
}

impl Handles {
    pub(super) fn ok(&self) {
        self.ok.inc();
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        let outcome = Outcome {
            server: self.server.clone(),
            outcome: refusal.label(),
        };
        self.family.get_or_create(&outcome).inc();
    }
}
