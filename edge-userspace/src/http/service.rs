//! One connection's requests: lets each in by the door, asks the handler, shapes the answer, keeps
//! the account. `server` gives it to hyper.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, ALT_SVC, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Method, StatusCode, Version, request};
use http_body::Body as _;

use super::access::Account;
use super::answer;
use super::body::Body;
use super::client;
use super::delivery::{Delivery, Flow};
use super::door::{self, Head, Host, Recent};
use super::error_page;
use super::fields;
use super::handler::{Failure, Front, Reason};
use super::holding::{self, Holding};
use super::intake::{Intake, Meter, Terms};
use super::interim::{self, Interim, Interims};
use super::leftover;
use super::life::Life;
use super::message::{CloseAfter, Exchange, Payer, ReadAhead, Request, Response, Unjudged};
use super::metrics::ZoneMetrics;
use super::shared::{Settings, Shared};
use super::trailers::Filter;
use crate::base::id::RequestId;
use crate::base::ledger::{self, Charge, Kind};
use crate::base::peer::Peer;

/// How long a request whose method has no content is held back until it is known whether this one
/// has: its end comes with the head, or right after it.
const USUAL_END: Duration = Duration::from_secs(1);
/// And one that nearly always has content, which may also wait for the answer before it sends any.
const UNUSUAL_END: Duration = Duration::from_millis(20);

/// What the requests of one connection share.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Arc<dyn Front>,
    pub(super) peer: Arc<Peer>,
    pub(super) life: Arc<Life>,
    pub(super) wire: Wire,
    pub(super) memory: Mutex<Memory>,
    pub(super) holding: Arc<Holding>,
}

/// What the requests of a connection come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1, or 1.0: one request at a time.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

/// What was true of the request before.
#[derive(Default)]
pub(super) struct Memory {
    recent: Recent,
    metrics: Option<(Arc<str>, Arc<ZoneMetrics>, Arc<ledger::Zone>)>,
}

/// What is settled before the handler is asked.
struct Opening {
    settings: Arc<Settings>,
    id: RequestId,
    /// Who asks: the connection's peer, or whom it names.
    peer: Arc<Peer>,
    /// HTTP/1: no request after this one.
    last: bool,
    /// HTTP/1: whether the framing guard waits for the answer.
    asks_upgrade: bool,
    head_only: Method,
    /// What the client would read, should the request fail.
    accept: Option<HeaderValue>,
}

/// A request that is let in: it has a zone, and what it makes the node hold is on the ledger.
struct Entered {
    head: Head,
    exchange: Exchange,
    holder: Arc<ledger::Holder>,
    paged: Option<error_page::Asked>,
    charges: Vec<Charge>,
}

/// A request's content as its head announces it.
#[derive(Clone, Copy)]
struct Content {
    /// There is some.
    any: bool,
    /// Its length is known.
    measured: bool,
}

impl Content {
    fn of(body: &Body) -> Self {
        Self {
            any: !body.is_end_stream(),
            measured: body.size_hint().exact().is_some(),
        }
    }

    /// Whether some of it is left that nobody will read, as `meter` saw it when the head of the
    /// answer was there. A handler that still reads may make the answer of it, if it is a success;
    /// after another one the rest is nobody's. Content of known length that lies in hyper's buffer
    /// already does not count: hyper passes over it and goes on.
    fn left(self, meter: Option<&Meter>, status: StatusCode, life: &Life) -> bool {
        let read = meter.is_some_and(|meter| meter.done() || !meter.dropped() && status.is_success());
        self.any && !read && (life.content_to_come() || !self.measured)
    }
}

