//! What the room counts. Labels are closed enums; handles of hot counters are fetched once.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rustls::NamedGroup;

use super::closed::Closed;

/// Handles shared by all workers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    handshakes: Family<Handshake, Counter>,
    groups: Family<Group, Counter>,
    failures: Family<Reason, Counter>,
    /// Seconds from the accept to the end of a handshake that succeeded.
    pub duration: Histogram,
    /// Client connections now, plain ones and those still shaking hands among them.
    pub connections: Gauge,
    /// Connections closed because there are too many in all.
    pub refused_total: Counter,
    /// Connections closed because their client has too many.
    pub refused_address: Counter,
    /// Connections closed because the operator's deny list covers their client.
    pub refused_denied: Counter,
    /// Errors of `accept` itself: out of descriptors or memory.
    pub accept_errors: Counter,
    /// Connections accepted.
    pub accepted: Counter,
    certificates: Family<OfZone, Gauge>,
    responses: Family<OfZone, Gauge>,
}

/// How a handshake agreed on keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// By ephemeral keys of this group.
    Group(NamedGroup),
    /// By the certificate's own key: no forward secrecy.
    StaticRsa,
    /// Not anew: a session resumed in TLS 1.2.
    None,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Handshake {
    version: &'static str,
    resumed: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Group {
    group: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Labels of a zone's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfZone {
    zone: String,
}

impl Metrics {
    /// Tells until when each zone's certificate and its OCSP response hold, in seconds since 1970;
    /// of zones that are not named any more, nothing.
    pub fn expire<'a>(
        &self,
        certificates: impl Iterator<Item = (&'a Arc<str>, i64)>,
        responses: impl Iterator<Item = (&'a Arc<str>, i64)>,
    ) {
        let set = |family: &Family<OfZone, Gauge>, (zone, until): (&Arc<str>, i64)| {
            let zone = zone.to_string();
            family.get_or_create(&OfZone { zone }).set(until);
        };
        self.certificates.clear();
        certificates.for_each(|end| set(&self.certificates, end));
        self.responses.clear();
        responses.for_each(|end| set(&self.responses, end));
    }

    /// Registers the room's metrics; once per process.
    pub fn register(registry: &mut Registry) -> Self {
        let refused = Family::<Reason, Counter>::default();
        let this = Self {
            handshakes: Family::default(),
            groups: Family::default(),
            failures: Family::default(),
            duration: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            connections: Gauge::default(),
            refused_total: refused.get_or_create_owned(&Reason { reason: "total" }),
            refused_address: refused.get_or_create_owned(&Reason { reason: "address" }),
            refused_denied: refused.get_or_create_owned(&Reason { reason: "denied" }),
            accept_errors: Counter::default(),
            accepted: Counter::default(),
            certificates: Family::default(),
            responses: Family::default(),
        };
        registry.register(
            "edge_tls_certificate_expires_timestamp_seconds",
            "When the certificate of a zone expires, in seconds since 1970",
            this.certificates.clone(),
        );
        registry.register(
            "edge_tls_ocsp_response_expires_timestamp_seconds",
            "When the stapled OCSP response of a zone expires, in seconds since 1970",
            this.responses.clone(),
        );
        registry.register(
            "edge_tls_handshakes",
            "Handshakes that succeeded",
            this.handshakes.clone(),
        );
        registry.register(
            "edge_tls_key_exchanges",
            "Handshakes that succeeded, by their key exchange",
            this.groups.clone(),
        );
        registry.register(
            "edge_tls_handshake_failures",
            "Connections that ended before a request",
            this.failures.clone(),
        );
        registry.register(
            "edge_tls_handshake_duration_seconds",
            "From accept to handshake end",
            this.duration.clone(),
        );
        registry.register(
            "edge_tls_connections",
            "Client connections now",
            this.connections.clone(),
        );
        registry.register(
            "edge_tls_refused",
            "Connections closed for a limit or the deny list",
            refused,
        );
        registry.register(
            "edge_tls_accept_errors",
            "Errors of accept: descriptors, memory",
            this.accept_errors.clone(),
        );
        registry.register("edge_tls_accepted", "Connections accepted", this.accepted.clone());
        this
    }

    /// A handshake that succeeded.
    pub fn handshake(&self, version: &'static str, resumed: bool, seconds: f64) {
        let resumed = if resumed { "true" } else { "false" };
        self.handshakes.get_or_create(&Handshake { version, resumed }).inc();
        self.duration.observe(seconds);
    }

    /// How the handshake agreed on keys.
    pub fn key_exchange(&self, exchange: KeyExchange) {
        let group = match exchange {
            KeyExchange::Group(NamedGroup::X25519MLKEM768) => "x25519mlkem768",
            KeyExchange::Group(NamedGroup::X25519) => "x25519",
            KeyExchange::Group(NamedGroup::secp256r1) => "secp256r1",
            KeyExchange::Group(NamedGroup::secp384r1) => "secp384r1",
            KeyExchange::StaticRsa => "rsa",
            KeyExchange::Group(_) | KeyExchange::None => "none",
        };
        self.groups.get_or_create(&Group { group }).inc();
    }

    /// A connection that ended before it could be served.
    pub fn failure(&self, closed: &Closed) {
        self.failures.get_or_create(&Reason { reason: closed.label() }).inc();
    }
}
