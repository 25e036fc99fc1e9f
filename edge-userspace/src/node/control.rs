//! What operators see and do through the admin endpoint.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::Node;
use super::gates::Gates;
use super::isolates;
use super::lockdown::Lockdowns;
use crate::admin::{
    self, Control, ControlError, Denial, Denied, Ordered, OriginOrder, Penalty, PurgeOrder, TopSource, WarmOrder,
    WorkerOrder,
};
use crate::base::penalty::Subject;
use crate::base::shutdown::Phase;
use crate::config::value::OriginAddress;
use crate::config::{LockdownMode, XdpMode};
use crate::dataplane::{self, Added};
use crate::origin::{Fleet, Order};

/// For as long connections of a network that is cut are looked for: handshakes that had begun end
/// one way or the other by then.
const CUT_SECONDS: u32 = 60;
/// Sources that are shown.
const TOP: usize = 50;

impl Node {
    fn gates(&self) -> Result<&Gates, ControlError> {
        self.gates.as_ref().ok_or_else(|| {
            ControlError("no zone has a gate; write [[zone.gate.rule]] and start the node again".to_owned())
        })
    }
}

impl Control for Node {
    fn status(&self) -> Value {
        let missing = self.links.missing().into_iter();
        let missing: Vec<Value> = missing
            .map(|open| json!({ "name": open.name, "reason": open.reason }))
            .collect();
        let interfaces: Vec<Value> = self
            .links
            .attached()
            .into_iter()
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
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "phase": match self.shutdown.phase() {
                Phase::Running => "running",
                Phase::Draining => "draining",
                Phase::Stopped => "stopped",
            },
            "config": self.overrides.config.display().to_string(),
            "threads": self.open.threads,
            "listeners": { "https": self.open.https, "http": self.open.http, "plain": self.open.plain, "http3": self.open.quic },
            "connections": self.front.connections(),
            "xdp": {
                "attached": !interfaces.is_empty() && missing.is_empty(),
                "interfaces": interfaces,
                "missing": missing,
                "lists_behind": self.lists.are_behind(),
            },
            "zones": self.state.load().zones(),
            "workers": self.isolates.as_ref().map(|isolates| isolates.status()),
            "origins": self.fleet.status(),
            "fleet": self.membership.as_ref().map(|membership| membership.agent.view()),
        })
    }

    fn worker(&self, order: WorkerOrder) -> Ordered<'_> {
        Box::pin(isolates::order(self, order))
    }

    fn ready(&self) -> bool {
        // Who demands XDP is not ready without.
        let demanded = matches!(self.fixed.dataplane.mode, XdpMode::Native | XdpMode::Generic);
        let announced = self
            .membership
            .as_ref()
            .is_none_or(|membership| membership.agent.is_ready());
        self.ready.load(Ordering::Acquire) && announced && (!demanded || self.links.missing().is_empty())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.state.load().notes();
        let missing = self.links.missing().into_iter();
        notes.extend(missing.map(|open| format!("xdp: {}: {}", open.name, open.reason)));
        notes.extend(self.membership.iter().flat_map(super::fleet::Membership::notes));
        notes
    }

    fn denied(&self) -> Result<Vec<Denied>, ControlError> {
        let list = self.listed.list();
        let entry = |d: dataplane::Denied| Denied {
            network: d.network,
            file: d.configured,
            operator: d.runtime,
            allowed: d.allowed,
        };
        Ok(list.into_iter().map(entry).collect())
    }

    fn deny(&self, network: IpNet) -> Result<Denial, ControlError> {
        let added = self.listed.add(network).map_err(words)?;
        tracing::info!(target: "edge::dataplane", %network, "denied by the operator");
        Ok(match added {
            Added::Denied => Denial::Denied,
            Added::Already => Denial::Already,
            Added::Allowed => Denial::Allowed,
        })
    }

    fn top_sources(&self) -> Result<Vec<TopSource>, ControlError> {
        let dataplane = self.dataplane.as_ref();
        let dataplane =
            dataplane.ok_or_else(|| ControlError("XDP does not run here: nothing is dropped by it".to_owned()))?;
        let each = u64::from(self.state.load().config.dataplane.event_sample);
        if each == 0 {
            return Err(ControlError("event_sample = 0: no packet is sampled".to_owned()));
        }
        let list = dataplane.top_sources().list(Instant::now(), TOP);
        let told = |source: dataplane::TopSource| TopSource {
            prefix: source.prefix,
            reason: dataplane::reason(source.reason).to_owned(),
            packets: source.samples.saturating_mul(each),
            seconds: source.seconds,
        };
        Ok(list.into_iter().map(told).collect())
    }

    fn cut(&self, network: IpNet) -> Result<usize, ControlError> {
        let (listed, ledger) = (self.listed.clone(), self.ledger.clone());
        // Not those whom the allow list lets in, or who are lifted meanwhile.
        let denied = move |client| network.contains(&client) && listed.is_denied(client);
        let count = ledger.cut(&denied);
        tracing::info!(target: "edge::dataplane", %network, count, "connections cut by the operator");
        // Handshakes that had begun before become connections after this.
        tokio::spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            for _ in 0..CUT_SECONDS {
                second.tick().await;
                ledger.cut(&denied);
            }
        });
        Ok(count)
    }

    fn lift(&self, network: IpNet) -> Result<(), ControlError> {
        self.listed.delete(network).map_err(words)?;
        tracing::info!(target: "edge::dataplane", %network, "lifted by the operator");
        Ok(())
    }

    fn penalties(&self) -> Result<Vec<Penalty>, ControlError> {
        Ok(self.gates()?.penalties())
    }

    fn penalise(&self, penalty: &Penalty) -> Result<(), ControlError> {
        if let Subject::Network(network) = penalty.subject {
            return Err(ControlError(format!(
                "networks are penalised by the gate alone; to keep one out, run `edge deny add {network}`"
            )));
        }
        if !self.gates()?.penalise(penalty) {
            return Err(ControlError(
                "too many penalties were added already; lift some".to_owned(),
            ));
        }
        tracing::info!(target: "edge::gate", subject = %penalty.subject, seconds = penalty.seconds, "penalised by the operator");
        Ok(())
    }

    fn forgive(&self, subject: Subject) -> Result<(), ControlError> {
        if !self.gates()?.forgive(subject) {
            return Err(ControlError(format!("no penalty is in force against {subject}")));
        }
        tracing::info!(target: "edge::gate", %subject, "forgiven by the operator");
        Ok(())
    }

    fn purge(&self, order: &PurgeOrder) -> Result<(), ControlError> {
        super::cache::purge(self.cache.as_ref(), &self.zones.load(), order)?;
        // What is only stale is asked for anew, and differences are to what is held.
        if !order.soft {
            self.near.void();
        }
        tracing::info!(target: "edge::cache", what = %order.what, soft = order.soft, "purged by the operator");
        Ok(())
    }

    fn warm(&self, order: WarmOrder) -> Ordered<'_> {
        Box::pin(self.warming.warm(self.cache.is_some(), order))
    }

    fn fleet(&self, order: bytes::Bytes) -> Ordered<'_> {
        Box::pin(self.issue(order))
    }

    fn origin(&self, order: &OriginOrder) -> Result<(), ControlError> {
        origin(&self.fleet, order)
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
                "this node has neither QUIC nor XDP; write [server] http3 = true and https, or an interface into [dataplane], and \
                 start it again"
                    .to_owned(),
            )
        })
    }
}

/// Carries out what an operator wants of a server of `fleet`.
///
/// # Errors
/// There is no such server.
pub(super) fn origin(fleet: &Fleet, order: &OriginOrder) -> Result<(), ControlError> {
    let OriginOrder { server, of, weight } = order;
    let word = match weight {
        Some(0) => Order::Drain,
        Some(weight) => Order::Weight(*weight),
        None => Order::Restore,
    };
    // As the fleet writes it.
    let address = server.parse::<OriginAddress>().map_err(ControlError)?.to_string();
    if fleet.order(of.as_deref(), &address, word) == 0 {
        let servers = fleet.status().into_iter().flat_map(|zone| zone.servers);
        let known: Vec<_> = servers.map(|server| server.address).take(20).collect();
        let words = format!("no origin has the server {address}; there are: {}", known.join(", "));
        return Err(ControlError(words));
    }
    tracing::info!(target: "edge::origin", server = address, of, weight, "weight by the operator");
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn words(error: dataplane::Error) -> ControlError {
    ControlError(error.to_string())
}
