//! From a file to what answers: compile once, check, link, activate; on any mistake the old one
//! keeps serving. Requests under way end on the version they began with.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::component::Component;

use super::artifact::{self, Sound};
use super::compile;
use super::component::Proxied;
use super::deployment::{Active, Deployment, Rollout};
use super::engine::{self, Mapped, Rest};
use super::error::Error;
use super::isolates::Isolates;
use super::js::Script;
use super::keyvalue::Vault;
use super::kind::Kind;
use super::metrics::{Metrics, Summary};
use super::program::Program;
use super::secrets;
use super::slots::Slots;
use super::tenant::Tenant;
use super::trial::Standing;
use super::versions::{self, Aim, Returned, Version, Versions};
use crate::base::clock::UnixTime;
use crate::base::digest::Digest;
use crate::base::file;
use crate::base::ledger::Ledger;
use crate::config::isolate::Keyvalue;
use crate::config::{self, Faults, Place};
use crate::gate::token::ClientId;
use crate::zones::Current;

/// What was checked and can be put into force.
pub struct Plan {
    deployments: HashMap<Arc<str>, Arc<Deployment>>,
    changes: Vec<Change>,
}

struct Change {
    deployment: Arc<Deployment>,
    /// What answers from now on; `None`: what does already.
    active: Option<Active>,
    slots: (usize, usize),
    /// The zone's store, and its limits from now on.
    vault: Option<(Arc<Vault>, Keyvalue)>,
}

/// What `edge worker deploy` and `rollback` did.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Deployed {
    /// The zone.
    pub zone: String,
    /// The version that answers now.
    pub version: Version,
    /// The percent of the clients that get it, if it was or is on trial.
    #[serde(default)]
    pub percent: Option<u8>,
    /// The host of its preview, if it was deployed for one.
    #[serde(default)]
    pub preview: Option<String>,
}

/// A zone's worker, for `/status` and `edge worker list`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// The zone.
    pub zone: String,
    /// The version that answers; 0: a file of the configuration; `None`: nothing was deployed yet.
    pub active: Option<u64>,
    /// SHA-256 of what answers, hexadecimal.
    pub digest: Option<String>,
    /// What it is.
    pub kind: Option<Kind>,
    /// Its versions, the oldest first.
    pub versions: Vec<Version>,
    /// The version on trial.
    #[serde(default)]
    pub rollout: Option<Standing>,
    /// The last version that was taken back by itself.
    #[serde(default)]
    pub returned: Option<Returned>,
    /// Its figures since the node started.
    pub figures: Summary,
}

/// A program, and what making it took.
pub(super) struct Loaded {
    pub(super) program: Arc<dyn Program>,
    pub(super) code: Arc<dyn Rest>,
    kind: Kind,
    compiled: Duration,
}

