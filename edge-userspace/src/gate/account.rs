//! What an admitted request still owes: limits by claims, which are asked when somebody has
//! verified them, and what the response says that it cost. One per request, shared between the
//! gate, which settles it when the response comes, and whoever verifies claims, who finds it among
//! the request's extensions.
//!
//! A request whose claims nobody verifies is counted as its client: unverified claims are free to
//! make up.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::bucket::{Buckets, Rate, Take, Taken};
use super::clock::Clock;
use super::key::Value;
use super::metrics::Kind;
use super::policy::Limit;
use super::verdict::Deferral;
use crate::base::field;

/// What one response may say that it cost at most; more counts as this.
const DEAREST: u64 = 1_000_000;

/// What a request owes under one rule.
#[derive(Clone, Debug)]
pub(super) struct Debt {
    pub(super) rule: Arc<str>,
    pub(super) rate: Rate,
    /// Requests, and seconds, as written.
    pub(super) quota: (u64, u64),
    /// What was taken for it.
    pub(super) takes: Vec<Take>,
    pub(super) cost_field: Option<HeaderName>,
    /// The key that claims are wanted for.
    pub(super) claims: Option<Claims>,
}

/// A key of which parts are not known yet.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub(super) zone: u64,
    pub(super) prefix: IpAddr,
    pub(super) values: Vec<Value>,
    /// What is asked if nobody verifies them: the client's own bucket.
    pub(super) client: u64,
    /// Longest wait that is told.
    pub(super) longest: Duration,
}

/// What a request owes, among its extensions. Cheap to clone.
#[derive(Clone)]
pub struct Account {
    clock: Clock,
    buckets: Arc<Buckets>,
    debts: Arc<Mutex<Vec<Debt>>>,
}

/// Among a response's extensions: a limit by a claim said no. The gate answers as for any other
/// limit.
#[derive(Clone, Debug)]
pub struct Exceeded(pub Box<Deferral>);

impl Account {
    pub(super) fn new(clock: Clock, buckets: Arc<Buckets>, debts: Vec<Debt>) -> Self {
        Self {
            clock,
            buckets,
            debts: Arc::new(Mutex::new(debts)),
        }
    }

    /// Asks the limits by claims, for a request whose claims are verified: `claim` gives the value
    /// of one by its name. To be called once, before the request is served. A key that is not whole
    /// is counted as the client.
    ///
    /// # Errors
    /// A limit is reached: what to answer the request with, among the extensions of a response of
    /// any status.
    pub fn claimed<'a>(&self, claim: impl Fn(&str) -> Option<&'a str>) -> Result<(), Exceeded> {
        let now = self.clock.now().mono;
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        for debt in &mut *debts {
            let Some(claims) = debt.claims.take() else { continue };
            let values = claims.values.iter().map(|value| match value {
                Value::Claim(name) => claim(name).map(|said| Value::Said(said.as_bytes().into())),
                other => Some(other.clone()),
            });
            let take = match values.collect::<Option<Vec<_>>>() {
                Some(values) => self
                    .buckets
                    .keyed((claims.zone, &debt.rule, values), claims.prefix, debt.rate),
                None => Take::client(claims.client, debt.rate),
            };
            match self.buckets.ask(now, take) {
                Taken::Yes { .. } => debt.takes.insert(0, take),
                Taken::No { wait } => {
                    let wait = wait.min(claims.longest);
                    return Err(Exceeded(Box::new(Deferral {
                        wait,
                        kind: Kind::Rate,
                        rule: debt.rule.clone(),
                        token: None,
                        limit: Some(debt.limit(0, wait)),
                        ahead: None,
                        estimate: None,
                        work: None,
                        handed: None,
                    })));
                }
            }
        }
        Ok(())
    }

    /// Charges what the response with these `headers` says that the request cost, and gives the
    /// limits of rules that were charged, as they are now. `stored`: the answer came from the cache
    /// and cost the origin nothing.
    pub fn settle(&self, headers: &HeaderMap, stored: bool) -> Vec<Limit> {
        let now = self.clock.now().mono;
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut limits = Vec::new();
        for debt in &mut *debts {
            if let Some(claims) = debt.claims.take() {
                // Nobody has verified them.
                self.buckets.charge(now, Take::client(claims.client, debt.rate), 1);
            }
            let field = debt.cost_field.as_ref().filter(|_| !stored);
            let Some(cost) = field.and_then(|name| cost(headers, name)) else {
                continue;
            };
            let left = debt.takes.iter().map(|take| {
                if cost == 0 {
                    self.buckets.refund(*take);
                }
                self.buckets.charge(now, *take, cost.saturating_sub(1))
            });
            if let Some((left, more)) = left.min_by_key(|(left, _)| *left) {
                limits.push(debt.limit(left, more));
            }
        }
        limits
    }
}

impl Debt {
    fn limit(&self, left: u64, reset: Duration) -> Limit {
        Limit {
            name: self.rule.clone(),
            quota: self.quota.0,
            window: Some(self.quota.1),
            left,
            reset: Some(reset),
        }
    }
}

/// The cost that a response names: one field, of digits alone, or digits with a fraction, which
/// counts as one more.
fn cost(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = field::alone(headers, name)?.to_str().ok()?.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let more = u64::from(fraction.bytes().any(|b| b != b'0'));
    Some(
        whole
            .parse::<u64>()
            .map_or(DEAREST, |n| n.saturating_add(more).min(DEAREST)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query would cost nothing because of how the origin writes numbers, or a strange field
    /// would lock a customer out.
    #[test]
    fn costs_as_origins_write_them() {
        let name = HeaderName::from_static("x-query-cost");
        let of = |values: &[&str]| {
            let headers = values.iter().map(|v| (name.clone(), v.parse().unwrap())).collect();
            cost(&headers, &name)
        };
        for (text, wanted) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("7.0", Some(7)),
            ("7.25", Some(8)),
            ("99999999999999999999999", Some(DEAREST)),
            ("2000000", Some(DEAREST)),
            ("", None),
            ("-3", None),
            ("1e9", None),
            ("7.", None),
            ("seven", None),
        ] {
            assert_eq!(of(&[text]), wanted, "{text}");
        }
        assert_eq!(of(&["1", "2"]), None);
        assert_eq!(of(&[]), None);
    }
}
