//! Versions that answer under hosts of their own (`edge worker deploy --preview`), before anybody
//! else gets them: with the zone's settings, store, files and limits. `handler` asks by the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deploy::Loaded;
use super::isolates::Isolates;
use super::tenant::{Active, Tenant};
use super::versions::{Version, Versions};
use crate::config::isolate::Worker;

/// By their labels.
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

impl Tenant {
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

    /// Lets go of previews whose versions are gone.
    pub(super) fn keep_previews(&self, versions: &Versions) {
        let mut previews = Previews::clone(&self.previews.load());
        let known = |active: &Active| versions.previews.contains(&active.version);
        previews.retain(|_, active| known(active));
        self.previews.store(Arc::new(previews));
    }

    pub(super) fn add_preview(&self, version: &Version, loaded: Loaded) {
        let mut previews = Previews::clone(&self.previews.load());
        let active = Active::new(loaded.program, loaded.code, version.number, version.digest.clone());
        previews.insert(version.label().to_owned(), Arc::new(active));
        self.previews.store(Arc::new(previews));
    }
}

impl Isolates {
    /// The previews that there were when the node last ran. One that cannot be loaded is logged.
    pub(super) fn resume_previews(&self, tenant: &Tenant, versions: &Versions) {
        let directory = self.directory(&tenant.name);
        for number in &versions.previews {
            let Some(version) = versions.find(*number) else {
                continue;
            };
            match self.load_version(&directory, version) {
                Ok(loaded) => tenant.add_preview(version, loaded),
                Err(error) => {
                    tracing::error!(target: "edge::isolate", zone = %tenant.name, %error, "a preview is out");
                }
            }
        }
    }

    /// The host of a version's preview, if its zone has some.
    pub(super) fn preview_host(&self, zone: &str, version: &Version) -> Option<String> {
        let zones = self.zones().load();
        let zone = zones.all().iter().find(|known| *known.name == *zone)?;
        let suffix = zone.worker.as_ref()?.previews.as_ref()?;
        Some(format!("{}.{suffix}", version.label()))
    }
}