/// A directory of this process alone, which goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Error> {
        let name = format!("edge-check-{}-{:016x}", std::process::id(), ClientId::fresh().0);
        let path = std::env::temp_dir().join(name);
        artifact::directory(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    file::plain(path, file::MOST).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn faulty(faults: &mut Faults, zone: &config::Zone, place: &Place, error: Option<Error>) {
    if let Some(error) = error {
        faults.zone(&zone.name, error.mistake(place));
    }
}

impl Isolates {
    /// Compiles and links the workers that the file names, in a directory of its own that goes
    /// afterwards. What cannot be used is told among the faults. Blocks, for as long as compiling
    /// takes.
    pub fn try_files(zones: &[config::Zone], config: &config::isolate::Node, ledger: &Ledger, faults: &mut Faults) {
        let scratch = Scratch::new();
        let trial = scratch.as_ref().map_err(ToString::to_string).and_then(|scratch| {
            let mut config = config.clone();
            config.state_directory.clone_from(&scratch.0);
            config.instances = 16;
            Self::new(&config, 1, Current::default(), Metrics::default(), ledger).map_err(|error| error.to_string())
        });
        let trial = match trial {
            Ok(trial) => trial,
            Err(what) => {
                return faults.node(config.place.mistake(what, "let edge write to the temporary directory"));
            }
        };
        for zone in zones {
            let Some((path, place)) = zone.worker.as_ref().and_then(|worker| worker.file.as_ref()) else {
                continue;
            };
            let loaded = read(path).and_then(|bytes| trial.load(&bytes, Digest::of(&bytes)));
            faulty(faults, zone, place, loaded.err());
        }
    }

    /// Checks what `zones` want: opens their stores, reads, compiles and links their workers.
    /// Blocks, for as long as compiling what is new takes. What was deployed before and cannot be
    /// loaded any more is logged; its zone has no worker then. A zone whose file is not a worker,
    /// or whose store cannot be opened, is told among the faults. Nothing that answers now is
    /// changed.
    pub fn plan(&self, zones: &[config::Zone], faults: &mut Faults) -> Plan {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.deployments.load();
        let mut plan = Plan {
            deployments: HashMap::new(),
            changes: Vec::new(),
        };
        for zone in zones {
            let Some(worker) = &zone.worker else { continue };
            let deployment = match old.get(&zone.name) {
                Some(deployment) => deployment.clone(),
                None => {
                    let tenant = Tenant::new(
                        zone.name.clone(),
                        &worker.limits,
                        self.turns,
                        self.memory.clone(),
                        &self.metrics,
                    );
                    match secrets::read(&self.config.state_directory, &zone.name) {
                        Ok(secrets) => tenant.secrets.store(Arc::new(secrets)),
                        Err(error) => {
                            faulty(faults, zone, &zone.place, Some(error));
                            continue;
                        }
                    }
                    Deployment::new(tenant)
                }
            };
            let active = match &worker.file {
                Some((path, _)) => self.configured(&deployment, path),
                None => Ok(self.deployed(&deployment)),
            };
            let vault = worker.keyvalue.as_ref();
            let vault = vault.map(|limits| self.vault(&deployment.tenant, limits));
            let (active, vault) = match (active, vault.transpose()) {
                (Ok(active), Ok(vault)) => (active, vault),
                (active, vault) => {
                    let of_file = worker.file.as_ref().map_or(&zone.place, |(_, place)| place);
                    faulty(faults, zone, of_file, active.err());
                    faulty(faults, zone, &zone.place, vault.err());
                    continue;
                }
            };
            plan.changes.push(Change {
                deployment: deployment.clone(),
                active,
                slots: (worker.limits.concurrency, worker.limits.nested),
                vault,
            });
            plan.deployments.insert(zone.name.clone(), deployment);
        }
        plan
    }

    /// The zone's store, opened if it is not yet.
    fn vault(&self, tenant: &Tenant, limits: &Keyvalue) -> Result<(Arc<Vault>, Keyvalue), Error> {
        let vault = match tenant.vault.load_full() {
            Some(vault) => vault,
            None => {
                let directory = self.config.state_directory.join("stored");
                artifact::directory(&directory)?;
                let path = directory.join(format!("{}.redb", tenant.name));
                Arc::new(Vault::open(&path, &tenant.name, limits.clone())?)
            }
        };
        Ok((vault, limits.clone()))
    }

    /// Puts `plan` into force. A zone for which `keeps` holds stays as it is; one for which `out`
    /// holds has no worker.
    pub fn install(&self, mut plan: Plan, keeps: impl Fn(&str) -> bool, out: impl Fn(&str) -> bool) {
        plan.deployments.retain(|zone, _| !out(zone));
        for (zone, deployment) in self.deployments.load().iter().filter(|(zone, _)| keeps(zone)) {
            plan.deployments.insert(zone.clone(), deployment.clone());
        }
        for change in plan.changes {
            let (deployment, tenant) = (&change.deployment, &change.deployment.tenant);
            if keeps(&tenant.name) || out(&tenant.name) {
                continue;
            }
            if let Some(active) = change.active {
                deployment.active.store(Some(Arc::new(active)));
            }
            if let Some((vault, limits)) = &change.vault {
                vault.adjust(limits.clone());
            }
            tenant.vault.store(change.vault.map(|(vault, _)| vault));
            if tenant.slots.load().size() != change.slots {
                let (outer, nested) = change.slots;
                tenant.slots.store(Arc::new(Slots::new(outer, nested)));
            }
        }
        self.shares().among(plan.deployments.len());
        self.memory.among(plan.deployments.len());
        self.deployments.store(Arc::new(plan.deployments));
        self.prune();
    }

    /// Compiles and links `bytes` as [`Isolates::deploy`] would, and leaves everything as it is.
    /// What earlier checks compiled goes. Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Compile`], with the reason.
    pub fn check(&self, bytes: &[u8]) -> Result<Kind, Error> {
        self.prune();
        Ok(self.load(bytes, Digest::of(bytes))?.kind)
    }

    fn configured(&self, deployment: &Deployment, path: &Path) -> Result<Option<Active>, Error> {
        let bytes = read(path)?;
        let digest = Digest::of(&bytes);
        let same = |active: &Arc<Active>| active.version == 0 && active.digest == digest.to_string();
        if deployment.active.load().as_ref().is_some_and(same) {
            return Ok(None);
        }
        let loaded = self.load(&bytes, digest)?;
        deployment.tenant.counts.compiled(loaded.compiled);
        Ok(Some(Active::new(loaded.program, loaded.code, 0, digest.to_string())))
    }

    fn deployed(&self, deployment: &Deployment) -> Option<Active> {
        let active = deployment.active.load();
        if active.as_ref().is_some_and(|active| active.version > 0) || !deployment.previews.load().is_empty() {
            return None;
        }
        let zone = &deployment.tenant.name;
        match self.stored(zone) {
            Ok(active) => {
                self.resume(deployment);
                active
            }
            Err(error) => {
                tracing::error!(target: "edge::isolate", %zone, %error, "the zone has no worker now");
                None
            }
        }
    }

    /// What was active when the node last ran.
    fn stored(&self, zone: &str) -> Result<Option<Active>, Error> {
        let directory = self.directory(zone);
        let versions = Versions::read(&directory)?;
        let Some(version) = versions.current() else {
            return Ok(None);
        };
        let loaded = self.load_version(&directory, version)?;
        let digest = version.digest.clone();
        Ok(Some(Active::new(loaded.program, loaded.code, version.number, digest)))
    }

    /// The trial that was under way when the node last ran. One that cannot be loaded is logged,
    /// and everybody gets the active version.
    fn resume(&self, deployment: &Deployment) {
        let zone = &deployment.tenant.name;
        let directory = self.directory(zone);
        let resumed = Versions::read(&directory).and_then(|versions| {
            self.resume_previews(deployment, &versions);
            let Some((number, percent)) = versions.rollout else {
                return Ok(());
            };
            let Some(version) = versions.find(number) else {
                return Ok(());
            };
            let loaded = self.load_version(&directory, version)?;
            self.try_out(deployment, loaded, (number, version.digest.clone()), percent);
            Ok(())
        });
        if let Err(error) = resumed {
            tracing::error!(target: "edge::isolate", %zone, %error, "the version on trial is out");
        }
    }

    pub(super) fn load_version(&self, directory: &Path, version: &Version) -> Result<Loaded, Error> {
        let path = versions::file(directory, &version.digest);
        let bytes = std::fs::read(&path).map_err(artifact::failed(&path, "the worker cannot be read"))?;
        let digest = Digest::of(&bytes);
        if digest.to_string() != version.digest {
            return Err(Error::Tampered(path));
        }
        self.load(&bytes, digest)
    }

    fn load(&self, bytes: &[u8], digest: Digest) -> Result<Loaded, Error> {
        if bytes.len() as u64 > self.config.worker_bytes {
            let what = format!(
                "it is longer than [isolate] worker_bytes, {} bytes",
                self.config.worker_bytes
            );
            return Err(Error::Refused(what));
        }
        let kind = compile::kind(bytes)?;
        let mut compiled = Duration::ZERO;
        let code = match self.artifacts.read(digest, kind)? {
            Some(code) => code,
            None => {
                let began = Instant::now();
                let code = match kind {
                    Kind::Component => compile::compile(bytes, kind, &self.config)?,
                    Kind::Script => compile::compile(&self.scripts.to_compile(self, bytes)?, kind, &self.config)?,
                };
                compiled = began.elapsed();
                self.artifacts.write(digest, kind, &code)?;
                let none = || Error::Compile("left no code".to_owned());
                self.artifacts.read(digest, kind)?.ok_or_else(none)?
            }
        };
        let (program, code): (Arc<dyn Program>, Arc<dyn Rest>) = match kind {
            Kind::Component => {
                let component = self.component(digest, &code)?;
                let program = Proxied::new(self.engine(), &self.linker, component.code())?;
                (Arc::new(program), component)
            }
            Kind::Script => {
                let image = engine::map_module(self.engine(), &code)?;
                let shared = self.scripts.shared(self)?;
                let program = Script::new(self.engine().clone(), shared, image.code().clone())?;
                (Arc::new(program), Arc::new(image))
            }
        };
        Ok(Loaded {
            program,
            code,
            kind,
            compiled,
        })
    }

    fn component(&self, digest: Digest, code: &Sound) -> Result<Arc<Mapped<Component>>, Error> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = mapped.get(&digest).and_then(Weak::upgrade) {
            return Ok(component);
        }
        let component = engine::map(self.engine(), code)?;
        let component = Arc::new(component);
        mapped.retain(|_, component| component.strong_count() > 0);
        mapped.insert(digest, Arc::downgrade(&component));
        Ok(component)
    }

    pub(super) fn directory(&self, zone: &str) -> PathBuf {
        // A zone may be called "..".
        self.config.state_directory.join("zones").join(format!("zone-{zone}"))
    }

    /// That of a zone whose worker is deployed and not a file of the configuration.
    pub(super) fn deployable(&self, zone: &str) -> Result<Arc<Deployment>, Error> {
        let deployment = self.deployment(zone).ok_or_else(|| Error::NoWorker(zone.to_owned()))?;
        let zones = self.zones().load();
        let known = zones.all().iter().find(|known| *known.name == *zone);
        match known.and_then(|zone| zone.worker.as_ref()) {
            None => Err(Error::NoWorker(zone.to_owned())),
            Some(worker) if worker.file.is_some() => Err(Error::FromFile(zone.to_owned())),
            Some(_) => Ok(deployment),
        }
    }

    /// Makes `bytes` the worker of `zone`, or of those of its clients that `aim` names. A trial is
    /// none if the zone has no other worker yet. Blocks while it is compiled.
    ///
    /// # Errors
    /// Why not, for who deploys; the old one keeps serving then.
    pub fn deploy(&self, zone: &str, bytes: &[u8], aim: Aim) -> Result<Deployed, Error> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let deployment = self.deployable(zone)?;
        let digest = Digest::of(bytes);
        let loaded = self.load(bytes, digest)?;
        let directory = self.directory(zone);
        let mut versions = Versions::read(&directory)?;
        let version = Version {
            number: 0,
            digest: digest.to_string(),
            kind: loaded.kind,
            bytes: bytes.len() as u64,
            at: UnixTime::now().millis(),
            compile_ms: u64::try_from(loaded.compiled.as_millis()).unwrap_or(u64::MAX),
        };
        let preview = self.preview_host(zone, &version);
        let aim = match aim {
            Aim::Preview if preview.is_none() => return Err(Error::NoPreviews(zone.to_owned())),
            // There is nothing to go back to.
            Aim::Percent(_) if deployment.active.load().is_none() => Aim::All,
            Aim::Percent(percent) if !(1..100).contains(&percent) => Aim::All,
            aim => aim,
        };
        let number = versions.add(version, self.config.versions, aim);
        versions.write(&directory, Some(bytes))?;
        deployment.tenant.counts.compiled(loaded.compiled);
        let version = versions.find(number).cloned();
        let version = version.ok_or_else(|| Error::Refused("it was removed at once".to_owned()))?;
        deployment.keep_previews(&versions);
        let (mut percent, mut host) = (None, None);
        match aim {
            Aim::All => self.activate(&deployment, loaded, number, digest.to_string()),
            Aim::Percent(share) => {
                self.try_out(&deployment, loaded, (number, digest.to_string()), share);
                percent = Some(share);
            }
            Aim::Preview => {
                deployment.add_preview(&version, loaded);
                host = preview;
            }
        }
        self.prune();
        Ok(Deployed {
            zone: zone.to_owned(),
            version,
            percent,
            preview: host,
        })
    }

    /// Makes version `number` of `zone` the active one again; without a number, the one before, or,
    /// if a version is on trial, the active one for all.
    ///
    /// # Errors
    /// There is none, or it cannot be loaded any more; the active one keeps serving then.
    pub fn rollback(&self, zone: &str, number: Option<u64>) -> Result<Deployed, Error> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let deployment = self.deployable(zone)?;
        let directory = self.directory(zone);
        let mut versions = Versions::read(&directory)?;
        let found = match number {
            Some(number) => versions.find(number),
            None if versions.rollout.is_some() => versions.current(),
            None => versions.previous(),
        };
        let version = found.cloned().ok_or_else(|| Error::NoVersion {
            zone: zone.to_owned(),
            version: number.map_or_else(|| "before the active one".to_owned(), |n| n.to_string()),
        })?;
        let loaded = self.load_version(&directory, &version)?;
        versions.active = version.number;
        versions.rollout = None;
        versions.write(&directory, None)?;
        self.activate(&deployment, loaded, version.number, version.digest.clone());
        Ok(Deployed {
            zone: zone.to_owned(),
            version,
            percent: None,
            preview: None,
        })
    }

    /// Every zone that has a worker, by name.
    pub fn status(&self) -> Vec<Status> {
        let deployments = self.deployments.load();
        let mut all: Vec<Status> = deployments.values().map(|deployment| self.one(deployment)).collect();
        all.sort_by(|a, b| a.zone.cmp(&b.zone));
        all
    }

    fn one(&self, deployment: &Deployment) -> Status {
        let tenant = &deployment.tenant;
        let active = deployment.active.load();
        let active = active.as_ref();
        // A list that cannot be read is said to who deploys next.
        let versions = Versions::read(&self.directory(&tenant.name)).unwrap_or_default();
        Status {
            zone: tenant.name.to_string(),
            active: active.map(|active| active.version),
            digest: active.map(|active| active.digest.clone()),
            kind: active.map(|active| active.program.kind()),
            versions: versions.all,
            rollout: deployment.standing(),
            returned: versions.returned,
            figures: tenant.summary(),
        }
    }

    /// Gives a version to some percent of the clients.
    pub(super) fn try_out(
        &self,
        deployment: &Deployment,
        loaded: Loaded,
        (version, digest): (u64, String),
        percent: u8,
    ) {
        tracing::info!(target: "edge::isolate", zone = %deployment.tenant.name, version, digest, percent, "on trial");
        let active = Active::new(loaded.program, loaded.code, version, digest);
        deployment.rollout.store(Some(Arc::new(Rollout::new(active, percent))));
    }

    /// Gives a version to all clients, and ends a trial.
    pub(super) fn activate(&self, deployment: &Deployment, loaded: Loaded, version: u64, digest: String) {
        tracing::info!(target: "edge::isolate", zone = %deployment.tenant.name, version, digest, "activated");
        let active = Active::new(loaded.program, loaded.code, version, digest);
        deployment.active.store(Some(Arc::new(active)));
        deployment.rollout.store(None);
    }

    /// Removes compiled code that no version of any zone wants.
    fn prune(&self) {
        let mut wanted: HashSet<String> = self.scripts.digests().collect();
        for deployment in self.deployments.load().values() {
            if let Some(active) = deployment.active.load().as_ref() {
                wanted.insert(active.digest.clone());
            }
            let Ok(versions) = Versions::read(&self.directory(&deployment.tenant.name)) else {
                return;
            };
            wanted.extend(versions.all.into_iter().map(|version| version.digest));
        }
        self.artifacts.prune(&wanted);
    }
}
