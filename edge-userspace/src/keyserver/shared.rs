//! What all connections of the key server share, and a connection's place among them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::audit::Audit;
use super::lane::Lane;
use super::lobby::Lobby;
use super::metrics::Metrics;
use super::rules::Rules;
use super::store;
use crate::base::clock::UnixTime;
use crate::base::validity;
use crate::config::keyserver::Limits;

/// Between two lines about the same end.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: ArcSwap<Rules>,
    /// Told when `rules` is replaced.
    pub(super) changed: watch::Sender<u64>,
    pub(super) keys: store::Current,
    pub(super) lane: Arc<Lane>,
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<Metrics>,
    /// Lines about those that are no clients, and about broken framing.
    audit: Mutex<Audit>,
    pub(super) lobby: Arc<Lobby>,
    connections: AtomicUsize,
    by_client: Mutex<HashMap<Arc<str>, usize>>,
    /// When it was told of each client that its certificate soon ends. As many as are on the list.
    told: Mutex<HashMap<Arc<str>, Instant>>,
    pub(super) next: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        rules: Rules,
        keys: store::Current,
        lane: Arc<Lane>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            changed: watch::Sender::new(rules.version),
            rules: ArcSwap::from_pointee(rules),
            keys,
            lane,
            limits: Arc::new(limits),
            metrics,
            audit: Mutex::new(Audit::new(Instant::now())),
            lobby: Arc::default(),
            connections: AtomicUsize::new(0),
            by_client: Mutex::default(),
            told: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// Puts new rules in force; every connection is judged anew.
    pub(super) fn replace(&self, rules: Rules) {
        let version = rules.version;
        self.rules.store(Arc::new(rules));
        self.changed.send_replace(version);
    }

    /// A line in the audit about a connection.
    pub(super) fn refuse(&self, peer: SocketAddr, reason: &str) {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.connection(Instant::now(), &self.metrics, peer, reason);
    }

    /// A client came with a certificate that holds for `period`, in seconds since 1970: if it soon
    /// ends, that is told, twice a day at most.
    pub(super) fn came(&self, client: &Arc<str>, period: (i64, i64)) {
        self.metrics.expires(client, period.1);
        let now = i64::try_from(UnixTime::now().secs()).unwrap_or(i64::MAX);
        let Some((what, mend)) = validity::aging(period, now) else {
            return;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(client).is_none_or(|last| last.elapsed() >= TOLD_EVERY) {
            told.insert(client.clone(), Instant::now());
            tracing::warn!(target: "edge::keyserver", client = &**client, "the certificate of a client {what}; {mend}");
        }
    }

    /// A place for a connection of `client`, who has shown who it is.
    pub(super) fn enter(self: &Arc<Self>, client: &Arc<str>) -> Result<Place, String> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut place = Place {
            shared: self.clone(),
            client: None,
        };
        self.metrics.connections.inc();
        if before >= self.limits.connections {
            return Err("too many connections".to_owned());
        }
        match place.of(client) {
            true => Ok(place),
            false => Err(format!("too many connections of {client}")),
        }
    }
}

/// A connection's place among all, and among its client's.
pub(super) struct Place {
    shared: Arc<Shared>,
    client: Option<Arc<str>>,
}

impl Place {
    /// Counts it as this client's, unless that has too many.
    fn of(&mut self, client: &Arc<str>) -> bool {
        let mut counts = self.shared.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client.clone()).or_default();
        if *count >= self.shared.limits.connections_per_client {
            return false;
        }
        *count += 1;
        self.client = Some(client.clone());
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.connections.dec();
        if let Some(client) = &self.client {
            let mut counts = self.shared.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get_mut(client) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(client);
                }
            }
        }
    }
}
