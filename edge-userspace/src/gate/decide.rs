//! The decision: who asks, whether it was told to wait, what the rules say, and what it is told.
//! Pure but for the tables it is given; the same for every carrier of a token.
//!
//! Every event counts for what it proves and no more. `bearer` is for who holds the proof of a
//! wait, `stranger` for all others.

mod bearer;
mod stranger;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Buckets, Rate, Start, Take, Taken};
use super::cause::{self, Cause};
use super::clock::Now;
use super::external::{self, Service};
use super::inside::Inside;
use super::metrics::{Kind, Outcome};
use super::neighbours::Neighbours;
use super::pass::{self, Opened, Pass, Passes};
use super::penalty::{Book, Company, NODE, Offence, Offender, Strike, Terms};
use super::policy::{self, Denied, Passed, Who};
use super::prefixes;
use super::queue::Claim;
use super::rule;
use super::verdict::{Admission, Attempt, Change, Decision, Deferral, Written};
use super::work;
use super::zone::{Meter, Rule, ZoneGate};
use crate::base::peer::client_prefix;
use crate::base::penalty::{Level, Subject};
use crate::zones::path::Path;

/// The time in which a network has the early attempts of its clients' grace.
const CROWDED: Duration = Duration::from_secs(60);
/// The time in which an address that is struck counts once in the networks around it.
const OFFENDING: Duration = Duration::from_secs(600);

/// What all zones of a node share.
pub struct Judge {
    pub(super) buckets: Arc<Buckets>,
    pub(super) book: Arc<Book>,
    pub(super) neighbours: Arc<Neighbours>,
    passes: Arc<dyn Passes>,
    inside: Inside,
}

/// One request before one zone.
struct Case<'a> {
    judge: &'a Judge,
    now: Now,
    zone: &'a ZoneGate,
    attempt: &'a Attempt<'a>,
    prefix: IpAddr,
    cause: Cause,
    /// Something else depends on its answer, and it cannot show a token.
    exempt: bool,
    /// The answer to an operator's challenge that it brought.
    answer: Option<external::Answer<'a>>,
    /// The crawler that it is of.
    crawler: Option<Arc<str>>,
}

/// The best of the tokens that a request brought.
#[derive(Clone, Copy, Debug)]
struct Best {
    opened: Opened,
    /// The work that it asks for is proven: its wait is over.
    worked: bool,
}

/// A token's bearer, as far as it matters for what it is told.
#[derive(Clone, Copy)]
struct Bearing {
    pass: Pass,
    /// It has been let in after a wait, and holds the proof: nothing better could be given to it.
    known: bool,
    /// It has kept a wait that it has not been let in for yet.
    mature: bool,
}

impl Judge {
    /// Tables for this number of `clients` and `keys`, `trials` of addresses at once, a `book` of
    /// penalties, and whoever writes tokens.
    pub fn new((clients, keys): (usize, usize), trials: usize, book: Arc<Book>, passes: Arc<dyn Passes>) -> Self {
        Self {
            buckets: Arc::new(Buckets::new(clients, keys)),
            book,
            neighbours: Arc::new(Neighbours::new(clients / 4, trials)),
            passes,
            inside: Inside::new(clients),
        }
    }

    pub(super) fn zone_id(&self, name: &str) -> u64 {
        self.passes.zone(name)
    }

    #[cfg(test)]
    pub(super) fn passes(&self) -> &dyn Passes {
        &*self.passes
    }

    /// How long an operator's word keeps whoever is behind `address` from being served, whatever
    /// the zone.
    pub fn barred(&self, now: Now, address: IpAddr) -> Option<Duration> {
        match self.book.added(now.mono, Subject::Address(client_prefix(address)))? {
            (Level::Blocked, until) => Some(until.saturating_sub(now.mono)),
            (Level::Deferred, _) => None,
        }
    }

