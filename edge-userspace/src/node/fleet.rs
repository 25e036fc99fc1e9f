//! The node's part in a fleet: its agent, and what a manifest and an event do to the node.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;

use super::Node;
use crate::admin::{Control, ControlError, Penalty, Purged};
use crate::base::clock::UnixTime;
use crate::base::penalty::{Level, Subject};
use crate::config::{self, Config, Mistake};
use crate::fleet::agent::{Agent, Host, Install, Settings, View};
use crate::fleet::event::{Action, Order};
use crate::fleet::head::Trust;
use crate::fleet::key::Identity;
use crate::fleet::metrics::Metrics;
use crate::fleet::nats::{Login, Nats, trust};
use crate::fleet::tickets::{self, TicketKey};
use crate::tls::sealing::Common;

/// The longest that an operator may wait for nodes to answer.
const MOST_PATIENCE: Duration = Duration::from_secs(50);
/// The node's key, in the fleet's directory.
pub(crate) const KEY: &str = "node.key";

/// This node's place in its fleet.
pub(super) struct Membership {
    pub(super) agent: Arc<Agent>,
    place: Arc<Seat>,
    metrics: Metrics,
    wait: Duration,
}

/// What the agent acts on: the node, once there is one. What happens before it serves is done when
/// it is.
#[derive(Default)]
struct Seat {
    early: Mutex<Early>,
    /// Keys of session tickets are shared.
    tickets: bool,
}

#[derive(Default)]
struct Early {
    node: Option<Weak<Node>>,
    actions: Vec<Action>,
    void: bool,
}

/// The engine that `fleet` names.
///
/// # Errors
/// What it names and cannot be used.
pub(super) fn engine(fleet: &config::fleet::Fleet) -> Result<Nats, String> {
    let identity = fleet.identity.as_ref();
    let identity = identity.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let tls = trust::tls(fleet.ca.as_deref(), identity)?;
    let login = fleet.login.as_ref().map(|(user, password)| Login::read(user, password));
    let servers = fleet.engine.iter().map(Into::into).collect();
    Ok(Nats::new(&fleet.name, servers, tls, login.transpose()?, fleet.replicas))
}

/// What `fleet` says in the room's own terms.
fn settings(fleet: &config::fleet::Fleet) -> Result<Settings, Mistake> {
    let keys = fleet
        .keys
        .iter()
        .map(|key| key.parse())
        .collect::<Result<Vec<_>, String>>();
    let keys = keys.map_err(|what| fleet.keys_place.mistake(what, "write what `edge fleet keys` printed"))?;
    let identity = Identity::read(&fleet.directory.join(KEY)).map_err(|error| {
        let mend = "make it by `edge fleet join`, and deploy the node that it prints";
        fleet.directory_place.mistake(error.to_string(), mend)
    })?;
    Ok(Settings {
        node: fleet.node.clone(),
        identity: Arc::new(identity),
        trust: Trust {
            fleet: fleet.name.clone(),
            keys,
            threshold: fleet.threshold,
        },
        directory: fleet.directory.clone(),
        most: fleet.most,
    })
}

/// What of `config` keeps a node from taking part.
pub(super) fn check(config: &Config) -> Vec<Mistake> {
    let Some(fleet) = &config.fleet else { return Vec::new() };
    let engine = engine(fleet).map(drop);
    let engine = engine.map_err(|what| fleet.keys_place.mistake(what, "mend or leave out what [fleet] names"));
    [settings(fleet).map(drop), engine]
        .into_iter()
        .filter_map(Result::err)
        .collect()
}

