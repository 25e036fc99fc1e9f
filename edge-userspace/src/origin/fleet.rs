//! All servers of all zones, as all workers share them: health, load, names, TLS. Built from a
//! zones snapshot, swapped whole on reload; a group whose configuration did not change is carried
//! over with all it knows.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::HeaderValue;
use http::uri::Scheme;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::balance::{Candidate, Standing};
use super::budget::Budget;
use super::connect::Connector;
use super::health::{Health, Trouble};
use super::maglev::Table;
use super::metrics::{Metrics, State, ZoneMetrics};
use super::names::{Names, Whom};
use super::pace::{self, Pace};
use super::resolver::Resolver;
use super::sticky::{Seal, Sticky};
use crate::config::value::OriginAddress;
use crate::config::{Faults, Mistake, Mistakes, Origin, Upstream};
use crate::zones::{Zone, Zones};

/// The servers of all zones.
#[derive(Debug)]
pub struct Fleet {
    snapshot: ArcSwap<Snapshot>,
    pub(super) changed: Notify,
    metrics: Metrics,
    epoch: Instant,
    /// What cookies that lead to servers are sealed with.
    seal: Arc<Seal>,
}

/// A fleet that was checked and can be put into force.
#[derive(Debug, Default)]
pub struct Plan(Snapshot);

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// By the zone's name: its own servers, and those elsewhere that its worker may ask.
    groups: HashMap<Arc<str>, Vec<Arc<Group>>>,
    /// By the pool's name. Beside the present one a pool may have that of before, for zones that
    /// are kept as they were.
    pools: HashMap<Arc<str>, Vec<Arc<Group>>>,
    /// The pools that each zone asks.
    uses: HashMap<Arc<str>, Vec<Arc<Group>>>,
    /// The zones' own and the pools, in the file's order.
    order: Vec<Arc<Group>>,
    /// What this one took the place of: requests under way may still ask for it.
    before: Vec<Arc<Group>>,
}

/// The servers of one zone, or of a pool.
#[derive(Debug)]
pub(super) struct Group {
    /// The zone's name; of a pool `origin/` and its name, which no zone has.
    pub(super) zone: Arc<str>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) connector: Connector,
    pub(super) metrics: Metrics,
    pub(super) counts: ZoneMetrics,
    pub(super) budget: Budget,
    /// Where keys belong.
    pub(super) table: Option<Arc<Table>>,
    /// The cookie that leads to one of them.
    pub(super) sticky: Option<Sticky>,
    /// Upgraded connections under way, of all threads.
    pub(super) tunnels: AtomicUsize,
    gauges: [Gauge; 2],
    /// Of the files with roots and identity, so that a reload sees new ones.
    roots: [Option<(SystemTime, u64)>; 2],
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// As configured.
    pub(super) name: Arc<str>,
    pub(super) address: OriginAddress,
    /// Its own authority, for `Host`.
    pub(super) host: HeaderValue,
    pub(super) scheme: Scheme,
    weight: u16,
    priority: u8,
    /// An operator's word: [`NO_ORDER`], or the weight; 0: no new requests.
    order: AtomicU32,
    /// Since when it may be chosen again, milliseconds of the fleet's clock; 0: from the start on.
    since: AtomicU64,
    /// How long it takes then to get its whole share, milliseconds.
    slow_start: u64,
    pub(super) in_flight: AtomicUsize,
    pub(super) health: Health,
    /// How soon it answers, if that counts.
    pace: Pace,
    pub(super) names: Names,
    /// The address is one already, and no name.
    pub(super) literal: bool,
    epoch: Instant,
}

/// No operator has said anything about a server.
const NO_ORDER: u32 = u32::MAX;
/// Parts of one unit of weight, so that a share can grow slowly.
const PARTS: u32 = 100;

/// What operators say of a server, until the next order or the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// No new requests; those under way end.
    Drain,
    /// This weight, at least 1.
    Weight(u16),
    /// As the file says.
    Restore,
}