    /// Decides, counts, and remembers.
    pub fn decide(&self, now: Now, zone: &ZoneGate, attempt: &Attempt<'_>) -> Decision {
        let Attempt {
            host,
            method,
            path,
            headers,
            ..
        } = *attempt;
        let cause = cause::cause(method, headers, host, zone.config.cookie.same_site);
        let exempt = cause::is_exempt(method, path, headers, &zone.config.pass);
        // Who comes back from a challenge is judged as what it asked for before.
        let answer = zone
            .hands_over()
            .then(|| external::Answer::of(attempt.target))
            .flatten();
        let to = answer.map(external::Answer::target);
        let path = to.as_deref().map(|to| Path::of(external::path_of(to)));
        let attempt = &match (&path, &to) {
            (Some(path), Some(target)) => Attempt {
                path,
                target,
                ..*attempt
            },
            _ => *attempt,
        };
        let case = Case {
            judge: self,
            now,
            zone,
            attempt,
            prefix: client_prefix(attempt.address),
            cause: Cause {
                own: cause.own && !exempt,
                ..cause
            },
            exempt,
            answer,
            crawler: zone
                .crawlers
                .signer(
                    (&self.buckets, now),
                    client_prefix(attempt.address),
                    (host, method, headers),
                )
                .or_else(|| attempt.crawler.map(Into::into)),
        };
        let (decision, outcome, kind) = case.decide();
        zone.counts.add(outcome, kind);
        match (decision, to) {
            (Decision::Admit(Admission { token, .. }), Some(to)) => Decision::Lead { to, token },
            (decision, _) => decision,
        }
    }
}

type Verdict = (Decision, Outcome, Kind);

