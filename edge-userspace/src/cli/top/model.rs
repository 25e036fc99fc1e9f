//! What is shown, worked out of two looks at a node: rates, and the tables. `board` keeps it; pure.
//!
//! A counter that is lower than before began again at zero (a kernel map that was made anew), and
//! has counted what it shows. Another process begins everything again: its rates come with the
//! second look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::exposition::{Exposition, Sample, clean};
use super::scrape::Look;
use super::table::{Cell, Column, Mood, Table, bytes, duration, lasting, number, percent};
use crate::base::penalty::Level;

/// Counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    at: Duration,
    process: (u64, u64),
    counters: BTreeMap<&'static str, f64>,
    zones: BTreeMap<String, ZoneCounters>,
    kernel: BTreeMap<(String, String), f64>,
    workers: BTreeMap<String, [f64; 3]>,
    keys: Buckets,
}

#[derive(Clone, Debug, Default)]
struct ZoneCounters {
    requests: f64,
    client_errors: f64,
    server_errors: f64,
    cache: [f64; 2],
    gate: Option<[f64; 2]>,
    durations: Buckets,
}

/// A histogram's buckets: upper bound in seconds, and how many were up to there.
type Buckets = Vec<(f64, f64)>;

/// The cached answers among the outcomes of `edge_cache_requests_total`.
const FROM_CACHE: [&str; 5] = ["hit", "stale", "stale_error", "revalidated", "coalesced"];

fn is(label: &'static str, value: &'static str) -> impl Fn(&Sample) -> bool {
    move |sample| sample.label(label) == value
}

impl Snapshot {
    /// What is counted in `look`, taken `at` by any clock.
    pub(super) fn of(look: &Look, at: Duration) -> Self {
        let metrics = &look.metrics;
        let packets = "edge_dataplane_packets_total";
        let mut kernel = BTreeMap::new();
        for sample in metrics.of(packets) {
            let key = (sample.label("verdict").to_owned(), sample.label("reason").to_owned());
            *kernel.entry(key).or_default() += sample.value;
        }
        let mut workers: BTreeMap<String, [f64; 3]> = BTreeMap::new();
        let figures = [
            "edge_isolate_requests_total",
            "edge_isolate_cpu_seconds_total",
            "edge_isolate_failures_total",
        ];
        for (place, name) in figures.into_iter().enumerate() {
            for sample in metrics.of(name) {
                let counters = workers.entry(sample.label("zone").to_owned()).or_default();
                if let Some(counter) = counters.get_mut(place) {
                    *counter += sample.value;
                }
            }
        }
        Self {
            at,
            process: (
                number_of(&look.status, "pid"),
                metrics.total("process_start_time_seconds").to_bits(),
            ),
            counters: counters(metrics),
            zones: zones(metrics),
            kernel,
            workers,
            keys: buckets(metrics.of("edge_tls_keyserver_latency_seconds_bucket")),
        }
    }
}

fn counters(metrics: &Exposition) -> BTreeMap<&'static str, f64> {
    let tls = "edge_tls_handshakes_total";
    let quic = "edge_quic_handshakes_total";
    let failed =
        metrics.total("edge_tls_handshake_failures_total") + metrics.total("edge_quic_handshake_failures_total");
    BTreeMap::from([
        ("cpu", metrics.total("process_cpu_seconds_total")),
        ("requests", metrics.total("edge_http_requests_total")),
        ("errors", metrics.sum("edge_http_requests_total", is("status", "5xx"))),
        (
            "full",
            metrics.sum(tls, is("resumed", "false")) + metrics.sum(quic, is("resumed", "false")),
        ),
        (
            "resumed",
            metrics.sum(tls, is("resumed", "true")) + metrics.sum(quic, is("resumed", "true")),
        ),
        ("quic", metrics.total(quic)),
        ("failed", failed),
        (
            "keyless",
            metrics.sum("edge_tls_keyserver_requests_total", is("outcome", "ok")),
        ),
        (
            "content",
            metrics.sum("edge_delta_content_bytes_total", is("end", "near")),
        ),
        ("hop", metrics.sum("edge_delta_hop_bytes_total", is("end", "near"))),
    ])
}

