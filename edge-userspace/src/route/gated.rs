//! The gate in front of a handler: takes requests from `http` as they come through the door, asks
//! the gate, hands admitted ones on without their token and answers the others itself.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Method, Version};
use http_body::{Body as _, Frame, SizeHint};

use crate::config::gate::Cookie;
use crate::gate::account::{Account, Exceeded};
use crate::gate::answer::{self, Asked};
use crate::gate::concurrency::Permit;
use crate::gate::cookie;
use crate::gate::handler::Gate;
use crate::gate::page::Template;
use crate::gate::policy::Limit;
use crate::gate::verdict::{Admitted, Attempt, Decision, Named, Ungated};
use crate::gate::zone::ZoneGate;
use crate::http::body::{Body, BodyError};
use crate::http::handler::{Answer, Failure, Front, Handler, Reason};
use crate::http::message::{CloseAfter, Request, Response, Unjudged};

/// `next` behind the gate.
pub struct Gated {
    gate: Arc<Gate>,
    next: Arc<dyn Handler>,
    connections: Connections,
}

impl Gated {
    /// Puts `gate` in front of `next`.
    pub fn new(gate: Arc<Gate>, next: Arc<dyn Handler>) -> Self {
        Self {
            gate,
            next,
            connections: Connections::new(),
        }
    }

    async fn judged(&self, zone: &ZoneGate, asked: Unjudged) -> Result<Response, Failure> {
        // No copy may use up a client's token, count for it or against it: the client has to be
        // there.
        let peer = asked.request().exchange.peer.clone();
        let proven = peer.proven().await;
        proven.map_err(|gone| Failure::new(Reason::ClientGone, gone.to_string()))?;
        let claimed = zone.claimed(&asked.request().head.headers);
        let crawler = self.gate.crawler(claimed, peer.client.ip()).await;
        let request = asked.request();
        let by_field = cookie::keeps_by_field(&request.head.headers);
        let own = peer.handshake.as_ref().filter(|_| peer.via.is_none());
        let decision = {
            let head = &request.head;
            self.gate.decide(
                zone,
                &Attempt {
                    address: peer.client.ip(),
                    // By the handshake, which is over.
                    validated: true,
                    relayed: peer.via.is_some(),
                    opens: self.connections.is_first((peer.client, peer.accepted)),
                    host: &request.exchange.host,
                    scheme: peer.scheme(),
                    target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
                    crawler: crawler.as_deref(),
                    method: &head.method,
                    path: &head.path(),
                    headers: &head.headers,
                    tokens: &cookie::tokens(&head.headers),
                    work: cookie::work(&head.headers),
                    // A proxy's connection says nothing of the clients whose requests it carries.
                    named: own.map(|handshake| Named {
                        client: handshake.client,
                        proven: handshake.known,
                    }),
                    quic: head.version == Version::HTTP_3 && peer.via.is_none(),
                },
            )
        };
        match decision {
            Decision::Admit(mut admission) => {
                let mut request = asked.admit(admission.proof);
                cookie::strip(&mut request.head.headers);
                let account = self.gate.account(&mut admission);
                let asker = account.as_ref().map(|_| Asker::of(&request));
                if let Some(account) = &account {
                    request.head.extensions.insert(account.clone());
                }
                let answered = self.next.handle(request).await;
                let limits = account.map(|account| settled(&account, answered.as_ref().ok()));
                let mut response = answered?;
                let exceeded = response.head.extensions.remove::<Exceeded>();
                if let (Some(Exceeded(deferral)), Some(asker)) = (exceeded, asker) {
                    return Ok(self.told(&asker, zone.cookie(), |asked| {
                        answer::deferral(zone.page(), &deferral, asked)
                    }));
                }
                for limit in limits.into_iter().flatten() {
                    if admission
                        .limit
                        .as_ref()
                        .is_none_or(|tightest| tightest.left >= limit.left)
                    {
                        admission.limit = Some(limit);
                    }
                }
                answer::admitted(
                    &mut response.head.headers,
                    &admission.token,
                    admission.limit.as_ref(),
                    by_field,
                    zone.cookie(),
                );
                if !admission.permits.is_empty() {
                    response.body = Body::boxed(Held::new(response.body, admission.permits));
                }
                Ok(response)
            }
            Decision::Defer(deferral) => Ok(self.told(&Asker::of(request), zone.cookie(), |asked| {
                answer::deferral(zone.page(), &deferral, asked)
            })),
            Decision::Block { wait, token } => Ok(self.told(&Asker::of(request), zone.cookie(), |asked| {
                answer::block(zone.page(), wait, token.as_ref(), asked)
            })),
            Decision::Lead { to, token } => {
                let said = answer::lead(&to, &token, by_field, zone.cookie());
                let mut response = Response::new(said.status, said.body);
                response.head.headers = said.headers;
                Ok(response)
            }
        }
    }

