//! What the key server counts. Labels are closed enums and names from the configuration's own list
//! of ops.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::wire::{ErrorCode, Op};

/// Handles shared by all threads.
#[derive(Debug)]
pub(super) struct Metrics {
    /// By op, then by outcome: done, then the error codes in their order.
    queries: Vec<Vec<Counter>>,
    closed: Family<Reason, Counter>,
    /// Connections now, those still shaking hands among them.
    pub(super) connections: Gauge,
    /// Connections accepted.
    pub(super) accepted: Counter,
    /// Errors of `accept` itself.
    pub(super) accept_errors: Counter,
    /// Private keys in force.
    pub(super) keys: Gauge,
    /// Files of the key directory that are of no use; 1 more when it cannot be listed.
    pub(super) key_errors: Gauge,
    /// Reloads that failed.
    pub(super) reload_errors: Counter,
    /// Queries that wait for RSA.
    pub(super) rsa_waiting: Gauge,
    /// From reading a query for RSA to its answer, in seconds.
    pub(super) rsa_seconds: Histogram,
    /// Refusals that were not logged because there were too many.
    pub(super) audit_dropped: Counter,
    /// When the first revocation list is due, in seconds since 1970; 0: there is none.
    pub(super) lists_due: Gauge,
    clients: Family<OfClient, Gauge>,
}

/// Labels of a client, which the configuration names.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfClient {
    client: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Query {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Metrics {
    /// Registers all; once per process.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let queries = Family::<Query, Counter>::default();
        let outcomes = || std::iter::once("done").chain(ErrorCode::ALL.iter().map(|code| code.name()));
        let counters = |op: &Op| {
            let op = op.name();
            outcomes()
                .map(|outcome| queries.get_or_create_owned(&Query { op, outcome }))
                .collect()
        };
        let this = Self {
            queries: Op::ALL.iter().map(counters).collect(),
            closed: Family::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            accept_errors: Counter::default(),
            keys: Gauge::default(),
            key_errors: Gauge::default(),
            reload_errors: Counter::default(),
            rsa_waiting: Gauge::default(),
            rsa_seconds: Histogram::new([
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            ]),
            audit_dropped: Counter::default(),
            lists_due: Gauge::default(),
            clients: Family::default(),
        };
        registry.register(
            "edge_keyserver_queries",
            "Queries, by op and what became of them",
            queries,
        );
        registry.register(
            "edge_keyserver_connections_closed",
            "Connections that ended, by the reason",
            this.closed.clone(),
        );
        registry.register(
            "edge_keyserver_connections",
            "Connections now",
            this.connections.clone(),
        );
        registry.register("edge_keyserver_accepted", "Connections accepted", this.accepted.clone());
        registry.register(
            "edge_keyserver_accept_errors",
            "Errors of accept: descriptors, memory",
            this.accept_errors.clone(),
        );
        registry.register("edge_keyserver_keys", "Private keys in force", this.keys.clone());
        registry.register(
            "edge_keyserver_key_errors",
            "Files of the key directory that are of no use",
            this.key_errors.clone(),
        );
        registry.register(
            "edge_keyserver_reload_errors",
            "Reloads that failed",
            this.reload_errors.clone(),
        );
        registry.register(
            "edge_keyserver_rsa_waiting",
            "Queries that wait for RSA",
            this.rsa_waiting.clone(),
        );
        registry.register(
            "edge_keyserver_rsa_duration_seconds",
            "From reading a query for RSA to its answer",
            this.rsa_seconds.clone(),
        );
        registry.register(
            "edge_keyserver_audit_lines_dropped",
            "Refusals not logged because there were too many",
            this.audit_dropped.clone(),
        );
        registry.register(
            "edge_keyserver_revocation_list_due_timestamp_seconds",
            "When the next update of the first revocation list is due, in seconds since 1970; 0 without lists",
            this.lists_due.clone(),
        );
        registry.register(
            "edge_keyserver_client_certificate_expires_timestamp_seconds",
            "When the certificate that a client showed last expires, in seconds since 1970",
            this.clients.clone(),
        );
        this
    }

    /// A query that was answered.
    pub(super) fn query(&self, op: Op, error: Option<ErrorCode>) {
        let op = usize::from(op.code()).saturating_sub(1);
        let outcome = error.map_or(0, |code| usize::from(code.code()));
        if let Some(counter) = self.queries.get(op).and_then(|outcomes| outcomes.get(outcome)) {
            counter.inc();
        }
    }

    /// The certificate that `client` has shown ends then, in seconds since 1970.
    pub(super) fn expires(&self, client: &str, until: i64) {
        let client = client.to_owned();
        self.clients.get_or_create(&OfClient { client }).set(until);
    }

    /// A connection that ended.
    pub(super) fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }
}
