//! What the room counts. Labels are closed enums and configured zone names. Handles are fetched
//! once per zone, so that a request takes no lock on a family.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Version;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::framing::Refusal;
use super::handler::Reason;

/// Handles shared by all workers; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    requests: Family<Class, Counter>,
    duration: Family<ZoneLabel, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    received: Counter,
    sent: Counter,
    failures: Family<ReasonLabel, Counter>,
    connections: Family<ProtocolLabel, Gauge>,
    overdue: Family<ReasonLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    early: [Counter; 2],
    zones: ArcSwap<HashMap<Arc<str>, Arc<ZoneMetrics>>>,
}

/// One zone's handles: requests by protocol and class of status, and their duration.
pub struct ZoneMetrics {
    requests: [[Counter; 6]; 4],
    duration: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Class {
    zone: String,
    protocol: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ZoneLabel {
    zone: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProtocolLabel {
    protocol: &'static str,
}

const PROTOCOLS: [&str; 4] = ["1.0", "1.1", "2", "3"];
/// `aborted`: the exchange ended before its response head.
const CLASSES: [&str; 6] = ["aborted", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn duration() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ])
}

impl Metrics {
    /// Registers the room's metrics; once per process.
    pub fn register(registry: &mut Registry) -> Self {
        let early = Family::<OutcomeLabel, Counter>::default();
        let inner = Inner {
            requests: Family::default(),
            duration: Family::new_with_constructor(duration),
            in_flight: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            failures: Family::default(),
            connections: Family::default(),
            overdue: Family::default(),
            refused: Family::default(),
            early: ["served", "held"].map(|outcome| early.get_or_create_owned(&OutcomeLabel { outcome })),
            zones: ArcSwap::default(),
        };
        let r = registry;
        r.register(
            "edge_http_requests",
            "Requests, by the end of their response",
            inner.requests.clone(),
        );
        r.register(
            "edge_http_request_duration_seconds",
            "From head to end of response",
            inner.duration.clone(),
        );
        r.register(
            "edge_http_requests_in_flight",
            "Requests under way",
            inner.in_flight.clone(),
        );
        r.register("edge_http_request_bytes", "Content received", inner.received.clone());
        r.register("edge_http_response_bytes", "Content sent", inner.sent.clone());
        r.register(
            "edge_http_failures",
            "Requests the edge answered for a failure",
            inner.failures.clone(),
        );
        r.register(
            "edge_http_connections",
            "Connections serving",
            inner.connections.clone(),
        );
        r.register(
            "edge_http_overdue",
            "Connections ended for a timeout",
            inner.overdue.clone(),
        );
        r.register(
            "edge_http_refused_framing",
            "HTTP/1 messages refused as ambiguous",
            inner.refused.clone(),
        );
        r.register(
            "edge_http_early_requests",
            "Requests that came before the handshake was over",
            early,
        );
        Self(Arc::new(inner))
    }

    /// The handles of the zone `name`; fetch once per connection and zone.
    pub fn zone(&self, name: &Arc<str>) -> Arc<ZoneMetrics> {
        if let Some(known) = self.0.zones.load().get(name) {
            return known.clone();
        }
        let fresh = Arc::new(ZoneMetrics {
            requests: PROTOCOLS.map(|protocol| {
                CLASSES.map(|status| {
                    let zone = name.to_string();
                    self.0.requests.get_or_create_owned(&Class { zone, protocol, status })
                })
            }),
            duration: self
                .0
                .duration
                .get_or_create_owned(&ZoneLabel { zone: name.to_string() }),
        });
        self.0.zones.rcu(|zones| {
            let mut zones = HashMap::clone(zones);
            zones.insert(name.clone(), fresh.clone());
            zones
        });
        fresh
    }

    /// A request begins.
    pub fn begin(&self) {
        self.0.in_flight.inc();
    }

    /// A request has ended.
    pub fn end(
        &self,
        zone: &ZoneMetrics,
        version: Version,
        status: Option<u16>,
        took: Duration,
        received: u64,
        sent: u64,
    ) {
        self.0.in_flight.dec();
        let protocol = match version {
            Version::HTTP_10 => 0,
            Version::HTTP_11 => 1,
            Version::HTTP_2 => 2,
            _ => 3,
        };
        let class = usize::from(status.unwrap_or(0) / 100).min(CLASSES.len() - 1);
        if let Some(counter) = zone.requests.get(protocol).and_then(|classes| classes.get(class)) {
            counter.inc();
        }
        zone.duration.observe(took.as_secs_f64());
        // Most requests have no content; an atomic saved is one not contended.
        if received > 0 {
            self.0.received.inc_by(received);
        }
        if sent > 0 {
            self.0.sent.inc_by(sent);
        }
    }

    /// Requests of all zones since the start, and those that were answered by a status of 500 or
    /// more.
    pub fn answered(&self) -> (u64, u64) {
        let zones = self.0.zones.load();
        let classes = zones.values().flat_map(|zone| &zone.requests);
        classes.fold((0, 0), |(all, failed), classes| {
            let requests: u64 = classes.iter().map(Counter::get).sum();
            (all + requests, failed + classes.last().map_or(0, Counter::get))
        })
    }

    /// A failure was answered.
    pub fn failure(&self, reason: Reason) {
        self.0
            .failures
            .get_or_create(&ReasonLabel { reason: reason.label() })
            .inc();
    }

    /// The gauge of connections that speak `protocol`.
    pub fn connections(&self, protocol: &'static str) -> Gauge {
        self.0.connections.get_or_create_owned(&ProtocolLabel { protocol })
    }

    /// A connection ended for a timeout.
    pub fn overdue(&self, reason: &'static str) {
        self.0.overdue.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A request came before the handshake was over; whether it waits for that.
    pub fn early(&self, held: bool) {
        let [served, waits] = &self.0.early;
        if held {
            waits.inc()
        } else {
            served.inc()
        };
    }

    /// An ambiguous message was refused.
    pub fn refused_framing(&self, why: Refusal) {
        self.0.refused.get_or_create(&ReasonLabel { reason: why.label() }).inc();
    }
}