/// A zone's servers, or a pool's, for `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct ZoneStatus {
    /// The zone's name; of a pool `origin/` and its name.
    pub zone: String,
    /// Its servers in the file's order.
    pub servers: Vec<ServerStatus>,
}

/// One server, for `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// As configured.
    pub address: String,
    /// It may be chosen.
    pub healthy: bool,
    /// Its weight, by the file or an operator's word.
    pub weight: u32,
    /// An operator has taken it out: no new requests.
    pub drained: bool,
    /// Why not, or what the last check found.
    pub reason: Option<Trouble>,
    /// Requests under way, of all workers.
    pub in_flight: usize,
    /// How long ago the last active check ended, in milliseconds; `None` without checks.
    pub last_check_ms_ago: Option<u64>,
}

impl Fleet {
    /// The fleet of `zones`.
    ///
    /// # Errors
    /// Roots that cannot be loaded, each with its place in the file.
    pub fn new(zones: &Zones, metrics: Metrics) -> Result<Arc<Self>, Mistakes> {
        let this = Self::empty(metrics);
        let plan = this.plan(zones)?;
        this.install(plan);
        Ok(this)
    }

    /// A fleet without servers, until a plan is installed.
    pub fn empty(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::default(),
            changed: Notify::new(),
            metrics,
            epoch: Instant::now(),
            seal: Arc::default(),
        })
    }

    /// Seals the cookies that lead to servers with `key`, which other nodes and the next process
    /// may have, too. Without it, before the first is asked for, they end with the process.
    pub fn seal(&self, key: &[u8; 16]) {
        self.seal.set(key);
    }

    /// As [`gather`](Self::gather), all zones or none.
    ///
    /// # Errors
    /// Roots that cannot be loaded, each with its place in the file.
    pub fn plan(&self, zones: &Zones) -> Result<Plan, Mistakes> {
        let mut faults = Faults::default();
        let plan = self.gather(zones, &mut faults);
        faults.or(plan)
    }

    /// Checks and builds the fleet of `zones`; what did not change is taken over. Reads the files
    /// that are named. A zone whose roots or identity cannot be used is left out, and told among
    /// the faults.
    pub fn gather(&self, zones: &Zones, faults: &mut Faults) -> Plan {
        let old = self.snapshot.load();
        let mut next = Snapshot::default();
        let mut broken: HashMap<Arc<str>, Mistake> = HashMap::new();
        for zone in zones.all() {
            let own = std::iter::once((&zone.origin, true));
            let elsewhere = zone.elsewhere.iter().map(|(_, seen)| (&seen.origin, false));
            let sent = zone.pools.iter().map(|(_, seen)| (&seen.origin, true));
            for (origin, own) in own.chain(elsewhere).chain(sent) {
                let Origin::Servers(upstream) = origin else {
                    continue;
                };
                if let Some(pool) = &upstream.pool {
                    match self.pool(pool, upstream, &old, (&mut next, &mut broken)) {
                        Ok(group) => next.uses.entry(zone.name.clone()).or_default().push(group),
                        Err(mistake) => faults.zone(&zone.name, mistake),
                    }
                    continue;
                }
                let known = old.groups.get(&zone.name).map(Vec::as_slice).unwrap_or_default();
                match self.kept_or_made(&zone.name, upstream, known) {
                    Ok(group) => {
                        if own {
                            next.order.push(group.clone());
                        }
                        next.groups.entry(zone.name.clone()).or_default().push(group);
                    }
                    Err(mistake) => faults.zone(&zone.name, mistake),
                }
            }
        }
        next.before = old.beyond(&next);
        Plan(next)
    }

    /// The pool of that name: made once for all zones that ask it. One that cannot be made is told
    /// to each of them.
    fn pool(
        &self,
        name: &Arc<str>,
        upstream: &Arc<Upstream>,
        old: &Snapshot,
        (next, broken): (&mut Snapshot, &mut HashMap<Arc<str>, Mistake>),
    ) -> Result<Arc<Group>, Mistake> {
        if let Some(mistake) = broken.get(name) {
            return Err(mistake.clone());
        }
        let there = next.pools.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some(group) = there.iter().find(|group| *group.upstream == **upstream) {
            return Ok(group.clone());
        }
        let known = old.pools.get(name).map(Vec::as_slice).unwrap_or_default();
        let made = self.kept_or_made(&format!("origin/{name}").into(), upstream, known);
        let group = made.inspect_err(|mistake| {
            broken.insert(name.clone(), mistake.clone());
        })?;
        next.pools.entry(name.clone()).or_default().push(group.clone());
        next.order.push(group.clone());
        Ok(group)
    }

    /// The one of `known` that is the same and whose files are, or a new one.
    fn kept_or_made(
        &self,
        home: &Arc<str>,
        upstream: &Arc<Upstream>,
        known: &[Arc<Group>],
    ) -> Result<Arc<Group>, Mistake> {
        let same = known
            .iter()
            .find(|group| *group.upstream == **upstream && group.roots == stamp(upstream));
        same.map_or_else(|| self.group(home, upstream, known), |group| Ok(group.clone()))
    }

    /// Leaves out of `plan` the zones for which `without` holds; those for which `keeps` holds have
    /// in it what they have now.
    pub fn settle(&self, plan: &mut Plan, keeps: impl Fn(&str) -> bool, without: impl Fn(&str) -> bool) {
        let Plan(next) = plan;
        let settled = |zone: &str| keeps(zone) || without(zone);
        next.order.retain(|group| !settled(&group.zone));
        next.groups.retain(|zone, _| !settled(zone));
        let old = self.snapshot.load();
        let kept = old.groups.iter().filter(|(zone, _)| keeps(zone));
        next.groups
            .extend(kept.map(|(zone, groups)| (zone.clone(), groups.clone())));
        next.order
            .extend(old.order.iter().filter(|group| keeps(&group.zone)).cloned());
        // What a zone that is kept asks of a pool, it goes on asking.
        next.uses.retain(|zone, _| !settled(zone));
        for (zone, pools) in old.uses.iter().filter(|(zone, _)| keeps(zone)) {
            for group in pools {
                if let Some(name) = &group.upstream.pool
                    && !next.has(group)
                {
                    next.pools.entry(name.clone()).or_default().push(group.clone());
                    next.order.push(group.clone());
                }
            }
            next.uses.insert(zone.clone(), pools.clone());
        }
        // A pool that nobody asks any more is not checked for its health either.
        let asked: HashSet<*const Group> = next.uses.values().flatten().map(Arc::as_ptr).collect();
        let unasked = |group: &Arc<Group>| group.upstream.pool.is_some() && !asked.contains(&Arc::as_ptr(group));
        next.order.retain(|group| !unasked(group));
        next.pools.retain(|_, groups| {
            groups.retain(|group| !unasked(group));
            !groups.is_empty()
        });
        next.before = old.beyond(next);
    }

    /// Puts `plan` into force. To be called before the zones it was made of are.
    pub fn install(&self, plan: Plan) {
        let old = self.snapshot.swap(Arc::new(plan.0));
        let new = self.snapshot.load();
        for group in &old.order {
            for server in &group.servers {
                let kept = new
                    .order
                    .iter()
                    .any(|g| g.zone == group.zone && g.servers.iter().any(|s| s.name == server.name));
                if !kept {
                    self.metrics.forget(&group.zone, &server.name);
                }
            }
        }
        for group in &new.order {
            for server in &group.servers {
                let (healthy, _) = server.health.verdict(server.now());
                self.metrics.healthy(&group.zone, &server.name, healthy);
            }
        }
        self.changed.notify_one();
    }

    /// Every zone with servers, as it is now.
    pub fn status(&self) -> Vec<ZoneStatus> {
        let now = self.now();
        let server = |server: &Arc<Server>| {
            let (healthy, why) = server.health.verdict(now);
            let checks = server.health.checks();
            ServerStatus {
                address: server.name.to_string(),
                healthy,
                weight: server.whole_weight(),
                drained: server.order.load(Ordering::Relaxed) == 0,
                reason: why.or(checks.trouble),
                in_flight: server.in_flight.load(Ordering::Relaxed),
                last_check_ms_ago: checks.last.map(|at| now.saturating_sub(at)),
            }
        };
        self.snapshot
            .load()
            .order
            .iter()
            .map(|group| ZoneStatus {
                zone: group.zone.to_string(),
                servers: group.servers.iter().map(server).collect(),
            })
            .collect()
    }

    pub(super) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The group of a request's zone, which may be that of before a reload; `None`: of before the
    /// one before that. Nothing is made here: what connections need (roots, certificates) is read
    /// when a configuration is prepared, never by a worker.
    pub(super) fn find(&self, zone: &Zone, upstream: &Arc<Upstream>) -> Option<Arc<Group>> {
        let snapshot = self.snapshot.load();
        let now = match &upstream.pool {
            None => snapshot.groups.get(&zone.name),
            Some(pool) => snapshot.pools.get(pool),
        };
        let mine = |group: &&Arc<Group>| match &upstream.pool {
            None => group.zone == zone.name,
            Some(_) => group.upstream.pool == upstream.pool,
        };
        let all = || now.into_iter().flatten().chain(&snapshot.before).filter(mine);
        let same = all().find(|group| Arc::ptr_eq(&group.upstream, upstream));
        same.or_else(|| all().find(|group| *group.upstream == **upstream))
            .cloned()
    }

    /// Carries out `order` for the server at `address`, in the zone or pool of that name, or
    /// wherever it is. Returns how often it is there.
    pub fn order(&self, of: Option<&str>, address: &str, order: Order) -> usize {
        let named =
            |group: &&Arc<Group>| of.is_none_or(|of| *group.zone == *of || group.upstream.pool.as_deref() == Some(of));
        let snapshot = self.snapshot.load();
        let groups = snapshot.order.iter().filter(named);
        let servers = groups.flat_map(|group| &group.servers);
        let mut found = 0;
        for server in servers.filter(|server| *server.name == *address) {
            found += 1;
            let before = server.order.swap(
                match order {
                    Order::Drain => 0,
                    Order::Weight(weight) => u32::from(weight.max(1)),
                    Order::Restore => NO_ORDER,
                },
                Ordering::Relaxed,
            );
            if before == 0 && order != Order::Drain {
                server.begins();
            }
        }
        found
    }

    fn group(&self, home: &Arc<str>, upstream: &Arc<Upstream>, known: &[Arc<Group>]) -> Result<Arc<Group>, Mistake> {
        let roots = stamp(upstream);
        let thresholds = upstream
            .health
            .as_ref()
            .map_or((1, 1), |health| (health.healthy, health.unhealthy));
        let servers = upstream.servers.iter().map(|configured| {
            let address = configured.address.clone();
            let name = address.to_string();
            let health = Health::new(thresholds, upstream.passive.map(|(most, _)| most), upstream.cooldown);
            let same = known.iter().flat_map(|g| &g.servers).find(|s| s.address == address);
            if let (Some(same), Some(_)) = (same, &upstream.health) {
                health.inherit(&same.health);
            }
            let order = same.map_or(NO_ORDER, |same| same.order.load(Ordering::Relaxed));
            // One that joins others begins slowly; at a start all are new.
            let joins = if known.is_empty() { 0 } else { millis(self.epoch).max(1) };
            let since = same.map_or(joins, |same| same.since.load(Ordering::Relaxed));
            let authority = name.split_once("://").map_or("localhost", |(_, authority)| authority);
            let usual = if address.tls { ":443" } else { ":80" };
            let authority = authority.strip_suffix(usual).unwrap_or(authority);
            Arc::new(Server {
                host: HeaderValue::from_str(authority).unwrap_or_else(|_| HeaderValue::from_static("origin.invalid")),
                scheme: if address.tls { Scheme::HTTPS } else { Scheme::HTTP },
                weight: configured.weight,
                priority: configured.priority,
                order: AtomicU32::new(order),
                since: AtomicU64::new(since),
                slow_start: u64::try_from(upstream.slow_start.as_millis()).unwrap_or(u64::MAX),
                in_flight: AtomicUsize::new(0),
                health,
                pace: Pace::default(),
                names: Names::new(
                    upstream.public_only,
                    match (configured.srv, upstream.resolver.as_slice()) {
                        (true, named) => Whom::Service(Resolver::new(named)),
                        (false, []) => Whom::System,
                        (false, named) => Whom::Host(Resolver::new(named)),
                    },
                ),
                literal: address.socket.is_some() || address.host.parse::<std::net::IpAddr>().is_ok(),
                epoch: self.epoch,
                name: name.into(),
                address,
            })
        });
        let servers: Vec<_> = servers.collect();
        let names = || servers.iter().map(|server| &*server.name);
        let sticky = upstream.sticky.as_ref();
        Ok(Arc::new(Group {
            zone: home.clone(),
            upstream: upstream.clone(),
            sticky: sticky.map(|terms| Sticky::new(terms, home, names(), self.seal.clone())),
            servers,
            table: table(upstream),
            connector: Connector::new(upstream)?,
            metrics: self.metrics.clone(),
            counts: self.metrics.zone(home),
            budget: Budget::new(upstream.retry_budget),
            tunnels: AtomicUsize::new(0),
            gauges: [State::connecting, State::open].map(|state| self.metrics.connections(state)),
            roots,
        }))
    }

    fn now(&self) -> u64 {
        millis(self.epoch)
    }
}

