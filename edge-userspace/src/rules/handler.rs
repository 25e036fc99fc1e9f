//! The rules in front of a handler: takes requests that passed the gate, hands on what the rules
//! leave of them, and answers the others itself.

use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, Uri};
use prometheus_client::registry::Registry;

use super::auth::{self, Credentials, Doorman};
use super::evaluate::{Change, Given, Made, Shown, evaluate};
use super::facts::Facts;
use super::jwt::Claims;
use super::metrics::Metrics;
use super::mirror::Mirrors;
use crate::base::clock::UnixTime;
use crate::config::pool::Mirror;
use crate::config::rule::{Basic, Rules};
use crate::gate::account::{Account, Exceeded};
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Request, Response};
use crate::zones::Zone;
use crate::zones::path::Path;

/// What the rules of all workers share.
#[derive(Clone)]
pub struct Shared {
    metrics: Metrics,
    doorman: Arc<Doorman>,
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
    pool: Option<Arc<str>>,
    mirror: Option<Mirror>,
}

/// What one look at the rules came to.
enum Outcome {
    /// The rules have said all.
    Done(Judged),
    /// These credentials are to be checked first.
    Check(Arc<Basic>, Arc<Credentials>),
}

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
        let mut checks = 0;
        let judged = loop {
            match self.apply(&rules, &mut request) {
                Outcome::Done(judged) => break judged,
                // A verdict that others push out at once is asked for again, but not for ever.
                Outcome::Check(..) if checks > 8 => {
                    return Err(Failure::new(Reason::Overload, "too many passwords are being checked"));
                }
                Outcome::Check(basic, credentials) => {
                    checks += 1;
                    self.shared.doorman.check(&basic, &credentials).await?;
                }
            }
        };
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
            Some(Given { status, headers, body }) => {
                let mut response = Response::new(status, body);
                response.head.headers = headers;
                response
            }
            None => self.next.handle(request).await?,
        };
        for change in changes {
            change.apply(&mut response.head.headers);
        }
        Ok(response)
    }

    /// Changes the request as the rules say; the answer if they give one, and the changes of the
    /// response.
    fn apply(&self, rules: &Rules, request: &mut Request) -> Outcome {
        let made = {
            let path = request.head.path();
            let credentials = Credentials::of(&request.head.headers);
            let now = Instant::now();
            let made = evaluate(rules, &facts(request, &path), &|basic| match &credentials {
                None => Shown::Wrong,
                Some(credentials) => match self.shared.doorman.known(basic, credentials, now) {
                    None => Shown::Unchecked,
                    Some(false) => Shown::Wrong,
                    Some(true) => Shown::Right(auth::user(basic, credentials)),
                },
            });
            if let (Some(basic), Some(credentials)) = (made.asks.cloned(), credentials) {
                return Outcome::Check(basic, Arc::new(credentials));
            }
            self.count(&request.exchange.zone.name, &made);
            let way = Way {
                uncached: made.uncached,
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
        match request.exchange.zone.rules.clone() {
            None => self.next.handle(request),
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