impl Case<'_> {
    fn decide(&self) -> Verdict {
        let admit = |kind| (Decision::Admit(Admission::plain()), Outcome::Admitted, kind);
        if let Some(refused) = self.by_operator() {
            return refused;
        }
        let address = self.attempt.address.to_canonical();
        if self.zone.config.allow.iter().any(|network| network.contains(&address)) {
            return admit(Kind::Allow);
        }
        if self.matching().next().is_none() {
            return admit(Kind::None);
        }
        if self.zone.config.dry_run {
            // Nothing may differ from a zone without a gate: no token, no penalty, no fields.
            // Permits are held to be counted.
            return match self.ask(self.newcomer()) {
                Ok(passed) => self.admit(Passed { limit: None, ..passed }, Change::Keep),
                Err(_) => admit(Kind::None),
            };
        }
        if self.exempt {
            return self.passes_by();
        }
        let proof = self.attempt.work.and_then(work::proof);
        if let (Some(proof), []) = (proof, self.attempt.tokens)
            && proof.zeros < work::LEAST
        {
            // No script makes such an answer: it is told so by no more than a hash.
            let until = self.now.mono + self.zone.config.defer;
            return self.blocked(Subject::Address(self.prefix), until, None);
        }
        match self.best(proof.filter(|proof| proof.zeros >= work::LEAST)) {
            Some(best) if best.opened.pass.kind == pass::Kind::Seat => self.stranger(Some(best.opened.pass)),
            Some(best) => self.bearer(best),
            None => self.stranger(None),
        }
    }

    /// The rules that the request is asked by.
    fn matching(&self) -> impl Iterator<Item = &Rule> {
        let Attempt {
            method, path, headers, ..
        } = *self.attempt;
        let rules = self.zone.rules.iter();
        rules.filter(move |rule| rule::matches(&rule.matches, method, path, (headers, self.crawler.as_deref())))
    }

    /// Every genuine token that the request brought, of whatever zone.
    fn opened(&self) -> impl Iterator<Item = Opened> {
        let tokens = self.attempt.tokens.iter();
        tokens.filter_map(|text| self.judge.passes.open(self.now, self.attempt.address, text))
    }

    /// Of the tokens that are good here the best: who was let in, who has a seat, whose wait is
    /// over, whose is not.
    fn best(&self, proof: Option<work::Proof<'_>>) -> Option<Best> {
        let Self { judge, now, zone, .. } = self;
        let proven = proof.and_then(|proof| {
            let opened = judge.passes.open(*now, self.attempt.address, proof.token)?;
            let worked = matches!(opened.pass.kind, pass::Kind::Work(bits) if proof.zeros >= bits);
            worked.then_some(Best { opened, worked })
        });
        let of_zone = |opened: &Opened| opened.pass.zone == zone.id;
        let brought = self.opened().filter(of_zone).map(|opened| Best {
            worked: self.is_answered(&opened.pass),
            opened,
        });
        let proven = proven.filter(|best| of_zone(&best.opened));
        let good = proven.into_iter().chain(brought).filter(
            |Best {
                 opened: Opened { pass, home, .. },
                 ..
             }| {
                let until = now.mono + now.until_second(pass.expires);
                let client = (pass.client, pass.kind.is_known());
                *home || judge.inside.moves(now.mono, zone.id, client, self.prefix, until)
            },
        );
        good.max_by_key(|Best { opened, worked }| {
            let Opened { pass, early, home } = opened;
            let by_time = early.is_none() && pass.kind != pass::Kind::External;
            let over = pass.kind.is_wait() && (*worked || by_time) && !judge.passes.is_spent(pass.admission());
            let older = std::cmp::Reverse(pass.place);
            (pass.kind.is_known(), pass.kind.is_seat(), over, *home, older)
        })
    }

    /// Whether the service of a rule has let in the bearer of `pass`, by the answer that came.
    fn is_answered(&self, pass: &Pass) -> bool {
        let Some(answer) = self.answer.filter(|_| pass.kind == pass::Kind::External) else {
            return false;
        };
        let now = self.now.unix.as_secs();
        self.zone.rules.iter().any(|rule| match &rule.meter {
            Meter::External(service) => service.accepts(answer, pass, now),
            _ => false,
        })
    }

    /// The service that the request is handed to, by the rules that match it.
    fn service(&self) -> Option<&Arc<Service>> {
        self.matching().find_map(|rule| match &rule.meter {
            Meter::External(service) => Some(service),
            _ => None,
        })
    }

    /// The address that the bearer of `pass` is handed to.
    fn handed(&self, service: &Service, pass: &Pass) -> Box<str> {
        let Attempt {
            scheme, host, target, ..
        } = *self.attempt;
        let visit = external::Visit {
            scheme,
            host,
            target,
            zone: &self.zone.name,
        };
        service.question(pass, visit).into()
    }

    /// An operator's word holds for all behind an address, whatever they prove, and for a client by
    /// each of its names.
    fn by_operator(&self) -> Option<Verdict> {
        let Self {
            judge, now, attempt, ..
        } = self;
        if !judge.book.any_added() {
            return None;
        }
        let named = attempt.named.map(|named| named.client);
        let clients = named.into_iter().chain(self.opened().map(|opened| opened.pass.client));
        let subjects = std::iter::once(Subject::Address(self.prefix)).chain(clients.map(Subject::Client));
        let mut added = subjects.filter_map(|subject| judge.book.added(now.mono, subject));
        let (_, until) = added.find(|(level, _)| *level == Level::Blocked)?;
        let wait = until.saturating_sub(now.mono);
        Some((Decision::Block { wait, token: None }, Outcome::Blocked, Kind::Penalty))
    }

    fn newcomer(&self) -> Who {
        Who {
            prefix: self.prefix,
            client: None,
            seat: None,
            name: self.fresh(),
            mature: false,
            claim: Claim::None,
            vouched: false,
            exempt: self.exempt,
            counts: self.cause.own,
            neighbours: self.judge.neighbours.count(self.now.mono, self.prefix, None),
            opens: self.attempt.opens,
        }
    }

    fn ask(&self, who: Who) -> Result<Passed, Box<Denied>> {
        let asked = (who, self.attempt);
        policy::ask(&self.judge.buckets, self.now, self.zone, self.matching(), asked)
    }

    /// What cannot show a token and is not told to wait, but for limits on requests; nothing of it
    /// counts against anybody.
    fn passes_by(&self) -> Verdict {
        let subject = Subject::Address(self.prefix);
        if let Some((Level::Blocked, until)) = self.judge.book.penalty(self.now.mono, self.zone.id, subject) {
            return self.blocked(subject, until, None);
        }
        let who = self.newcomer();
        match self.ask(who) {
            Ok(passed) => self.admit(passed, Change::Keep),
            Err(denied) => self.deferred(subject, *denied, who.name, None),
        }
    }

    /// The id for a client that has none yet: that of its connection's ticket, so that both say the
    /// same.
    fn fresh(&self) -> u64 {
        let named = self.attempt.named.map(|named| named.client);
        named.unwrap_or_else(|| self.judge.passes.client())
    }

    /// `client` has proven itself by a wait that it kept: what is held against its address is eased
    /// at once if it is one more.
    fn seen(&self, client: u64) {
        let Self { judge, now, zone, .. } = self;
        let address = Subject::Address(self.prefix);
        if !judge.neighbours.seen(now.mono, self.prefix, client) {
            return;
        }
        if judge.book.penalty(now.mono, NODE, address).is_some() {
            judge.book.vouch(now.mono, zone.id, address, self.company(None));
        }
        if judge.book.any_network() {
            for network in prefixes::around(self.prefix) {
                let company = judge.neighbours.company_in(now.mono, network);
                let subject = Subject::Network(network.net);
                judge.book.vouch(now.mono, zone.id, subject, company);
            }
        }
    }

    /// Who else is behind the address, `except` that client.
    fn company(&self, except: Option<u64>) -> Company {
        self.judge.neighbours.company(self.now.mono, self.prefix, except)
    }

    /// Whether what comes too early is held against whoever sent it: only what is its own doing,
    /// from an address that is its own.
    fn holds_against(&self) -> bool {
        self.attempt.validated && self.cause.own
    }

    /// The rules said no. If it had been told to wait and the wait is not over, that counts. `name`
    /// is for who has none yet.
    fn deferred(&self, subject: Subject, denied: Denied, name: u64, bearing: Option<Bearing>) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        if !denied.holds {
            return self.told_without_a_token(denied);
        }
        let Some(due) = denied.due else {
            let wait = zone.terms.cap;
            return (Decision::Block { wait, token: None }, Outcome::Blocked, denied.kind);
        };
        let wait = now.until_second(due);
        let pass = bearing.map(|bearing| bearing.pass);
        let client = pass.map_or(name, |pass| pass.client);
        if self.holds_against() {
            let again = judge.book.told(now.mono, zone.id, subject).is_some();
            if again && let Offence::Strike(strike) = self.offend(subject, pass.as_ref()) {
                return self.struck(subject, strike, bearing);
            }
            if !again && subject == Subject::Address(self.prefix) && self.is_overrun() {
                let strike = judge
                    .book
                    .strike(now.mono, zone.id, (subject, self.prefix), 0, zone.terms);
                return self.struck(subject, strike, bearing);
            }
            judge
                .book
                .tell(now.mono, zone.id, subject, self.prefix, now.mono + wait);
            if pass.is_none() {
                judge.neighbours.told(now.mono, self.prefix, client, now.mono + wait);
            }
        }
        if denied.work.is_none() && denied.external.is_none() {
            // Who solves a challenge comes back before its wait is over.
            self.hold(wait);
        }
        let told = self.told_by(due, &denied, client, bearing);
        let handed = told.zip(denied.external.as_ref());
        let deferral = Deferral {
            wait,
            kind: denied.kind,
            rule: denied.rule.clone(),
            token: told.map(|pass| self.mint(&pass)),
            limit: denied.limit,
            ahead: denied.ahead,
            estimate: denied.estimate,
            work: denied.work,
            handed: handed.map(|(pass, service)| self.handed(service, &pass)),
        };
        (Decision::Defer(deferral), Outcome::Deferred, denied.kind)
    }

    /// The pass of a wait until `due`; `None` for who holds a better one, and for who is not
    /// counted.
    fn told_by(&self, due: u32, denied: &Denied, client: u64, bearing: Option<Bearing>) -> Option<Pass> {
        let known = bearing.is_some_and(|bearing| bearing.known);
        if known || self.exempt || !(self.cause.own || self.cause.document) {
            return None;
        }
        // The wait goes on, or it is another one.
        let old = bearing.filter(|bearing| bearing.mature).map(|bearing| bearing.pass);
        let (kind, place) = match (denied.place, old) {
            (Some(place), _) => (pass::Kind::Place, place),
            // It has answered; what is left is to wait.
            (None, Some(old)) if old.kind == pass::Kind::External => (pass::Kind::Wait, old.place),
            (None, Some(old)) => (old.kind, old.place),
            (None, None) if denied.external.is_some() => (pass::Kind::External, self.now.unix_ms()),
            (None, None) => (
                denied.work.map_or(pass::Kind::Wait, pass::Kind::Work),
                self.now.unix_ms(),
            ),
        };
        let life = u32::try_from(self.zone.config.token_life.as_secs()).unwrap_or(u32::MAX);
        Some(Pass {
            client,
            zone: self.zone.id,
            not_before: due,
            expires: due.saturating_add(life),
            kind,
            place,
            strikes: bearing.map_or(0, |bearing| bearing.pass.strikes),
            early: 0,
        })
    }

    /// Over QUIC the kernel keeps to the wait what shows the client's tokens, and nobody else
    /// behind the address.
    fn hold(&self, wait: Duration) {
        let now = self.now.mono;
        if let (true, true, Some(named)) = (self.attempt.quic, self.holds_against(), self.attempt.named) {
            self.judge.book.hold(now, named.client, now + wait);
        }
    }

    /// Counts an attempt that should not have come. An address has the grace of all clients known
    /// behind it; one that stands for nobody else has had it when its penalty begins.
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
        let offender = Offender {
            subject,
            from: self.prefix,
            carried: pass.map_or((0, 0), |pass| (pass.early, pass.strikes)),
        };
        match judge.book.offend(now.mono, zone.id, offender, terms) {
            Offence::Grace(_) if matches!(subject, Subject::Address(_)) && self.is_crowded(zone.terms.grace) => judge
                .book
                .offend(now.mono, zone.id, offender, Terms { grace: 0, ..terms }),
            offence => offence,
        }
    }

    /// Counts an attempt within the address's own grace for the networks around it, and says if
    /// they have none left: an IPv6 /48 and an IPv4 /24 have in a minute that of 32 clients, a /56
    /// that of 8, and as much more for each client that has proven itself there. One address uses
    /// up no more of it than its own grace.
    fn is_crowded(&self, grace: u32) -> bool {
        let Self { judge, now, .. } = self;
        let mut crowded = false;
        for network in prefixes::around(self.prefix) {
            let take = self.of_network(network.key, "early", grace.saturating_mul(network.clients));
            crowded |= matches!(judge.buckets.ask(now.mono, take), Taken::No { .. });
        }
        crowded
    }

    /// Counts one newcomer more that is told to wait in the networks around it, and says if one of
    /// them has had too many that did not come back: an IPv6 /48 has 1,024 of them at once and in a
    /// minute, a /56 256, and as many more for each client that has proven itself there. Who has
    /// 65,536 prefixes comes from a fresh one each time, and would never be early.
    fn is_overrun(&self) -> bool {
        let Self { judge, now, .. } = self;
        let taken = self.unkept().into_iter().map(|take| judge.buckets.ask(now.mono, take));
        // All are asked.
        taken.filter(|taken| matches!(taken, Taken::No { .. })).count() > 0
    }

    /// A wait is kept: it is one that came back.
    fn came_back(&self) {
        for take in self.unkept() {
            self.judge.buckets.refund(take);
        }
    }

    /// The counts of waits that were told in the networks around the address.
    fn unkept(&self) -> Vec<Take> {
        prefixes::around(self.prefix)
            .filter_map(|network| Some(self.of_network(network.key, "unkept", network.unkept?)))
            .collect()
    }

    /// What a network has in a minute and at once of what is counted as `what`: `each`, and as much
    /// more for each client that has proven itself there.
    fn of_network(&self, network: IpAddr, what: &'static str, each: u32) -> Take {
        let Self { judge, now, zone, .. } = self;
        let proven = judge.neighbours.count(now.mono, network, None);
        let most = each.saturating_mul(proven.saturating_add(1));
        let key = judge.buckets.key((zone.id, network, what));
        Take::client(key, Rate::new(most, CROWDED, most))
    }

    /// A strike: the penalty for the client, by each name that it has proven, and for its address,
    /// since a SYN names no client; over QUIC a client with a name answers for itself alone.
    fn struck(&self, subject: Subject, strike: Strike, bearing: Option<Bearing>) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let named = self.attempt.named.map(|named| named.client);
        let pass = bearing.map(|bearing| bearing.pass);
        let others = self.company(pass.map(|pass| pass.client).or(named));
        let penalise = |subject| {
            let terms = (strike, others);
            let feeds = !self.attempt.relayed;
            judge
                .book
                .penalise(now.mono, zone.id, (subject, self.prefix), terms, feeds)
        };
        let (_, until) = penalise(subject);
        let address = Subject::Address(self.prefix);
        let proven = self.attempt.named.filter(|named| named.proven || pass.is_some());
        let name = proven.map(|named| Subject::Client(named.client));
        let alone = self.attempt.quic && subject != address;
        for more in name.into_iter().chain((!alone).then_some(address)) {
            if more != subject {
                penalise(more);
            }
        }
        if !alone {
            self.strike_networks();
        }
        // Of what was in force before, too.
        let wait = until.saturating_sub(now.mono);
        let token = bearing.map(|bearing| self.mint(&self.punished(bearing, wait, strike.strikes)));
        (Decision::Block { wait, token }, Outcome::Blocked, Kind::Penalty)
    }

    /// The address was struck: it counts as one in the networks around it, once in a while, and
    /// with many such a network is struck itself. From then on each further one strikes it again.
    /// Clients that have proven themselves in a network have it bear as many more.
    fn strike_networks(&self) {
        let Self { judge, now, zone, .. } = self;
        let once = Rate::new(1, OFFENDING, 1);
        let key = judge.buckets.key((zone.id, self.prefix, "offender"));
        if let Taken::No { .. } = judge.buckets.take(now.mono, key, once, Start::Full) {
            return;
        }
        for network in prefixes::around(self.prefix) {
            let company = judge.neighbours.company_in(now.mono, network);
            let most = network.offenders.saturating_mul(company.proven.saturating_add(1));
            let key = judge.buckets.key((zone.id, network.key, "offenders"));
            let rate = Rate::new(most, OFFENDING, most);
            if let Taken::Yes { .. } = judge.buckets.take(now.mono, key, rate, Start::Full) {
                continue;
            }
            let subject = (Subject::Network(network.net), self.prefix);
            let strike = judge.book.strike(now.mono, zone.id, subject, 0, zone.terms);
            let feeds = !self.attempt.relayed;
            judge
                .book
                .penalise(now.mono, zone.id, subject, (strike, company), feeds);
        }
    }

    /// The pass of a client that was struck: a wait is told for longer, and what it was given stays
    /// given; other nodes learn of its strikes by it.
    fn punished(&self, Bearing { pass, .. }: Bearing, wait: Duration, strikes: u8) -> Pass {
        if !pass.kind.is_wait() {
            return Pass { strikes, ..pass };
        }
        let not_before = self.now.second_after(wait);
        let life = u32::try_from(self.zone.config.token_life.as_secs()).unwrap_or(u32::MAX);
        Pass {
            not_before,
            expires: not_before.saturating_add(life),
            strikes,
            early: 0,
            ..pass
        }
    }

    /// A penalty is in force, and here it is again: that counts too.
    fn blocked(&self, subject: Subject, until: Duration, bearing: Option<Bearing>) -> Verdict {
        let pass = bearing.map(|bearing| bearing.pass);
        if self.holds_against()
            && let Offence::Strike(strike) = self.offend(subject, pass.as_ref())
        {
            return self.struck(subject, strike, bearing);
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
            debts: passed.debts,
            ..Admission::plain()
        };
        (Decision::Admit(admission), Outcome::Admitted, kind)
    }

    /// A token that is good from now on.
    fn write(&self, kind: pass::Kind, client: u64, life: Duration, (place, strikes): (u64, u8)) -> Written {
        self.mint(&Pass {
            client,
            zone: self.zone.id,
            not_before: self.now.second_after(Duration::ZERO).saturating_sub(1),
            expires: self.now.second_after(life),
            kind,
            place,
            strikes,
            early: 0,
        })
    }

    /// As a cookie only for a request that would have brought a cookie, if there was one: no token
    /// takes a better one's place.
    fn mint(&self, pass: &Pass) -> Written {
        Written {
            text: self.judge.passes.mint(self.now, self.attempt.address, pass),
            life: self.now.until_second(pass.expires),
            cookie: self.cause.carries_cookies,
        }
    }
}
