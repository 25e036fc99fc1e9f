//! One connection's requests: makes each sound, asks the handler, shapes the answer, keeps the account. `server` gives it
//! to hyper.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::header::{ALT_SVC, UPGRADE};
use http::{Method, StatusCode, Version, request};
use http_body::Body as _;

use super::access::{self, Account};
use super::answer;
use super::body::Body;
use super::delivery::{Delivery, Flow};
use super::handler::{Failure, Handler, Reason};
use super::intake::{Intake, Meter};
use super::life::Life;
use super::message::{CloseAfter, Exchange, Request, Response};
use super::metrics::ZoneMetrics;
use super::request::{self as sound, Host, Recent};
use super::server::{Settings, Shared};
use crate::base::id::RequestId;
use crate::base::peer::Peer;

/// What the requests of one connection share.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) peer: Arc<Peer>,
    pub(super) life: Arc<Life>,
    pub(super) wire: Wire,
    pub(super) memory: Mutex<Memory>,
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
    metrics: Option<(Arc<str>, Arc<ZoneMetrics>)>,
}

/// What is settled before the handler is asked.
struct Opening {
    settings: Arc<Settings>,
    id: RequestId,
    /// HTTP/1: no request after this one.
    last: bool,
    /// HTTP/1: whether the framing guard waits for the answer.
    asks_upgrade: bool,
    head_only: Method,
    json: bool,
}

impl Service {
    /// Answers one request. What must happen even if the future is never polled happens before it is returned.
    pub(super) fn call(
        self: &Arc<Self>,
        request: http::Request<Body>,
        flow: Option<Arc<Flow>>,
    ) -> impl Future<Output = Result<http::Response<Delivery>, Infallible>> + Send + use<> {
        let started = Instant::now();
        let settings = self.shared.settings.load_full();
        let count = self.life.begin();
        let mut account = Account::open(
            started,
            request.version(),
            self.life.clone(),
            self.shared.metrics.clone(),
        );
        let (head, body) = request.into_parts();
        let id = RequestId::next();
        if self.shared.logs(&settings) {
            account.log(id, &self.peer, count == 1, &head);
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
            last: last && self.wire == Wire::H1,
            asks_upgrade: self.wire == Wire::H1
                && (head.method == Method::CONNECT
                    || head.version == Version::HTTP_11 && head.headers.contains_key(UPGRADE)),
            head_only: head.method.clone(),
            json: answer::wants_json(&head.headers),
        };
        let this = self.clone();
        async move { Ok(this.answer(head, body, opening, account, flow, started).await) }
    }

    async fn answer(
        self: Arc<Self>,
        mut head: request::Parts,
        body: Body,
        opening: Opening,
        mut account: Account,
        flow: Option<Arc<Flow>>,
        started: Instant,
    ) -> http::Response<Delivery> {
        let mut deadline = None;
        let mut meter = None;
        let result = match self.open(&mut head, &opening.settings, &mut account) {
            Err(failure) => {
                self.spurn(&body);
                Err(failure)
            }
            Ok(host) => {
                deadline = host
                    .zone
                    .request_timeout
                    .map(|limit| tokio::time::Instant::from_std(started + limit));
                let exchange = Exchange {
                    id: opening.id,
                    peer: self.peer.clone(),
                    zone: host.zone,
                    host: host.authority,
                    started,
                };
                match self.intake(body, &exchange, &mut meter) {
                    Err(failure) => Err(failure),
                    Ok(body) => {
                        if let Some(meter) = &meter {
                            account.meter(meter.clone());
                        }
                        let request = Request { head, body, exchange };
                        self.ask(request, deadline, meter.as_deref()).await
                    }
                }
            }
        };
        let response = match result {
            Ok(response) => {
                account.responds(response.head.status.as_u16(), response.report.clone());
                response
            }
            Err(failure) => self.failure(failure, &opening, &mut account),
        };
        self.finish(response, opening, account, flow, deadline, meter.as_deref())
    }

