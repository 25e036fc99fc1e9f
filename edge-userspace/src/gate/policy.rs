//! Asks every rule that matches a request, and gives back what the earlier ones gave when a later
//! one refuses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::account::{Claims, Debt};
use super::bucket::{Buckets, Rate, Start, Take, Taken};
use super::clock::Now;
use super::concurrency::Permit;
use super::external::Service;
use super::key::{self, Counted, Value};
use super::metrics::{Kind, Outcome};
use super::pass::mix;
use super::prefixes;
use super::queue::{Claim, Turn, Visitor};
use super::verdict::Attempt;
use super::work;
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
    /// A seat that its pass names, or that of the client that it is taken for; nothing is proven by
    /// it.
    pub(super) seat: Option<u64>,
    /// What a token for it will name.
    pub(super) name: u64,
    /// It has just waited, and this is its one admission for it.
    pub(super) mature: bool,
    /// What its pass says of the waiting room.
    pub(super) claim: Claim,
    /// It is let in as one that cannot show its token: a client behind its address has been, within
    /// bounds.
    pub(super) vouched: bool,
    /// Nobody is told to wait for such a request, but for a limit on requests.
    pub(super) exempt: bool,
    /// It is counted among those who wait: another site cannot make a visitor's browser stand in
    /// line.
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
    pub(super) taken: Vec<Take>,
    /// What it still owes when the response comes.
    pub(super) debts: Vec<Debt>,
}

