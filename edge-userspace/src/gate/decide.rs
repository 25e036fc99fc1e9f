//! The decision: who asks, whether it was told to wait, what the rules say, and what it is told. Pure but for the tables it
//! is given; the same for every carrier of a token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Buckets, Rate};
use super::clock::{Now, nanos};
use super::metrics::{Kind, Outcome};
use super::neighbours::Neighbours;
use super::pass::{self, Opened, Pass, Passes};
use super::penalty::{Book, Company, Level, NODE, Offence, Strike, Subject};
use super::policy::{self, Denied, Passed, Who};
use super::rule;
use super::table::{Table, Worth};
use super::verdict::{Admission, Attempt, Change, Decision, Deferral, Named, Written};
use super::zone::{Meter, ZoneGate};
use crate::base::peer::client_prefix;

/// What all zones of a node share.
pub struct Judge {
    pub(super) buckets: Buckets,
    pub(super) book: Arc<Book>,
    pub(super) neighbours: Arc<Neighbours>,
    passes: Arc<dyn Passes>,
    /// Clients let in after a wait, until their token ends: whose spent token still says who they are.
    admitted: Table<u64, Until>,
}

#[derive(Clone, Copy, Debug)]
struct Until(Duration);

impl Worth for Until {
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        nanos(self.0.saturating_sub(now))
    }
}

/// One request before one zone.
struct Case<'a> {
    judge: &'a Judge,
    now: Now,
    zone: &'a ZoneGate,
    attempt: &'a Attempt<'a>,
    prefix: IpAddr,
}

impl Judge {
    /// Tables for so many `clients`, `trials` of addresses at once, a `book` of penalties, and whoever writes tokens.
    pub fn new(clients: usize, trials: usize, book: Arc<Book>, passes: Arc<dyn Passes>) -> Self {
        Self {
            buckets: Buckets::new(clients),
            book,
            neighbours: Arc::new(Neighbours::new(clients / 4, trials)),
            passes,
            admitted: Table::new(clients / 4),
        }
    }

    pub(super) fn zone_id(&self, name: &str) -> u64 {
        self.passes.zone(name)
    }

    /// Decides, counts, and remembers.
    pub fn decide(&self, now: Now, zone: &ZoneGate, attempt: &Attempt<'_>) -> Decision {
        let case = Case {
            judge: self,
            now,
            zone,
            attempt,
            prefix: client_prefix(attempt.address),
        };
        let (decision, outcome, kind) = case.decide();
        zone.counts.add(outcome, kind);
        decision
    }
}

type Verdict = (Decision, Outcome, Kind);