impl Snapshot {
    /// Whether `group` is in force.
    pub(super) fn has(&self, group: &Arc<Group>) -> bool {
        let known = match &group.upstream.pool {
            None => self.groups.get(&group.zone),
            Some(pool) => self.pools.get(pool),
        };
        known.is_some_and(|known| known.iter().any(|known| Arc::ptr_eq(known, group)))
    }

    /// The groups that `next` has not.
    fn beyond(&self, next: &Self) -> Vec<Arc<Group>> {
        let groups = self.groups.values().chain(self.pools.values()).flatten();
        groups.filter(|group| !next.has(group)).cloned().collect()
    }

    /// The groups in force.
    pub(super) fn groups(&self) -> &[Arc<Group>] {
        &self.order
    }
}

impl Group {
    pub(super) fn gauge(&self, state: State) -> &Gauge {
        let [connecting, open] = &self.gauges;
        match state {
            State::connecting => connecting,
            State::open => open,
        }
    }

    /// A request to `server` failed by the server's fault.
    pub(super) fn failed(&self, server: &Server) {
        if server.health.failed(server.now()) {
            tracing::warn!(zone = %self.zone, server = %server.name, "out after failures in a row");
            self.metrics.healthy(&self.zone, &server.name, false);
        }
    }

    /// A request to `server` got a response with `status`, which may say that it cannot serve.
    pub(super) fn answered(&self, server: &Server, status: http::StatusCode) {
        if self.upstream.passive_status.contains(&status.as_u16()) {
            self.failed(server);
        } else {
            self.succeeded(server);
        }
    }

