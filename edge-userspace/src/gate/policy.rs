//! Asks every rule that matches a request, and gives back what the earlier ones gave when a later one refuses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Buckets, Rate, Start, Taken};
use super::clock::Now;
use super::concurrency::Permit;
use super::metrics::{Kind, Outcome};
use super::pass::mix;
use super::prefixes;
use super::queue::{Claim, Turn, Visitor};
use super::zone::{Meter, Rule, ZoneGate};

/// A limit as the RateLimit fields tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rule's name.
    pub name: Arc<str>,
    /// `q`: what is allowed, per window where there is one.
    pub quota: u64,
    /// `w`, seconds; `None`: the quota is of concurrent requests.
    pub window: Option<u64>,
    /// `r`.
    pub left: u64,
    /// `t`: until more is left.
    pub reset: Option<Duration>,
}

/// Who asks, as the decision has found out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) prefix: IpAddr,
    /// Proven by a pass that was waited for.
    pub(super) client: Option<u64>,
    /// A seat that its pass names, or that of the client that it is taken for; nothing is proven by it.
    pub(super) seat: Option<u64>,
    /// What a token for it will name.
    pub(super) name: u64,
    /// It has just waited, and this is its one admission for it.
    pub(super) mature: bool,
    /// What its pass says of the waiting room.
    pub(super) claim: Claim,
    /// It is let in as one that cannot show its token: a client behind its address has been, within bounds.
    pub(super) vouched: bool,
    /// Nobody is told to wait for such a request, but for a limit on requests.
    pub(super) exempt: bool,
    /// It is counted among those who wait: another site cannot make a visitor's browser stand in line.
    pub(super) counts: bool,
    /// Other clients known behind its address.
    pub(super) neighbours: u32,
    /// The request is its connection's first.
    pub(super) opens: bool,
}

/// All rules agree.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) permits: Vec<Permit>,
    /// The last rule that was asked.
    pub(super) kind: Option<Kind>,
    pub(super) limit: Option<Limit>,
    /// It is active in a queue: the number of its seat, and how long sessions last.
    pub(super) seat: Option<(u64, Duration)>,
    pub(super) taken: Vec<(u64, Rate)>,
}

impl Passed {
    /// Gives back what was taken for a request that is not let in after all.
    pub(super) fn give_back(self, buckets: &Buckets) {
        for (key, rate) in self.taken {
            buckets.refund(key, rate);
        }
    }
}

/// One rule says no.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) kind: Kind,
    pub(super) rule: Arc<str>,
    /// Seconds since the epoch; `None`: too many wait already, come some other time.
    pub(super) due: Option<u32>,
    /// Its place in the waiting room that says no.
    pub(super) place: Option<u64>,
    pub(super) ahead: Option<u64>,
    pub(super) estimate: Option<Duration>,
    pub(super) limit: Option<Limit>,
}

/// Asks `rules` for `who`.
pub(super) fn ask<'a>(
    buckets: &Buckets,
    now: Now,
    zone: &ZoneGate,
    rules: impl Iterator<Item = &'a Rule>,
    who: Who,
) -> Result<Passed, Box<Denied>> {
    let mut passed = Passed::default();
    for rule in rules {
        let kind = rule.meter.kind();
        if who.exempt && matches!(kind, Kind::Manual | Kind::Queue) {
            continue;
        }
        match ask_one(buckets, now, zone, rule, who, &mut passed) {
            Ok(()) => passed.kind = Some(kind),
            Err(_) if rule.dry_run => zone.counts.add(Outcome::DryRun, kind),
            Err(denied) => {
                passed.give_back(buckets);
                return Err(denied);
            }
        }
    }
    Ok(passed)
}

