//! Metrics of the process itself; every room registers its own. Written in the OpenMetrics text
//! format.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Registers the process's figures: build, start time, CPU, memory, descriptors, threads, dropped
/// log lines, which `dropped` counts.
pub fn register(registry: &mut Registry, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
    registry.register(
        "edge_build",
        "The running build",
        Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("target", std::env::consts::ARCH),
        ]),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register_collector(Box::new(Process {
        started: now.as_secs_f64(),
        dropped: Box::new(dropped),
    }));
}

/// The registry as text.
pub fn encode(registry: &Registry) -> String {
    let mut text = String::with_capacity(16 << 10);
    // Writing to a String cannot fail; a collector that does leaves the text short, which a scraper
    // refuses for its missing EOF.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

/// Figures of this process from /proc, read when scraped. Names are those every Prometheus client
/// library uses.
struct Process {
    started: f64,
    dropped: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(
            &mut encoder,
            "process_start_time",
            "Start of the process since the epoch",
            Some(&Unit::Seconds),
            self.started,
        )?;
        if let Some(usage) = usage() {
            let cpu = ConstCounter::new(usage.cpu);
            let descriptor = encoder.encode_descriptor(
                "process_cpu",
                "User and system time spent",
                Some(&Unit::Seconds),
                prometheus_client::metrics::MetricType::Counter,
            )?;
            cpu.encode(descriptor)?;
            gauge(
                &mut encoder,
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                usage.resident,
            )?;
            gauge(&mut encoder, "process_threads", "Threads", None, usage.threads)?;
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open descriptors",
                None,
                entries.count() as f64,
            )?;
        }
        let lines = ConstCounter::new((self.dropped)());
        let descriptor = encoder.encode_descriptor(
            "edge_admin_log_lines_dropped",
            "Log lines dropped because the writer could not keep up",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        lines.encode(descriptor)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Result<(), fmt::Error> {
    let descriptor = encoder.encode_descriptor(name, help, unit, prometheus_client::metrics::MetricType::Gauge)?;
    ConstGauge::new(value).encode(descriptor)
}

/// CPU seconds, resident bytes, threads.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system seconds.
    pub cpu: f64,
    /// Resident bytes.
    pub resident: f64,
    /// Threads.
    pub threads: f64,
}

/// What this process uses now (proc_pid_stat(5)); `None` without a /proc.
pub fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; fields are counted behind it, the third field being
    // the first there.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    Some(Usage {
        cpu: (number(11)? + number(12)?) / ticks,
        threads: number(17)?,
        resident: number(21)? * page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scraper refuses text that is no OpenMetrics, and with it every figure.
    #[test]
    fn openmetrics() {
        let mut registry = Registry::default();
        register(&mut registry, || 0);
        let text = encode(&registry);
        assert!(text.ends_with("# EOF\n"), "{text}");
        for name in [
            "edge_build_info{",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
        let resident = usage().unwrap().resident;
        assert!(resident > 1e6, "{resident}");
    }
}