/// Opens what is on the disk, and hears what was issued while the node was away.
///
/// # Errors
/// Mistakes of the file, and the disk.
pub(super) async fn begin(config: &Config) -> anyhow::Result<Option<Membership>> {
    let Some(fleet) = &config.fleet else { return Ok(None) };
    let settings = settings(fleet).map_err(|mistake| config::Mistakes(vec![mistake]))?;
    let engine = engine(fleet).map_err(anyhow::Error::msg)?;
    let place = Arc::new(Seat {
        tickets: fleet.tickets,
        ..Seat::default()
    });
    let metrics = Metrics::default();
    let agent = Agent::open(settings, Arc::new(engine), place.clone(), metrics.clone()).context("[fleet]")?;
    agent.wake(fleet.wait).await;
    Ok(Some(Membership {
        agent,
        place,
        metrics,
        wait: fleet.wait,
    }))
}

impl Membership {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The node is made, and serves nobody yet: what was heard before is done.
    pub(super) fn seat(&self, node: &Arc<Node>) {
        let early = {
            let mut early = self.place.early();
            early.node = Some(Arc::downgrade(node));
            std::mem::take(&mut early.actions)
        };
        if self.place.early().void {
            self.place.void();
        }
        for action in early {
            if let Err(why) = node.apply(&action, false) {
                tracing::warn!(target: "edge::fleet", why, "an event could not be carried out");
            }
        }
        tracing::info!(target: "edge::fleet", counter = self.agent.counter(), waited = ?self.wait, "in a fleet");
    }

    /// Lines for `/readyz`.
    pub(super) fn notes(&self) -> Vec<String> {
        let View {
            connected,
            counter,
            refused,
            ..
        } = self.agent.view();
        let mut notes = Vec::new();
        if !connected {
            notes.push("fleet: the engine is away; what is here goes on".to_owned());
        }
        if let Some((newer, why)) = refused {
            notes.extend(
                why.lines()
                    .map(|line| format!("fleet: manifest {newer} is refused, {counter} stays: {line}")),
            );
        }
        notes
    }
}

impl Seat {
    fn early(&self) -> std::sync::MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.early().node.as_ref().and_then(Weak::upgrade)
    }
}

impl Host for Seat {
    fn prepare(&self, tree: &Path) -> Result<Install, String> {
        let node = self.node().ok_or("the node is about to start or to end")?;
        // One change at a time: a reload in between would put the manifest before this one into
        // force again.
        let turn = node.changes.clone().blocking_lock_owned();
        let config = node
            .overrides
            .configuration_with(tree)
            .map_err(|mistakes| mistakes.to_string())?;
        let prepared = node.prepare(config).map_err(|mistakes| mistakes.to_string())?;
        Ok(Box::new(move || {
            node.install(prepared);
            drop(turn);
            node.reload_if_asked();
        }))
    }

    fn apply(&self, action: &Action, ours: bool) -> Result<(), String> {
        match self.node() {
            Some(node) => node.apply(action, ours),
            None => {
                // As many as the log is read for at a start.
                self.early().actions.push(action.clone());
                Ok(())
            }
        }
    }

    fn ticket_life(&self) -> Option<Duration> {
        let node = self.tickets.then(|| self.node()).flatten()?;
        Some(node.front.sealing().lasts())
    }

    fn share(&self, keys: &[TicketKey]) {
        let Some(node) = self.node() else { return };
        let sealing = node.front.sealing();
        let (seals, opens) = tickets::ends(sealing.lasts());
        let now = UnixTime::now();
        let common = keys.iter().map(|key| {
            // By the clock of its maker, which may be ahead.
            let age = now.since(key.made);
            Common {
                name: key.name,
                secret: key.secret.clone(),
                seals: seals.saturating_sub(age),
                opens: opens.saturating_sub(age),
            }
        });
        sealing.share(common, Instant::now());
        match keys.len() {
            0 => tracing::info!(target: "edge::fleet", "all shared keys of session tickets are forgotten"),
            keys => tracing::info!(target: "edge::fleet", keys, "keys of session tickets are shared with other nodes"),
        }
    }

    fn health(&self) -> (u64, u64) {
        self.node().map_or((0, 0), |node| node.http.answered())
    }