    /// The answer of `server` to a request without content began after this time: one whose answers
    /// come late beside the others' is out for a while, but never for that more than half of those
    /// that are asked together.
    pub(super) fn took(&self, server: &Server, time: std::time::Duration) {
        let Some(slow) = &self.upstream.slow else { return };
        if !server.pace.took(time) {
            return;
        }
        let Some(mean) = server.pace.mean() else { return };
        let beside = |other: &&Arc<Server>| other.priority == server.priority;
        let all = self.servers.iter().filter(beside).count();
        let others = self
            .servers
            .iter()
            .filter(beside)
            .filter(|other| !std::ptr::eq(&***other, server));
        let up: Vec<_> = others.filter(|other| other.standing() == Standing::Up).collect();
        let out = all.saturating_sub(up.len());
        let means = up.iter().filter_map(|other| other.pace.mean()).collect();
        if out * 2 > all || !pace::is_slow(mean, means, slow.factor, slow.least) {
            return;
        }
        server.pace.forget();
        if server.health.late(server.now()) {
            tracing::warn!(zone = %self.zone, server = %server.name, mean_us = mean, "out for slow answers");
            self.metrics.healthy(&self.zone, &server.name, false);
        }
    }

    /// A request to `server` got a response.
    pub(super) fn succeeded(&self, server: &Server) {
        if server.health.succeeded() {
            // What came in the meantime was sent before.
            server.pace.forget();
            server.begins();
            tracing::info!(zone = %self.zone, server = %server.name, "back after a request succeeded");
            self.metrics
                .healthy(&self.zone, &server.name, server.standing() == Standing::Up);
        }
    }

