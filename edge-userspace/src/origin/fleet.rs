//! All servers of all zones, as all workers share them: health, load, names, TLS. Built from a
//! zones snapshot, swapped whole on reload; a group whose configuration did not change is carried
//! over with all it knows.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use super::metrics::{Metrics, State, ZoneMetrics};
use super::names::Names;
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
}

/// A fleet that was checked and can be put into force.
#[derive(Debug, Default)]
pub struct Plan(Snapshot);

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// By the zone's name: its own servers, and those elsewhere that its worker may ask.
    groups: HashMap<Arc<str>, Vec<Arc<Group>>>,
    /// The zones' own, in the file's order.
    order: Vec<Arc<Group>>,
    /// What this one took the place of: requests under way may still ask for it.
    before: Vec<Arc<Group>>,
}

/// The servers of one zone.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) zone: Arc<str>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) connector: Connector,
    pub(super) metrics: Metrics,
    pub(super) counts: ZoneMetrics,
    pub(super) budget: Budget,
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
    pub(super) in_flight: AtomicUsize,
    pub(super) health: Health,
    pub(super) names: Names,
    /// The address is one already, and no name.
    pub(super) literal: bool,
    epoch: Instant,
}

/// A zone's servers, for `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct ZoneStatus {
    /// The zone's name.
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
        })
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
        for zone in zones.all() {
            let known = old.groups.get(&zone.name).map(Vec::as_slice).unwrap_or_default();
            let own = std::iter::once((&zone.origin, true));
            let elsewhere = zone.elsewhere.iter().map(|(_, seen)| (&seen.origin, false));
            let mut groups = Vec::new();
            for (origin, own) in own.chain(elsewhere) {
                let Origin::Servers(upstream) = origin else {
                    continue;
                };
                let same = known
                    .iter()
                    .find(|group| *group.upstream == **upstream && group.roots == stamp(upstream));
                let group = match same {
                    Some(group) => group.clone(),
                    None => match self.group(zone, upstream, known) {
                        Ok(group) => group,
                        Err(mistake) => {
                            faults.zone(&zone.name, mistake);
                            continue;
                        }
                    },
                };
                if own {
                    next.order.push(group.clone());
                }
                groups.push(group);
            }
            if !groups.is_empty() {
                next.groups.insert(zone.name.clone(), groups);
            }
        }
        next.before = old.beyond(&next);
        Plan(next)
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
        let now = snapshot.groups.get(&zone.name).map(Vec::as_slice).unwrap_or_default();
        let all = || {
            now.iter()
                .chain(&snapshot.before)
                .filter(|group| group.zone == zone.name)
        };
        let same = all().find(|group| Arc::ptr_eq(&group.upstream, upstream));
        same.or_else(|| all().find(|group| *group.upstream == **upstream))
            .cloned()
    }

    fn group(&self, zone: &Zone, upstream: &Arc<Upstream>, known: &[Arc<Group>]) -> Result<Arc<Group>, Mistake> {
        let roots = stamp(upstream);
        let thresholds = upstream
            .health
            .as_ref()
            .map_or((1, 1), |health| (health.healthy, health.unhealthy));
        let servers = upstream.servers.iter().map(|configured| {
            let address = configured.address.clone();
            let name = address.to_string();
            let health = Health::new(thresholds, upstream.passive);
            let same = known.iter().flat_map(|g| &g.servers).find(|s| s.address == address);
            if let (Some(same), Some(_)) = (same, &upstream.health) {
                health.inherit(&same.health);
            }
            let authority = name.split_once("://").map_or("", |(_, authority)| authority);
            let usual = if address.tls { ":443" } else { ":80" };
            let authority = authority.strip_suffix(usual).unwrap_or(authority);
            Arc::new(Server {
                host: HeaderValue::from_str(authority).unwrap_or_else(|_| HeaderValue::from_static("origin.invalid")),
                scheme: if address.tls { Scheme::HTTPS } else { Scheme::HTTP },
                weight: configured.weight,
                in_flight: AtomicUsize::new(0),
                health,
                names: Names::new(upstream.public_only),
                literal: address.host.parse::<std::net::IpAddr>().is_ok(),
                epoch: self.epoch,
                name: name.into(),
                address,
            })
        });
        Ok(Arc::new(Group {
            zone: zone.name.clone(),
            upstream: upstream.clone(),
            servers: servers.collect(),
            connector: Connector::new(upstream)?,
            metrics: self.metrics.clone(),
            counts: self.metrics.zone(&zone.name),
            budget: Budget::new(upstream.retry_budget),
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
        self.groups
            .get(&group.zone)
            .is_some_and(|known| known.iter().any(|known| Arc::ptr_eq(known, group)))
    }

    /// The groups that `next` has not.
    fn beyond(&self, next: &Self) -> Vec<Arc<Group>> {
        let groups = self.groups.values().flatten();
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

    /// A request to `server` got a response.
    pub(super) fn succeeded(&self, server: &Server) {
        if server.health.succeeded() {
            tracing::info!(zone = %self.zone, server = %server.name, "back after a request succeeded");
            self.metrics
                .healthy(&self.zone, &server.name, server.standing() == Standing::Up);
        }
    }

    /// An active check of `server` ended.
    pub(super) fn checked(&self, server: &Server, trouble: Option<Trouble>) {
        match server.health.checked(server.now(), trouble) {
            None => return,
            Some(true) => tracing::info!(zone = %self.zone, server = %server.name, "healthy again"),
            Some(false) => tracing::warn!(zone = %self.zone, server = %server.name, ?trouble, "unhealthy"),
        }
        self.metrics
            .healthy(&self.zone, &server.name, server.standing() == Standing::Up);
    }
}

impl Server {
    /// Milliseconds since the fleet began.
    pub(super) fn now(&self) -> u64 {
        millis(self.epoch)
    }

    /// Whether it may be chosen. The clock is asked only where it matters.
    fn standing(&self) -> Standing {
        self.health.standing_by(|| self.now())
    }
}

impl Candidate for Arc<Server> {
    fn weight(&self) -> u32 {
        u32::from(self.weight)
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
