//! The rules in front of a handler: takes requests that passed the gate, hands on what the rules
//! leave of them, and answers the others itself.

use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, Uri};
use prometheus_client::registry::Registry;

use super::auth::{self, Credentials, Doorman};
use super::change::{Change, Given};
use super::evaluate::{Asks, Known, Made, Shown, evaluate};
use super::facts::Facts;
use super::forward::{self, Said};
use super::jwt::Claims;
use super::keyring::{Held, Keyrings};
use super::metrics::Metrics;
use super::mirror::Mirrors;
use crate::base::clock::UnixTime;
use crate::config::cache::CacheRule;
use crate::config::pool::Mirror;
use crate::config::rule::jwt::KeyServer;
use crate::config::rule::{Basic, Forward, Rules};
use crate::gate::account::{Account, Exceeded};
use crate::http::error_page::Asked as Paged;
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Request, Response};
use crate::http::stored::ByRule;
use crate::zones::Zone;
use crate::zones::path::Path;

/// What the rules of all workers share.
#[derive(Clone)]
pub struct Shared {
    metrics: Metrics,
    doorman: Arc<Doorman>,
    keyrings: Arc<Keyrings>,
}

impl Shared {
    /// The node's; names its figures in `registry`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(registry: &mut Registry) -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            metrics: Metrics::register(registry),
            doorman: Arc::new(Doorman::new()?),
            keyrings: Arc::default(),
        })
    }
}

/// `next` behind the rules of each zone.
pub struct Ruled {
    next: Arc<dyn Handler>,
    shared: Shared,
    mirrors: Mirrors,
}

/// Where a request goes.
struct Way {
    uncached: bool,
    cache: Option<Arc<CacheRule>>,
    pool: Option<Arc<str>>,
    mirror: Option<Mirror>,
}

/// What one look at the rules came to.
enum Outcome {
    /// The rules have said all.
    Done(Judged),
    /// These credentials are to be checked first.
    Check(Arc<Basic>, Option<Arc<Credentials>>),
    /// This service is to be asked first, with these changes of what it is sent.
    Ask(Arc<Forward>, Vec<Change>),
    /// These keys are to be asked for first.
    Fetch(KeyServer),
}

/// What services have said of one request, and what they were asked with.
type Answers = Vec<(Arc<Forward>, Vec<Change>, Arc<Said>)>;

/// What is known of one request.
struct OfRequest<'a> {
    doorman: &'a Doorman,
    credentials: Option<&'a Credentials>,
    keyrings: &'a Keyrings,
    zone: &'a Zone,
    now: Instant,
    answers: &'a Answers,
}

impl<'r> Known<'r> for OfRequest<'_> {
    fn password(&self, basic: &'r Arc<Basic>) -> Shown<'r> {
        let Some(credentials) = self.credentials else {
            return Shown::Wrong;
        };
        match self.doorman.known(basic, credentials, self.now) {
            None => Shown::Unchecked,
            Some(false) => Shown::Wrong,
            Some(true) => Shown::Right(auth::user(basic, credentials)),
        }
    }

    fn keys(&self, server: &'r KeyServer) -> Held {
        self.keyrings.held(self.zone, server, self.now)
    }

    fn said(&self, forward: &'r Arc<Forward>, with: &[Change]) -> Option<Arc<Said>> {
        // Two rules that ask the same are told the same.
        let mut answers = self.answers.iter();
        let same = answers.find(|(of, sent, _)| *of == *forward && *sent == *with);
        same.map(|(.., said)| said.clone())
    }
}

/// Times that the rules are looked at for one request.
const ROUNDS: u8 = 9;

/// What becomes of a request.
struct Judged {
    /// It is answered; otherwise it goes on.
    answer: Option<Given>,
    /// Of the response.
    changes: Vec<Change>,
    /// A copy that is to be made: the bounds, and the zone as its pool serves it.
    copy: Option<(Mirror, Arc<Zone>)>,
    /// What its verified token says.
    claims: Option<Arc<Claims>>,
}

