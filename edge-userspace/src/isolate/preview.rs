//! Versions that answer under hosts of their own (`edge worker deploy --preview`), before anybody
//! else gets them: with the zone's settings, store, files and limits. `deploy` adds them, and
//! brings them back at a start.

use std::sync::Arc;

use super::deploy::Loaded;
use super::deployment::{Active, Deployment, Previews};
use super::isolates::Isolates;
use super::versions::{Version, Versions};

impl Deployment {
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
    pub(super) fn resume_previews(&self, deployment: &Deployment, versions: &Versions) {
        let zone = &deployment.tenant.name;
        let directory = self.directory(zone);
        for number in &versions.previews {
            let Some(version) = versions.find(*number) else {
                continue;
            };
            match self.load_version(&directory, version) {
                Ok(loaded) => deployment.add_preview(version, loaded),
                Err(error) => {
                    tracing::error!(target: "edge::isolate", %zone, %error, "a preview is out");
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
