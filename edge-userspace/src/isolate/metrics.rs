//! What the room counts. Labels are zones of the configuration and closed sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};

use super::budget::{Meter, Start};
use super::error::Ended;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfZone {
    zone: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Began {
    zone: String,
    start: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    zone: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    zone: String,
    outcome: &'static str,
}

type Seconds = Counter<f64, AtomicU64>;

/// The room's figures.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    starts: Family<Began, Counter>,
    failures: Family<Failed, Counter>,
    subrequests: Family<Asked, Counter>,
    cpu: Family<OfZone, Seconds>,
    wall: Family<OfZone, Seconds>,
    memory: Family<OfZone, Gauge>,
    active: Family<OfZone, Gauge>,
    compile: Family<OfZone, Gauge<f64, AtomicU64>>,
    log_lines_dropped: Family<OfZone, Counter>,
}

impl Metrics {
    /// Names every figure in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "edge_isolate_requests",
            "Requests given to workers, by whether an instance was made for it (cold), had been made ahead of it (ready), or was reused (warm)",
            self.starts.clone(),
        );
        registry.register(
            "edge_isolate_failures",
            "Requests whose worker came to a bad end",
            self.failures.clone(),
        );
        registry.register(
            "edge_isolate_subrequests",
            "Requests that workers made",
            self.subrequests.clone(),
        );
        registry.register_with_unit(
            "edge_isolate_cpu",
            "Processor time of workers",
            Unit::Seconds,
            self.cpu.clone(),
        );
        registry.register_with_unit(
            "edge_isolate_wall",
            "Time of workers, waiting included",
            Unit::Seconds,
            self.wall.clone(),
        );
        registry.register_with_unit(
            "edge_isolate_memory_peak",
            "The most linear memory that one instance has had",
            Unit::Bytes,
            self.memory.clone(),
        );
        registry.register("edge_isolate_active", "Workers that run now", self.active.clone());
        registry.register_with_unit(
            "edge_isolate_compile",
            "What compiling the active worker took",
            Unit::Seconds,
            self.compile.clone(),
        );
        registry.register(
            "edge_isolate_log_lines_dropped",
            "Lines of workers beyond their limits",
            self.log_lines_dropped.clone(),
        );
    }

    /// The figures of one zone, found once.
    pub(super) fn zone(&self, zone: &str) -> Counts {
        let of = OfZone { zone: zone.to_owned() };
        let start = |start| {
            self.starts.get_or_create_owned(&Began {
                zone: zone.to_owned(),
                start,
            })
        };
        let asked = |outcome| {
            self.subrequests.get_or_create_owned(&Asked {
                zone: zone.to_owned(),
                outcome,
            })
        };
        Counts(Arc::new(Inner {
            starts: Start::ALL.map(|known| start(known.label())),
            failures: Ended::ALL.map(|ended| {
                self.failures.get_or_create_owned(&Failed {
                    zone: zone.to_owned(),
                    reason: ended.label(),
                })
            }),
            subrequests: ["refused", "answered"].map(asked),
            cpu: self.cpu.get_or_create_owned(&of),
            wall: self.wall.get_or_create_owned(&of),
            memory: self.memory.get_or_create_owned(&of),
            active: self.active.get_or_create_owned(&of),
            compile: self.compile.get_or_create_owned(&of),
            log_lines_dropped: self.log_lines_dropped.get_or_create_owned(&of),
            begun: AtomicU64::new(0),
            cpu_nanos: AtomicU64::new(0),
            wall_nanos: AtomicU64::new(0),
        }))
    }
}

/// One zone's figures.
#[derive(Clone, Debug)]
pub struct Counts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    starts: [Counter; Start::ALL.len()],
    failures: [Counter; Ended::ALL.len()],
    subrequests: [Counter; 2],
    cpu: Seconds,
    wall: Seconds,
    memory: Gauge,
    active: Gauge,
    compile: Gauge<f64, AtomicU64>,
    log_lines_dropped: Counter,
    begun: AtomicU64,
    cpu_nanos: AtomicU64,
    wall_nanos: AtomicU64,
}

