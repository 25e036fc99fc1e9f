//! What operators say of a version on trial, and what is done, once a second, about one that was
//! taken back by itself.

use std::sync::{Arc, PoisonError};

use super::deploy::Deployed;
use super::deployment::Rollout;
use super::error::Error;
use super::isolates::Isolates;
use super::trial::Standing;
use super::versions::{Returned, Versions};

impl Isolates {
    /// Gives the version on trial to another part of the clients: of 0 percent nobody gets it any
    /// more, with 100 it is the active one. Counting begins anew. Blocks.
    ///
    /// # Errors
    /// There is none, or it cannot be loaded any more; nothing has changed then.
    pub fn roll_out(&self, zone: &str, percent: u8) -> Result<Deployed, Error> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let deployment = self.deployable(zone)?;
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
            None => deployment.rollout.store(None),
            Some(loaded) if percent >= 100 => self.activate(&deployment, loaded, number, version.digest.clone()),
            Some(loaded) => self.try_out(&deployment, loaded, (number, version.digest.clone()), percent),
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
        for deployment in self.deployments.load().values() {
            let back = |rollout: &Arc<Rollout>| rollout.is_returned();
            if !deployment.rollout.load().as_ref().is_some_and(back) {
                continue;
            }
            let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rollout) = deployment.rollout.load_full().filter(back) else {
                continue;
            };
            let Standing {
                version,
                requests,
                failures,
                ..
            } = rollout.standing();
            tracing::error!(
                target: "edge::isolate", zone = %deployment.tenant.name, version, requests, failures,
                "the version on trial failed too often; all clients get the active one again"
            );
            deployment.rollout.store(None);
            let directory = self.directory(&deployment.tenant.name);
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
                tracing::error!(target: "edge::isolate", zone = %deployment.tenant.name, %error, "after a restart the trial goes on");
            }
        }
    }
}
