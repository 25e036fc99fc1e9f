//! A version on trial: some percent of the clients get it, the others the active one. If it fails
//! for more of its requests than the active one does, everybody gets the active one again, at once
//! and by itself. `handler` asks which version a request gets; the node writes down, once a second,
//! what was taken back.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::deploy::Deployed;
use super::error::{Ended, Error};
use super::isolates::Isolates;
use super::tenant::{Active, Tenant};
use super::versions::{Returned, Versions};

/// Failures below which nothing is concluded.
const LEAST: u64 = 5;
/// Failures of a hundred requests that are never a reason.
const TOLERATED: u64 = 5;
/// So many times as often as the active version it has to fail.
const TIMES: u64 = 2;

/// The trial of a version.
pub(super) struct Rollout {
    /// The version.
    pub(super) active: Arc<Active>,
    percent: u8,
    /// Of the active version, and of this one.
    old: Tally,
    new: Tally,
    returned: AtomicBool,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    fn count(&self, failed: bool) -> (u64, u64) {
        let failures = self.failures.fetch_add(u64::from(failed), Relaxed);
        let requests = self.requests.fetch_add(1, Relaxed);
        (requests.saturating_add(1), failures.saturating_add(u64::from(failed)))
    }

    fn read(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.failures.load(Relaxed))
    }
}

/// How a trial stands, for `edge worker list`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The version on trial.
    pub version: u64,
    /// The percentage of the clients that get it.
    pub percent: u8,
    /// Its requests.
    pub requests: u64,
    /// Of them failed.
    pub failures: u64,
}

impl Rollout {
    /// `percent`: 1 to 99.
    pub(super) fn new(active: Active, percent: u8) -> Self {
        Self {
            active: Arc::new(active),
            percent,
            old: Tally::default(),
            new: Tally::default(),
            returned: AtomicBool::new(false),
        }
    }

    /// Whether a client gets the version: the same client always does.
    fn is_for(&self, client: IpAddr) -> bool {
        let mut hasher = DefaultHasher::new();
        (client.to_canonical(), self.active.version).hash(&mut hasher);
        hasher.finish() % 100 < u64::from(self.percent)
    }

    /// Counts a request's end, and takes the version back if that was one failure too many.
    fn count(&self, new: bool, failed: bool) {
        if !new {
            self.old.count(failed);
            return;
        }
        let (requests, failures) = self.new.count(failed);
        if failed && is_worse((requests, failures), self.old.read()) {
            self.returned.store(true, Relaxed);
        }
    }

    fn standing(&self) -> Standing {
        let (requests, failures) = self.new.read();
        Standing {
            version: self.active.version,
            percent: self.percent,
            requests,
            failures,
        }
    }
}

/// Whether requests with these failures are bad enough beside those of the active version.
fn is_worse((requests, failures): (u64, u64), (others, their): (u64, u64)) -> bool {
    // In hundreds of thousands, against rounding.
    let rate = |failures: u64, requests: u64| failures.saturating_mul(100_000).checked_div(requests).unwrap_or(0);
    let own = rate(failures, requests);
    failures >= LEAST && own > TOLERATED * 1_000 && own > rate(their, others).saturating_mul(TIMES)
}

/// One request's part in a trial; counted when it is dropped.
pub(super) struct Trial {
    rollout: Arc<Rollout>,
    new: bool,
    failed: AtomicBool,
}

impl Trial {
    /// The worker answered with a failure, or came to `ended`.
    pub(super) fn failed(&self, ended: Option<Ended>) {
        // Whose fault it is not.
        if !matches!(ended, Some(Ended::Overload | Ended::Stopped)) {
            self.failed.store(true, Relaxed);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.rollout.count(self.new, self.failed.load(Relaxed));
    }
}

impl Tenant {
    /// The version that a client's request gets, and its part in a trial if there is one.
    pub(super) fn version_for(&self, client: IpAddr) -> Option<(Arc<Active>, Option<Trial>)> {
        let active = self.active.load_full()?;
        let Some(rollout) = self
            .rollout
            .load_full()
            .filter(|rollout| !rollout.returned.load(Relaxed))
        else {
            return Some((active, None));
        };
        let new = rollout.is_for(client);
        let chosen = if new { rollout.active.clone() } else { active };
        let trial = Trial {
            rollout,
            new,
            failed: AtomicBool::new(false),
        };
        Some((chosen, Some(trial)))
    }

