//! What the room counts. Handles that a request touches are looked up once per zone or server, when
//! the fleet is built.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::http::handler::Reason;

/// How a request to an origin ended: the class of the status, or the failure's reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    zone: String,
    outcome: &'static str,
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InZone {
    zone: String,
}

/// A server as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtServer {
    zone: String,
    server: String,
}

/// What a connection to an origin is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum State {
    /// Name, TCP or TLS not settled yet.
    #[expect(non_camel_case_types, reason = "the variant is the label")]
    connecting,
    /// Usable, idle or not.
    #[expect(non_camel_case_types, reason = "the variant is the label")]
    open,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Towards {
    direction: &'static str,
}

/// The room's metrics; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Outcome, Counter>,
    retries: Family<InZone, Counter>,
    healthy: Family<AtServer, Gauge>,
    connections: Family<InState, Gauge>,
    tunnel_bytes: Family<Towards, Counter>,
    pub(super) first_byte: Histogram,
    pub(super) opened: Counter,
    pub(super) reused: Counter,
    pub(super) tunnels: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            retries: Family::default(),
            healthy: Family::default(),
            connections: Family::default(),
            tunnel_bytes: Family::default(),
            first_byte: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
            ]),
            opened: Counter::default(),
            reused: Counter::default(),
            tunnels: Gauge::default(),
        }
    }
}

impl Metrics {
    /// New metrics, shown by `registry` as `edge_origin_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let origin = registry.sub_registry_with_prefix("edge_origin");
        origin.register(
            "requests",
            "Requests by outcome: status class or reason of failure",
            this.requests.clone(),
        );
        origin.register("retries", "Attempts after the first", this.retries.clone());
        origin.register("healthy", "1 while the server may be chosen", this.healthy.clone());
        origin.register("connections", "Connections to origins", this.connections.clone());
        origin.register(
            "connections_opened",
            "Connections opened to origins",
            this.opened.clone(),
        );
        origin.register(
            "connections_reused",
            "Requests on a connection that had served before",
            this.reused.clone(),
        );
        origin.register("tunnels", "Upgraded connections joined", this.tunnels.clone());
        origin.register_with_unit(
            "tunnel",
            "Bytes through upgraded connections",
            Unit::Bytes,
            this.tunnel_bytes.clone(),
        );
        origin.register_with_unit(
            "first_byte",
            "From sending a request to the first byte of the response head",
            Unit::Seconds,
            this.first_byte.clone(),
        );
        this
    }

    /// The handles of one zone.
    pub(super) fn zone(&self, zone: &str) -> ZoneMetrics {
        let outcome = |outcome| {
            self.requests.get_or_create_owned(&Outcome {
                zone: zone.to_owned(),
                outcome,
            })
        };
        ZoneMetrics {
            classes: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(outcome),
            retries: self.retries.get_or_create_owned(&InZone { zone: zone.to_owned() }),
            zone: zone.into(),
            requests: self.requests.clone(),
        }
    }

    /// Whether a server may be chosen.
    pub(super) fn healthy(&self, zone: &str, server: &str, healthy: bool) {
        self.healthy.get_or_create(&at(zone, server)).set(i64::from(healthy));
    }

    /// A server that is configured no more.
    pub(super) fn forget(&self, zone: &str, server: &str) {
        self.healthy.remove(&at(zone, server));
    }

    /// Connections in `state`.
    pub(super) fn connections(&self, state: State) -> Gauge {
        self.connections.get_or_create_owned(&InState { state })
    }

    /// Bytes through tunnels, (to the origin, to the client).
    pub(super) fn tunnel_bytes(&self) -> [Counter; 2] {
        ["origin", "client"].map(|direction| self.tunnel_bytes.get_or_create_owned(&Towards { direction }))
    }
}

fn at(zone: &str, server: &str) -> AtServer {
    AtServer {
        zone: zone.to_owned(),
        server: server.to_owned(),
    }
}

/// One zone's handles.
#[derive(Debug)]
pub(super) struct ZoneMetrics {
    classes: [Counter<u64, AtomicU64>; 5],
    pub(super) retries: Counter,
    zone: Arc<str>,
    requests: Family<Outcome, Counter>,
}

impl ZoneMetrics {
    /// A response with `status`.
    pub(super) fn answered(&self, status: http::StatusCode) {
        if let Some(counter) = usize::from(status.as_u16() / 100)
            .checked_sub(1)
            .and_then(|at| self.classes.get(at))
        {
            counter.inc();
        }
    }

    /// A failure.
    pub(super) fn failed(&self, reason: Reason) {
        self.requests
            .get_or_create(&Outcome {
                zone: self.zone.to_string(),
                outcome: reason.label(),
            })
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts ask by these names.
    #[test]
    fn names() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let zone = metrics.zone("z");
        zone.answered(http::StatusCode::NOT_FOUND);
        zone.failed(Reason::OriginTimeout);
        zone.retries.inc();
        metrics.healthy("z", "http://a", true);
        metrics.healthy("z", "http://b", true);
        metrics.forget("z", "http://b");
        metrics.connections(State::open).inc();
        metrics.tunnel_bytes()[0].inc();
        metrics.first_byte.observe(0.1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "edge_origin_requests_total{zone=\"z\",outcome=\"4xx\"} 1",
            "edge_origin_requests_total{zone=\"z\",outcome=\"origin_timeout\"} 1",
            "edge_origin_retries_total{zone=\"z\"} 1",
            "edge_origin_healthy{zone=\"z\",server=\"http://a\"} 1",
            "edge_origin_connections{state=\"open\"} 1",
            "edge_origin_connections_opened_total 0",
            "edge_origin_connections_reused_total 0",
            "edge_origin_tunnels 0",
            "edge_origin_tunnel_bytes_total{direction=\"origin\"} 1",
            "edge_origin_first_byte_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("http://b"));
    }
}
