//! What answers for a zone, over reloads: its active version, one on trial for some percent of the
//! clients, and previews under hosts of their own. `deploy` changes it; `handler` asks which
//! version a request gets.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::engine::Rest;
use super::program::Program;
use super::tenant::Tenant;
use super::trial::{Count, Standing, Trial};
use crate::config::isolate::Worker;

/// Seconds without a request until a zone's code gives its memory back.
const QUIET: u32 = 30;

/// What answers for a zone.
pub(super) struct Deployment {
    pub(super) tenant: Arc<Tenant>,
    pub(super) active: ArcSwapOption<Active>,
    /// A version on trial beside it.
    pub(super) rollout: ArcSwapOption<Rollout>,
    /// Versions under hosts of their own.
    pub(super) previews: ArcSwap<Previews>,
}

/// A version that answers.
pub(super) struct Active {
    pub(super) program: Arc<dyn Program>,
    /// The number of the version; 0 for a file of the configuration.
    pub(super) version: u64,
    /// Names the content: hexadecimal SHA-256.
    pub(super) digest: String,
    code: Arc<dyn Rest>,
    /// Requests of the zone when they were last looked at, and for how long it has had no other.
    seen: AtomicU64,
    quiet: AtomicU32,
}

impl Active {
    pub(super) fn new(program: Arc<dyn Program>, code: Arc<dyn Rest>, version: u64, digest: String) -> Self {
        Self {
            program,
            version,
            digest,
            code,
            seen: AtomicU64::new(0),
            quiet: AtomicU32::new(0),
        }
    }
}

/// A version that some percent of the clients get, the others the active one. If it fails for more
/// of its requests than that one does, everybody gets the active one again.
pub(super) struct Rollout {
    /// The version.
    pub(super) active: Arc<Active>,
    percent: u8,
    count: Arc<Count>,
}

impl Rollout {
    /// `percent`: 1 to 99.
    pub(super) fn new(active: Active, percent: u8) -> Self {
        Self {
            active: Arc::new(active),
            percent,
            count: Arc::default(),
        }
    }

    /// Whether a client gets the version: the same client always does.
    fn is_for(&self, client: IpAddr) -> bool {
        let mut hasher = DefaultHasher::new();
        (client.to_canonical(), self.active.version).hash(&mut hasher);
        hasher.finish() % 100 < u64::from(self.percent)
    }

    /// The version was taken back.
    pub(super) fn is_returned(&self) -> bool {
        self.count.is_returned()
    }

    /// How the trial stands.
    pub(super) fn standing(&self) -> Standing {
        let (requests, failures) = self.count.of_the_new();
        Standing {
            version: self.active.version,
            percent: self.percent,
            requests,
            failures,
        }
    }
}

/// Previews by their labels.
pub(super) type Previews = BTreeMap<String, Arc<Active>>;

/// What a host means for a zone with previews.
pub(super) enum Meant {
    /// The zone's own worker.
    Zone,
    /// The version of a preview.
    Preview(Arc<Active>),
    /// A preview that there is not.
    Nothing,
}

impl Deployment {
    /// Nothing answers yet.
    pub(super) fn new(tenant: Tenant) -> Arc<Self> {
        Arc::new(Self {
            tenant: Arc::new(tenant),
            active: ArcSwapOption::empty(),
            rollout: ArcSwapOption::empty(),
            previews: ArcSwap::default(),
        })
    }

    /// What a request for `host`, in the spelling of requests, is for.
    pub(super) fn meant(&self, worker: &Worker, host: &str) -> Meant {
        let Some(suffix) = &worker.previews else {
            return Meant::Zone;
        };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let label = name
            .strip_suffix(suffix.as_str())
            .and_then(|rest| rest.strip_suffix('.'));
        match label {
            None => Meant::Zone,
            Some(label) => match self.previews.load().get(label) {
                Some(active) => Meant::Preview(active.clone()),
                None => Meant::Nothing,
            },
        }
    }

    /// The version that a client's request gets, and its part in a trial if there is one.
    pub(super) fn version_for(&self, client: IpAddr) -> Option<(Arc<Active>, Option<Trial>)> {
        let (chosen, rollout) = self.chosen(client)?;
        let trial = rollout.map(|rollout| {
            let new = Arc::ptr_eq(&chosen, &rollout.active);
            Trial::new(rollout.count.clone(), new)
        });
        Some((chosen, trial))
    }

    /// The version that [`Self::version_for`] chooses, without a trial's count.
    pub(super) fn would_answer(&self, client: IpAddr) -> Option<Arc<Active>> {
        self.chosen(client).map(|(chosen, _)| chosen)
    }

    /// The version for a client, and the one on trial if there is one.
    fn chosen(&self, client: IpAddr) -> Option<(Arc<Active>, Option<Arc<Rollout>>)> {
        let active = self.active.load_full()?;
        let rollout = self.rollout.load_full().filter(|rollout| !rollout.is_returned());
        let new = rollout.as_ref().filter(|rollout| rollout.is_for(client));
        let chosen = new.map_or(active, |rollout| rollout.active.clone());
        Some((chosen, rollout))
    }

    /// How a trial stands, if there is one.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.rollout.load().as_ref().map(|rollout| rollout.standing())
    }

    /// Once a second: what has waited for long is let go.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(rollout) = self.rollout.load().as_ref() {
            rollout.active.program.sweep(now);
        }
        for preview in self.previews.load().values() {
            preview.program.sweep(now);
        }
        let active = self.active.load();
        let Some(active) = active.as_ref() else { return };
        active.program.sweep(now);
        let requests = self.tenant.counts.begun();
        if active.seen.swap(requests, Relaxed) != requests {
            active.quiet.store(0, Relaxed);
        } else if active.quiet.fetch_add(1, Relaxed) == QUIET {
            active.code.rest();
        }
    }
}