    fn void(&self) {
        match self.node() {
            Some(node) => {
                if let Err(ControlError(why)) = node.purge(&Purged::All { all: true }.into()) {
                    tracing::error!(target: "edge::fleet", why, "what is stored could not be voided");
                }
            }
            None => self.early().void = true,
        }
    }
}

/// What an operator asks of the fleet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    action: Action,
    #[serde(default)]
    order: Option<Order>,
    patience_millis: u64,
}

impl Node {
    /// Carries an event out. What means nothing here (a purge of a zone that this node does not
    /// have) holds already, unless it was issued here: then somebody has mistyped.
    fn apply(&self, action: &Action, ours: bool) -> Result<(), String> {
        let done = match action {
            Action::PurgeUrl(url) => self.purge(&Purged::Url { url: url.clone() }.into()),
            Action::PurgePrefix(prefix) => self.purge(&Purged::Prefix { prefix: prefix.clone() }.into()),
            Action::PurgeTag { zone, tag } => {
                let (zone, tag) = (zone.clone(), tag.clone());
                self.purge(&Purged::Tag { zone, tag }.into())
            }
            Action::PurgeAll => self.purge(&Purged::All { all: true }.into()),
            Action::Penalise {
                subject,
                blocked,
                until,
            } => {
                let subject: Subject = subject.parse()?;
                let left = UnixTime::from_millis(*until).since(UnixTime::now());
                if left.is_zero() {
                    return Ok(());
                }
                self.penalise(&Penalty {
                    subject,
                    level: if *blocked { Level::Blocked } else { Level::Deferred },
                    seconds: left.as_secs().max(1),
                })
            }
            Action::Forgive(subject) => self.forgive(subject.parse()?),
            Action::Deny(network) => self.deny(*network).map(drop),
            Action::Lift(network) => self.lift(*network),
        };
        match done {
            Err(ControlError(why)) if ours => Err(why),
            // Lifting what is not there, and purging what nothing serves.
            Err(ControlError(why))
                if matches!(action, Action::Forgive(_) | Action::Lift(_)) || self.serves_none(action) =>
            {
                tracing::debug!(target: "edge::fleet", why, "an event changes nothing here");
                Ok(())
            }
            Err(ControlError(why)) => Err(why),
            Ok(()) => Ok(()),
        }
    }

    /// Whether an action is about a zone that is not served here.
    fn serves_none(&self, action: &Action) -> bool {
        let zones = self.zones.load();
        match action {
            Action::PurgeUrl(url) | Action::PurgePrefix(url) => {
                let uri = url.parse::<http::Uri>().ok();
                let host = uri.as_ref().and_then(|uri| uri.host());
                host.is_some_and(|host| zones.find(&host.to_ascii_lowercase()).is_none())
            }
            Action::PurgeTag { zone, .. } => !zones.all().iter().any(|served| *served.name == **zone),
            _ => false,
        }
    }

    /// A reload that was asked for while another change was under way.
    pub(super) fn reload_if_asked(&self) {
        if self.reload_asked.swap(false, std::sync::atomic::Ordering::AcqRel) {
            self.reload();
        }
    }

    /// Issues what an operator asks for, and says where it holds.
    pub(super) async fn issue(&self, order: Bytes) -> Result<serde_json::Value, ControlError> {
        let wrong = |error: &dyn std::fmt::Display| ControlError(error.to_string());
        let fleet = self
            .membership
            .as_ref()
            .ok_or_else(|| ControlError("this node is in no fleet; write [fleet] and start it again".to_owned()))?;
        let asked: Asked = serde_json::from_slice(&order).map_err(|error| wrong(&error))?;
        let patience = Duration::from_millis(asked.patience_millis).min(MOST_PATIENCE);
        let report = fleet.agent.issue(asked.action, asked.order, patience).await;
        let report = report.map_err(|error| wrong(&error))?;
        serde_json::to_value(&report).map_err(|error| wrong(&error))
    }
}

/// What changes a node, one after the other.
pub(super) type Changes = Arc<AsyncMutex<()>>;
