//! What the connections of all threads share: zones, the settings that a reload replaces, figures,
//! accounts, and where requests are logged.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use http::HeaderValue;
use prometheus_client::registry::Registry;

use super::metrics::Metrics;
use crate::base::ledger::Ledger;
use crate::base::lines::Lines;
use crate::config::client_address::ClientAddress;
use crate::config::{Limits, Serving};
use crate::dataplane::Lists;
use crate::zones;

/// What all workers share.
pub struct Shared {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) zones: zones::Current,
    pub(super) metrics: Metrics,
    pub(super) lines: Lines,
    pub(super) sampler: AtomicU32,
    pub(super) ledger: Ledger,
    pub(super) lists: OnceLock<Arc<Lists>>,
}

/// What a reload replaces.
pub(super) struct Settings {
    pub(super) limits: Arc<Limits>,
    pub(super) access_sample: Option<u32>,
    /// Proxies that name their clients.
    pub(super) client_address: Option<Arc<ClientAddress>>,
    /// `Alt-Svc` values (RFC 7838) by the local port the client connected to.
    alternatives: Box<[(u16, HeaderValue)]>,
}

/// How long clients may remember that HTTP/3 is spoken here, in seconds.
const ALTERNATIVE_AGE: u32 = 86_400;

impl Settings {
    fn new(config: Serving<'_>, http3: &[u16]) -> Arc<Self> {
        Arc::new(Self {
            limits: config.limits.clone(),
            access_sample: config.log.access_sample,
            client_address: config.server.client_address.clone(),
            alternatives: alternatives(http3, config.server.alt_svc_port),
        })
    }

    /// The `Alt-Svc` for a client that came over TLS to `port`.
    pub(super) fn alternative(&self, port: u16) -> Option<&HeaderValue> {
        self.alternatives
            .iter()
            .find_map(|(of, value)| (*of == port).then_some(value))
    }
}

impl Shared {
    /// Requests of all zones since the start, and those that were answered by a status of 500 or
    /// more.
    pub fn answered(&self) -> (u64, u64) {
        self.metrics.answered()
    }

    /// One per process. Zones come from `zones`, which is swapped by others; what connections hold
    /// is charged to `ledger`, and requests write their lines to `lines`. `http3`: the UDP ports on
    /// which HTTP/3 is served, which clients are told of.
    pub fn new(
        config: Serving<'_>,
        http3: &[u16],
        zones: zones::Current,
        (ledger, lines): (Ledger, Lines),
        registry: &mut Registry,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            lines,
            lists: OnceLock::new(),
            settings: ArcSwap::new(Settings::new(config, http3)),
            zones,
            metrics: Metrics::register(registry),
            sampler: AtomicU32::new(0),
        })
    }

    /// Holds clients that trusted proxies name to the operator's `lists`; those who connect
    /// themselves are before.
    pub fn keep_to(&self, lists: Arc<Lists>) {
        // Once, by the assembly.
        let _ = self.lists.set(lists);
    }

    /// Other limits from the next request on; what a connection was set up with (buffers, streams,
    /// timeouts of the connection itself) holds from the next connection on.
    pub fn reload(&self, config: Serving<'_>, http3: &[u16]) {
        self.settings.store(Settings::new(config, http3));
    }

    /// Whether this request gets a line: one in `access_sample`, and only if someone listens.
    pub(super) fn logs(&self, settings: &Settings) -> bool {
        let Some(sample) = settings.access_sample else {
            return false;
        };
        if !self.lines.on() {
            return false;
        }
        sample <= 1 || self.sampler.fetch_add(1, Ordering::Relaxed).is_multiple_of(sample)
    }
}

#[cfg(test)]
impl Shared {
    /// Another number after each reload.
    pub(crate) fn settings_id(&self) -> usize {
        Arc::as_ptr(&self.settings.load_full()) as usize
    }
}

/// One for each port where HTTP/3 is spoken: the value names the port that clients reach, which may
/// be mapped to it.
fn alternatives(http3: &[u16], outside: Option<u16>) -> Box<[(u16, HeaderValue)]> {
    if outside == Some(0) {
        return Box::default();
    }
    http3
        .iter()
        .filter_map(|port| {
            let value = format!("h3=\":{}\"; ma={ALTERNATIVE_AGE}", outside.unwrap_or(*port));
            Some((*port, HeaderValue::try_from(value).ok()?))
        })
        .collect()
}
