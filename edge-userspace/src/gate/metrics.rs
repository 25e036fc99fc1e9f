//! What the gate counts. Labels are zones of the configuration and the closed set [`Kind`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::feed;

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No rule matched.
    None,
    /// The allow list.
    Allow,
    /// Everybody proves work once, or waits.
    Challenge,
    /// Everybody waits once.
    Manual,
    /// The waiting room.
    Queue,
    /// Requests in flight.
    Concurrency,
    /// A token bucket.
    Rate,
    /// An early attempt or a penalty.
    Penalty,
}

impl Kind {
    /// All, in the order of their numbers.
    const ALL: [Self; 8] = [
        Self::None,
        Self::Allow,
        Self::Challenge,
        Self::Manual,
        Self::Queue,
        Self::Concurrency,
        Self::Rate,
        Self::Penalty,
    ];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allow => "allow",
            Self::Challenge => "challenge",
            Self::Manual => "manual",
            Self::Queue => "queue",
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Penalty => "penalty",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    zone: String,
    policy: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfZone {
    zone: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTable {
    table: &'static str,
}

/// The gate's figures.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    admitted: Family<Judged, Counter>,
    deferred: Family<Judged, Counter>,
    blocked: Family<Judged, Counter>,
    dry_run: Family<Judged, Counter>,
    penalties: Family<OfLevel, Gauge>,
    entries: Family<OfTable, Gauge>,
    capacity: Family<OfTable, Gauge>,
    waiting: Family<OfZone, Gauge>,
    active: Family<OfZone, Gauge>,
    full: Counter,
    batches: Counter,
    changes: Counter,
    overflows: Counter,
    failures: Counter,
    pub(super) latency: feed::Latency,
}

impl Metrics {
    /// Names every figure in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let mut families = |name: &str, help: &str, family: &Family<Judged, Counter>| {
            registry.register(name, help, family.clone());
        };
        families("edge_gate_admitted", "Requests let in, by what decided", &self.admitted);
        families("edge_gate_deferred", "Requests told to wait", &self.deferred);
        families(
            "edge_gate_blocked",
            "Requests refused without a wait of their own",
            &self.blocked,
        );
        families(
            "edge_gate_dry_run",
            "Requests a dry run would have told to wait",
            &self.dry_run,
        );
        registry.register("edge_gate_penalties", "Penalties in force", self.penalties.clone());
        registry.register(
            "edge_gate_table_entries",
            "Entries in the gate's tables",
            self.entries.clone(),
        );
        registry.register(
            "edge_gate_table_capacity",
            "Room in the gate's tables",
            self.capacity.clone(),
        );
        registry.register(
            "edge_gate_queue_waiting",
            "Visitors waiting, an estimate",
            self.waiting.clone(),
        );
        registry.register(
            "edge_gate_queue_active",
            "Visitors active on this node",
            self.active.clone(),
        );
        registry.register(
            "edge_gate_used_tokens_full",
            "Admissions after a wait that found no room to be remembered, and were put off",
            self.full.clone(),
        );
        registry.register(
            "edge_gate_feed_batches",
            "Batches of penalties fed",
            self.batches.clone(),
        );
        registry.register("edge_gate_feed_changes", "Penalty changes fed", self.changes.clone());
        let help = "Penalty changes that found the channel full; the whole list was fed instead";
        registry.register("edge_gate_feed_overflows", help, self.overflows.clone());
        registry.register(
            "edge_gate_feed_failures",
            "Batches the kernel refused",
            self.failures.clone(),
        );
        registry.register(
            "edge_gate_feed_latency_seconds",
            "From a penalty in the book to the kernel, the oldest of each batch",
            self.latency.0.clone(),
        );
    }

    /// The counters of one zone, found once.
    pub(super) fn zone(&self, zone: &str) -> Counts {
        let counters = |family: &Family<Judged, Counter>| {
            Kind::ALL.map(|kind| {
                let labels = Judged {
                    zone: zone.to_owned(),
                    policy: kind.label(),
                };
                family.get_or_create(&labels).clone()
            })
        };
        Counts(Arc::new([
            counters(&self.admitted),
            counters(&self.deferred),
            counters(&self.blocked),
            counters(&self.dry_run),
        ]))
    }

    pub(super) fn set_penalties(&self, deferred: usize, blocked: usize) {
        for (level, count) in [("deferred", deferred), ("blocked", blocked)] {
            self.penalties
                .get_or_create(&OfLevel { level })
                .set(signed(count as u64));
        }
    }

    pub(super) fn set_table(&self, table: &'static str, (entries, capacity, _): (usize, usize, usize)) {
        self.entries
            .get_or_create(&OfTable { table })
            .set(signed(entries as u64));
        self.capacity
            .get_or_create(&OfTable { table })
            .set(signed(capacity as u64));
    }

    /// `true` if there are more than before.
    pub(super) fn count_full(&self, refused: u64) -> bool {
        let more = refused.saturating_sub(self.full.get());
        self.full.inc_by(more);
        more > 0
    }

    pub(super) fn set_queue(&self, zone: &str, waiting: u64, active: usize) {
        let zone = OfZone { zone: zone.to_owned() };
        self.waiting.get_or_create(&zone).set(signed(waiting));
        self.active.get_or_create(&zone).set(signed(active as u64));
    }

    pub(super) fn set_feed(&self, counts: &feed::Counts) {
        for (counter, count) in [
            (&self.batches, &counts.batches),
            (&self.changes, &counts.changes),
            (&self.overflows, &counts.overflows),
            (&self.failures, &counts.failures),
        ] {
            counter.inc_by(count.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// One zone's counters: outcome by kind.
#[derive(Clone, Debug)]
pub(super) struct Counts(Arc<[[Counter; 8]; 4]>);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Admitted,
    Deferred,
    Blocked,
    DryRun,
}

impl Counts {
    pub(super) fn add(&self, outcome: Outcome, kind: Kind) {
        if let Some(counter) = self.0.get(outcome as usize).and_then(|kinds| kinds.get(kind as usize)) {
            counter.inc();
        }
    }

    #[cfg(test)]
    pub(super) fn read(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].iter().map(Counter::get).sum()
    }
}
