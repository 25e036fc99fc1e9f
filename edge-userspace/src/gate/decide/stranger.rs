//! Who holds no proof of a wait: all that is known is the address, the name that a session ticket
//! gives it, and the seat that its token names. None of it costs a wait, so none of it proves one.

use super::super::bucket::{Rate, Start, Taken};
use super::super::cause;
use super::super::pass::{self, Pass};
use super::super::penalty::Company;
use super::super::policy::{self, Denied, Passed, Who};
use super::super::queue::Claim;
use super::super::verdict::{Change, Named};
use super::super::zone::Meter;
use super::{CROWDED, Case, Decision, Duration, Kind, Outcome, Verdict};
use crate::base::penalty::{Level, Subject};

/// Requests for which an address vouches: at once, and per second. A page's pictures from another
/// host are so many.
const VOUCHED: u32 = 256;
const VOUCHED_RATE: u32 = 16;

/// Why somebody who cannot show a token is known to be inside.
#[derive(Clone, Copy)]
enum Standing {
    /// Its connection, or the session that it resumed, is that of a client which was let in.
    Named(u64),
    /// A client behind its address was let in, and its browser would not have sent our cookie with
    /// this request.
    Vouched(u64),
}

impl Case<'_> {
    /// Someone without the proof of a wait; `seat` is the pass of a seat that nobody waited for. A
    /// name costs a handshake, not a wait: its bearer is held to account by it, and served as its
    /// address.
    pub(super) fn stranger(&self, seat: Option<Pass>) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let mut who = self.newcomer();
        let proven = self.attempt.named.filter(|named| named.proven);
        let (mut within, mut crowded) = (true, false);
        let subject = match proven {
            Some(Named { client, .. }) => {
                let subject = Subject::Client(client);
                if let Some((_, until)) = judge.book.penalty(now.mono, zone.id, subject) {
                    return self.blocked(subject, until, None);
                }
                subject
            }
            None => {
                let subject = Subject::Address(self.prefix);
                match judge.book.penalty(now.mono, zone.id, subject) {
                    Some((Level::Blocked, until)) => return self.blocked(subject, until, None),
                    Some((Level::Deferred, _)) => {
                        let company = self.company(None);
                        // Over TLS, the door has counted it.
                        within = self.attempt.named.is_some() || judge.book.share(now.mono, zone.id, subject, company);
                        crowded = within && company != Company::default();
                    }
                    None => {}
                }
                // Who has a seat is no newcomer.
                let around = judge.book.around(now.mono, zone.id, self.prefix);
                match around.filter(|_| seat.is_none()) {
                    Some((Level::Blocked, until)) => return self.in_a_blocked_network(until),
                    Some((Level::Deferred, _)) => {
                        // One that its address's share refuses takes nothing from its neighbours'.
                        within = within
                            && (self.attempt.named.is_some()
                                || judge.neighbours.within(now.mono, zone.id, self.prefix, &judge.book));
                    }
                    None => {}
                }
                subject
            }
        };
        if let Some(pass) = seat {
            who.seat = Some(pass.client);
            who.claim = Claim::Seat { since: pass.place };
        }
        let standing = self.standing();
        match standing {
            Some(Standing::Named(client)) => who.client = Some(client),
            Some(Standing::Vouched(client)) => {
                who.vouched = true;
                who.seat = who.seat.or(Some(client));
            }
            None => {}
        }
        who.counts = self.cause.own || self.cause.document && !self.exempt && self.is_within_foreign_share();
        let mut denied = match within.then(|| self.ask(who)) {
            Some(Ok(passed)) => {
                if let Some(client) = who.client {
                    self.seen(client);
                }
                let token = match standing {
                    // What it holds is better.
                    Some(_) => Change::Keep,
                    None => self.seated(seat, &passed),
                };
                return self.admit(passed, token);
            }
            Some(Err(denied)) => *denied,
            None => self.beyond_share(who),
        };
        if crowded {
            // The offender has booked the address's turns far ahead, and will keep none of them.
            let soon = zone
                .config
                .defer
                .mul_f64(1.0 + (pass::mix(who.name) % 1_024) as f64 / 1_024.0);
            denied.due = denied.due.map(|due| due.min(now.second_after(soon)));
        }
        if !who.counts {
            return self.told_without_a_token(denied);
        }
        if seat.is_some() && !matches!(denied.kind, Kind::Manual | Kind::Challenge)
            || matches!(standing, Some(Standing::Named(_)))
        {
            return self.keeps_what_it_has(subject, denied, who);
        }
        self.deferred(subject, denied, who.name, None)
    }

    /// Refused for what others of its network do. That alone is nothing against it, but from now on
    /// it has been told.
    fn in_a_blocked_network(&self, until: Duration) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let subject = Subject::Address(self.prefix);
        if self.holds_against() && judge.book.told(now.mono, zone.id, subject).is_some() {
            return self.blocked(subject, until, None);
        }
        if self.holds_against() {
            judge.book.tell(now.mono, zone.id, subject, self.prefix, until);
        }
        let wait = until.saturating_sub(now.mono);
        (Decision::Block { wait, token: None }, Outcome::Blocked, Kind::Penalty)
    }

    /// Whether somebody without a token is known to be inside all the same.
    fn standing(&self) -> Option<Standing> {
        let Self { judge, now, zone, .. } = self;
        // The name of a connection that has not resumed is its own and nobody else's, but others
        // may share the connection.
        let named = self
            .attempt
            .named
            .filter(|named| named.proven || !self.cause.carries_cookies);
        if let Some(client) = named.and_then(|named| judge.inside.named(now.mono, zone.id, named.client)) {
            return Some(Standing::Named(client));
        }
        if self.exempt || self.cause.carries_cookies && !self.is_of_another_host() {
            return None;
        }
        let client = judge.inside.behind(now.mono, zone.id, self.prefix)?;
        let key = judge.buckets.key((zone.id, self.prefix, "vouched"));
        let rate = Rate::new(VOUCHED_RATE, Duration::from_secs(1), VOUCHED);
        matches!(judge.buckets.take(now.mono, key, rate, Start::Full), Taken::Yes { .. })
            .then_some(Standing::Vouched(client))
    }

    /// Whether the request belongs to a page of another host of the zone, whose cookie this host
    /// does not get.
    fn is_of_another_host(&self) -> bool {
        if self.zone.config.cookie.domain.is_some() {
            return false;
        }
        let own = cause::name(self.attempt.host);
        cause::page_host(self.attempt.headers).is_some_and(|page| page != own && self.zone.has_host(&page))
    }

    /// Whether a link of another site may have the browser stand in line: nothing of it counts
    /// against the address, so there are no more of them than a client's grace.
    fn is_within_foreign_share(&self) -> bool {
        let Self { judge, now, zone, .. } = self;
        let rate = Rate::new(zone.terms.grace, CROWDED, zone.terms.grace);
        let key = judge.buckets.key((zone.id, self.prefix, "foreign"));
        matches!(judge.buckets.take(now.mono, key, rate, Start::Full), Taken::Yes { .. })
    }

    /// What somebody holds who was let in without a wait: in a waiting room the name of its seat,
    /// which all from its address share.
    fn seated(&self, held: Option<Pass>, passed: &Passed) -> Change {
        match passed.seat {
            Some((seat, life)) => {
                let named = held.filter(|held| held.client == seat);
                if named.is_some_and(|held| self.now.until_second(held.expires) > life / 2) {
                    return Change::Keep;
                }
                let since = named.map_or(self.now.unix_ms(), |held| held.place);
                Change::Set(self.write(pass::Kind::Seat, seat, life, (since, 0)))
            }
            // Taken away only if it is good nowhere.
            None if !self.attempt.tokens.is_empty() && self.opened().next().is_none() => Change::Clear,
            None => Change::Keep,
        }
    }

    /// Told to wait; nothing is written for it, and nothing counts.
    pub(super) fn told_without_a_token(&self, denied: Denied) -> Verdict {
        let wait = denied.due.map_or(self.zone.terms.cap, |due| self.now.until_second(due));
        self.refused(wait, denied)
    }

    /// Told to wait with the token that it has.
    fn keeps_what_it_has(&self, subject: Subject, denied: Denied, who: Who) -> Verdict {
        let (decision, outcome, kind) = self.deferred(subject, denied, who.name, None);
        let decision = match decision {
            Decision::Defer(deferral) => Decision::Defer(super::Deferral {
                token: None,
                ..deferral
            }),
            other => other,
        };
        (decision, outcome, kind)
    }

    fn refused(&self, wait: Duration, denied: Denied) -> Verdict {
        let kind = denied.kind;
        let deferral = super::Deferral {
            wait,
            kind,
            rule: denied.rule,
            token: None,
            limit: denied.limit,
            ahead: denied.ahead,
            estimate: denied.estimate,
            work: None,
            handed: None,
        };
        (Decision::Defer(deferral), Outcome::Deferred, kind)
    }

    /// A newcomer of a penalised address beyond its share waits for the next free turn.
    fn beyond_share(&self, who: Who) -> Denied {
        let buckets = &self.judge.buckets;
        let rated = self.zone.rules.iter().find_map(|rule| match rule.meter {
            Meter::Rate { rate, .. } => Some((rule, rate)),
            _ => None,
        });
        let wait = match (rated, self.zone.rules.first()) {
            _ if !who.counts => Some(self.zone.config.defer),
            (Some((rule, rate)), _) => policy::turn(buckets, self.now, self.zone, rule, rate, who),
            (None, Some(rule)) => {
                let rate = Rate::new(4, Duration::from_secs(1), 1);
                policy::turn(buckets, self.now, self.zone, rule, rate, who)
            }
            (None, None) => None,
        };
        Denied {
            kind: Kind::Penalty,
            rule: "penalty".into(),
            due: wait.map(|wait| self.now.second_after(wait.max(self.zone.config.defer))),
            place: None,
            ahead: None,
            estimate: None,
            limit: None,
            holds: true,
            work: None,
            external: None,
        }
    }
}