impl Passed {
    /// Gives back what was taken for a request that is not let in after all.
    pub(super) fn give_back(self, buckets: &Buckets) {
        for take in self.taken {
            buckets.refund(take);
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
    /// Coming before its time is held against whoever does: the limit is its own.
    pub(super) holds: bool,
    /// Bits of work that do instead of the wait.
    pub(super) work: Option<u8>,
    /// The service whose answer does.
    pub(super) external: Option<Arc<Service>>,
}

/// Asks `rules` for `who`.
pub(super) fn ask<'a>(
    buckets: &Buckets,
    now: Now,
    zone: &ZoneGate,
    rules: impl Iterator<Item = &'a Rule>,
    (who, attempt): (Who, &Attempt<'_>),
) -> Result<Passed, Box<Denied>> {
    let mut passed = Passed::default();
    for rule in rules {
        let kind = rule.meter.kind();
        if who.exempt && matches!(kind, Kind::Challenge | Kind::Manual | Kind::Queue) {
            continue;
        }
        match ask_one(buckets, now, zone, rule, (who, attempt), &mut passed) {
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
    (who, attempt): (Who, &Attempt<'_>),
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
        holds: true,
        work: None,
        external: None,
    };
    let proven = who.client.is_some() || who.vouched;
    match &rule.meter {
        Meter::Challenge(..) | Meter::External(_) | Meter::Manual(_) if proven => Ok(()),
        Meter::Challenge(bits, wait) => Err(Box::new(Denied {
            work: Some(match who.counts && !rule.dry_run {
                true => work::demanded(buckets, now.mono, zone.id, who.prefix, *bits),
                false => *bits,
            }),
            ..deny(Some(now.second_after(*wait)))
        })),
        Meter::External(service) => Err(Box::new(Denied {
            external: Some(service.clone()),
            ..deny(Some(now.second_after(zone.config.defer)))
        })),
        Meter::Manual(wait) => Err(Box::new(deny(Some(now.second_after(*wait))))),
        Meter::Queue(queue) => match queue.visit(now, visitor(buckets, zone, who)) {
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
        },
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
            let asking = Asking {
                buckets,
                now,
                zone,
                rule,
                rate: *rate,
                who,
            };
            asking.told(*quota, attempt, passed, deny)
        }
    }
}

/// Who stands before a waiting room.
fn visitor(buckets: &Buckets, zone: &ZoneGate, who: Who) -> Visitor {
    Visitor {
        known: who.client.or(who.seat),
        waited: who.client.is_some(),
        name: who.name,
        address: buckets.key((zone.id, who.prefix)),
        site: prefixes::site(who.prefix),
        claim: who.claim,
        counts: who.counts,
    }
}

/// A request before a rate rule.
#[derive(Clone, Copy)]
struct Asking<'a> {
    buckets: &'a Buckets,
    now: Now,
    zone: &'a ZoneGate,
    rule: &'a Rule,
    rate: Rate,
    who: Who,
}

/// A bucket is empty.
struct Refused {
    /// Until it is not; `None`: too many wait already.
    wait: Option<Duration>,
    /// Whoever comes before that does so against its own limit.
    holds: bool,
}

/// What is left, and until when there is more; `None`: it is not known yet.
type Left = Option<(u64, Duration)>;

impl Asking<'_> {
    /// Asks, and has the client told what is left of its `quota`, or when there will be some.
    fn told(
        self,
        quota: (u64, u64),
        attempt: &Attempt<'_>,
        passed: &mut Passed,
        deny: impl Fn(Option<u32>) -> Denied,
    ) -> Result<(), Box<Denied>> {
        let limit = |left, reset| Limit {
            name: self.rule.name.clone(),
            quota: quota.0,
            window: Some(quota.1),
            left,
            reset: Some(reset),
        };
        match self.by_key(attempt, passed) {
            Ok(Some((left, more))) => {
                if passed.limit.as_ref().is_none_or(|other| other.left > left) {
                    passed.limit = Some(limit(left, more));
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(Refused { wait, holds }) => {
                // A debt may be longer than any wait that is told.
                let cap = self.zone.terms.cap;
                let wait = wait.map(|wait| wait.min(cap));
                Err(Box::new(Denied {
                    limit: Some(limit(0, wait.unwrap_or(cap))),
                    holds,
                    ..deny(wait.map(|wait| self.now.second_after(wait)))
                }))
            }
        }
    }

    /// One request from whatever the rule counts by.
    fn by_key(self, attempt: &Attempt<'_>, passed: &mut Passed) -> Result<Left, Refused> {
        let Meter::Rate {
            quota, key, cost_field, ..
        } = &self.rule.meter
        else {
            return Ok(None);
        };
        let first = passed.taken.len();
        let (left, claims) = match key::counted(key, attempt, self.who.prefix, self.who.client) {
            Counted::Client => (
                Some(self.client(self.zone.config.clients_per_address, &mut passed.taken)?),
                None,
            ),
            Counted::Address => (Some(self.client(1, &mut passed.taken)?), None),
            Counted::Values(values) => {
                self.all_keys(&mut passed.taken)?;
                if values.iter().any(|value| matches!(value, Value::Claim(_))) {
                    (None, Some(self.claims(values)?))
                } else {
                    (Some(self.keyed(values, &mut passed.taken)?), None)
                }
            }
        };
        if claims.is_some() || cost_field.is_some() {
            passed.debts.push(Debt {
                rule: self.rule.name.clone(),
                rate: self.rate,
                quota: *quota,
                takes: passed.taken.get(first..).unwrap_or_default().to_vec(),
                cost_field: cost_field.clone(),
                claims,
            });
        }
        Ok(left)
    }

    /// One request from what an address has for all keys that it names. It is not given back if the
    /// key has none left: who goes on beyond a key's limit uses up its own.
    fn all_keys(self, taken: &mut Vec<Take>) -> Result<(), Refused> {
        let Self { buckets, who, zone, .. } = self;
        let key = buckets.key((zone.id, &self.rule.name, who.prefix, "keys"));
        let all = Take::client(key, self.rate.times(zone.config.clients_per_address));
        match buckets.ask(self.now.mono, all) {
            Taken::Yes { .. } => {
                taken.push(all);
                Ok(())
            }
            Taken::No { wait } => Err(Refused {
                wait: self.turned(wait),
                holds: true,
            }),
        }
    }

    /// One request from a key's bucket.
    fn keyed(self, values: Vec<Value>, taken: &mut Vec<Take>) -> Result<(u64, Duration), Refused> {
        let Self { buckets, who, zone, .. } = self;
        let take = buckets.keyed((zone.id, &self.rule.name, values), who.prefix, self.rate);
        match buckets.ask(self.now.mono, take) {
            Taken::Yes { left, more } => {
                taken.push(take);
                Ok((left, more))
            }
            Taken::No { wait } => {
                // What the address has for all keys stays used up.
                taken.pop();
                Err(Refused {
                    wait: Some(wait),
                    holds: false,
                })
            }
        }
    }

    /// A key that waits for verified claims. A client whose own bucket is empty has asked too often
    /// without any.
    fn claims(self, values: Vec<Value>) -> Result<Claims, Refused> {
        let Self { buckets, who, zone, .. } = self;
        let (client, _) = self.own(zone.config.clients_per_address);
        if let Taken::No { wait } = buckets.look(self.now.mono, client, self.rate) {
            return Err(Refused {
                wait: self.turned(wait),
                holds: true,
            });
        }
        Ok(Claims {
            zone: zone.id,
            prefix: who.prefix,
            values,
            client,
            longest: zone.terms.cap,
        })
    }

    /// The wait that is told: for who proves nothing, until the next free turn of its address.
    fn turned(self, wait: Duration) -> Option<Duration> {
        let Self { rule, who, .. } = self;
        let turn = match who.client {
            Some(_) => Some(wait),
            None if rule.dry_run || !who.counts => Some(wait),
            None => turn(self.buckets, self.now, self.zone, rule, self.rate, who),
        };
        turn.map(|turn| turn.max(wait))
    }

    /// The bucket that a request is counted in by who sends it: the client's, if it proves to be
    /// one of `most` behind its address, and then it has it alone; else the address's.
    fn own(self, most: u32) -> (u64, bool) {
        let Self {
            buckets,
            who,
            zone,
            rule,
            ..
        } = self;
        match who.client {
            Some(client) if most > 1 => (buckets.key((zone.id, &rule.name, client)), true),
            _ => (buckets.key((zone.id, &rule.name, who.prefix)), false),
        }
    }

    /// One request from the bucket of `who`. A proven client has its own, and shares its address's
    /// bucket, as wide as the clients that the address may stand for, at `most`; who proves nothing
    /// shares the bucket of one client with its whole address.
    ///
    /// Who has just waited needs a burst, or its page comes without images and scripts. But a new
    /// name is had for one wait, and a burst for each would be many times the rate. So an address
    /// gets one such burst in the time in which a client earns one; beyond that a new name starts
    /// with its one request. Clients known behind the address do not add to it, since an inventor
    /// of names is known by each of them. In the long run it gains one client's rate at most,
    /// within what its address may have.
    fn client(self, most: u32, taken: &mut Vec<Take>) -> Result<(u64, Duration), Refused> {
        let Self {
            buckets,
            now,
            zone,
            rule,
            rate,
            who,
        } = self;
        let (own, alone) = self.own(most);
        let drained = alone && who.mature && !buckets.knows(own) && !welcome(buckets, now, zone, rule, rate, who);
        let start = if drained { Start::Drained } else { Start::Full };
        let all = alone.then(|| {
            let key = buckets.key((zone.id, &rule.name, who.prefix, "all"));
            (key, rate.times(most), Start::Full)
        });
        let mut result = None;
        let first = taken.len();
        for (key, rate, start) in std::iter::once((own, rate, start)).chain(all) {
            match buckets.take(now.mono, key, rate, start) {
                Taken::Yes { left, more } => {
                    taken.push(Take::client(key, rate));
                    result = result.or(Some((left, more)));
                }
                Taken::No { wait } => {
                    for take in taken.drain(first..) {
                        buckets.refund(take);
                    }
                    return Err(Refused {
                        wait: self.turned(wait),
                        holds: true,
                    });
                }
            }
        }
        // The first bucket of the two has been asked.
        Ok(result.unwrap_or_default())
    }
}

/// Whether a new name of this address starts with a burst.
fn welcome(buckets: &Buckets, now: Now, zone: &ZoneGate, rule: &Rule, rate: Rate, who: Who) -> bool {
    let key = buckets.key((zone.id, &rule.name, who.prefix, "welcome"));
    let bursts = Buckets::of_bursts(rate);
    matches!(buckets.take(now.mono, key, bursts, Start::Full), Taken::Yes { .. })
}

/// The next free turn of an address's newcomers: each token is one admission, so tokens are given
/// out no faster than the rate of the clients that the address is known to stand for.
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
