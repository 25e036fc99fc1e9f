//! The configuration in force, and how its zones do: in service, kept as they were before a reload
//! that could not prepare them, or out of service because nothing serves them yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::{Config, Faults, Mistake, Mistakes, Zone, ZonesFail};

/// The configuration in force.
pub(super) struct State {
    /// Kept zones are in it as they were.
    pub(super) config: Config,
    /// Zones that could not be prepared, and why, by name.
    failed: BTreeMap<Arc<str>, Failed>,
}

/// A zone that could not be prepared.
struct Failed {
    /// What was in force before serves it still; else it is out of service.
    kept: bool,
    mistakes: Vec<Mistake>,
}

impl State {
    /// What is in force once `config` with these `faults` is, and `before` was. A zone that cannot
    /// be prepared stands alone: at a start, and if it is new, it is out of service; if the file
    /// says of it what it said before (a key went away, say), it stays as it is. A reload that
    /// changes a zone in service into one that cannot be prepared is refused whole: what is served
    /// together was meant to change together.
    ///
    /// # Errors
    /// The mistakes, if the configuration cannot be put into force.
    pub(super) fn settle(mut config: Config, faults: Faults, before: Option<&Self>) -> Result<Self, Mistakes> {
        if !faults.of_node().is_empty() || config.server.zones_fail == ZonesFail::Together {
            faults.clone().or(())?;
        }
        let mut failed = BTreeMap::new();
        for (name, mistakes) in faults.of_zones() {
            let served = before.and_then(|before| before.served(name));
            let zone = config.zones.iter_mut().find(|zone| zone.name == *name);
            let kept = match (served, zone) {
                (None, _) => false,
                (Some(served), Some(zone)) if served.written == zone.written => {
                    *zone = served.clone();
                    true
                }
                (Some(_), _) => return Err(faults.or(()).err().unwrap_or(Mistakes(Vec::new()))),
            };
            let mistakes = mistakes.clone();
            failed.insert(name.clone(), Failed { kept, mistakes });
        }
        if before.is_none() && failed.len() == config.zones.len() {
            // Nothing would be served.
            faults.or(())?;
        }
        Ok(Self { config, failed })
    }

    /// The zone, if it is in service.
    fn served(&self, name: &str) -> Option<&Zone> {
        let zone = self.config.zones.iter().find(|zone| *zone.name == *name)?;
        (!self.is_out(name)).then_some(zone)
    }

    /// What was in force before the last reload serves this zone.
    pub(super) fn keeps(&self, zone: &str) -> bool {
        self.failed.get(zone).is_some_and(|failed| failed.kept)
    }

    /// This zone is out of service.
    pub(super) fn is_out(&self, zone: &str) -> bool {
        self.failed.get(zone).is_some_and(|failed| !failed.kept)
    }

    /// Zones that could not be prepared, and whether they are served as before.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&str, bool)> {
        self.failed.iter().map(|(name, failed)| (&**name, failed.kept))
    }

    /// The same with the reasons, a line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let lines = self.failed.iter().flat_map(|(name, failed)| {
            let state = words(failed.kept);
            failed
                .mistakes
                .iter()
                .map(move |mistake| format!("zone \"{name}\" {state}: {mistake}"))
        });
        lines.collect()
    }

    /// Tells the operator of zones that could not be prepared.
    pub(super) fn tell(&self) {
        for (name, failed) in &self.failed {
            for mistake in &failed.mistakes {
                tracing::error!(zone = %name, "the zone {}: {mistake}", words(failed.kept));
            }
        }
    }

    /// The zones, for `/status`.
    pub(super) fn zones(&self) -> Vec<Value> {
        let zone = |zone: &Zone| {
            let failed = self.failed.get(&zone.name);
            json!({
                "name": &*zone.name,
                "hosts": zone.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "default": zone.default,
                "state": failed.map_or("served", |failed| if failed.kept { "kept" } else { "out" }),
                "mistakes": failed.map(|failed| failed.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>()),
            })
        };
        self.config.zones.iter().map(zone).collect()
    }
}

const fn words(kept: bool) -> &'static str {
    if kept {
        "is served as before the reload"
    } else {
        "is out of service"
    }
}