    /// How a trial stands, if there is one.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.rollout.load().as_ref().map(|rollout| rollout.standing())
    }
}

impl Isolates {
    /// Gives the version on trial to another part of the clients: of 0 percent nobody gets it any
    /// more, with 100 it is the active one. Counting begins anew. Blocks.
    ///
    /// # Errors
    /// There is none, or it cannot be loaded any more; nothing has changed then.
    pub fn roll_out(&self, zone: &str, percent: u8) -> Result<Deployed, Error> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = self.deployable(zone)?;
        let directory = self.directory(zone);
        let mut versions = Versions::read(&directory)?;
        let none = || Error::NoRollout(zone.to_owned());
        let (number, _) = versions.rollout.ok_or_else(none)?;
        let version = versions.find(number).cloned().ok_or_else(none)?;
        let loaded = match percent {
            0 => None,
            _ => Some(self.load_version(&directory, &version)?),
        };
        versions.rollout = (1..100).contains(&percent).then_some((number, percent));
        if percent >= 100 {
            versions.active = number;
        }
        versions.write(&directory, None)?;
        match loaded {
            None => tenant.rollout.store(None),
            Some(loaded) if percent >= 100 => self.activate(&tenant, loaded, number, version.digest.clone()),
            Some(loaded) => self.try_out(&tenant, loaded, (number, version.digest.clone()), percent),
        }
        Ok(Deployed {
            zone: zone.to_owned(),
            version,
            percent: Some(percent.min(100)),
            preview: None,
        })
    }

    /// Writes down what was taken back by itself, and lets it go. Once a second; blocks.
    pub fn settle_rollouts(&self) {
        for tenant in self.tenants.load().values() {
            let back = |rollout: &Arc<Rollout>| rollout.returned.load(Relaxed);
            if !tenant.rollout.load().as_ref().is_some_and(back) {
                continue;
            }
            let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rollout) = tenant.rollout.load_full().filter(back) else {
                continue;
            };
            let Standing {
                version,
                requests,
                failures,
                ..
            } = rollout.standing();
            tracing::error!(
                target: "edge::isolate", zone = %tenant.name, version, requests, failures,
                "the version on trial failed too often; all clients get the active one again"
            );
            tenant.rollout.store(None);
            let directory = self.directory(&tenant.name);
            let written = Versions::read(&directory).and_then(|mut versions| {
                versions.rollout = None;
                versions.returned = Some(Returned {
                    version,
                    requests,
                    failures,
                });
                versions.write(&directory, None)
            });
            if let Err(error) = written {
                tracing::error!(target: "edge::isolate", zone = %tenant.name, %error, "after a restart the trial goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version that breaks a site would go on doing so, or a good one be taken back for what its
    /// clients do.
    #[test]
    fn a_version_goes_when_it_fails_more_than_the_active_one() {
        for (new, old, worse) in [
            ((4, 4), (100, 0), false),
            ((5, 5), (0, 0), true),
            ((5, 5), (100, 0), true),
            ((100, 5), (100, 0), false),
            ((100, 6), (100, 0), true),
            ((100, 6), (100, 3), false),
            ((100, 6), (1_000, 29), true),
            ((100, 60), (100, 40), false),
            ((1_000_000, 60_000), (1_000_000, 0), true),
        ] {
            assert_eq!(is_worse(new, old), worse, "{new:?} {old:?}");
        }
    }
}