impl Service {
    /// Answers one request. What must happen even if the future is never polled happens before it
    /// is returned; so does letting the request in, or else answering it: those of one turn of a
    /// connection, and of a thousand connections, wait to be polled with all that they hold. The
    /// future is short: an answer may wait long for its client.
    pub(super) fn call(
        self: &Arc<Self>,
        request: http::Request<Body>,
        flow: Option<Arc<Flow>>,
    ) -> impl Future<Output = Result<http::Response<Delivery>, Infallible>> + Send + use<> {
        let started = Instant::now();
        let settings = self.shared.settings.load_full();
        let count = self.life.begin();
        let mut account = Account::open(started, request.version(), self.life.clone(), self.shared.clone());
        let (mut head, body) = request.into_parts();
        let id = RequestId::next();
        let named = settings.client_address.as_deref();
        let peer = named.map_or_else(|| self.peer.clone(), |rule| client::of(rule, &self.peer, &mut head));
        if self.shared.logs(&settings) {
            account.log(id, &peer, count == 1, &head);
        }
        let last = settings
            .limits
            .requests_per_connection
            .is_some_and(|most| count >= most);
        if last && self.wire != Wire::H1 {
            self.life.finish();
        }
        let opening = Opening {
            settings,
            id,
            peer,
            last: last && self.wire == Wire::H1,
            asks_upgrade: self.wire == Wire::H1
                && (head.method == Method::CONNECT
                    || head.version == Version::HTTP_11 && head.headers.contains_key(UPGRADE)),
            head_only: head.method.clone(),
            accept: head.headers.get(ACCEPT).cloned(),
        };
        let answer = match self.enter(head, &body, &opening, &mut account, started) {
            Ok(entered) => Ok(Box::pin(self.clone().answer(entered, body, opening, account, flow))),
            Err((failure, paged)) => {
                let unheld = failure.reason == Reason::Overload;
                let mut response = self.failed(failure, paged, &opening, &mut account);
                // Until its client takes the answer, nothing of its head is kept: there may be as
                // many of these as there may be streams, on nobody's account.
                account.let_go();
                if unheld {
                    // Nor anything of its content, which would wait for the client's window.
                    response.head.headers.remove(CONTENT_TYPE);
                    response.body = Body::Empty;
                }
                let left = Content::of(&body).left(None, response.head.status, &self.life);
                self.spurn(body);
                Err(self.finish(response, opening, account, (flow, None, None), left, Vec::new()))
            }
        };
        async move {
            Ok(match answer {
                Ok(answer) => answer.await,
                Err(response) => response,
            })
        }
    }

    async fn answer(
        self: Arc<Self>,
        entered: Entered,
        body: Body,
        opening: Opening,
        mut account: Account,
        flow: Option<Arc<Flow>>,
    ) -> http::Response<Delivery> {
        let Entered {
            mut head,
            exchange,
            holder,
            paged,
            charges,
        } = entered;
        let (mut meter, mut filter) = (None, None);
        let content = Content::of(&body);
        let requests = exchange.zone.requests.clone();
        let deadline = exchange
            .zone
            .request_timeout
            .map(|limit| tokio::time::Instant::from_std(exchange.started + limit));
        let result = match self.intake(&head, body, &exchange, &mut meter).await {
            Err(failure) => Err(failure),
            Ok(body) => {
                if let Some(meter) = &meter {
                    account.meter(meter.clone());
                }
                head.extensions.insert(Payer(holder));
                let interims = self.interims(&mut head);
                let request = Request { head, body, exchange };
                let answer = self.ask(Unjudged::new(request), deadline, meter.as_deref());
                match interims {
                    Some(interims) => {
                        let tell = |interim: Interim| self.life.interject(&interim.http1());
                        interims.relay(answer, || self.life.takes(), tell).await
                    }
                    None => answer.await,
                }
            }
        };
        let response = match result {
            Ok(response) => {
                filter = Some(Filter::response(requests, &response.head.headers));
                account.responds(response.head.status.as_u16(), response.report.clone());
                response
            }
            Err(failure) => self.failed(failure, paged, &opening, &mut account),
        };
        let left = content.left(meter.as_deref(), response.head.status, &self.life);
        self.finish(response, opening, account, (flow, deadline, filter), left, charges)
    }

    /// Lets a request in, and puts it on the ledger: its head, and what will come of its content
    /// before anybody reads it.
    fn enter(
        &self,
        head: request::Parts,
        body: &Body,
        opening: &Opening,
        account: &mut Account,
        started: Instant,
    ) -> Result<Entered, (Failure, Option<error_page::Asked>)> {
        let (head, host, zone) = self.open(head, opening, account).map_err(|failure| (failure, None))?;
        let exchange = Exchange {
            id: opening.id,
            peer: opening.peer.clone(),
            zone: host.zone,
            host: host.authority,
            started,
        };
        let paged = error_page::Asked::of(&exchange, &head.headers);
        let holder = self.holder(&opening.peer);
        let size = holding::REQUEST.saturating_add(holding::HEADS.saturating_mul(size(&head)));
        let announced = match body.is_end_stream() {
            true => 0,
            false => body.size_hint().exact().unwrap_or(u64::MAX),
        };
        let mut charges = Vec::new();
        for (kind, bytes) in [(Kind::Requests, size), (Kind::Uploads, announced.min(holding::UPLOAD))] {
            if bytes == 0 {
                continue;
            }
            match holder.charge(kind, Some(&zone), bytes) {
                Some(charge) => charges.push(charge),
                None => {
                    let failure = Failure::new(
                        Reason::Overload,
                        "as much memory is held for the client's address, the zone or the node as may be",
                    );
                    return Err((failure, paged));
                }
            }
        }
        Ok(Entered {
            head,
            exchange,
            holder,
            paged,
            charges,
        })
    }