fn ask_one(
    buckets: &Buckets,
    now: Now,
    zone: &ZoneGate,
    rule: &Rule,
    who: Who,
    passed: &mut Passed,
) -> Result<(), Box<Denied>> {
    let deny = |due| Denied {
        kind: rule.meter.kind(),
        rule: rule.name.clone(),
        due,
        place: None,
        ahead: None,
        estimate: None,
        limit: None,
    };
    match &rule.meter {
        Meter::Manual(wait) => match who.client.is_some() || who.vouched {
            true => Ok(()),
            false => Err(Box::new(deny(Some(now.second_after(*wait))))),
        },
        Meter::Queue(queue) => {
            let address = buckets.key((zone.id, who.prefix));
            let visitor = Visitor {
                known: who.client.or(who.seat),
                waited: who.client.is_some(),
                name: who.name,
                address,
                site: prefixes::site(who.prefix),
                claim: who.claim,
                counts: who.counts,
            };
            match queue.visit(now, visitor) {
                Turn::Enter { seat } => {
                    passed.seat = Some((seat, queue.terms().session));
                    Ok(())
                }
                Turn::Wait {
                    due,
                    place,
                    ahead,
                    estimate,
                } => Err(Box::new(Denied {
                    place: Some(place),
                    ahead: Some(ahead),
                    estimate: Some(estimate),
                    ..deny(Some(due))
                })),
            }
        }
        Meter::Concurrency(pool) => match pool.take(who.mature, who.prefix) {
            Some(permit) => {
                passed.permits.push(permit);
                Ok(())
            }
            None => {
                // Spread by up to a half, so that those refused together do not come back together.
                let defer = zone.config.defer;
                let spread = mix(who.client.unwrap_or(0) ^ now.unix_ms()) % 512;
                let wait = defer + defer.mul_f64(spread as f64 / 1_024.0);
                Err(Box::new(Denied {
                    limit: Some(Limit {
                        name: rule.name.clone(),
                        quota: pool.most() as u64,
                        window: None,
                        left: 0,
                        reset: Some(wait),
                    }),
                    ..deny(Some(now.second_after(wait)))
                }))
            }
        },
        Meter::Rate { connections: true, .. } if !who.opens => Ok(()),
        Meter::Rate { rate, quota, .. } => {
            let limit = |left, reset| Limit {
                name: rule.name.clone(),
                quota: quota.0,
                window: Some(quota.1),
                left,
                reset: Some(reset),
            };
            match take(buckets, now, zone, rule, *rate, who, &mut passed.taken) {
                Ok((left, more)) => {
                    let told = limit(left, more);
                    if passed.limit.as_ref().is_none_or(|other| other.left > left) {
                        passed.limit = Some(told);
                    }
                    Ok(())
                }
                Err(wait) => Err(Box::new(Denied {
                    limit: Some(limit(0, wait.unwrap_or(zone.terms.cap))),
                    ..deny(wait.map(|wait| now.second_after(wait)))
                })),
            }
        }
    }
}

/// One request from the bucket of `who`. A proven client has its own, and shares its address's bucket, as wide as the clients
/// that the address may stand for; who proves nothing shares the bucket of one client with its whole address.
///
/// Who has just waited needs a burst, or its page comes without images and scripts. But a new name is had for one wait, and
/// a burst for each would be many times the rate. So an address gets one such burst in the time in which a client earns one;
/// beyond that a new name starts with its one request. Clients known behind the address do not add to it, since an inventor
/// of names is known by each of them. In the long run it gains one client's rate at most, within what its address may have.
fn take(
    buckets: &Buckets,
    now: Now,
    zone: &ZoneGate,
    rule: &Rule,
    rate: Rate,
    who: Who,
    taken: &mut Vec<(u64, Rate)>,
) -> Result<(u64, Duration), Option<Duration>> {
    let most = zone.config.clients_per_address;
    let own = match who.client {
        Some(client) if most > 1 => {
            let key = buckets.key((zone.id, &rule.name, client));
            let start = if who.mature && !buckets.knows(key) && !welcome(buckets, now, zone, rule, rate, who) {
                Start::Drained
            } else {
                Start::Full
            };
            (key, rate, start)
        }
        _ => (buckets.key((zone.id, &rule.name, who.prefix)), rate, Start::Full),
    };
    let all = (
        buckets.key((zone.id, &rule.name, who.prefix, "all")),
        rate.times(most),
        Start::Full,
    );
    let mut result = Err(None);
    let first = taken.len();
    for (key, rate, start) in std::iter::once(own).chain((most > 1 && who.client.is_some()).then_some(all)) {
        match buckets.take(now.mono, key, rate, start) {
            Taken::Yes { left, more } => {
                taken.push((key, rate));
                result = result.or(Ok((left, more)));
            }
            Taken::No { wait } => {
                for (key, rate) in taken.drain(first..) {
                    buckets.refund(key, rate);
                }
                let turn = match who.client {
                    Some(_) => Some(wait),
                    None if rule.dry_run || !who.counts => Some(wait),
                    None => turn(buckets, now, zone, rule, rate, who),
                };
                return Err(turn.map(|turn| turn.max(wait)));
            }
        }
    }
    result
}

/// Whether a new name of this address starts with a burst.
fn welcome(buckets: &Buckets, now: Now, zone: &ZoneGate, rule: &Rule, rate: Rate, who: Who) -> bool {
    let key = buckets.key((zone.id, &rule.name, who.prefix, "welcome"));
    let bursts = Buckets::of_bursts(rate);
    matches!(buckets.take(now.mono, key, bursts, Start::Full), Taken::Yes { .. })
}

/// The next free turn of an address's newcomers: each token is one admission, so tokens are given out no faster than the
/// rate of the clients that the address is known to stand for.
pub(super) fn turn(
    buckets: &Buckets,
    now: Now,
    zone: &ZoneGate,
    rule: &Rule,
    rate: Rate,
    who: Who,
) -> Option<Duration> {
    let clients = who.neighbours.saturating_add(1).min(zone.config.clients_per_address);
    let key = buckets.key((zone.id, &rule.name, who.prefix, "turn"));
    buckets.book(now.mono, key, rate.times(clients), zone.terms.cap)
}
