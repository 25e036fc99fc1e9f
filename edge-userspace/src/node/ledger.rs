//! The ledger's place in the node: made with the file's bounds, and told to operators.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::base::ledger::{Kind, Ledger};
use crate::config::Serving;

/// The node's ledger, with its figures among the metrics.
pub(super) fn start(config: Serving<'_>, registry: &mut Registry) -> Ledger {
    let ledger = Ledger::new(config.limits.memory, config.limits.memory_per_address);
    ledger.trust(config.server.trusted().to_vec());
    registry.register_collector(Box::new(Figures(ledger.clone())));
    ledger
}

/// Read when scraped.
#[derive(Debug)]
struct Figures(Ledger);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.0.figures();
        let help = "Bytes held for clients, by what they are";
        let mut bytes = encoder.encode_descriptor("edge_memory_bytes", help, None, MetricType::Gauge)?;
        for (kind, sum) in Kind::ALL.iter().zip(figures.kinds) {
            let labels = [("kind", kind.label())];
            let family = bytes.encode_family(&labels)?;
            ConstGauge::new(gauge(sum)).encode(family)?;
        }
        let help = "Bytes that may be held for clients";
        let most = encoder.encode_descriptor("edge_memory_most_bytes", help, None, MetricType::Gauge)?;
        ConstGauge::new(gauge(figures.most)).encode(most)?;
        let help = "Bytes that were not taken because an account was full";
        let refused = encoder.encode_descriptor("edge_memory_refused", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.refused).encode(refused)?;
        let help = "Connections that were ended for standing still while an account was full";
        let ended = encoder.encode_descriptor("edge_memory_ended", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.ended).encode(ended)
    }
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
