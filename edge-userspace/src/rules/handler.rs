//! The rules in front of a handler: takes requests that passed the gate, hands on what the rules
//! leave of them, and answers the others itself.

use std::sync::Arc;
use std::time::Instant;

use http::Uri;
use prometheus_client::registry::Registry;

use super::auth::{self, Credentials, Doorman};
use super::evaluate::{Change, Given, Shown, evaluate};
use super::facts::Facts;
use super::metrics::Metrics;
use crate::config::rule::{Basic, Rules};
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Request, Response};
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
}

/// What one look at the rules came to.
enum Outcome {
    /// The request goes on, or is answered; then the response is changed.
    Done(Option<Given>, Vec<Change>),
    /// These credentials are to be checked first.
    Check(Arc<Basic>, Arc<Credentials>),
}

impl Ruled {
    /// Puts rules in front of `next`.
    pub fn new(next: Arc<dyn Handler>, shared: Shared) -> Self {
        Self { next, shared }
    }

    async fn ruled(&self, rules: Arc<Rules>, mut request: Request) -> Result<Response, Failure> {
        let mut checks = 0;
        let (answer, changes) = loop {
            match self.apply(&rules, &mut request) {
                Outcome::Done(answer, changes) => break (answer, changes),
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
            for rule in &made.rules {
                self.shared.metrics.matched(&request.exchange.zone.name, &rule.name);
            }
            (made.answer, made.target, made.uncached, made.request, made.response)
        };
        let (answer, target, uncached, changes, response) = made;
        if answer.is_none() {
            if let Some(target) = target {
                let mut parts = http::uri::Parts::default();
                parts.path_and_query = Some(target);
                // A path and a query alone are a target in origin form.
                if let Ok(uri) = Uri::from_parts(parts) {
                    request.head.uri = uri;
                }
            }
            for change in changes {
                change.apply(&mut request.head.headers);
            }
            if let Some(zone) = request.exchange.zone.uncached.clone().filter(|_| uncached) {
                request.exchange.zone = zone;
            }
        }
        Outcome::Done(answer, response)
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
    }
}

#[cfg(test)]
mod tests;
