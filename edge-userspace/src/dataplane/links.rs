//! Which of the configured interfaces the program judges, kept true while the daemon runs.
//! Interfaces come and go: a driver is loaded again, a bond made anew, another tool takes the
//! program off. A thread hears of it from the kernel, looks for itself once a second all the same,
//! and attaches again what has lost its program; meanwhile status, metrics, log and readiness say
//! what is open.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::attach::{self, Interface};
use super::error::Error;
use super::netlink::{Link, Netlink};

/// Without news, interfaces and addresses are looked at this often.
const LOOKED_EVERY: Duration = Duration::from_secs(1);

/// The configured interfaces and what has become of them.
#[derive(Debug)]
pub struct Links(Mutex<Vec<Watched>>);

/// One configured interface.
#[derive(Clone, Debug)]
struct Watched {
    name: String,
    /// What it has, or why it has nothing.
    found: Result<Interface, String>,
}

/// An interface that is configured and open: the program does not judge its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// As configured.
    pub name: String,
    /// Why, in words for the operator.
    pub reason: String,
}

impl Links {
    /// Those of these names, all of them open for `reason`.
    pub fn open(names: &[String], reason: &str) -> Arc<Self> {
        let watched = names.iter().map(|name| Watched {
            name: name.clone(),
            found: Err(reason.to_owned()),
        });
        Arc::new(Self(Mutex::new(watched.collect())))
    }

    /// Where the program is attached.
    pub fn attached(&self) -> Vec<Interface> {
        self.watched()
            .iter()
            .filter_map(|watched| watched.found.clone().ok())
            .collect()
    }

    /// Where it is not, and should be.
    pub fn missing(&self) -> Vec<Open> {
        let watched = self.watched();
        let open = watched.iter().filter_map(|watched| {
            Some(Open {
                name: watched.name.clone(),
                reason: watched.found.as_ref().err()?.clone(),
            })
        });
        open.collect()
    }

    /// For the metrics registry.
    pub fn metrics(self: &Arc<Self>) -> LinkMetrics {
        LinkMetrics(self.clone())
    }

    /// Looks at each interface, and has `attach` attach where the program (of this id) is not. A
    /// failure that is `fatal` ends it; any other one leaves its interface open.
    pub(super) fn settle(
        &self,
        netlink: &Netlink,
        program: u32,
        fatal: impl Fn(&Error) -> bool,
        mut attach: impl FnMut(&str, &Link) -> Result<Interface, Error>,
    ) -> Result<(), Error> {
        let mut all = self.watched();
        // Names first: a typing error must not leave half of the interfaces swapped.
        let mut links = Vec::with_capacity(all.len());
        for watched in all.iter() {
            let link = netlink.link(&watched.name).map_err(Error::Netlink)?;
            let link = link.ok_or_else(|| Error::UnknownInterface {
                name: watched.name.clone(),
                existing: attach::existing(),
            });
            match link {
                Err(error) if fatal(&error) => return Err(error),
                link => links.push(link),
            }
        }
        for (watched, link) in all.iter_mut().zip(links) {
            let kept = |link: &Link| {
                let before = watched.found.as_ref();
                before.is_ok_and(|interface| interface.index == link.index && link.programs.contains(&program))
            };
            if link.as_ref().is_ok_and(kept) {
                continue;
            }
            if watched.found.is_ok() {
                tracing::warn!(
                    target: "edge::dataplane",
                    interface = watched.name,
                    "the interface is not the one it was, or has lost the XDP program"
                );
            }
            let found = match link.and_then(|link| attach(&watched.name, &link)) {
                Err(error) if fatal(&error) => return Err(error),
                found => found.map_err(|error| error.to_string()),
            };
            if let Err(reason) = &found
                && watched.found.as_ref().err() != Some(reason)
            {
                tracing::warn!(
                    target: "edge::dataplane",
                    interface = watched.name,
                    reason,
                    "XDP is not attached: the kernel does not judge this interface's packets"
                );
            }
            watched.found = found;
        }
        Ok(())
    }

    /// None of them is attached any more, for `reason`; says so once.
    pub(super) fn close(&self, reason: &str) {
        for watched in self.watched().iter_mut() {
            if watched.found.as_ref().err().map(String::as_str) != Some(reason) {
                tracing::warn!(target: "edge::dataplane", interface = watched.name, reason, "XDP is not attached");
                watched.found = Err(reason.to_owned());
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread keeps true.
pub(super) trait Kept: Send + Sync + 'static {
    /// Looks at everything once; `false` when it is not ours any more.
    fn look(&self, netlink: &Netlink) -> bool;
}

/// Starts the thread, which ends by itself when `kept` is gone or not ours any more. It stays in
/// the network namespace of the caller.
pub(super) fn watch<K: Kept>(kept: Weak<K>) -> Result<(), Error> {
    let netlink = Netlink::open().map_err(Error::Netlink)?;
    let changes = Netlink::changes(LOOKED_EVERY).map_err(Error::Netlink)?;
    let watch = move || {
        loop {
            changes.wait();
            match kept.upgrade() {
                Some(kept) if kept.look(&netlink) => {}
                _ => return,
            }
        }
    };
    let thread = std::thread::Builder::new().name("links".to_owned()).spawn(watch);
    thread.map(drop).map_err(Error::Netlink)
}

/// A collector for `prometheus_client::registry::Registry::register_collector`.
#[derive(Debug)]
pub struct LinkMetrics(Arc<Links>);

impl Collector for LinkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let watched = self.0.watched().clone();
        let mut info = encoder.encode_descriptor(
            "edge_dataplane_interface",
            "Interfaces that the XDP program is attached to, and in which mode",
            None,
            MetricType::Info,
        )?;
        for interface in watched.iter().filter_map(|watched| watched.found.as_ref().ok()) {
            info.encode_info(&[("interface", interface.name.as_str()), ("mode", interface.mode.name())])?;
        }
        let gauge = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor(
            "edge_dataplane_attached",
            "Whether the XDP program judges the packets of a configured interface",
            None,
            gauge.metric_type(),
        )?;
        for watched in &watched {
            let attached = ConstGauge::new(i64::from(watched.found.is_ok()));
            attached.encode(family.encode_family(&[("interface", watched.name.as_str())])?)?;
        }
        Ok(())
    }
}