impl Case<'_> {
    fn decide(&self) -> Verdict {
        let admit = |kind| (Decision::Admit(Admission::plain()), Outcome::Admitted, kind);
        let address = self.attempt.address.to_canonical();
        if self.zone.config.allow.iter().any(|network| network.contains(&address)) {
            return admit(Kind::Allow);
        }
        let Attempt {
            method, path, headers, ..
        } = *self.attempt;
        let mut rules = self.zone.rules.iter().map(|rule| (rule, &rule.matches));
        if !rules.any(|(_, matches)| rule::matches(matches, method, path, headers)) {
            return admit(Kind::None);
        }
        if self.zone.config.dry_run {
            // Nothing may differ from a zone without a gate: no token, no penalty, no fields. Permits are held to be counted.
            return match self.ask(self.newcomer()) {
                Ok(passed) => self.admit(Passed { limit: None, ..passed }, Change::Keep),
                Err(_) => admit(Kind::None),
            };
        }
        let opened = self
            .attempt
            .token
            .and_then(|text| self.judge.passes.open(self.now, address, text));
        match opened.filter(|opened| opened.pass.zone == self.zone.id) {
            Some(opened) => self.bearer(opened),
            None => self.stranger(),
        }
    }

    fn newcomer(&self) -> Who {
        Who {
            prefix: self.prefix,
            client: None,
            mature: false,
            session: false,
            waited: None,
            neighbours: self.judge.neighbours.count(self.now.mono, self.prefix, None),
            opens: self.attempt.opens,
        }
    }

    fn ask(&self, who: Who) -> Result<Passed, Box<Denied>> {
        let Attempt {
            method, path, headers, ..
        } = *self.attempt;
        let matching = self
            .zone
            .rules
            .iter()
            .filter(|r| rule::matches(&r.matches, method, path, headers));
        policy::ask(&self.judge.buckets, self.now, self.zone, matching, who)
    }

    /// Someone without a token, or with one that says nothing here: all that is known is the address, and the name that a
    /// session ticket gives it. A name costs a handshake, not a wait: it is held to account by it, and served as its address.
    fn stranger(&self) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let mut who = self.newcomer();
        let proven = self.attempt.named.filter(|named| named.proven);
        let (mut within, mut crowded) = (true, false);
        let subject = match proven {
            Some(Named { client, .. }) => {
                if let Some(refused) = self.by_operator() {
                    return refused;
                }
                let subject = Subject::Client(client);
                if let Some((_, until)) = judge.book.penalty(now.mono, zone.id, subject) {
                    return self.blocked(subject, until, None);
                }
                who.client = Some(client).filter(|client| self.was_admitted(*client));
                subject
            }
            None => {
                let subject = Subject::Address(self.prefix);
                match judge.book.penalty(now.mono, zone.id, subject) {
                    Some((Level::Blocked, until)) => return self.blocked(subject, until, None),
                    Some((Level::Deferred, _)) => {
                        let company = self.company(None);
                        // Over TLS, the door has counted it.
                        within =
                            self.attempt.named.is_some() || judge.book.share(now.mono, zone.id, self.prefix, company);
                        crowded = within && company != Company::default();
                    }
                    None => {}
                }
                subject
            }
        };
        let mut denied = match within.then(|| self.ask(who)) {
            Some(Ok(passed)) => {
                let client = who.client.unwrap_or_else(|| self.fresh());
                if who.client.is_some() {
                    self.seen(client);
                }
                let token = match passed.session {
                    Some(life) => Change::Set(self.write(pass::Kind::Session, client, life, 0)),
                    None if self.attempt.token.is_some() => Change::Clear,
                    None => Change::Keep,
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
                .mul_f64(1.0 + (pass::mix(self.fresh()) % 1_024) as f64 / 1_024.0);
            denied.due = denied.due.map(|due| due.min(now.second_after(soon)));
        }
        self.deferred(subject, denied, None, true)
    }

    /// An operator's word holds for all behind an address, whatever they prove.
    fn by_operator(&self) -> Option<Verdict> {
        let now = self.now.mono;
        match self.judge.book.added(now, Subject::Address(self.prefix))? {
            (Level::Blocked, until) => {
                let wait = until.saturating_sub(now);
                Some((Decision::Block { wait, token: None }, Outcome::Blocked, Kind::Penalty))
            }
            (Level::Deferred, _) => None,
        }
    }

    /// `client` was let in after a wait, and its token has not ended.
    fn was_admitted(&self, client: u64) -> bool {
        let until = self.judge.admitted.find(client);
        until.is_some_and(|until| until.0 > self.now.mono)
    }

    /// The id for a client that has none yet: that of its connection's ticket, so that both say the same.
    fn fresh(&self) -> u64 {
        let named = self.attempt.named.map(|named| named.client);
        named.unwrap_or_else(|| self.judge.passes.client())
    }

    /// `client` has proven itself: what is held against its address is eased at once if it is one more.
    fn seen(&self, client: u64) {
        let Self { judge, now, zone, .. } = self;
        let address = Subject::Address(self.prefix);
        if judge.neighbours.seen(now.mono, self.prefix, client) && judge.book.penalty(now.mono, NODE, address).is_some()
        {
            judge.book.vouch(now.mono, zone.id, self.prefix, self.company(None));
        }
    }

    /// Who else is behind the address, `except` that client.
    fn company(&self, except: Option<u64>) -> Company {
        self.judge.neighbours.company(self.now.mono, self.prefix, except)
    }

    /// A newcomer of a penalised address beyond its share waits for the next free turn.
    fn beyond_share(&self, who: Who) -> Denied {
        let buckets = &self.judge.buckets;
        let rated = self.zone.rules.iter().find_map(|rule| match rule.meter {
            Meter::Rate { rate, .. } => Some((rule, rate)),
            _ => None,
        });
        let wait = match (rated, self.zone.rules.first()) {
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
            place: 0,
            ahead: None,
            estimate: None,
            limit: None,
        }
    }

    /// Someone with a genuine token of this zone.
    fn bearer(&self, Opened { pass, early }: Opened) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let subject = Subject::Client(pass.client);
        // What the gate holds against an address is not held against those who prove themselves; an operator's word is.
        if let Some(refused) = self.by_operator() {
            return refused;
        }
        if let Some((_, until)) = judge.book.penalty(now.mono, zone.id, subject) {
            return self.blocked(subject, until, Some(&pass));
        }
        let mut known = pass.kind != pass::Kind::Wait;
        let mut mature = false;
        if let (false, Some(left)) = (known, early) {
            return self.early(subject, &pass, left);
        }
        if !known {
            mature = judge.passes.spend(*now, pass.admission(), pass.expires);
            if mature {
                judge.book.behaved(zone.id, subject);
            } else {
                known = self.was_admitted(pass.client);
            }
        }
        let who = Who {
            client: (known || mature).then_some(pass.client),
            mature,
            session: pass.kind == pass::Kind::Session,
            waited: mature.then_some((pass.place, pass.not_before)),
            ..self.newcomer()
        };
        match self.ask(who) {
            Ok(passed) => {
                self.seen(pass.client);
                let token = self.renewed(&pass, &passed, mature);
                if mature {
                    let until = Until(now.mono + zone.config.token_life);
                    judge.admitted.update(pass.client, now.mono, || until, |u| *u = until);
                }
                self.admit(passed, token)
            }
            // A spent token gets no new one: what replaced it is in the client's hands, or on its way there.
            Err(denied) => self.deferred(subject, *denied, Some(&pass), mature || pass.kind != pass::Kind::Wait),
        }
    }

    /// What an admitted bearer holds from now on.
    fn renewed(&self, pass: &Pass, passed: &Passed, mature: bool) -> Change {
        let (kind, life) = match (passed.session, pass.kind) {
            (Some(life), _) => (pass::Kind::Session, life),
            (None, pass::Kind::Session) => return Change::Keep,
            (None, _) => (pass::Kind::Known, self.zone.config.token_life),
        };
        let fresh = self.now.until_second(pass.expires) > life / 2;
        if !mature && kind == pass.kind && fresh {
            return Change::Keep;
        }
        Change::Set(self.write(kind, pass.client, life, pass.strikes))
    }

    /// It holds the proof that it was told to wait, and did not.
    fn early(&self, subject: Subject, pass: &Pass, left: Duration) -> Verdict {
        let mut carried = *pass;
        if self.attempt.validated {
            match self.offend(subject, Some(pass)) {
                Offence::Grace(attempts) => carried.early = u8::try_from(attempts).unwrap_or(u8::MAX),
                Offence::Strike(strike) => return self.struck(subject, strike, Some(pass)),
            }
        }
        self.hold(left);
        let deferral = Deferral {
            wait: left,
            kind: Kind::Penalty,
            rule: "early".into(),
            token: Some(self.mint(&carried)),
            limit: None,
            ahead: None,
            estimate: None,
        };
        (Decision::Defer(deferral), Outcome::Deferred, Kind::Penalty)
    }

    /// The rules said no. If it had been told to wait and the wait is not over, that counts.
    fn deferred(&self, subject: Subject, denied: Denied, pass: Option<&Pass>, give: bool) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let Some(due) = denied.due else {
            let wait = zone.terms.cap;
            return (Decision::Block { wait, token: None }, Outcome::Blocked, denied.kind);
        };
        let wait = now.until_second(due);
        let client = pass.map_or_else(|| self.fresh(), |pass| pass.client);
        if self.attempt.validated {
            if judge.book.is_told(now.mono, zone.id, subject)
                && let Offence::Strike(strike) = self.offend(subject, pass)
            {
                return self.struck(subject, strike, pass);
            }
            judge.book.tell(now.mono, zone.id, subject, now.mono + wait);
            if pass.is_none() {
                judge.neighbours.told(now.mono, self.prefix, client, now.mono + wait);
            }
        }
        self.hold(wait);
        let written = || {
            self.mint(&Pass {
                client,
                zone: zone.id,
                not_before: due,
                expires: due.saturating_add(u32::try_from(zone.config.token_life.as_secs()).unwrap_or(u32::MAX)),
                kind: pass::Kind::Wait,
                place: denied.place,
                strikes: pass.map_or(0, |pass| pass.strikes),
                early: 0,
            })
        };
        let deferral = Deferral {
            wait,
            kind: denied.kind,
            rule: denied.rule,
            token: give.then(written),
            limit: denied.limit,
            ahead: denied.ahead,
            estimate: denied.estimate,
        };
        (Decision::Defer(deferral), Outcome::Deferred, denied.kind)
    }

    /// Over QUIC the kernel keeps to the wait what shows the client's tokens, and nobody else behind the address.
    fn hold(&self, wait: Duration) {
        let now = self.now.mono;
        if let (true, true, Some(named)) = (self.attempt.quic, self.attempt.validated, self.attempt.named) {
            self.judge.book.hold(now, named.client, now + wait);
        }
    }

    /// Counts an attempt that should not have come. An address has the grace of all clients known behind it; one that stands
    /// for nobody else has had it when its penalty begins.
    fn offend(&self, subject: Subject, pass: Option<&Pass>) -> Offence {
        let Self { judge, now, zone, .. } = self;
        let mut terms = zone.terms;
        if let Subject::Address(prefix) = subject {
            let neighbours = judge.neighbours.count(now.mono, prefix, None);
            let alone = neighbours == 0
                && judge.book.penalty(now.mono, zone.id, subject).is_some()
                && self.company(None) == Company::default();
            terms.grace = match alone {
                true => 0,
                false => terms.grace.saturating_mul(neighbours.saturating_add(1)),
            };
        }
        let carried = pass.map_or((0, 0), |pass| (pass.early, pass.strikes));
        self.judge
            .book
            .offend(self.now.mono, self.zone.id, subject, terms, carried)
    }

    /// A strike: the penalty for the client, by each name that it has proven, and for its address, since a SYN names no client;
    /// over QUIC a client with a name answers for itself alone.
    fn struck(&self, subject: Subject, strike: Strike, pass: Option<&Pass>) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let named = self.attempt.named.map(|named| named.client);
        let others = self.company(pass.map(|pass| pass.client).or(named));
        let penalise = |subject| judge.book.penalise(now.mono, zone.id, subject, strike, others);
        penalise(subject);
        let address = Subject::Address(self.prefix);
        let proven = self.attempt.named.filter(|named| named.proven || pass.is_some());
        let name = proven.map(|named| Subject::Client(named.client));
        let alone = self.attempt.quic && subject != address;
        for more in name.into_iter().chain((!alone).then_some(address)) {
            if more != subject {
                penalise(more);
            }
        }
        let wait = strike.until.saturating_sub(now.mono);
        let token = pass.map(|pass| {
            let not_before = now.second_after(wait);
            let life = u32::try_from(zone.config.token_life.as_secs()).unwrap_or(u32::MAX);
            self.mint(&Pass {
                not_before,
                expires: not_before.saturating_add(life),
                kind: pass::Kind::Wait,
                strikes: strike.strikes,
                early: 0,
                ..*pass
            })
        });
        (Decision::Block { wait, token }, Outcome::Blocked, Kind::Penalty)
    }

    /// A penalty is in force, and here it is again: that counts too.
    fn blocked(&self, subject: Subject, until: Duration, pass: Option<&Pass>) -> Verdict {
        if self.attempt.validated
            && let Offence::Strike(strike) = self.offend(subject, pass)
        {
            return self.struck(subject, strike, pass);
        }
        let wait = until.saturating_sub(self.now.mono);
        (Decision::Block { wait, token: None }, Outcome::Blocked, Kind::Penalty)
    }

    fn admit(&self, passed: Passed, token: Change) -> Verdict {
        let kind = passed.kind.unwrap_or(Kind::None);
        let admission = Admission {
            permits: passed.permits,
            token,
            limit: passed.limit,
            ..Admission::plain()
        };
        (Decision::Admit(admission), Outcome::Admitted, kind)
    }

    fn write(&self, kind: pass::Kind, client: u64, life: Duration, strikes: u8) -> Written {
        self.mint(&Pass {
            client,
            zone: self.zone.id,
            not_before: self.now.second_after(Duration::ZERO).saturating_sub(1),
            expires: self.now.second_after(life),
            kind,
            place: 0,
            strikes,
            early: 0,
        })
    }

    fn mint(&self, pass: &Pass) -> Written {
        Written {
            text: self.judge.passes.mint(self.now, self.attempt.address, pass),
            life: self.now.until_second(pass.expires),
        }
    }
}