    /// An active check of `server` ended.
    pub(super) fn checked(&self, server: &Server, trouble: Option<Trouble>) {
        match server.health.checked(server.now(), trouble) {
            None => return,
            Some(true) => {
                server.begins();
                tracing::info!(zone = %self.zone, server = %server.name, "healthy again");
            }
            Some(false) => tracing::warn!(zone = %self.zone, server = %server.name, ?trouble, "unhealthy"),
        }
        self.metrics
            .healthy(&self.zone, &server.name, server.standing() == Standing::Up);
    }
}

impl Server {
    /// Has the server's name asked again if that is due, without waiting for it: connections that
    /// are used over and over would never ask.
    pub(super) fn refresh_names(self: &Arc<Self>, now: Instant) {
        if self.names.is_due(now) {
            let server = self.clone();
            tokio::spawn(async move { server.names.ask_again(&server.address).await });
        }
    }

    /// Milliseconds since the fleet began.
    pub(super) fn now(&self) -> u64 {
        millis(self.epoch)
    }

    /// Whether it may be chosen. The clock is asked only where it matters.
    fn standing(&self) -> Standing {
        if self.order.load(Ordering::Relaxed) == 0 {
            return Standing::Down;
        }
        self.health.standing_by(|| self.now())
    }

    /// It may be chosen from now on, and its share grows.
    fn begins(&self) {
        self.since.store(self.now().max(1), Ordering::Relaxed);
    }

