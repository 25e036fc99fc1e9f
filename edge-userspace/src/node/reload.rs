//! The life of a configuration: [`gather`] and [`Node::prepare`] read, compile and check everything
//! that it asks for and change nothing; [`Node::install`] puts what was prepared into force and
//! cannot fail. A start is bind, prepare and install; a reload is the same without bind; `edge
//! check` prepares, and throws away what it got.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::registry::Registry;
use tokio::sync::OwnedMutexGuard;

use super::state::State;
use super::{Node, delta, gates, isolates, watch};
use crate::admin::access;
use crate::base::clock::UnixTime;
use crate::base::service;
use crate::base::watched::Sight;
use crate::config::{Config, Faults, Mistake, Mistakes, Place, ZonesFail};
use crate::dataplane::Lists;
use crate::gate::handler::{Pages, pages};
use crate::gate::sealed;
use crate::isolate::isolates::Isolates;
use crate::origin::{self, Fleet, fleet};
use crate::tls::certificates::{self, Loaded, Snapshot};
use crate::tls::remote::KeyServers;
use crate::zones::Zones;
use crate::{isolate, quic, tls};

/// The rooms that a configuration is prepared for, and what is in force in them.
pub(super) struct Rooms<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) isolates: Option<&'a Isolates>,
    /// `None` at a start.
    pub(super) before: Option<Before<'a>>,
}

impl<'a> Rooms<'a> {
    /// Of a node that serves nothing yet.
    pub(super) const fn empty(fleet: &'a Fleet, isolates: Option<&'a Isolates>) -> Self {
        Self {
            fleet,
            isolates,
            before: None,
        }
    }
}

/// What is in force before a reload.
pub(super) struct Before<'a> {
    pub(super) state: &'a State,
    pub(super) certificates: &'a Snapshot,
    pub(super) key_servers: &'a KeyServers,
}

/// What a configuration names, read and compiled, with the zones settled: which are new, which stay
/// as they were, and which are out.
pub(super) struct Gathered {
    pub(super) state: State,
    pub(super) loaded: Loaded,
    pub(super) pages: Pages,
    pub(super) isolates: Option<isolate::deploy::Plan>,
    /// The files that are watched, before they were read.
    pub(super) sight: Sight,
    fleet: fleet::Plan,
    /// The zones, and one for each far end.
    with_far_ends: Zones,
}

/// A configuration that can be put into force.
pub(super) struct Prepared {
    gathered: Gathered,
    tls: tls::front::Plan,
    quic: Option<quic::Plan>,
}

/// Reads all that `config` names, for `rooms`. Nothing in force is changed.
///
/// # Errors
/// Every mistake there is, of all rooms: those of the node, and those of zones that may not stand
/// aside.
pub(super) fn gather(mut config: Config, rooms: &Rooms<'_>) -> Result<Gathered, Mistakes> {
    let mut faults = std::mem::take(&mut config.faults);
    let key_servers = rooms.before.as_ref().map(|before| before.key_servers);
    let sight = Sight::before_reading(watch::files(&config));
    for file in watch::key_files(&config) {
        // It was read with the configuration, before anybody looked; what is wrong by now is told
        // when it has settled.
        let _ = file.read_again();
    }
    let mut loaded = certificates::gather(&config.zones, &config.key_servers, key_servers, &mut faults);
    let pages = pages(&config.zones, &mut faults);
    let with_far_ends = delta::with_far_ends(&config);
    let mut of_fleet = Faults::default();
    let mut fleet = rooms.fleet.gather(&with_far_ends, &mut of_fleet);
    let lost = delta::attribute(&config, of_fleet, &mut faults);
    let isolates = rooms.isolates.map(|isolates| isolates.plan(&config.zones, &mut faults));

    let state = State::settle(config, faults, rooms.before.as_ref().map(|before| before.state))?;
    let keeps = |zone: &str| state.keeps(zone) || lost.contains(zone);
    let snapshot = rooms.before.as_ref().map(|before| before.certificates);
    loaded.settle(&state.config.zones, snapshot, |zone| state.keeps(zone));
    rooms.fleet.settle(&mut fleet, keeps, |zone| state.is_out(zone));
    loaded.warnings.extend(state.config.warnings.iter().cloned());
    Ok(Gathered {
        with_far_ends: delta::with_far_ends(&state.config),
        state,
        loaded,
        pages,
        isolates,
        sight,
        fleet,
    })
}

/// What a start needs beside the files that zones name: the secret, and directories that it will
/// write to. Nothing is made.
///
/// # Errors
/// The mistakes.
fn grounds(config: &Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    mistakes.extend(sealed::check(&config.gate, gates::lasting(config)).err());
    mistakes.extend(super::fleet::check(config));
    mistakes.extend(access::check(&config.log).err());
    mistakes.extend(isolates::check_directory(config).err());
    mistakes.extend(super::cache::check_directory(config).err());
    mistakes
}

