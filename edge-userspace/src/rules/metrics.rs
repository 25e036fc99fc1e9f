//! What the room counts: labels are names of the configuration.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::forward::Said;
use super::jwt::Refused;
use crate::http::handler::Failure;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRule {
    zone: Arc<str>,
    rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Copies {
    zone: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    zone: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    zone: Arc<str>,
    outcome: &'static str,
}

/// The room's figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    mirrored: Family<Copies, Counter>,
    tokens: Family<Tokens, Counter>,
    asked: Family<Asked, Counter>,
    matched: Family<OfRule, Counter>,
}

impl Metrics {
    /// Names every figure in `registry`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "edge_rules_matched",
            "Requests that a zone rule applied to",
            this.matched.clone(),
        );
        registry.register(
            "edge_rules_mirrored",
            "Copies of requests for another pool, and those that were not made",
            this.mirrored.clone(),
        );
        registry.register(
            "edge_rules_tokens",
            "Tokens that rules asked for, by what they came to",
            this.tokens.clone(),
        );
        registry.register(
            "edge_rules_asked",
            "Requests that a service was asked about, by what it said",
            this.asked.clone(),
        );
        this
    }

    /// A service was asked about a request of `zone`.
    pub(super) fn asked(&self, zone: &Arc<str>, said: Result<&Said, &Failure>) {
        let outcome = match said {
            Ok(Said::Passes(..)) => "passed",
            Ok(Said::Refused(_)) => "refused",
            Err(_) => "failed",
        };
        let of = Asked {
            zone: zone.clone(),
            outcome,
        };
        self.asked.get_or_create(&of).inc();
    }

    /// A token was asked for in `zone`; `None`: it passed.
    pub(super) fn token(&self, zone: &Arc<str>, refused: Option<Refused>) {
        let outcome = match refused {
            None => "passed",
            Some(Refused::Missing) => "missing",
            Some(Refused::Malformed) => "malformed",
            Some(Refused::Key) => "key",
            Some(Refused::Signature) => "signature",
            Some(Refused::Time) => "time",
            Some(Refused::Claims) => "claims",
        };
        let of = Tokens {
            zone: zone.clone(),
            outcome,
        };
        self.tokens.get_or_create(&of).inc();
    }

    /// A request of `zone` was to be copied.
    pub(super) fn mirror(&self, zone: &Arc<str>, outcome: &'static str) {
        let of = Copies {
            zone: zone.clone(),
            outcome,
        };
        self.mirrored.get_or_create(&of).inc();
    }

    /// A request of `zone` fitted `rule`.
    pub(super) fn matched(&self, zone: &Arc<str>, rule: &Arc<str>) {
        let of = OfRule {
            zone: zone.clone(),
            rule: rule.clone(),
        };
        self.matched.get_or_create(&of).inc();
    }
}