/// A zone's figures for `/status` and `edge worker list`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Summary {
    /// Requests given to the worker.
    pub requests: u64,
    /// Of them, by a new instance that was made before.
    #[serde(default)]
    pub ready: u64,
    /// Of them, by a reused instance.
    pub warm: u64,
    /// Of them under way.
    pub active: i64,
    /// By reason, those that are not zero.
    pub failures: std::collections::BTreeMap<String, u64>,
    /// Sub-requests that got a response.
    pub subrequests: u64,
    /// Sub-requests that were refused or failed.
    pub subrequests_refused: u64,
    /// Mean processor time of a request, microseconds.
    pub cpu_us_mean: u64,
    /// Mean time of a request, microseconds.
    pub wall_us_mean: u64,
    /// The most linear memory of one instance, bytes.
    pub memory_peak_bytes: i64,
}

impl Counts {
    pub(super) fn began(&self) {
        self.0.active.inc();
        self.0.begun.fetch_add(1, Relaxed);
    }

    /// Requests that began.
    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(Relaxed)
    }

    /// A guest's run is over, well or not.
    pub(super) fn ended(&self, meter: &Meter, wall: Duration, outcome: Option<Ended>) {
        let this = &*self.0;
        this.active.dec();
        let known = Start::ALL.iter().position(|start| *start == meter.start());
        if let Some(counter) = known.and_then(|at| this.starts.get(at)) {
            counter.inc();
        }
        if let Some(ended) = outcome {
            self.failed(ended);
        }
        self.spent(meter.spent());
        this.wall.inc_by(wall.as_secs_f64());
        this.wall_nanos.fetch_add(nanos(wall), Relaxed);
        let peak = i64::try_from(meter.memory()).unwrap_or(i64::MAX);
        if peak > this.memory.get() {
            this.memory.set(peak);
        }
    }

    /// Processor time went by in the zone's name.
    pub(super) fn spent(&self, time: Duration) {
        self.0.cpu.inc_by(time.as_secs_f64());
        self.0.cpu_nanos.fetch_add(nanos(time), Relaxed);
    }

    /// A request came to a bad end, before or within its guest.
    pub(super) fn failed(&self, ended: Ended) {
        let known = Ended::ALL.iter().position(|e| *e == ended);
        if let Some(counter) = known.and_then(|at| self.0.failures.get(at)) {
            counter.inc();
        }
    }

    pub(super) fn subrequest(&self, answered: bool) {
        let [refused, good] = &self.0.subrequests;
        if answered {
            good.inc()
        } else {
            refused.inc()
        };
    }

    pub(super) fn compiled(&self, took: Duration) {
        self.0.compile.set(took.as_secs_f64());
    }

    pub(super) fn log_dropped(&self, lines: u64) {
        self.0.log_lines_dropped.inc_by(lines);
    }

    /// For people.
    pub(super) fn summary(&self) -> Summary {
        let this = &*self.0;
        let [cold, ready, warm] = &this.starts;
        let [refused, answered] = &this.subrequests;
        let requests = cold.get() + ready.get() + warm.get();
        let mean = |sum: &AtomicU64| sum.load(Relaxed).checked_div(requests).unwrap_or(0) / 1_000;
        Summary {
            requests,
            ready: ready.get(),
            warm: warm.get(),
            active: this.active.get(),
            failures: Ended::ALL
                .iter()
                .zip(&this.failures)
                .filter(|(_, counter)| counter.get() > 0)
                .map(|(ended, counter)| (ended.label().to_owned(), counter.get()))
                .collect(),
            subrequests: answered.get(),
            subrequests_refused: refused.get(),
            cpu_us_mean: mean(&this.cpu_nanos),
            wall_us_mean: mean(&this.wall_nanos),
            memory_peak_bytes: this.memory.get(),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