/// Checks what a start would check before it binds or attaches anything, and gives the warnings. A
/// mistake of one zone is an error here, whatever `zones_fail` says.
///
/// # Errors
/// The mistakes, all of them.
pub(super) fn check(mut config: Config) -> anyhow::Result<Vec<Mistake>> {
    for mistake in grounds(&config) {
        config.faults.node(mistake);
    }
    if let Err(error) = Lists::check(&config.dataplane) {
        let mend = "write a file in the MaxMind DB format (.mmdb)";
        let mistake = config.lists_place.mistake(error.to_string(), mend);
        config.faults.node(mistake);
    }
    let mut faults = std::mem::take(&mut config.faults);
    isolates::try_files(&config, &mut faults);
    config.faults = faults;
    config.server.zones_fail = ZonesFail::Together;
    let mut registry = Registry::default();
    let fleet = Fleet::empty(origin::Metrics::register(&mut registry));
    let Gathered { state, loaded, .. } = gather(config, &Rooms::empty(&fleet, None))?;
    let warnings = loaded.warnings.clone();
    let tokens = sealed::throwaway(&state.config.gate, UnixTime::now()).map_err(|mistake| Mistakes(vec![mistake]))?;
    tls::Front::new(
        state.config.serving(),
        loaded,
        tokens,
        None,
        Arc::new(Lists::none()),
        &mut registry,
    )?;
    Ok(warnings)
}

/// What a start reads, with the directories and the secret that only a start needs.
///
/// # Errors
/// As [`gather`].
pub(super) fn gather_first(mut config: Config, rooms: &Rooms<'_>) -> Result<Gathered, Mistakes> {
    for mistake in grounds(&config) {
        config.faults.node(mistake);
    }
    gather(config, rooms)
}

impl Gathered {
    /// Tells the operator what works but will not be meant so, and which zones do not work.
    pub(super) fn tell(&self) {
        for warning in &self.loaded.warnings {
            tracing::warn!(target: "edge::tls", "{warning}");
        }
        self.state.tell();
    }

    /// The fleet's part, which does not need the other rooms.
    pub(super) fn install_fleet(&mut self, fleet: &Fleet, near: &crate::delta::near::Shared) {
        fleet.install(std::mem::take(&mut self.fleet));
        delta::install(near, &self.state.config, &self.with_far_ends);
    }

    /// The zones as requests see them.
    pub(super) fn zones(&self) -> Zones {
        Zones::without(&self.state.config.zones, |zone| self.state.is_out(zone))
    }
}

impl Node {
    /// SIGHUP: puts the file into force, all of it or nothing.
    pub(super) fn reload(&self) {
        let Ok(_turn) = self.changes.clone().try_lock_owned() else {
            tracing::info!("a manifest is being put into force; the reload follows");
            self.reload_asked.store(true, Ordering::Release);
            return;
        };
        service::notify_reloading();
        let reloaded = self.overrides.configuration().map_err(anyhow::Error::from);
        match reloaded.and_then(|new| Ok(self.prepare(new)?)) {
            Ok(prepared) => {
                self.install(prepared);
                let zones = self.state.load().config.zones.len();
                tracing::info!(file = %self.overrides.config.display(), zones, "reloaded");
            }
            Err(error) => {
                self.metrics.reload(false);
                for line in format!("{error:#}").lines() {
                    tracing::error!("not reloaded: {line}");
                }
            }
        }
        service::notify_ready();
    }

    /// Reads, compiles and checks everything that `new` asks for; changes nothing.
    ///
    /// # Errors
    /// Every mistake that was found.
    pub(super) fn prepare(&self, mut new: Config) -> Result<Prepared, Mistakes> {
        // What exists stays: the kernel judges the ports that are open, whatever ports the file
        // names.
        let ports = self.open.ports();
        new.dataplane.tcp_ports = ports.tcp;
        new.dataplane.udp_ports = ports.udp;
        if let Err(error) = self.listed.fits(&new.dataplane) {
            let text = error.to_string();
            let (what, mend) = text.split_once("; ").unwrap_or((&text, ""));
            new.faults.node(new.lists_place.mistake(what, mend));
        }
        let (state, certificates, key_servers) = (
            self.state.load_full(),
            self.front.certificates().snapshot(),
            self.front.key_servers(),
        );
        let rooms = Rooms {
            fleet: &self.fleet,
            isolates: self.isolates.as_deref(),
            before: Some(Before {
                state: &state,
                certificates: &certificates,
                key_servers: &key_servers,
            }),
        };
        let mut gathered = gather(new, &rooms)?;
        let loaded = std::mem::take(&mut gathered.loaded);
        gathered.loaded.warnings.clone_from(&loaded.warnings);
        let ours = |error: &dyn std::fmt::Display| {
            let whole = Place::whole(&self.overrides.config);
            Mistakes(vec![whole.mistake(
                error.to_string(),
                "this is a defect of edge; report it with the file",
            )])
        };
        let config = &gathered.state.config;
        let tls = self
            .front
            .plan(config.serving(), loaded)
            .map_err(|error| ours(&error))?;
        let quic = self
            .quic
            .as_ref()
            .map(|quic| quic.plan(config.serving(), &self.front, &tls));
        let quic = quic.transpose().map_err(|error| ours(&error))?;
        Ok(Prepared { gathered, tls, quic })
    }

