//! What operators see and do through the admin endpoint.

use std::sync::atomic::Ordering;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::Node;
use super::gates::Gates;
use super::lockdown::Lockdowns;
use super::workers;
use crate::admin::{self, Control, ControlError, Denial, Denied, Ordered, Penalised, Penalty, Purged, WorkerOrder};
use crate::base::shutdown::Phase;
use crate::config::{Config, LockdownMode};
use crate::dataplane::{self, Added};

impl Node {
    fn lists(&self) -> Result<&dataplane::Lists, ControlError> {
        let dataplane = self.dataplane.as_ref().ok_or_else(|| {
            ControlError("this node runs without XDP; name an interface in [dataplane] and start it again".to_owned())
        })?;
        Ok(dataplane.lists())
    }
}

impl Node {
    fn gates(&self) -> Result<&Gates, ControlError> {
        self.gates.as_ref().ok_or_else(|| {
            ControlError("no zone has a gate; write [[zone.gate.rule]] and start the node again".to_owned())
        })
    }
}

impl Control for Node {
    fn status(&self) -> Value {
        let config = self.config.load();
        let interfaces: Vec<Value> = self
            .dataplane
            .iter()
            .flat_map(|d| d.interfaces())
            .map(|i| {
                json!({
                    "name": i.name,
                    "index": i.index,
                    "mode": i.mode.name(),
                    "program_id": i.program_id,
                    "program_tag": format!("{:016x}", i.program_tag),
                    "taken_over": i.taken_over,
                })
            })
            .collect();
        let zones: Vec<Value> = config
            .zones
            .iter()
            .map(|zone| {
                json!({
                    "name": &*zone.name,
                    "hosts": zone.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "default": zone.default,
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "phase": match self.shutdown.phase() {
                Phase::Running => "running",
                Phase::Draining => "draining",
                Phase::Stopped => "stopped",
            },
            "config": self.config_file.display().to_string(),
            "workers": config.server.workers,
            "listeners": { "https": config.server.https, "http": config.server.http },
            "connections": self.front.connections(),
            "xdp": { "attached": !interfaces.is_empty(), "interfaces": interfaces },
            "zones": zones,
            "workers_of_zones": self.isolates.as_ref().map(|isolates| isolates.status()),
            "origins": self.fleet.status(),
        })
    }

    fn worker(&self, order: WorkerOrder) -> Ordered<'_> {
        Box::pin(workers::order(self, order))
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn denied(&self) -> Result<Vec<Denied>, ControlError> {
        let list = self.lists()?.list().map_err(words)?;
        let entry = |d: dataplane::Denied| Denied {
            network: d.network,
            file: d.configured,
            operator: d.runtime,
            allowed: d.allowed,
        };
        Ok(list.into_iter().map(entry).collect())
    }

    fn deny(&self, network: IpNet) -> Result<Denial, ControlError> {
        let added = self.lists()?.add(network).map_err(words)?;
        tracing::info!(target: "edge::dataplane", %network, "denied by the operator");
        Ok(match added {
            Added::Denied => Denial::Denied,
            Added::Already => Denial::Already,
            Added::Allowed => Denial::Allowed,
        })
    }

    fn lift(&self, network: IpNet) -> Result<(), ControlError> {
        self.lists()?.delete(network).map_err(words)?;
        tracing::info!(target: "edge::dataplane", %network, "lifted by the operator");
        Ok(())
    }

    fn penalties(&self) -> Result<Vec<Penalty>, ControlError> {
        Ok(self.gates()?.penalties())
    }

    fn penalise(&self, penalty: &Penalty) -> Result<(), ControlError> {
        if !self.gates()?.penalise(penalty) {
            return Err(ControlError(
                "too many penalties were added already; lift some".to_owned(),
            ));
        }
        tracing::info!(target: "edge::gate", subject = %penalty.subject, seconds = penalty.seconds, "penalised by the operator");
        Ok(())
    }

    fn forgive(&self, subject: Penalised) -> Result<(), ControlError> {
        if !self.gates()?.forgive(subject) {
            return Err(ControlError(format!("no penalty is in force against {subject}")));
        }
        tracing::info!(target: "edge::gate", %subject, "forgiven by the operator");
        Ok(())
    }

    fn purge(&self, what: &Purged) -> Result<(), ControlError> {
        super::cache::purge(self.cache.as_ref(), &self.zones.load(), what)?;
        tracing::info!(target: "edge::cache", %what, "purged by the operator");
        Ok(())
    }
    fn leave(&self) -> Result<(), ControlError> {
        if self.shutdown.phase() == Phase::Running {
            return Err(ControlError(
                "this node runs; send it SIGTERM before another takes its place".to_owned(),
            ));
        }
        tracing::info!(target: "edge::admin", "another daemon takes the control endpoint");
        self.endpoint.advance(Phase::Stopped);
        Ok(())
    }

    fn lockdown(&self) -> Result<admin::Lockdown, ControlError> {
        Ok(self.lockdowns()?.status(self.dataplane.is_some()))
    }

    fn lock_down(&self, mode: LockdownMode) -> Result<admin::Lockdown, ControlError> {
        self.lockdowns()?.order(mode, self.dataplane.as_ref()).map_err(words)?;
        self.lockdown()
    }
}

impl Node {
    fn lockdowns(&self) -> Result<&Lockdowns, ControlError> {
        self.lockdowns.as_ref().ok_or_else(|| {
            ControlError(
                "this node speaks no QUIC; write [server] http3 = true and https, and start it again".to_owned(),
            )
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn words(error: dataplane::Error) -> ControlError {
    ControlError(error.to_string())
}

/// Keys whose change a reload does not carry out.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut changed = |key, is: bool| {
        if is {
            keys.push(key);
        }
    };
    changed("server.https", old.server.https != new.server.https);
    changed("server.http", old.server.http != new.server.http);
    changed("server.workers", old.server.workers != new.server.workers);
    changed(
        "dataplane.interfaces",
        old.dataplane.interfaces != new.dataplane.interfaces,
    );
    changed("dataplane.xdp", old.dataplane.mode != new.dataplane.mode);
    changed(
        "dataplane.pin_directory",
        old.dataplane.pin_directory != new.dataplane.pin_directory,
    );
    changed(
        "dataplane.deny_entries",
        old.dataplane.deny_entries != new.dataplane.deny_entries,
    );
    changed(
        "dataplane.penalty_entries",
        old.dataplane.penalty_entries != new.dataplane.penalty_entries,
    );
    changed("admin.listen", old.admin.listen != new.admin.listen);
    changed("delta", old.delta != new.delta);
    changed("gate", old.gate != new.gate);
    changed("cache", old.cache != new.cache);
    changed("coding", old.coding != new.coding);
    changed("isolate", old.isolate != new.isolate);
    changed("log.format", old.log.format != new.log.format);
    keys
}