impl Ruled {
    /// Puts rules in front of `next`.
    pub fn new(next: Arc<dyn Handler>, shared: Shared) -> Self {
        Self {
            next,
            shared,
            mirrors: Mirrors::default(),
        }
    }

    async fn ruled(&self, rules: Arc<Rules>, mut request: Request) -> Result<Response, Failure> {
        let judged = self.judged(&rules, &mut request).await?;
        let Judged {
            answer,
            changes,
            copy,
            claims,
        } = judged;
        if let Some(Err(exceeded)) = claims.map(|claims| counted(&request, &claims)) {
            // The gate answers in its place.
            let mut response = Response::new(StatusCode::TOO_MANY_REQUESTS, "");
            response.head.extensions.insert(exceeded);
            return Ok(response);
        }
        if let Some((mirror, zone)) = copy {
            let (next, metrics) = (&self.next, &self.shared.metrics);
            self.mirrors.copy(&mirror, zone, &mut request, (next, metrics)).await?;
        }
        let mut response = match answer {
            Some(Given {
                status,
                headers,
                body,
                phrase,
            }) => {
                let mut response = Response::new(status, body);
                response.head.headers = headers;
                if let Some(paged) = Paged::of(&request.exchange, &request.head.headers).filter(|_| phrase) {
                    paged.show(&mut response, false);
                }
                response
            }
            None => self.answered(request).await?,
        };
        for change in changes {
            change.apply(&mut response.head.headers);
        }
        Ok(response)
    }

    /// What the rooms after the rules say, or the zone's page for that.
    async fn answered(&self, request: Request) -> Result<Response, Failure> {
        let paged = Paged::of(&request.exchange, &request.head.headers);
        let mut response = self.next.handle(request).await?;
        if let Some(paged) = paged {
            paged.show(&mut response, true);
        }
        Ok(response)
    }

    /// What the rules say in the end, when all is known that they ask for.
    async fn judged(&self, rules: &Rules, request: &mut Request) -> Result<Judged, Failure> {
        let mut answers = Answers::new();
        for _ in 0..ROUNDS {
            match self.apply(rules, request, &answers) {
                Outcome::Done(judged) => return Ok(judged),
                Outcome::Check(basic, Some(credentials)) => self.shared.doorman.check(&basic, &credentials).await?,
                // Whoever shows none is told so; here nothing is known of what was not shown.
                Outcome::Check(_, None) => break,
                Outcome::Ask(forward, with) => {
                    let said = forward::ask(&forward, &with, (&request.head, &request.exchange), &self.next).await;
                    self.shared.metrics.asked(&request.exchange.zone.name, said.as_ref());
                    answers.push((forward, with, Arc::new(said?)));
                }
                Outcome::Fetch(server) => {
                    let of = (&request.head, &request.exchange);
                    self.shared.keyrings.fetch(&server, of, &self.next).await?;
                }
            }
        }
        // A verdict that others push out at once is asked for again, but not for ever.
        Err(Failure::new(
            Reason::Overload,
            "too many passwords are being checked, or too many rules that ask a service fit the request",
        ))
    }