    /// Puts `prepared` into force. What cannot be written into the kernel now is tried again, and
    /// told.
    pub(super) fn install(&self, prepared: Prepared) {
        let Prepared {
            mut gathered,
            tls,
            quic,
        } = prepared;
        for key in self.fixed.fixed.that_differ(&gathered.state.config.fixed) {
            tracing::warn!("{key} is not what the node was started with; that takes a restart");
        }
        for room in self.not_started(&gathered.state.config) {
            tracing::warn!("{room} appeared for the first time; that takes a restart");
        }
        gathered.tell();
        let config = &gathered.state.config;
        self.lists.install(&self.listed, &config.dataplane);
        self.front.install(tls);
        if let (Some(front), Some(plan)) = (&self.quic, quic) {
            front.install(plan);
        }
        if let Some(lockdowns) = &self.lockdowns {
            lockdowns.reload(config);
        }
        if let Some(gates) = &self.gates {
            let pages = std::mem::take(&mut gathered.pages);
            gates
                .gate
                .install(&config.zones, pages, |zone| gathered.state.keeps(zone));
        }
        gathered.install_fleet(&self.fleet, &self.near);
        if let (Some(isolates), Some(plan)) = (&self.isolates, gathered.isolates.take()) {
            let state = &gathered.state;
            isolates.install(plan, |zone| state.keeps(zone), |zone| state.is_out(zone));
        }
        self.zones.store(Arc::new(gathered.zones()));
        let config = &gathered.state.config;
        let limits = &config.limits;
        self.ledger.adjust(limits.memory, limits.memory_per_address);
        self.ledger.trust(config.server.trusted().to_vec());
        self.http
            .reload(config.serving(), &self.open.advertised(&config.server));
        self.redirect.adjust(config.server.redirect_port);
        self.logs.apply(&config.log);
        self.metrics.reload(true);
        self.metrics.zones(&gathered.state);
        self.watched.watch(gathered.sight);
        self.state.store(Arc::new(gathered.state));
    }

    /// Whether `file` holds a certificate or key of a zone that is out of service.
    pub(super) fn of_zone_out(&self, file: &std::path::PathBuf) -> bool {
        let state = self.state.load();
        let mut out = state.config.zones.iter().filter(|zone| state.is_out(&zone.name));
        out.any(|zone| watch::of(zone).contains(file))
    }

    /// Rooms that the file asks for and that were not made at the start.
    fn not_started(&self, new: &Config) -> BTreeSet<&'static str> {
        let rooms = [
            ("[zone.gate]", self.gates.is_none() && gates::wanted(new)),
            ("[zone.cache]", self.cache.is_none() && super::cache::wanted(new)),
            ("[zone.worker]", self.isolates.is_none() && isolates::wanted(new)),
        ];
        rooms
            .into_iter()
            .filter_map(|(room, missing)| missing.then_some(room))
            .collect()
    }

    /// Loads certificates and keys anew, of the configuration in force: a renewal takes effect
    /// without a reload. A zone whose files cannot be used keeps what it has. Holds `_turn` of
    /// `changes` as long as it takes.
    pub(super) fn renew(&self, _turn: OwnedMutexGuard<()>) {
        let state = self.state.load();
        let before = self.front.certificates().snapshot();
        let mut faults = Faults::default();
        let mut loaded = certificates::gather(
            &state.config.zones,
            &state.config.key_servers,
            Some(&self.front.key_servers()),
            &mut faults,
        );
        loaded.settle(&state.config.zones, Some(&before), |zone| {
            faults.has(zone) || state.is_out(zone)
        });
        for mistake in faults.of_node().iter().chain(faults.of_zones().values().flatten()) {
            tracing::error!(target: "edge::tls", "not renewed: {mistake}");
        }
        for warning in &loaded.warnings {
            tracing::warn!(target: "edge::tls", "{warning}");
        }
        let planned = self
            .front
            .plan(state.config.serving(), loaded)
            .map_err(anyhow::Error::from);
        let planned = planned.and_then(|tls| {
            let quic = self
                .quic
                .as_ref()
                .map(|quic| quic.plan(state.config.serving(), &self.front, &tls));
            Ok((tls, quic.transpose()?))
        });
        match planned {
            Ok((tls, quic)) => {
                self.front.install(tls);
                if let (Some(front), Some(plan)) = (&self.quic, quic) {
                    front.install(plan);
                }
                tracing::info!(target: "edge::tls", "certificates were changed and are read again");
            }
            Err(error) => {
                tracing::error!(target: "edge::tls", "certificates were changed and cannot be used: {error:#}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
