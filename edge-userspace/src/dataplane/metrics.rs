//! The kernel's numbers for the metrics registry, read when somebody asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::counters::Counters;
use super::lists::Lists;
use super::penalties::Penalties;

/// A collector for `prometheus_client::registry::Registry::register_collector`.
#[derive(Debug)]
pub struct Metrics {
    counters: Arc<Counters>,
    lists: Arc<Lists>,
    penalties: Arc<Penalties>,
}

impl Metrics {
    pub(super) const fn new(counters: Arc<Counters>, lists: Arc<Lists>, penalties: Arc<Penalties>) -> Self {
        Self {
            counters,
            lists,
            penalties,
        }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "edge_dataplane_packets",
            "Packets that the XDP program judged, by verdict and reason",
            None,
            counter.metric_type(),
        )?;
        // A kernel that does not answer leaves a gap in the series, which is what a scraper should
        // see.
        for count in self.counters.read().unwrap_or_default() {
            let labels = [("verdict", count.verdict.name()), ("reason", count.name)];
            ConstCounter::new(count.packets).encode(family.encode_family(&labels)?)?;
        }
        let entries = ConstGauge::new(i64::try_from(self.lists.denied()).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor(
            "edge_dataplane_deny_entries",
            "Addresses and prefixes on the deny list, of the configuration and of run time",
            None,
            entries.metric_type(),
        )?;
        entries.encode(metric)?;
        let gauge = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor(
            "edge_dataplane_penalties",
            "Penalties in force in the kernel when they were last counted, by who bears them",
            None,
            gauge.metric_type(),
        )?;
        let (addresses, clients) = self.penalties.counted();
        for (kind, count) in [("address", addresses), ("client", clients)] {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("kind", kind)])?)?;
        }
        let room = ConstGauge::new(i64::from(self.penalties.capacity()));
        let metric = encoder.encode_descriptor(
            "edge_dataplane_penalties_capacity",
            "Penalties that the kernel has room for",
            None,
            room.metric_type(),
        )?;
        room.encode(metric)?;
        Ok(())
    }
}
