//! Certificates by ACME (RFC 8555): for zones that ask for it, orders a certificate when one is
//! due, proves each host by the zone's challenge, and writes chain and key where the zone's files
//! are. `node` watches those and takes them like any renewal.
//!
//! Keys are made here, one for each certificate, and never leave the host. What answers challenges
//! is in `tls::challenge`.

mod client;
mod due;
mod files;
mod hook;
pub mod metrics;
mod order;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::UnixTime;
use crate::config::Zone;
use crate::config::acme::Node;
use crate::tls::challenge::Challenges;
use metrics::Metrics;

/// After a failure; doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause between two tries: authorities let in five failures an hour or so.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);

/// Why no certificate came. The authority's words are shown, since only they tell the operator what
/// it wants.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority's, the network's to it, or the operator's: what the authority refused.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// The authority could not prove a host.
    #[error("{host} was not proved: {words}")]
    Unproved {
        /// Which.
        host: String,
        /// The authority's words.
        words: String,
    },
    /// The authority's: it offers no challenge of the zone's kind.
    #[error("the authority offers no such challenge for {0}")]
    NoChallenge(String),
    /// The operator's: the program that sets records.
    #[error("the hook {program}: {words}")]
    Hook {
        /// Which.
        program: String,
        /// What it said, or how it ended.
        words: String,
    },
    /// The operator's: files that cannot be read or written.
    #[error("{file}: {source}")]
    File {
        /// Which.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The operator's: a key or root that is none.
    #[error("{0}")]
    Unusable(String),
    /// Ours.
    #[error("a certificate request cannot be made: {0}")]
    Request(#[from] rcgen::Error),
    /// Ours.
    #[error("{0}")]
    Challenge(#[from] crate::tls::challenge::Unmade),
}

/// Orders certificates for zones, one after the other.
pub struct Acme {
    settings: Node,
    challenges: Arc<Challenges>,
    metrics: Metrics,
    zones: HashMap<Arc<str>, Waiting>,
}

/// When a zone is looked at again.
#[derive(Debug)]
struct Waiting {
    at: Instant,
    failures: u32,
}

impl Acme {
    /// With nothing ordered yet.
    pub fn new(settings: Node, challenges: Arc<Challenges>, metrics: Metrics) -> Self {
        Self {
            settings,
            challenges,
            metrics,
            zones: HashMap::new(),
        }
    }

    /// Looks at all zones, and orders what is due. As long as orders take: some seconds each, or
    /// until they time out.
    pub async fn round(&mut self, zones: &[Zone]) {
        self.zones
            .retain(|name, _| zones.iter().any(|zone| zone.name == *name && zone.acme.is_some()));
        for zone in zones {
            if zone.acme.is_none()
                || self
                    .zones
                    .get(&zone.name)
                    .is_some_and(|waiting| waiting.at > Instant::now())
            {
                continue;
            }
            self.tend(zone).await;
        }
    }

    /// Orders a certificate for one zone if it is due.
    async fn tend(&mut self, zone: &Zone) {
        let held = files::held(zone);
        let window = match &held {
            Some(held) => order::window(&self.settings, held).await,
            None => None,
        };
        let now = UnixTime::now().secs();
        if !due::is_due(held.as_ref(), window.as_ref(), self.settings.renew_percent, now) {
            self.wait(&zone.name, due::LOOK, 0);
            return;
        }
        match self.order(zone, held.as_ref().filter(|_| window.is_some())).await {
            Ok(authority) => {
                tracing::info!(target: "edge::acme", zone = %zone.name, authority, "certificate issued");
                self.metrics.ordered(&zone.name, true);
                self.wait(&zone.name, due::LOOK, 0);
            }
            Err(words) => {
                self.metrics.ordered(&zone.name, false);
                let failures = self.zones.get(&zone.name).map_or(0, |waiting| waiting.failures) + 1;
                let pause = pause(failures);
                tracing::error!(
                    target: "edge::acme", zone = %zone.name, again_in = ?pause, "no certificate was issued: {words}"
                );
                self.wait(&zone.name, pause, failures);
            }
        }
    }

    /// Asks the authorities in their order; which one issued.
    async fn order(&self, zone: &Zone, replaced: Option<&files::Held>) -> Result<String, String> {
        let mut words = Vec::new();
        for (at, directory) in self.settings.directories.iter().enumerate() {
            let ordered = order::order(&self.settings, at, zone, &self.challenges, replaced).await;
            for host in &zone.hosts {
                self.challenges.forget(&order::plain_name(host));
            }
            match ordered {
                Ok(()) => return Ok(directory.clone()),
                Err(error) => words.push(format!("{directory}: {error}")),
            }
        }
        Err(words.join("; "))
    }

    fn wait(&mut self, zone: &Arc<str>, pause: Duration, failures: u32) {
        let waiting = Waiting {
            at: Instant::now() + pause,
            failures,
        };
        self.zones.insert(zone.clone(), waiting);
    }
}

/// How long to wait after this number of failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that asks without a pause is shut out by its authority for a week.
    #[test]
    fn failures_are_answered_by_ever_longer_pauses() {
        let seconds: Vec<u64> = [1, 2, 3, 20, u32::MAX].map(|n| pause(n).as_secs()).to_vec();
        assert_eq!(seconds, [60, 120, 240, 21_600, 21_600]);
    }
}