    /// A zone without rules: an operator's word holds there, too, on connections that there are.
    async fn unjudged(&self, asked: Unjudged, admitted: Admitted) -> Result<Response, Failure> {
        if let Some(wait) = self.gate.barred(asked.request().exchange.peer.client.ip()) {
            return Ok(self.told(&Asker::of(asked.request()), &Cookie::default(), |asked| {
                answer::block(&Template::default(), wait, None, asked)
            }));
        }
        let mut request = asked.admit(admitted);
        cookie::strip(&mut request.head.headers);
        self.next.handle(request).await
    }

    /// An answer of the gate's own; the connection ends after it, unless it is a trusted proxy's,
    /// with other clients' requests on it.
    fn told(&self, asker: &Asker, cookie: &Cookie, say: impl FnOnce(Asked<'_>) -> answer::Answer) -> Response {
        let said = say(Asked {
            method: &asker.method,
            headers: &asker.headers,
            zone: &asker.zone,
            cookie,
            nonce: self.gate.nonce(),
        });
        let mut response = Response::new(said.status, said.body);
        response.head.headers = said.headers;
        if asker.relayed {
            return response;
        }
        response.head.extensions.insert(CloseAfter);
        if asker.version <= Version::HTTP_11 {
            response
                .head
                .headers
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Who is answered by the gate, as far as that says how.
struct Asker {
    method: Method,
    headers: HeaderMap,
    zone: Arc<str>,
    version: Version,
    /// It came over a trusted proxy's connection.
    relayed: bool,
}

impl Asker {
    fn of(request: &Request) -> Self {
        Self {
            method: request.head.method.clone(),
            headers: request.head.headers.clone(),
            zone: request.exchange.zone.name.clone(),
            version: request.head.version,
            relayed: request.exchange.peer.via.is_some(),
        }
    }
}

/// Settles what a request owes by its response, if it got one.
fn settled(account: &Account, response: Option<&Response>) -> Vec<Limit> {
    // Stored answers cost the origin nothing.
    let stored = response.is_some_and(|r| matches!(r.report.cache, Some("hit" | "stale" | "stale_error")));
    match response {
        Some(response) => account.settle(&response.head.headers, stored),
        None => account.settle(&HeaderMap::new(), true),
    }
}

impl Front for Gated {
    fn answer(&self, asked: Unjudged) -> Answer<'_> {
        match self.gate.zone(&asked.request().exchange.zone.name) {
            Ok(zone) => Box::pin(async move { self.judged(&zone, asked).await }),
            Err(admitted) => Box::pin(self.unjudged(asked, admitted)),
        }
    }
}

/// `next` of a process without gates.
pub struct Open {
    ungated: Ungated,
    next: Arc<dyn Handler>,
}

impl Open {
    /// Lets everybody in to `next`.
    pub fn new(ungated: Ungated, next: Arc<dyn Handler>) -> Self {
        Self { ungated, next }
    }
}

impl Front for Open {
    fn answer(&self, asked: Unjudged) -> Answer<'_> {
        self.next.handle(asked.admit(self.ungated.admit()))
    }
}

/// Content that holds permits until the origin has sent all of it, or it is dropped: not until the
/// client has taken it.
struct Held {
    body: Body,
    permits: Vec<Permit>,
}

impl Held {
    fn new(body: Body, permits: Vec<Permit>) -> Self {
        let mut held = Self { body, permits };
        held.let_go();
        held
    }

    /// The content that is known to be over, or of which nothing is left to come, needs no permit.
    fn let_go(&mut self) {
        if self.body.is_end_stream() || self.body.size_hint().exact() == Some(0) {
            self.permits.clear();
        }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None | Some(Err(_))) => self.permits.clear(),
            Poll::Ready(Some(Ok(_))) => self.let_go(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Which connections have had a request: a direct-mapped cache of 512 KiB. A connection that lost
/// its place to another counts once more; none is ever taken for an older one but by a 64-bit
/// collision.
struct Connections {
    seen: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Connections {
    fn new() -> Self {
        Self {
            seen: (0..65_536).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    fn is_first(&self, connection: impl std::hash::Hash) -> bool {
        let hash = self.hasher.hash_one(connection) | 1;
        let slot = self.seen.get((hash >> 48) as usize);
        slot.is_none_or(|slot| slot.swap(hash, Ordering::Relaxed) != hash)
    }
}

#[cfg(test)]
mod tests;
