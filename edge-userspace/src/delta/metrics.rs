//! What the room counts, at either end. Bytes are counted twice, as the hop carried them and as
//! content, so that their quotient is what differences save.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::codec::Level;
use super::hop::Coding;

/// How a request was served that could be served by a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The other end answered by this coding.
    Coded(Coding),
    /// The origin's answer went by as it was: another status, a coding of its own, too large,
    /// streamed, with trailers.
    Passed,
    /// Near: the far end is away, and the origin answered.
    Direct,
    /// Near: everybody is away, and the version held was given.
    Stale,
    /// Nobody answered.
    Failed,
}

/// Why a far end's answer was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The result is not what `Repr-Digest` says.
    Digest,
    /// The stream could not be decoded.
    Corrupt,
    /// It broke off.
    Truncated,
    /// The head contradicts itself.
    Head,
}

impl Mismatch {
    const fn label(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::Head => "head",
        }
    }
}

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// The near end's versions.
    Bases,
    /// The far end's versions in memory.
    Versions,
    /// The far end's versions on disk.
    Disk,
    /// The far end's encodings of what is asked for again.
    Encodings,
    /// The far end's versions that are referred to again, made ready for that.
    Prepared,
}

impl Store {
    const fn label(self) -> &'static str {
        match self {
            Self::Bases => "bases",
            Self::Versions => "versions",
            Self::Disk => "disk",
            Self::Encodings => "encodings",
            Self::Prepared => "prepared",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    end: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Coded {
    end: &'static str,
    encoding: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStore {
    store: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lookup {
    store: &'static str,
    result: &'static str,
}

fn times() -> Histogram {
    Histogram::new([
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0,
    ])
}

/// The room's metrics, of one end; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    end: &'static str,
    requests: Family<Labels, Counter>,
    hop_bytes: Family<Coded, Counter>,
    content_bytes: Family<Coded, Counter>,
    mismatches: Family<Reason, Counter>,
    lookups: Family<Lookup, Counter>,
    encode: Family<OfLevel, Histogram>,
    apply: Histogram,
    fill: Family<OfStore, Gauge>,
    entries: Family<OfStore, Gauge>,
    coalesced: Counter,
    skipped: Counter,
}

impl Metrics {
    fn register(end: &'static str, registry: &mut Registry) -> Self {
        let this = Self {
            end,
            requests: Family::default(),
            hop_bytes: Family::default(),
            content_bytes: Family::default(),
            mismatches: Family::default(),
            lookups: Family::default(),
            encode: Family::new_with_constructor(times),
            apply: times(),
            fill: Family::default(),
            entries: Family::default(),
            coalesced: Counter::default(),
            skipped: Counter::default(),
        };
        let delta = registry.sub_registry_with_prefix("edge_delta");
        delta.register(
            "requests",
            "Requests that a difference could serve, by what served them",
            this.requests.clone(),
        );
        delta.register_with_unit(
            "hop",
            "Content between near and far end as the hop carried it",
            Unit::Bytes,
            this.hop_bytes.clone(),
        );
        delta.register_with_unit(
            "content",
            "The same content without the hop's coding",
            Unit::Bytes,
            this.content_bytes.clone(),
        );
        delta.register("lookups", "Versions asked of a store", this.lookups.clone());
        delta.register_with_unit("store", "Bytes that a store holds", Unit::Bytes, this.fill.clone());
        delta.register("store_entries", "Entries of a store", this.entries.clone());
        this
    }

    /// Those of a near end, shown by `registry` as `edge_delta_…`.
    pub fn near(registry: &mut Registry) -> Self {
        let this = Self::register("near", registry);
        let delta = registry.sub_registry_with_prefix("edge_delta");
        delta.register(
            "mismatches",
            "Answers of the far end that were thrown away",
            this.mismatches.clone(),
        );
        delta.register_with_unit("apply", "Undoing one coding", Unit::Seconds, this.apply.clone());
        this
    }

    /// Those of a far end, shown by `registry` as `edge_delta_…`.
    pub fn far(registry: &mut Registry) -> Self {
        let this = Self::register("far", registry);
        let delta = registry.sub_registry_with_prefix("edge_delta");
        delta.register_with_unit("encode", "Making one encoding", Unit::Seconds, this.encode.clone());
        delta.register(
            "coalesced",
            "Requests answered by another one's fetch or encoding",
            this.coalesced.clone(),
        );
        delta.register(
            "background_skipped",
            "Better encodings not made because the queue was full",
            this.skipped.clone(),
        );
        this
    }

    pub(super) fn outcome(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Coded(coding) => coding.label(),
            Outcome::Passed => "passed",
            Outcome::Direct => "direct",
            Outcome::Stale => "stale",
            Outcome::Failed => "failed",
        };
        let labels = Labels { end: self.end, outcome };
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn bytes(&self, coding: Coding, hop: u64, content: u64) {
        let labels = Coded {
            end: self.end,
            encoding: coding.label(),
        };
        self.hop_bytes.get_or_create(&labels).inc_by(hop);
        self.content_bytes.get_or_create(&labels).inc_by(content);
    }

    pub(super) fn mismatch(&self, why: Mismatch) {
        let labels = Reason { reason: why.label() };
        self.mismatches.get_or_create(&labels).inc();
    }

    pub(super) fn looked_up(&self, store: Store, found: bool) {
        let labels = Lookup {
            store: store.label(),
            result: if found { "hit" } else { "miss" },
        };
        self.lookups.get_or_create(&labels).inc();
    }

    pub(super) fn encoded(&self, level: Level, took: Duration) {
        let level = match level {
            Level::Now => "now",
            Level::Later => "later",
        };
        self.encode
            .get_or_create(&OfLevel { level })
            .observe(took.as_secs_f64());
    }

    pub(super) fn applied(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }

    pub(super) fn holds(&self, store: Store, bytes: usize, entries: usize) {
        let labels = OfStore { store: store.label() };
        self.fill
            .get_or_create(&labels)
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.entries
            .get_or_create(&labels)
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    pub(super) fn coalesced(&self) {
        self.coalesced.inc();
    }

    pub(super) fn skipped(&self) {
        self.skipped.inc();
    }
}

#[cfg(test)]
impl Metrics {
    /// How many requests had `outcome`.
    pub(super) fn count(&self, outcome: &'static str) -> u64 {
        let labels = Labels { end: self.end, outcome };
        self.requests.get_or_create(&labels).get()
    }

    /// All answers thrown away.
    pub(super) fn mismatched(&self) -> u64 {
        [Mismatch::Digest, Mismatch::Corrupt, Mismatch::Truncated, Mismatch::Head]
            .map(|why| self.mismatches.get_or_create(&Reason { reason: why.label() }).get())
            .iter()
            .sum()
    }

    /// Requests that shared another's work.
    pub(super) fn shared(&self) -> u64 {
        self.coalesced.get()
    }
}
