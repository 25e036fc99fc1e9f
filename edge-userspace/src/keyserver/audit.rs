//! A line for each refusal: who, from where, which op, which key, why. No secrets; so many lines a
//! second for each client and no more, and the rest counted, so that a flood of refusals fills no
//! disk.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::wire::{KeyId, Op};

/// Lines in a row, and how fast one comes back.
const LINES: u32 = 20;
const REFILL: Duration = Duration::from_millis(500);

/// The budget of one client, or of the listener for those that are none.
#[derive(Debug)]
pub(super) struct Audit {
    left: u32,
    at: Instant,
    dropped: u64,
}

impl Audit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: LINES,
            at: now,
            dropped: 0,
        }
    }

    /// Whether a line may be written, and how many were dropped before it.
    fn take(&mut self, now: Instant, metrics: &Metrics) -> Option<u64> {
        while self.left < LINES && now.saturating_duration_since(self.at) >= REFILL {
            self.left += 1;
            self.at += REFILL;
        }
        if self.left == LINES {
            self.at = now;
        }
        if self.left == 0 {
            self.dropped += 1;
            metrics.audit_dropped.inc();
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.dropped))
    }

    /// A query was refused.
    pub(super) fn query(
        &mut self,
        now: Instant,
        metrics: &Metrics,
        client: (&str, SocketAddr),
        op: Op,
        key: &KeyId,
        reason: &str,
    ) {
        if let Some(dropped) = self.take(now, metrics) {
            let (client, peer) = client;
            tracing::warn!(target: "edge::keyserver::audit", client, %peer, %op, %key, reason, dropped, "refused");
        }
    }

    /// A connection was refused.
    pub(super) fn connection(&mut self, now: Instant, metrics: &Metrics, peer: SocketAddr, reason: &str) {
        if let Some(dropped) = self.take(now, metrics) {
            tracing::warn!(target: "edge::keyserver::audit", %peer, reason, dropped, "connection refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    /// A flood of refusals must neither fill the disk nor hide the ones that come later.
    #[test]
    fn lines_are_bounded_and_come_back() {
        let metrics = Metrics::register(&mut Registry::default());
        let now = Instant::now();
        let mut audit = Audit::new(now);
        let lines = |audit: &mut Audit, now| (0..100).filter_map(|_| audit.take(now, &metrics)).collect::<Vec<_>>();
        assert_eq!(lines(&mut audit, now).len(), 20);
        assert_eq!(metrics.audit_dropped.get(), 80);
        assert_eq!(lines(&mut audit, now + REFILL * 2), [80, 0]);
        assert_eq!(lines(&mut audit, now + Duration::from_secs(3_600)).len(), 20);
    }
}
