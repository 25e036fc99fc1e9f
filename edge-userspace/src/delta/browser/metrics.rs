//! What is counted of responses to browsers. Labels are closed sets.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCoding {
    coding: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// What became of a dictionary that a browser offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The response refers to it.
    Used,
    /// It is not held, any more or at all.
    Unknown,
    /// It may not be used for this response.
    Refused,
    /// The response shrinks no more by it than without.
    Useless,
}

impl Offer {
    fn label(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Useless => "useless",
        }
    }
}

/// One coding's counters.
pub(super) struct OfOne {
    pub(super) responses: Counter,
    pub(super) sent: Counter,
}

/// The room's figures; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    responses: Family<OfCoding, Counter>,
    content: Family<OfCoding, Counter>,
    sent: Family<OfCoding, Counter>,
    offers: Family<OfOutcome, Counter>,
    dictionaries: Gauge,
    shelf: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let (r, of) = (registry, &this.0);
        let help = "Responses coded for clients";
        r.register("edge_delta_browser_responses", help, of.responses.clone());
        let help = "Content before it was coded, where its length was known";
        r.register("edge_delta_browser_content_bytes", help, of.content.clone());
        r.register("edge_delta_browser_sent_bytes", "Coded content", of.sent.clone());
        let help = "Dictionaries that browsers offered";
        r.register("edge_delta_browser_offers", help, of.offers.clone());
        let help = "Dictionaries held for browsers";
        r.register("edge_delta_browser_dictionaries_bytes", help, of.dictionaries.clone());
        r.register("edge_delta_browser_shelf_bytes", "Coded assets held", of.shelf.clone());
        this
    }

    pub(super) fn coded(&self, coding: &'static str, length: Option<u64>) -> OfOne {
        let label = OfCoding { coding };
        if let Some(length) = length {
            self.0.content.get_or_create(&label).inc_by(length);
        }
        OfOne {
            responses: self.0.responses.get_or_create_owned(&label),
            sent: self.0.sent.get_or_create_owned(&label),
        }
    }

    pub(super) fn offer(&self, offer: Offer) {
        self.0.offers.get_or_create(&OfOutcome { outcome: offer.label() }).inc();
    }

    pub(super) fn set(&self, dictionaries: u64, shelf: u64) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.0.dictionaries.set(signed(dictionaries));
        self.0.shelf.set(signed(shelf));
    }
}
