//! What the room counts. Labels are closed enums; handles of hot counters are fetched once.

use std::net::SocketAddr;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::accept::Closed;
use crate::base::peer::Peer;

/// Handles shared by all workers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    handshakes: Family<Resumed, Counter>,
    failures: Family<Reason, Counter>,
    duration: Histogram,
    early_data: Family<Outcome, Counter>,
    /// Attempts that reached the daemon.
    pub incoming: Counter,
    /// 1 while the node is locked down.
    pub lockdown: Gauge,
    /// Retries that the daemon sent.
    pub retries: Counter,
    /// Retries that the XDP program sent, since the daemon started.
    pub kernel_retries: Counter,
    /// Attempts refused because there are too many connections in all.
    pub refused_total: Counter,
    /// Attempts refused because their client has too many connections.
    pub refused_address: Counter,
    /// Attempts from addresses that operators have blocked; they got no answer.
    pub refused_operator: Counter,
    /// Attempts ignored because the operator's deny list covers their client.
    pub refused_denied: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Resumed {
    resumed: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct By {
    by: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Metrics {
    /// Registers the room's metrics; once per process.
    pub fn register(registry: &mut Registry) -> Self {
        let refused = Family::<Reason, Counter>::default();
        let retries = Family::<By, Counter>::default();
        let this = Self {
            lockdown: Gauge::default(),
            retries: retries.get_or_create_owned(&By { by: "daemon" }),
            kernel_retries: retries.get_or_create_owned(&By { by: "kernel" }),
            handshakes: Family::default(),
            failures: Family::default(),
            early_data: Family::default(),
            duration: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            incoming: Counter::default(),
            refused_total: refused.get_or_create_owned(&Reason { reason: "total" }),
            refused_address: refused.get_or_create_owned(&Reason { reason: "address" }),
            refused_operator: refused.get_or_create_owned(&Reason { reason: "operator" }),
            refused_denied: refused.get_or_create_owned(&Reason { reason: "denied" }),
        };
        registry.register(
            "edge_quic_handshakes",
            "QUIC handshakes that succeeded",
            this.handshakes.clone(),
        );
        registry.register(
            "edge_quic_handshake_failures",
            "QUIC attempts that ended before a request",
            this.failures.clone(),
        );
        registry.register(
            "edge_quic_handshake_duration_seconds",
            "From the first Initial packet to the handshake's end",
            this.duration.clone(),
        );
        registry.register(
            "edge_quic_early_data",
            "QUIC attempts that offered early data, and whether it was taken",
            this.early_data.clone(),
        );
        registry.register(
            "edge_quic_lockdown",
            "1 while attempts that prove nothing are answered with a Retry",
            this.lockdown.clone(),
        );
        registry.register("edge_quic_retries", "Retry packets sent", retries);
        registry.register(
            "edge_quic_refused",
            "QUIC attempts refused for a limit or the deny list",
            refused,
        );
        registry.register(
            "edge_quic_incoming",
            "QUIC attempts that reached the daemon",
            this.incoming.clone(),
        );
        this
    }

    /// The handshake with `peer` is over.
    pub(super) fn shook(&self, peer: &Peer) {
        if let Some(handshake) = &peer.handshake {
            let resumed = if handshake.resumed { "true" } else { "false" };
            self.handshakes.get_or_create(&Resumed { resumed }).inc();
            // With early data, the peer was served before.
            let took = match peer.early {
                Some(_) => peer.accepted.elapsed(),
                None => handshake.duration,
            };
            self.duration.observe(took.as_secs_f64());
        }
    }

    /// Early data was offered.
    pub(super) fn early_data(&self, taken: bool) {
        let outcome = if taken { "accepted" } else { "rejected" };
        self.early_data.get_or_create(&Outcome { outcome }).inc();
    }

    /// An attempt of `client` that came to nothing.
    pub(super) fn told(&self, client: SocketAddr, closed: &Closed) {
        match closed {
            Closed::Full => self.refused_total.inc(),
            Closed::Crowded => self.refused_address.inc(),
            Closed::Retried => self.retries.inc(),
            closed => self.failures.get_or_create(&Reason { reason: closed.label() }).inc(),
        };
        tracing::debug!(%client, reason = closed.label(), detail = %closed, "no QUIC connection");
    }
}