    /// Brings the head through the door, and finds its zone, and that one's account.
    fn open(
        &self,
        head: request::Parts,
        Opening { settings, peer, .. }: &Opening,
        account: &mut Account,
    ) -> Result<(Head, Host, Arc<ledger::Zone>), Failure> {
        let zones = self.shared.zones.load_full();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let most = settings.limits.header_count;
        let (head, host) = door::client(head, most, peer, &zones, &mut memory.recent)?;
        let (metrics, zone) = match &memory.metrics {
            Some((name, metrics, zone)) if Arc::ptr_eq(name, &host.zone.name) => (metrics.clone(), zone.clone()),
            _ => {
                let metrics = self.shared.metrics.zone(&host.zone.name);
                let zone = self.shared.ledger.zone(&host.zone.name);
                memory.metrics = Some((host.zone.name.clone(), metrics.clone(), zone.clone()));
                (metrics, zone)
            }
        };
        drop(memory);
        account.zone(metrics, &host.authority, &host.zone);
        let lists = self.shared.lists.get().filter(|_| peer.via.is_some());
        if lists.is_some_and(|lists| lists.is_denied(peer.client.ip())) {
            return Err(Failure::new(
                Reason::Denied,
                "the client that a trusted proxy names is denied",
            ));
        }
        Ok((head, host, zone))
    }

    /// On whose account a request of `peer` is: of its connection, or of the client that it is
    /// handed on for.
    fn holder(&self, peer: &Peer) -> Arc<ledger::Holder> {
        match peer.via {
            None => self.holding.holder().clone(),
            Some(_) => self.shared.ledger.open(peer.client.ip()),
        }
    }

    /// Puts limits around the request's content, and finds out whether there is any: a head need
    /// not be the end of a request that has none (HTTP/2 and HTTP/3 may end it by an empty DATA
    /// frame, HTTP/1.1 by an empty chunk). Content that announces more than the limit is refused
    /// before a byte of it is read, and before 100-continue invites it.
    async fn intake(
        &self,
        head: &Head,
        body: Body,
        exchange: &Exchange,
        meter: &mut Option<Arc<Meter>>,
    ) -> Result<Body, Failure> {
        if body.is_end_stream() {
            return Ok(Body::Empty);
        }
        let most = exchange.zone.body_bytes;
        if most.is_some_and(|most| body.size_hint().lower() > most) {
            self.spurn(body);
            return Err(Failure::new(Reason::BodyTooLarge, "Content-Length beyond the limit"));
        }
        let shared = meter.insert(Arc::new(Meter::default())).clone();
        let announced = body.size_hint().lower() > 0;
        let terms = Terms {
            most,
            stall: exchange.zone.body_timeout,
            drains: self.wire != Wire::H1,
            filter: Filter::request(exchange.zone.requests.clone()),
        };
        let mut intake = Intake::new(body, shared, terms);
        // To ask for content is to invite it.
        if announced || head.meant().waits || head.method == Method::CONNECT {
            return Ok(Body::boxed(intake));
        }
        let patience = match head.method {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE => USUAL_END,
            _ => UNUSUAL_END,
        };
        match Box::pin(intake.begins(patience)).await {
            true => Ok(Body::boxed(intake)),
            false => Ok(Body::Empty),
        }
    }

    /// Where the origin may put interim responses, if this client can be told: over HTTP/1.1.
    fn interims(&self, head: &mut Head) -> Option<Interims> {
        if self.wire != Wire::H1 || !interim::known_to(head.version) {
            return None;
        }
        let interims = Interims::default();
        head.extensions.insert(interims.clone());
        Some(interims)
    }

    /// Lets go of content that nobody will read. Over HTTP/1 the connection lingers for it.
    fn spurn(&self, body: Body) {
        if self.wire != Wire::H1 && !body.is_end_stream() {
            leftover::drain(body);
        }
    }

