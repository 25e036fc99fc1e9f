//! What operators say of a zone's secrets (`edge worker secret`).

use std::sync::{Arc, PoisonError};

use super::error::Error;
use super::isolates::Isolates;
use super::secrets::{self, Secrets};
use super::tenant::Tenant;

impl Isolates {
    /// Gives the worker of `zone` a secret, or another value for one. Blocks.
    ///
    /// # Errors
    /// Why not, for the operator; nothing has changed then.
    pub fn keep_secret(&self, zone: &str, name: &str, value: &[u8]) -> Result<(), Error> {
        let secret = secrets::sound(name, value)?;
        self.change_secrets(zone, |tenant, secrets| {
            if self.is_configured(&tenant.name, name) {
                let why = format!("zone \"{zone}\" has a setting or secret of that name in the configuration");
                return Err(Error::Secret(why));
            }
            secrets.insert(name.to_owned(), secret);
            match secrets.len() > secrets::MOST {
                true => Err(Error::Secret(format!("zone \"{zone}\" has {} already", secrets::MOST))),
                false => Ok(()),
            }
        })
    }

    /// Takes a secret from the worker of `zone`. Blocks.
    ///
    /// # Errors
    /// It has none of that name, or it cannot be written.
    pub fn drop_secret(&self, zone: &str, name: &str) -> Result<(), Error> {
        self.change_secrets(zone, |_, secrets| match secrets.remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::Secret(format!("zone \"{zone}\" was given none of that name"))),
        })
    }

    /// Names of the secrets that `zone` was given.
    ///
    /// # Errors
    /// The zone has no worker.
    pub fn secrets(&self, zone: &str) -> Result<Vec<String>, Error> {
        let tenant = self.tenant(zone).ok_or_else(|| Error::NoWorker(zone.to_owned()))?;
        Ok(tenant.secrets.load().keys().cloned().collect())
    }

    fn change_secrets(
        &self,
        zone: &str,
        change: impl FnOnce(&Tenant, &mut Secrets) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = self.tenant(zone).ok_or_else(|| Error::NoWorker(zone.to_owned()))?;
        let mut secrets = Secrets::clone(&tenant.secrets.load());
        change(&tenant, &mut secrets)?;
        secrets::write(&self.config.state_directory, zone, &secrets)?;
        tenant.secrets.store(Arc::new(secrets));
        Ok(())
    }

    fn is_configured(&self, zone: &str, name: &str) -> bool {
        let zones = self.zones().load();
        let known = zones.all().iter().find(|known| *known.name == *zone);
        known.and_then(|zone| zone.worker.as_ref()).is_some_and(|worker| {
            worker.settings.iter().any(|(known, _)| known == name)
                || worker.secrets.iter().any(|(known, _)| known == name)
        })
    }
}