fn zones(metrics: &Exposition) -> BTreeMap<String, ZoneCounters> {
    let mut zones: BTreeMap<String, ZoneCounters> = BTreeMap::new();
    let mut each = |name: &str, take: &mut dyn FnMut(&mut ZoneCounters, &Sample)| {
        for sample in metrics.of(name) {
            take(zones.entry(sample.label("zone").to_owned()).or_default(), sample);
        }
    };
    each("edge_http_requests_total", &mut |zone, sample| {
        zone.requests += sample.value;
        match sample.label("status") {
            "4xx" => zone.client_errors += sample.value,
            "5xx" => zone.server_errors += sample.value,
            _ => {}
        }
    });
    each("edge_http_request_duration_seconds_bucket", &mut |zone, sample| {
        add_bucket(&mut zone.durations, sample);
    });
    each("edge_cache_requests_total", &mut |zone, sample| {
        let hit = FROM_CACHE.contains(&sample.label("outcome"));
        zone.cache[0] += if hit { sample.value } else { 0.0 };
        zone.cache[1] += sample.value;
    });
    each("edge_gate_admitted_total", &mut |zone, sample| {
        if sample.label("policy") != "none" || sample.value > 0.0 {
            zone.gate.get_or_insert_default();
        }
    });
    each("edge_gate_deferred_total", &mut |zone, sample| {
        zone.gate.get_or_insert_default()[0] += sample.value;
    });
    each("edge_gate_blocked_total", &mut |zone, sample| {
        zone.gate.get_or_insert_default()[1] += sample.value;
    });
    zones
}

fn buckets(samples: &[Sample]) -> Buckets {
    let mut all = Buckets::new();
    for sample in samples {
        add_bucket(&mut all, sample);
    }
    all
}

fn add_bucket(buckets: &mut Buckets, sample: &Sample) {
    let Ok(bound) = sample.label("le").parse::<f64>() else {
        return;
    };
    match buckets.iter_mut().find(|(known, _)| *known == bound) {
        Some((_, count)) => *count += sample.value,
        None => buckets.push((bound, sample.value)),
    }
}

/// What a counter has counted since `before`.
fn increase(before: f64, now: f64) -> f64 {
    if now >= before { now - before } else { now }
}

/// The duration that `share` of what was counted since `before` stayed below: inside a bucket by
/// proportion, as Prometheus does; infinite above the last bound. `None`: nothing was counted.
fn quantile(before: &Buckets, now: &Buckets, share: f64) -> Option<f64> {
    let earlier = |bound: f64| {
        before
            .iter()
            .find(|(known, _)| *known == bound)
            .map_or(0.0, |found| found.1)
    };
    let mut counts: Buckets = now
        .iter()
        .map(|(bound, count)| (*bound, increase(earlier(*bound), *count)))
        .collect();
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = share * counts.last()?.1;
    if wanted <= 0.0 {
        return None;
    }
    let mut below = (0.0, 0.0);
    for (bound, count) in counts {
        if count >= wanted {
            let part = (wanted - below.1) / (count - below.1);
            return Some(if bound.is_infinite() {
                bound
            } else {
                below.0 + (bound - below.0) * part
            });
        }
        below = (bound, count);
    }
    None
}