    async fn ask(
        &self,
        request: Unjudged,
        deadline: Option<tokio::time::Instant>,
        meter: Option<&Meter>,
    ) -> Result<Response, Failure> {
        let answer = self.handler.answer(request);
        let result = match deadline {
            None => answer.await,
            Some(at) => tokio::time::timeout_at(at, answer).await.unwrap_or_else(|_| {
                let reason = match meter {
                    Some(meter) if !meter.done() => Reason::ClientTimeout,
                    _ => Reason::OriginTimeout,
                };
                Err(Failure::new(reason, "request_timeout passed"))
            }),
        };
        result.map_err(|mut failure| {
            // The handler saw content break off; why, we know better.
            if let Some(fault) = meter.and_then(Meter::fault) {
                failure.reason = fault;
            }
            failure
        })
    }

    /// The answer to a request that failed: the zone's page, if it has one.
    fn failed(
        &self,
        failure: Failure,
        paged: Option<error_page::Asked>,
        opening: &Opening,
        account: &mut Account,
    ) -> Response {
        let mut response = self.failure(failure, opening, account);
        if let Some(paged) = paged {
            paged.show(&mut response, false);
        }
        response
    }

    fn failure(&self, failure: Failure, opening: &Opening, account: &mut Account) -> Response {
        let reason = failure.reason;
        self.shared.metrics.failure(reason);
        let mut response = answer::failure(reason, opening.id, opening.accept.as_ref());
        if reason.closes() && self.wire == Wire::H1 {
            answer::close(&mut response.head.headers);
        } else if reason.ends() {
            self.life.finish();
        }
        account.status(response.head.status.as_u16());
        account.failed(failure);
        response
    }

    fn finish(
        &self,
        response: Response,
        opening: Opening,
        account: Account,
        (flow, deadline, filter): (Option<Arc<Flow>>, Option<tokio::time::Instant>, Option<Filter>),
        left: bool,
        mut charges: Vec<Charge>,
    ) -> http::Response<Delivery> {
        let Response { mut head, body, .. } = response;
        let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS
            || opening.head_only == Method::CONNECT && head.status.is_success();
        if opening.asks_upgrade {
            self.life.decide(upgraded);
        }
        let mut closes = opening.last || head.extensions.remove::<CloseAfter>().is_some();
        if self.wire == Wire::H1 {
            // What a client sends after CONNECT is not HTTP, whatever it was told (RFC 9110 section
            // 9.3.6).
            let tunnel = opening.head_only == Method::CONNECT;
            if (left || tunnel) && !upgraded {
                self.life.leave_unread();
            }
            closes |= left || tunnel || self.life.half_closed();
        }
        if closes && !upgraded {
            match self.wire {
                Wire::H1 => answer::close(&mut head.headers),
                Wire::H2 | Wire::H3 => self.life.finish(),
            }
        }
        // Which other ways lead to this host is the edge's to say, not that of an origin, which
        // stands at another port and speaks for another listener (RFC 7838 section 2.1).
        let alternative = opening.settings.alternative(self.peer.local.port());
        match alternative.filter(|_| self.wire != Wire::H3 && self.peer.handshake.is_some()) {
            Some(alternative) => drop(head.headers.insert(ALT_SVC, alternative.clone())),
            None => drop(head.headers.remove(ALT_SVC)),
        }
        let body = answer::without_content(&mut head, body, &opening.head_only);
        charges.extend(self.ahead(&head, &body, &charges));
        // quinn's buffer is counted by whoever fills it.
        let holding = (self.wire != Wire::H3).then(|| self.holding.clone());
        let delivery = Delivery::new(body, account, (flow, deadline, filter), holding, charges);
        http::Response::from_parts(head, delivery)
    }
}

impl Service {
    /// What is read ahead of the client for a response that streams, on the account of its request:
    /// from its head on, for it lies in the origin's connection whether the client takes it or not.
    fn ahead(&self, head: &http::response::Parts, body: &Body, charges: &[Charge]) -> Option<Charge> {
        if matches!(body, Body::Empty | Body::Full(_)) {
            return None;
        }
        let said = head.extensions.get().map_or(0, |ReadAhead(bytes)| *bytes);
        let most = body
            .size_hint()
            .exact()
            .unwrap_or(u64::MAX)
            .min(said.max(holding::AHEAD));
        let zone = charges.first().and_then(Charge::zone);
        // It is on its way already: what does not fit is charged all the same, so that no more is
        // asked for.
        Some(self.holding.holder().must(Kind::Responses, zone, most))
    }
}

/// Bytes of a head, about.
fn size(head: &request::Parts) -> u64 {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    fields::size(&head.headers).saturating_add(target as u64)
}
