//! One zone's gate: its rules with their state, in the order in which they are asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::bucket::Rate;
use super::concurrency::Pool;
use super::crawlers::Directory;
use super::external::Service;
use super::metrics::{Counts, Kind, Metrics};
use super::page::Template;
use super::penalty::Terms;
use super::queue::{self, Queue};
use crate::config::gate::{Gate, KeyPart, Matches, Policy};
use crate::config::value::HostPattern;

/// What the files say that a zone's gate names.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub(super) page: Template,
    pub(super) crawlers: Directory,
    /// By the rule's name.
    pub(super) services: HashMap<String, Arc<Service>>,
}

/// A zone's gate and its state on this node.
#[derive(Debug)]
pub struct ZoneGate {
    pub(super) name: Arc<str>,
    /// The number tokens carry.
    pub(super) id: u64,
    pub(super) config: Arc<Gate>,
    hosts: Vec<HostPattern>,
    pub(super) terms: Terms,
    pub(super) rules: Vec<Rule>,
    pub(super) page: Template,
    pub(super) crawlers: Directory,
    pub(super) counts: Counts,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) matches: Matches,
    pub(super) meter: Meter,
    pub(super) dry_run: bool,
}

/// A policy with its state.
#[derive(Clone, Debug)]
pub(super) enum Meter {
    /// Bits of work, and the wait instead.
    Challenge(u8, Duration),
    /// An operator's own.
    External(Arc<Service>),
    Manual(Duration),
    Queue(Arc<Queue>),
    Concurrency(Arc<Pool>),
    Rate {
        rate: Rate,
        /// As written, for the fields: requests, seconds.
        quota: (u64, u64),
        connections: bool,
        key: Arc<[KeyPart]>,
        cost_field: Option<HeaderName>,
    },
}

impl Meter {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Challenge(..) | Self::External(_) => Kind::Challenge,
            Self::Manual(_) => Kind::Manual,
            Self::Queue(_) => Kind::Queue,
            Self::Concurrency(_) => Kind::Concurrency,
            Self::Rate { .. } => Kind::Rate,
        }
    }
}

impl ZoneGate {
    /// The gate of a zone with that name and those hosts; what waits and flows under `old` goes on
    /// where a policy has not changed.
    pub(super) fn new(
        (name, hosts): (&Arc<str>, &[HostPattern]),
        id: u64,
        config: &Arc<Gate>,
        files: Files,
        metrics: &Metrics,
        old: Option<&Self>,
    ) -> Self {
        let kept = |policy: &Policy, rule: &str| {
            let old = old?.rules.iter().find(|r| *r.name == *rule)?;
            match (policy, &old.meter) {
                (Policy::Concurrency(most), Meter::Concurrency(pool)) if pool.most() == *most => {
                    Some(old.meter.clone())
                }
                (Policy::Queue(terms), Meter::Queue(queue)) if queue.terms() == queue_terms(terms) => {
                    Some(old.meter.clone())
                }
                _ => None,
            }
        };
        let meter = |policy: &Policy, rule: &str| match policy {
            Policy::Challenge(work) => Meter::Challenge(work.bits, work.wait),
            // A zone whose key cannot be read has no gate that is new.
            Policy::External(_) => files
                .services
                .get(rule)
                .map_or(Meter::Manual(config.token_life), |service| {
                    Meter::External(service.clone())
                }),
            Policy::Manual(wait) => Meter::Manual(*wait),
            Policy::Queue(terms) => Meter::Queue(Arc::new(Queue::new(queue_terms(terms)))),
            Policy::Concurrency(most) => Meter::Concurrency(Pool::new(*most)),
            Policy::Rate(rate) => Meter::Rate {
                rate: Rate::new(rate.requests, rate.per, rate.burst),
                quota: (rate.requests.into(), rate.per.as_secs().max(1)),
                connections: rate.connections,
                key: rate.key.as_slice().into(),
                cost_field: rate.cost_field.clone(),
            },
        };
        let mut rules: Vec<Rule> = config
            .rules
            .iter()
            .map(|rule| Rule {
                name: rule.name.as_str().into(),
                matches: rule.matches.clone(),
                meter: kept(&rule.policy, &rule.name).unwrap_or_else(|| meter(&rule.policy, &rule.name)),
                dry_run: rule.dry_run || config.dry_run,
            })
            .collect();
        // What costs the client least to have passed in vain comes first, what is given back on
        // refusal last.
        rules.sort_by_key(|rule| rule.meter.kind() as usize);
        Self {
            name: name.clone(),
            id,
            config: config.clone(),
            hosts: hosts.to_vec(),
            terms: Terms {
                grace: config.grace,
                base: config.strike_base,
                cap: config.strike_cap,
                forgive: config.forgive,
            },
            rules,
            page: files.page,
            crawlers: files.crawlers,
            counts: metrics.zone(name),
        }
    }
}

impl ZoneGate {
    /// Whether a rule hands visitors to an operator's challenge.
    pub(super) fn hands_over(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.meter, Meter::External(_)))
    }

    /// Whether `host`, lower case and without a port, is one of the zone's.
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern {
            HostPattern::Exact(name) => name == host,
            HostPattern::Wildcard(suffix) => host.split_once('.').is_some_and(|(_, rest)| rest == suffix),
        })
    }
}

fn queue_terms(queue: &crate::config::gate::Queue) -> queue::Terms {
    queue::Terms {
        active: queue.active,
        per_network: queue.per_network,
        session: queue.session,
        paused: queue.paused,
        poll: queue.poll,
    }
}