/// A node as it is shown: texts that fit a terminal, rates for each second between the two looks.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Parts of the first line, the most important first.
    pub(super) node: Vec<String>,
    pub(super) ready: bool,
    pub(super) phase: String,
    /// The first look at a process: rates come with the next one.
    pub(super) fresh: bool,
    /// What does not work, the first first.
    pub(super) notes: Vec<String>,
    /// Lines of figures: a title, and parts of which the last ones go if there is no room.
    pub(super) figures: [(&'static str, Vec<String>); 4],
    pub(super) tables: [Table; 5],
}

/// The names of [`View::tables`].
pub(super) const PANES: [&str; 5] = ["Zones", "Origins", "Workers", "Penalties", "Kernel"];

static ZONES: [Column; 10] = [
    Column::words("zone", 0),
    Column::words("state", 6),
    Column::figures("req/s", 7),
    Column::figures("4xx/s", 6),
    Column::figures("5xx/s", 6),
    Column::figures("p50", 6),
    Column::figures("p99", 6),
    Column::figures("hit", 5),
    Column::words("gate", 6),
    Column::figures("wait", 5),
];
static ORIGINS: [Column; 6] = [
    Column::words("server", 0),
    Column::words("zone", 16),
    Column::words("health", 8),
    Column::words("why", 14),
    Column::figures("busy", 5),
    Column::figures("weight", 7),
];
static WORKERS: [Column; 6] = [
    Column::words("zone", 0),
    Column::words("kind", 10),
    Column::figures("version", 8),
    Column::figures("req/s", 7),
    Column::figures("CPU", 7),
    Column::figures("traps/s", 8),
];
static PENALTIES: [Column; 3] = [
    Column::words("whom", 0),
    Column::words("level", 9),
    Column::figures("for", 9),
];
static KERNEL: [Column; 4] = [
    Column::words("reason", 0),
    Column::words("verdict", 8),
    Column::figures("per second", 11),
    Column::figures("in all", 9),
];

/// One look and the one before it.
struct Pair<'a> {
    look: &'a Look,
    now: &'a Snapshot,
    /// With the seconds since then.
    before: Option<(&'a Snapshot, f64)>,
}

impl View {
    /// What `look`, counted in `now`, says beside what was counted `before`, if that was the same
    /// process.
    pub(super) fn of(look: &Look, now: &Snapshot, before: Option<&Snapshot>) -> Self {
        let before = before.filter(|before| before.process == now.process && before.at < now.at);
        let pair = Pair {
            look,
            now,
            before: before.map(|before| (before, now.at.saturating_sub(before.at).as_secs_f64())),
        };
        Self {
            node: pair.node(),
            ready: look.ready,
            phase: word(&look.status, "phase"),
            fresh: before.is_none(),
            notes: look.notes.clone(),
            figures: [pair.requests(), pair.handshakes(), pair.verdicts(), pair.reasons()],
            tables: [
                pair.zones(),
                pair.origins(),
                pair.workers(),
                penalties(look),
                pair.kernel(),
            ],
        }
    }
}

impl Pair<'_> {
    fn increase(&self, of: impl Fn(&Snapshot) -> f64) -> Option<f64> {
        self.before.map(|(before, _)| increase(of(before), of(self.now)))
    }

    fn rate(&self, of: impl Fn(&Snapshot) -> f64) -> Option<f64> {
        let (_, seconds) = self.before?;
        Some(self.increase(of)? / seconds)
    }

    fn counter(&self, name: &'static str) -> Option<f64> {
        self.rate(|snapshot| snapshot.counters.get(name).copied().unwrap_or_default())
    }

    fn named(&self, name: &'static str, write: fn(f64) -> String) -> String {
        self.counter(name).map_or_else(|| "-".to_owned(), write)
    }

    fn node(&self) -> Vec<String> {
        let status = &self.look.status;
        let metrics = &self.look.metrics;
        let mut parts = vec![format!("up {}", lasting(number_of(status, "uptime_seconds")))];
        parts.push(format!("CPU {}", self.named("cpu", percent)));
        parts.push(bytes(metrics.total("process_resident_memory_bytes")));
        parts.push(format!(
            "{} connections",
            number(number_of(status, "connections") as f64)
        ));
        let name = status.get("fleet").map(|fleet| word(fleet, "node"));
        parts.insert(0, format!("edge {}", word(status, "version")));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            parts.insert(1, name);
        }
        parts.push(format!("{} threads", number_of(status, "threads")));
        parts
    }

    fn requests(&self) -> (&'static str, Vec<String>) {
        let metrics = &self.look.metrics;
        let mut parts = vec![
            format!("all {}", self.named("requests", number)),
            format!("5xx {}", self.named("errors", number)),
            format!("under way {}", number(metrics.total("edge_http_requests_in_flight"))),
        ];
        // The hop's bytes are not counted by zone.
        let sent = |name| self.counter(name).unwrap_or_default();
        if sent("content") > 0.0 {
            let (content, hop) = (sent("content"), sent("hop"));
            parts.push(format!("delta {} of {}/s", percent(hop / content), bytes(content)));
        }
        let held = metrics.total("edge_memory_bytes");
        parts.push(format!("held {}", bytes(held)));
        ("requests/s", parts)
    }

    fn handshakes(&self) -> (&'static str, Vec<String>) {
        let (full, keyless) = (self.counter("full"), self.counter("keyless"));
        let local = full.zip(keyless).map(|(full, keyless)| (full - keyless).max(0.0));
        let mut parts = vec![
            format!("local {}", local.map_or_else(|| "-".to_owned(), number)),
            format!("keyless {}", self.named("keyless", number)),
            format!("resumed {}", self.named("resumed", number)),
            format!("QUIC {}", self.named("quic", number)),
            format!("failed {}", self.named("failed", number)),
        ];
        if let Some((before, _)) = self.before
            && let Some(half) = quantile(&before.keys, &self.now.keys, 0.5)
        {
            parts.push(format!("key p50 {}", duration(half)));
        }
        ("handshakes/s", parts)
    }

    fn judged(&self, key: &(String, String)) -> Option<f64> {
        self.rate(|snapshot| snapshot.kernel.get(key).copied().unwrap_or_default())
    }

    fn verdicts(&self) -> (&'static str, Vec<String>) {
        let rate = |verdict: &str| {
            let keys = self.now.kernel.keys().filter(|key| key.0 == verdict);
            let rates: Option<Vec<f64>> = keys.map(|key| self.judged(key)).collect();
            rates
                .filter(|_| self.before.is_some())
                .map(|rates| rates.iter().fold(0.0, |all, rate| all + rate))
        };
        let mut parts: Vec<String> = ["pass", "drop", "answer"]
            .into_iter()
            .map(|verdict| format!("{verdict} {}", rate(verdict).map_or_else(|| "-".to_owned(), number)))
            .collect();
        let interfaces = self.look.status.pointer("/xdp/interfaces").and_then(Value::as_array);
        let modes: BTreeSet<String> = interfaces.into_iter().flatten().map(|one| word(one, "mode")).collect();
        let modes: Vec<&str> = modes.iter().map(String::as_str).collect();
        parts.push(format!(
            "XDP {}",
            if modes.is_empty() {
                "off".to_owned()
            } else {
                modes.join(", ")
            }
        ));
        if self.look.metrics.total("edge_quic_lockdown") > 0.0 {
            parts.push("LOCKED DOWN".to_owned());
        }
        ("kernel/s", parts)
    }

    fn reasons(&self) -> (&'static str, Vec<String>) {
        let rates = self
            .now
            .kernel
            .keys()
            .map(|key| (self.judged(key).unwrap_or_default(), key));
        let mut rates: Vec<_> = rates.filter(|(rate, _)| *rate > 0.0).collect();
        // What was dropped or answered before what passed.
        rates.sort_by(|a, b| (a.1.0 == "pass").cmp(&(b.1.0 == "pass")).then(b.0.total_cmp(&a.0)));
        let mut parts: Vec<String> = rates
            .into_iter()
            .map(|(rate, (_, reason))| format!("{reason} {}", number(rate)))
            .collect();
        if parts.is_empty() {
            parts.push("nothing judged".to_owned());
        }
        ("by reason/s", parts)
    }

    fn zones(&self) -> Table {
        let waiting = &self.look.metrics.of("edge_gate_queue_waiting");
        let waiting: BTreeMap<&str, f64> = waiting
            .iter()
            .map(|sample| (sample.label("zone"), sample.value))
            .collect();
        let (nothing, mut rows) = (ZoneCounters::default(), Vec::new());
        let listed = self.look.status.get("zones").and_then(Value::as_array);
        for (name, state) in listed
            .into_iter()
            .flatten()
            .map(|zone| (word(zone, "name"), word(zone, "state")))
        {
            let now = self.now.zones.get(&name).unwrap_or(&nothing);
            let before = self
                .before
                .map(|(before, seconds)| (before.zones.get(&name).unwrap_or(&nothing), seconds));
            let grown = |of: fn(&ZoneCounters) -> f64| before.map(|(before, _)| increase(of(before), of(now)));
            let rate =
                |of: fn(&ZoneCounters) -> f64| grown(of).zip(before).map(|(grown, (_, seconds))| grown / seconds);
            let after = |share| before.and_then(|(before, _)| quantile(&before.durations, &now.durations, share));
            let asked = grown(|zone| zone.cache[1]).filter(|asked| *asked > 0.0);
            let hits = grown(|zone| zone.cache[0]).zip(asked).map(|(hits, asked)| hits / asked);
            let deferred = grown(|zone| zone.gate.unwrap_or_default()[0]).unwrap_or_default();
            let blocked = grown(|zone| zone.gate.unwrap_or_default()[1]).unwrap_or_default();
            let gate = match (now.gate, waiting.get(name.as_str())) {
                (None, None) => Cell::text("-"),
                _ if blocked > 0.0 => Cell::text("blocks").with(Mood::Bad),
                _ if deferred > 0.0 => Cell::text("defers").with(Mood::Warning),
                _ => Cell::text("open"),
            };
            let mood = if state == "served" { Mood::Plain } else { Mood::Bad };
            let cells = vec![
                Cell::text(name.clone()),
                Cell::text(state).with(mood),
                Cell::figure(rate(|zone| zone.requests), number),
                Cell::figure(rate(|zone| zone.client_errors), number),
                Cell::figure(rate(|zone| zone.server_errors), number).unless_nothing(Mood::Bad),
                Cell::figure(after(0.5), duration),
                Cell::figure(after(0.99), duration),
                Cell::figure(hits, percent),
                gate,
                Cell::figure(waiting.get(name.as_str()).copied(), number).unless_nothing(Mood::Warning),
            ];
            rows.push((name, cells));
        }
        Table {
            columns: &ZONES,
            rows,
            empty: "No zone is configured.",
        }
    }

    fn origins(&self) -> Table {
        let mut rows = Vec::new();
        let zones = self.look.status.get("origins").and_then(Value::as_array);
        for zone in zones.into_iter().flatten() {
            let name = word(zone, "zone");
            let servers = zone.get("servers").and_then(Value::as_array);
            for server in servers.into_iter().flatten() {
                let flag = |key| server.get(key).and_then(Value::as_bool).unwrap_or_default();
                let health = match (flag("drained"), flag("healthy")) {
                    (true, _) => Cell::text("drained").with(Mood::Warning),
                    (_, true) => Cell::text("healthy").with(Mood::Good),
                    _ => Cell::text("out").with(Mood::Bad),
                };
                let cells = vec![
                    Cell::text(word(server, "address")),
                    Cell::text(name.clone()),
                    health,
                    Cell::text(word(server, "reason")),
                    Cell::figure(Some(number_of(server, "in_flight") as f64), number),
                    Cell::figure(Some(number_of(server, "weight") as f64), number),
                ];
                rows.push((format!("{name} {}", word(server, "address")), cells));
            }
        }
        Table {
            columns: &ORIGINS,
            rows,
            empty: "No zone has origin servers.",
        }
    }

    fn workers(&self) -> Table {
        let mut rows = Vec::new();
        let workers = self.look.status.get("workers").and_then(Value::as_array);
        for worker in workers.into_iter().flatten() {
            let name = word(worker, "zone");
            let rate = |place: usize| {
                let counter = |snapshot: &Snapshot| {
                    let counters = snapshot.workers.get(&name);
                    counters.and_then(|all| all.get(place)).copied().unwrap_or_default()
                };
                self.rate(counter)
            };
            let version = worker
                .get("active")
                .and_then(Value::as_u64)
                .map(|version| version as f64);
            let cells = vec![
                Cell::text(name.clone()),
                Cell::text(word(worker, "kind")),
                Cell::figure(version, |version| format!("{version:.0}")),
                Cell::figure(rate(0), number),
                Cell::figure(rate(1), percent),
                Cell::figure(rate(2), number).unless_nothing(Mood::Bad),
            ];
            rows.push((name, cells));
        }
        Table {
            columns: &WORKERS,
            rows,
            empty: "No zone has a worker.",
        }
    }

    fn kernel(&self) -> Table {
        let row = |(key, total): (&(String, String), &f64)| {
            let mood = if key.0 == "drop" { Mood::Warning } else { Mood::Plain };
            let cells = vec![
                Cell::text(key.1.clone()),
                Cell::text(key.0.clone()),
                Cell::figure(self.judged(key), number).unless_nothing(mood),
                Cell::figure(Some(*total), number),
            ];
            (key.1.clone(), cells)
        };
        Table {
            columns: &KERNEL,
            rows: self.now.kernel.iter().map(row).collect(),
            empty: "XDP is off: no packet is judged in the kernel.",
        }
    }
}

fn penalties(look: &Look) -> Table {
    let row = |penalty: &crate::admin::Penalty| {
        let level = match penalty.level {
            Level::Deferred => Cell::text("deferred").with(Mood::Warning),
            Level::Blocked => Cell::text("blocked").with(Mood::Bad),
        };
        let subject = penalty.subject.to_string();
        let lasts = Cell::figure(Some(penalty.seconds as f64), |seconds| lasting(seconds as u64));
        (subject.clone(), vec![Cell::text(subject), level, lasts])
    };
    Table {
        columns: &PENALTIES,
        rows: look.penalties.iter().flatten().map(row).collect(),
        empty: if look.penalties.is_some() {
            "Nobody is penalised."
        } else {
            "No zone has a gate."
        },
    }
}

/// A text of the node; a value of another kind as JSON has it.
fn word(object: &Value, key: &str) -> String {
    match object.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => clean(text),
        Some(other) => clean(&other.to_string()),
    }
}

fn number_of(object: &Value, key: &str) -> u64 {
    object.get(key).and_then(Value::as_u64).unwrap_or_default()
}
