//! Who holds a genuine token of this zone: the proof that it was told to wait, or that it was let
//! in after a wait.

use std::time::Duration;

use edge_common::token::SKEW;

use super::super::pass::{self, Opened, Pass, Spent};
use super::super::penalty::Offence;
use super::super::policy::{Denied, Passed, Who};
use super::super::queue::Claim;
use super::super::verdict::{Change, Decision, Deferral};
use super::super::work;
use super::{Bearing, Best, Case, Kind, Outcome, Verdict};
use crate::base::penalty::Subject;

/// Who is told to come then is let in so much before (`edge_common::token`).
const TOLERANCE: Duration = Duration::from_secs(SKEW);

impl Case<'_> {
    /// Someone with a genuine token of this zone. What the gate holds against an address is not
    /// held against those who prove themselves.
    pub(super) fn bearer(&self, Best { opened, worked }: Best) -> Verdict {
        let Opened { pass, early, home } = opened;
        let Self { judge, now, zone, .. } = self;
        let subject = Subject::Client(pass.client);
        let spent = pass.kind.is_wait() && judge.passes.is_spent(pass.admission());
        let bearing = Bearing {
            pass,
            known: pass.kind.is_known() || spent && self.was_admitted(pass.client),
            mature: pass.kind.is_wait() && !spent && (worked || pass.kind != pass::Kind::External),
        };
        if let Some((_, until)) = judge.book.penalty(now.mono, zone.id, subject) {
            return self.blocked(subject, until, Some(bearing));
        }
        if bearing.mature && worked {
            if let pass::Kind::Work(_) = pass.kind {
                work::solved(&judge.buckets, zone.id, self.prefix);
            }
        } else if pass.kind.is_wait() && !spent {
            // An older token of the same wait is early, too, when the client has been told to come
            // later since.
            let told = judge.book.told(now.mono, zone.id, subject);
            let later = told
                .map(|told| told.saturating_sub(now.mono))
                .filter(|left| *left > TOLERANCE);
            if let Some(left) = early.or(later) {
                return self.early(subject, bearing, left);
            }
        }
        self.settled(bearing, home)
    }

    /// The wait is over, or has been before.
    fn settled(&self, bearing: Bearing, home: bool) -> Verdict {
        let Self { judge, now, zone, .. } = self;
        let Bearing { pass, known, mature } = bearing;
        let subject = Subject::Client(pass.client);
        // Who was let in once and told to wait since has kept that wait, too, without another
        // token.
        let kept = mature || known && judge.book.waited(now.mono, zone.id, subject);
        if kept {
            judge.book.behaved(zone.id, subject);
        }
        if mature && home {
            self.came_back();
        }
        let who = Who {
            client: (known || mature).then_some(pass.client),
            name: pass.client,
            mature: kept,
            claim: match pass.kind {
                pass::Kind::Place if mature => Claim::Place {
                    place: pass.place,
                    due: pass.not_before,
                },
                pass::Kind::Session => Claim::Seat { since: pass.place },
                _ => Claim::None,
            },
            counts: true,
            ..self.newcomer()
        };
        let passed = match self.ask(who) {
            Ok(passed) => passed,
            Err(denied) => return self.deferred(subject, *denied, pass.client, Some(bearing)),
        };
        if mature {
            match judge
                .passes
                .spend(*now, zone.id, pass.admission(), self.last_end(&pass))
            {
                Spent::Now => {}
                Spent::Before => {
                    // Another request with it was faster.
                    passed.give_back(&judge.buckets);
                    let known = self.was_admitted(pass.client);
                    return self.settled(
                        Bearing {
                            known,
                            mature: false,
                            pass,
                        },
                        home,
                    );
                }
                Spent::Full => {
                    let denied = self.full(&passed);
                    passed.give_back(&judge.buckets);
                    return self.deferred(subject, denied, pass.client, Some(bearing));
                }
            }
        }
        if known || mature {
            let name = self.attempt.named.map(|named| named.client);
            let until = now.mono + zone.config.token_life;
            judge
                .inside
                .admit(now.mono, zone.id, pass.client, name, self.prefix, until);
            // Elsewhere it has shown nothing but that it holds the token.
            if home {
                self.seen(pass.client);
            }
        }
        let token = self.renewed(bearing, &passed);
        self.admit(passed, token)
    }

    /// When the last token of a wait ends that may be told again after this one was written.
    fn last_end(&self, pass: &Pass) -> u32 {
        let again = self.zone.config.token_life + self.zone.terms.cap;
        let again = u32::try_from(again.as_secs()).unwrap_or(u32::MAX);
        pass.expires.saturating_add(again)
    }

    /// There is no room to remember that its wait was used: it keeps it.
    fn full(&self, passed: &Passed) -> Denied {
        Denied {
            kind: passed.kind.unwrap_or(Kind::None),
            rule: "used_tokens".into(),
            due: Some(self.now.second_after(self.zone.config.defer)),
            place: None,
            ahead: None,
            estimate: None,
            limit: None,
            holds: true,
            work: None,
            external: None,
        }
    }

    /// What an admitted bearer holds from now on.
    fn renewed(&self, Bearing { pass, known, mature }: Bearing, passed: &Passed) -> Change {
        let (kind, life) = match passed.seat {
            _ if !known && !mature => return Change::Keep,
            Some((_, life)) => (pass::Kind::Session, life),
            None if pass.kind == pass::Kind::Session => return Change::Keep,
            None => (pass::Kind::Known, self.zone.config.token_life),
        };
        let fresh = self.now.until_second(pass.expires) > life / 2;
        if !mature && kind == pass.kind && fresh {
            return Change::Keep;
        }
        let since = match pass.kind {
            pass::Kind::Session => pass.place,
            _ => self.now.unix_ms(),
        };
        Change::Set(self.write(kind, pass.client, life, (since, pass.strikes)))
    }

    /// It holds the proof that it was told to wait, and did not.
    fn early(&self, subject: Subject, bearing: Bearing, left: Duration) -> Verdict {
        let mut carried = bearing.pass;
        if self.holds_against() {
            match self.offend(subject, Some(&bearing.pass)) {
                Offence::Grace(attempts) => carried.early = u8::try_from(attempts).unwrap_or(u8::MAX),
                Offence::Strike(strike) => return self.struck(subject, strike, Some(bearing)),
            }
        }
        // It may be an older token of its wait than the last.
        carried.not_before = carried.not_before.max(self.now.second_after(left));
        let work = match carried.kind {
            pass::Kind::Work(bits) => Some(bits),
            _ => None,
        };
        let service = (carried.kind == pass::Kind::External).then(|| self.service()).flatten();
        if work.is_none() && service.is_none() {
            self.hold(left);
        }
        let deferral = Deferral {
            wait: left,
            kind: Kind::Penalty,
            rule: "early".into(),
            token: self.cause.own.then(|| self.mint(&carried)),
            limit: None,
            ahead: None,
            estimate: None,
            work,
            handed: service
                .filter(|_| self.cause.own)
                .map(|service| self.handed(service, &carried)),
        };
        (Decision::Defer(deferral), Outcome::Deferred, Kind::Penalty)
    }

    /// `client` was let in after a wait, and its token has not ended.
    fn was_admitted(&self, client: u64) -> bool {
        let Self { judge, now, zone, .. } = self;
        judge.inside.named(now.mono, zone.id, client) == Some(client)
    }
}