    /// Changes the request as the rules say; the answer if they give one, and the changes of the
    /// response.
    fn apply(&self, rules: &Rules, request: &mut Request, answers: &Answers) -> Outcome {
        let made = {
            let path = request.head.path();
            let credentials = Credentials::of(&request.head.headers);
            let known = OfRequest {
                doorman: &self.shared.doorman,
                keyrings: &self.shared.keyrings,
                zone: &request.exchange.zone,
                credentials: credentials.as_ref(),
                now: Instant::now(),
                answers,
            };
            let mut made = evaluate(rules, &facts(request, &path), &known);
            match made.asks.take() {
                Some(Asks::Service(forward, with)) => return Outcome::Ask(forward.clone(), with),
                Some(Asks::Keys(server)) => return Outcome::Fetch(server.clone()),
                Some(Asks::Password(basic)) => return Outcome::Check(basic.clone(), credentials.map(Arc::new)),
                None => {}
            }
            self.count(&request.exchange.zone.name, &made);
            for server in &made.servers {
                let of = (&request.head, &request.exchange);
                self.shared.keyrings.refresh(server, of, &self.next);
            }
            let way = Way {
                uncached: made.passes_by(),
                cache: made.cache.map(|(_, cache)| cache.clone()),
                pool: made.pool.cloned(),
                mirror: made.mirror.cloned(),
            };
            (
                made.answer,
                made.target,
                way,
                (made.request, made.response),
                made.claims,
            )
        };
        let (answer, target, way, (of_request, changes), claims) = made;
        let mut copy = None;
        if answer.is_none() {
            if let Some(target) = target {
                let mut parts = http::uri::Parts::default();
                parts.path_and_query = Some(target);
                // A path and a query alone are a target in origin form.
                if let Ok(uri) = Uri::from_parts(parts) {
                    request.head.uri = uri;
                }
            }
            for change in of_request {
                change.apply(&mut request.head.headers);
            }
            let zone = request.exchange.zone.clone();
            copy = way.mirror.and_then(|mirror| {
                let pool = zone.sent_to(&mirror.to)?;
                // What comes of a copy is nobody's, and is not stored.
                Some((mirror, pool.uncached.as_ref().unwrap_or(pool).clone()))
            });
            let zone = match &way.pool {
                Some(pool) => zone.sent_to(pool).cloned().unwrap_or(zone),
                None => zone,
            };
            request.exchange.zone = match &zone.uncached {
                Some(uncached) if way.uncached => uncached.clone(),
                _ => zone,
            };
            if let Some(rule) = way.cache {
                request.head.extensions.insert(ByRule(rule));
            }
        }
        Outcome::Done(Judged {
            answer,
            changes,
            copy,
            claims,
        })
    }

    fn count(&self, zone: &Arc<str>, made: &Made<'_>) {
        for rule in &made.rules {
            self.shared.metrics.matched(zone, &rule.name);
        }
        for token in &made.tokens {
            self.shared.metrics.token(zone, *token);
        }
    }
}

impl Handler for Ruled {
    fn handle(&self, request: Request) -> Answer<'_> {
        let zone = &request.exchange.zone;
        match zone.rules.clone() {
            None if zone.error_pages.is_none() => self.next.handle(request),
            None => Box::pin(self.answered(request)),
            Some(rules) => Box::pin(self.ruled(rules, request)),
        }
    }
}

/// Asks the gate's limits by claims.
///
/// # Errors
/// One is reached.
fn counted(request: &Request, claims: &Claims) -> Result<(), Exceeded> {
    let Some(account) = request.head.extensions.get::<Account>() else {
        return Ok(());
    };
    let texts = claims.texts();
    account.claimed(|name| texts.get(name).map(|text| &**text))
}

fn facts<'a>(request: &'a Request, path: &'a Path<'a>) -> Facts<'a> {
    let peer = &request.exchange.peer;
    let handshake = peer.handshake.as_ref();
    Facts {
        method: &request.head.method,
        path,
        query: request.head.uri.query().unwrap_or_default(),
        target: request.head.uri.path_and_query().map_or("/", |target| target.as_str()),
        authority: &request.exchange.host,
        headers: &request.head.headers,
        client: peer.client.ip(),
        version: request.head.version,
        secure: peer.is_secure(),
        tls: handshake.map(|handshake| handshake.version),
        certificate: handshake.and_then(|handshake| handshake.certificate.as_deref()),
        zone: &request.exchange.zone.name,
        request_id: request.exchange.id.hex(),
        user: "",
        claims: None,
        now: UnixTime::now(),
    }
}

#[cfg(test)]
mod tests;