    /// Checks the head and finds its zone.
    fn open(&self, head: &mut request::Parts, settings: &Settings, account: &mut Account) -> Result<Host, Failure> {
        // HTTP/1's fields are counted by hyper's parser already.
        if head.headers.len() > settings.limits.header_count {
            return Err(Failure::new(Reason::HeadTooLarge, "more fields than the limit"));
        }
        let zones = self.shared.zones.load_full();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let host = sound::sound(head, &self.peer, &zones, &mut memory.recent)?;
        let metrics = match &memory.metrics {
            Some((name, metrics)) if Arc::ptr_eq(name, &host.zone.name) => metrics.clone(),
            _ => {
                let metrics = self.shared.metrics.zone(&host.zone.name);
                memory.metrics = Some((host.zone.name.clone(), metrics.clone()));
                metrics
            }
        };
        drop(memory);
        account.zone(metrics, &host.authority, &host.zone);
        Ok(host)
    }

    /// Puts limits around the content. One that announces more than the limit is refused before a byte of it is read, and
    /// before 100-continue invites it.
    fn intake(&self, body: Body, exchange: &Exchange, meter: &mut Option<Arc<Meter>>) -> Result<Body, Failure> {
        if body.is_end_stream() {
            return Ok(Body::Empty);
        }
        let most = exchange.zone.body_bytes;
        if most.is_some_and(|most| body.size_hint().lower() > most) {
            self.spurn(&body);
            return Err(Failure::new(Reason::BodyTooLarge, "Content-Length beyond the limit"));
        }
        let shared = meter.insert(Arc::new(Meter::default())).clone();
        Ok(Body::boxed(Intake::new(body, shared, most, exchange.zone.body_timeout)))
    }

    /// Notes content that nobody will read.
    fn spurn(&self, body: &Body) {
        if !body.is_end_stream() {
            self.life.leave_unread();
        }
    }

    async fn ask(
        &self,
        request: Request,
        deadline: Option<tokio::time::Instant>,
        meter: Option<&Meter>,
    ) -> Result<Response, Failure> {
        let answer = self.handler.handle(request);
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

    fn failure(&self, failure: Failure, opening: &Opening, account: &mut Account) -> Response {
        let reason = failure.reason;
        self.shared.metrics.failure(reason);
        let mut response = answer::failure(reason, opening.id, opening.json);
        if reason.closes() && self.wire == Wire::H1 {
            answer::close(&mut response.head.headers);
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
        flow: Option<Arc<Flow>>,
        deadline: Option<tokio::time::Instant>,
        meter: Option<&Meter>,
    ) -> http::Response<Delivery> {
        let Response { mut head, body, .. } = response;
        let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS
            || opening.head_only == Method::CONNECT && head.status.is_success();
        if opening.asks_upgrade {
            self.life.decide(upgraded);
        }
        let closes = opening.last || head.extensions.remove::<CloseAfter>().is_some();
        if closes && !upgraded {
            match self.wire {
                Wire::H1 => answer::close(&mut head.headers),
                Wire::H2 | Wire::H3 => self.life.finish(),
            }
        }
        // Which other ways lead to this host is the edge's to say, not that of an origin, which stands at another port and speaks
        // for another listener (RFC 7838 section 2.1).
        let alternative = opening.settings.alternative(self.peer.local.port());
        match alternative.filter(|_| self.wire != Wire::H3 && self.peer.handshake.is_some()) {
            Some(alternative) => drop(head.headers.insert(ALT_SVC, alternative.clone())),
            None => drop(head.headers.remove(ALT_SVC)),
        }
        if meter.is_some_and(|meter| !meter.done()) {
            self.life.leave_unread();
        }
        let body = answer::without_content(&mut head, body, &opening.head_only);
        http::Response::from_parts(head, Delivery::new(body, account, flow, deadline))
    }
}

impl Shared {
    /// Whether this request gets a line: one in so many, and only where someone listens.
    fn logs(&self, settings: &Settings) -> bool {
        let Some(sample) = settings.access_sample else {
            return false;
        };
        if !tracing::enabled!(target: access::TARGET, tracing::Level::INFO) {
            return false;
        }
        sample <= 1
            || self
                .sampler
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                .is_multiple_of(sample)
    }
}
