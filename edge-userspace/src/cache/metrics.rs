//! What the cache counts. Labels are configured zone names and closed sets.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foyer::{Event, EventListener};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::bans::{Ban, Effect};
use super::record::{Key, Record};

/// How a request was answered: the label, and the access log's `cache` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(super) enum Outcome {
    /// From the store, fresh.
    Hit,
    /// From the store, stale, because the client or the response allows it.
    Stale,
    /// From the store, stale, because the origin failed.
    StaleError,
    /// From the store, after the origin confirmed it.
    Revalidated,
    /// By another request's response.
    Coalesced,
    /// By the origin; nothing was stored that matches.
    Miss,
    /// By the origin; what was stored was out of date.
    Expired,
    /// By the origin, for the request or the zone does without the store.
    Bypass,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Hit,
        Self::Stale,
        Self::StaleError,
        Self::Revalidated,
        Self::Coalesced,
        Self::Miss,
        Self::Expired,
        Self::Bypass,
    ];

    /// The label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::StaleError => "stale_error",
            Self::Revalidated => "revalidated",
            Self::Coalesced => "coalesced",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Bypass => "bypass",
        }
    }
}

/// What became of a response that might have been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Kept {
    /// It is stored.
    Stored,
    /// It, or its request, forbids that, or there is no use in it.
    Uncacheable,
    /// It is longer than the limit.
    TooLarge,
    /// There was no room for it on its way.
    NoRoom,
    /// It broke off, or was not as long as it said.
    Broken,
}

impl Kept {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Stored, "stored"),
        (Self::Uncacheable, "uncacheable"),
        (Self::TooLarge, "too_large"),
        (Self::NoRoom, "no_room"),
        (Self::Broken, "broken"),
    ];
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ZoneOutcome {
    zone: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfZone {
    zone: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// One zone's counters.
pub(super) struct ZoneMetrics {
    outcomes: [Counter; 8],
    kept: [Counter; 5],
    /// Bytes of content sent from the store.
    pub(super) served: Counter,
    /// Validations behind a client's back.
    pub(super) background: Counter,
}

impl ZoneMetrics {
    /// Counts an answer.
    pub(super) fn outcome(&self, outcome: Outcome) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Counts what became of a response.
    pub(super) fn kept(&self, kept: Kept) {
        if let Some(counter) = self.kept.get(kept as usize) {
            counter.inc();
        }
    }
}

/// The room's figures; cheap to clone.
#[derive(Clone)]
pub(super) struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    requests: Family<ZoneOutcome, Counter>,
    responses: Family<ZoneOutcome, Counter>,
    served: Family<OfZone, Counter>,
    background: Family<OfZone, Counter>,
    evictions: Counter,
    purges: Family<OfKind, Counter>,
    disk_errors: Counter,
    memory: Gauge,
    capacity: Gauge,
    entries: Gauge,
    filling: Gauge,
    disk_read: Counter,
    disk_written: Counter,
    zones: ArcSwap<HashMap<Arc<str>, Arc<ZoneMetrics>>>,
}

impl Metrics {
    /// Registers the room's metrics; once per process.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let inner = Inner::default();
        let r = registry;
        let of = |family: &Family<ZoneOutcome, Counter>| family.clone();
        r.register(
            "edge_cache_requests",
            "Requests, by how they were answered",
            of(&inner.requests),
        );
        r.register(
            "edge_cache_responses",
            "Responses of origins, by what became of them",
            of(&inner.responses),
        );
        r.register(
            "edge_cache_served_bytes",
            "Content sent from the store",
            inner.served.clone(),
        );
        let help = "Validations while a stale response was sent";
        r.register("edge_cache_background_validations", help, inner.background.clone());
        r.register(
            "edge_cache_evictions",
            "Records evicted from memory",
            inner.evictions.clone(),
        );
        r.register("edge_cache_purges", "Purges and invalidations", inner.purges.clone());
        r.register(
            "edge_cache_disk_errors",
            "Records the disk did not give",
            inner.disk_errors.clone(),
        );
        r.register("edge_cache_memory_bytes", "Records in memory", inner.memory.clone());
        r.register(
            "edge_cache_memory_capacity_bytes",
            "Room for records in memory",
            inner.capacity.clone(),
        );
        r.register("edge_cache_memory_entries", "Records in memory", inner.entries.clone());
        r.register(
            "edge_cache_filling_bytes",
            "Responses on their way into the store",
            inner.filling.clone(),
        );
        r.register("edge_cache_disk_read_bytes", "Read from disk", inner.disk_read.clone());
        r.register(
            "edge_cache_disk_written_bytes",
            "Written to disk",
            inner.disk_written.clone(),
        );
        Self(Arc::new(inner))
    }

    /// The counters of the zone `name`.
    pub(super) fn zone(&self, name: &Arc<str>) -> Arc<ZoneMetrics> {
        if let Some(known) = self.0.zones.load().get(name) {
            return known.clone();
        }
        let of = |family: &Family<ZoneOutcome, Counter>, outcome| {
            family.get_or_create_owned(&ZoneOutcome {
                zone: name.to_string(),
                outcome,
            })
        };
        let fresh = Arc::new(ZoneMetrics {
            outcomes: Outcome::ALL.map(|outcome| of(&self.0.requests, outcome.label())),
            kept: Kept::ALL.map(|(_, label)| of(&self.0.responses, label)),
            served: self.0.served.get_or_create_owned(&OfZone { zone: name.to_string() }),
            background: self
                .0
                .background
                .get_or_create_owned(&OfZone { zone: name.to_string() }),
        });
        self.0.zones.rcu(|zones| {
            let mut zones = HashMap::clone(zones);
            zones.insert(name.clone(), fresh.clone());
            zones
        });
        fresh
    }

    pub(super) fn disk_error(&self) {
        self.0.disk_errors.inc();
    }

    pub(super) fn purged(&self, effect: Effect, ban: &Ban) {
        let kind = match (effect, ban) {
            (Effect::Void, Ban::Url(_)) => "url",
            (Effect::Void, Ban::Prefix(_)) => "prefix",
            (Effect::Void, Ban::Tag(_)) => "tag",
            (Effect::Void, Ban::All) => "all",
            (Effect::Stale, _) => "soft",
        };
        self.0.purges.get_or_create(&OfKind { kind }).inc();
    }

    pub(super) fn set_fill(&self, bytes: u64, capacity: u64, entries: u64, filling: u64) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.0.memory.set(signed(bytes));
        self.0.capacity.set(signed(capacity));
        self.0.entries.set(signed(entries));
        self.0.filling.set(signed(filling));
    }

    pub(super) fn set_disk(&self, read: u64, written: u64) {
        for (counter, n) in [(&self.0.disk_read, read), (&self.0.disk_written, written)] {
            counter.inc_by(n.saturating_sub(counter.get()));
        }
    }

    /// What the store calls when a record leaves memory.
    pub(super) fn listener(&self) -> Listener {
        Listener(self.0.evictions.clone())
    }
}

/// Counts evictions.
pub(super) struct Listener(Counter);

impl EventListener for Listener {
    type Key = Key;
    type Value = Record;

    fn on_leave(&self, reason: Event, _: &Key, _: &Record) {
        if reason == Event::Evict {
            self.0.inc();
        }
    }
}