    /// The share that it comes to.
    fn whole_weight(&self) -> u32 {
        match self.order.load(Ordering::Relaxed) {
            NO_ORDER => u32::from(self.weight),
            order => order,
        }
    }

    /// The share that it has now, in parts of a weight: a tenth at first.
    fn share(&self) -> u32 {
        let whole = self.whole_weight().saturating_mul(PARTS);
        let since = self.since.load(Ordering::Relaxed);
        if self.slow_start == 0 || since == 0 {
            return whole;
        }
        let passed = self.now().saturating_sub(since);
        if passed >= self.slow_start {
            // The clock need not be asked again.
            self.since.store(0, Ordering::Relaxed);
            return whole;
        }
        let grown = u64::from(whole).saturating_mul(passed) / self.slow_start;
        u32::try_from(grown).unwrap_or(whole).max(whole / 10).max(1)
    }
}

/// Where keys belong among the servers of `upstream`.
fn table(upstream: &Upstream) -> Option<Arc<Table>> {
    upstream.hash.as_ref()?;
    let names: Vec<_> = upstream
        .servers
        .iter()
        .map(|server| (server.address.to_string(), u32::from(server.weight)))
        .collect();
    let servers = names.iter().map(|(name, weight)| (name.as_str(), *weight));
    Some(Arc::new(Table::new(servers)))
}

impl Candidate for Arc<Server> {
    fn weight(&self) -> u32 {
        self.share()
    }

    fn priority(&self) -> u8 {
        self.priority
    }

    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn standing(&self) -> Standing {
        (**self).standing()
    }
}

fn millis(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What changes when a file that the connections need is written anew.
fn stamp(upstream: &Upstream) -> [Option<(SystemTime, u64)>; 2] {
    let of = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [
        upstream.ca.as_ref().and_then(|(file, _)| of(file)),
        upstream.identity.as_ref().and_then(|files| of(&files.chain)),
    ]
}
