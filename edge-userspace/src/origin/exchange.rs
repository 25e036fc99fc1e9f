//! One request's life: chooses a server, gets a connection, sends, and hands the answer to the
//! client; once more elsewhere when that cannot do harm.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use http::{Method, StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempt::{self, Again, Failed, Heard};
use super::balance::{Balancer, Candidate as _, Standing};
use super::early::Early;
use super::fleet::{Group, Server};
use super::forward::{self, Length, Target};
use super::lease::{Lease, Load};
use super::maglev;
use super::pool::{Pool, Wish};
use super::reply;
use super::sticky::Sticky;
use super::stream::{Download, finish};
use super::tunnel::Place;
use super::upgrade::{self, Ask};
use super::upload::Progress;
use crate::base::peer::client_prefix;
use crate::config::OriginHttp;
use crate::config::pool::HashKey;
use crate::http::body::Body;
use crate::http::fields;
use crate::http::handler::{Failure, Reason};
use crate::http::interim::Interims;
use crate::http::message::{Exchange, ReadAhead, Report, Request, Response};

/// One worker's view of a zone's servers: its connections and its turn.
pub(super) struct Local {
    pub(super) group: Arc<Group>,
    pools: Vec<Arc<Pool>>,
    balancer: Mutex<Balancer>,
}

impl Local {
    /// `first` moves the start of the turn, so that workers do not begin alike.
    pub(super) fn new(group: Arc<Group>, first: usize) -> Self {
        Self {
            pools: group
                .servers
                .iter()
                .map(|server| Pool::new(server.clone(), group.clone()))
                .collect(),
            balancer: Mutex::new(Balancer::new(
                group.upstream.balance,
                group.servers.len(),
                first,
                group.table.clone(),
            )),
            group,
        }
    }

    /// Another server than those tried, of which nothing speaks against it.
    fn elsewhere(&self, tried: &[usize], key: Option<u64>) -> Option<usize> {
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        balancer.choose_up(&self.group.servers, tried, key)
    }

    /// The one that a cookie leads to, unless something speaks against it; else the next one.
    fn choose(&self, tried: &[usize], key: Option<u64>, led: Option<usize>) -> Option<(usize, &Arc<Pool>)> {
        let up = |at: &usize| {
            self.group
                .servers
                .get(*at)
                .is_some_and(|server| server.standing() == Standing::Up)
        };
        if let Some(at) = led.filter(|at| !tried.contains(at)).filter(up) {
            return Some((at, self.pools.get(at)?));
        }
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = &self.group.servers;
        let at = balancer
            .choose(servers, tried, key)
            // Nowhere else: the same server may have another connection, or another mood.
            .or_else(|| {
                if tried.is_empty() {
                    None
                } else {
                    balancer.choose(servers, &[], key)
                }
            })?;
        Some((at, self.pools.get(at)?))
    }
}

/// Further tries of a request that servers said they had not looked at, beside `retries`: it costs
/// them next to nothing.
const UNPROCESSED: u8 = 2;

/// What stays the same over the tries of one request.
struct Course<'a> {
    exchange: &'a Exchange,
    method: Method,
    /// It may be done twice.
    idempotent: bool,
    ask: Option<Ask>,
    length: Length,
    progress: Option<Arc<Progress>>,
    interims: Option<Interims>,
    own_host: bool,
    /// Its place among the upgraded connections, if it asks for one.
    place: Option<Arc<Place>>,
    /// The cookie that leads to servers, and where the client's leads.
    sticky: Option<(&'a Sticky, Option<usize>)>,
}

/// Answers `request` from the servers of `local`.
///
/// # Errors
/// When no server gave an answer that can be forwarded.
pub(super) async fn run(local: &Local, request: Request) -> Result<Response, Failure> {
    let group = &local.group;
    let upstream = &group.upstream;
    let Request { head, body, exchange } = request;
    let (mut head, meant) = head.into_parts();
    let ask = Ask::take(&mut head, &meant, upstream.upgrades, body.is_end_stream())?;
    let Ok(interims) = forward::prepare(&mut head, &meant, &exchange) else {
        return Ok(Response::new(StatusCode::LOOP_DETECTED, Body::Empty));
    };
    let place = ask.as_ref().map(|_| place(group)).transpose()?;
    // An extended CONNECT's content is the tunnel.
    let body = if ask.is_some() { Body::Empty } else { body };
    let length = Length::of(&body);
    let sticky = group
        .sticky
        .as_ref()
        .map(|sticky| (sticky, sticky.take(&mut head.headers)));
    let course = Course {
        exchange: &exchange,
        idempotent: ask.is_none() && forward::idempotent(&head.method),
        method: head.method.clone(),
        ask,
        place,
        length,
        progress: (length != Length::None).then(|| Progress::new(body)),
        interims,
        own_host: !upstream.preserve_host,
        sticky,
    };
    let may_be_a_copy = course.idempotent && length == Length::None;
    let mut early = Early::begin(&exchange.peer, &mut head, may_be_a_copy).await?;
    let key = upstream.hash.as_ref().and_then(|by| placed(by, &head, &exchange));
    group.budget.request();
    let wish = Wish {
        fresh: None,
        only_h1: course.ask.is_some() && upstream.http != OriginHttp::V2,
        proxied: upstream
            .proxy_protocol
            .then_some((exchange.peer.client, exchange.peer.local)),
    };
    let mut tries = Tries::new(wish, key, upstream.retries);
    loop {
        let (at, pool) = tries.turn(local, sticky.and_then(|(_, led)| led))?;
        head = match course.once(group, pool, tries.wish, head).await {
            Ok((mut response, spare)) => {
                response.report.attempts = tries.made;
                let status = response.head.status;
                let Some(mut spare) = spare.filter(|_| course.idempotent && course.repeatable()) else {
                    return Ok(course.settled(response, at));
                };
                if early.is_refused(status) {
                    drop(response);
                    early.wait(&exchange.peer, &mut spare).await?;
                } else if !tries.elsewhere(local, at, status) {
                    return Ok(course.settled(response, at));
                }
                spare
            }
            Err(failed) => tries.failed(&course, group, (at, &pool.server), failed)?,
        };
        group.counts.retries.inc();
    }
}

/// A place among the upgraded connections.
fn place(group: &Arc<Group>) -> Result<Arc<Place>, Failure> {
    let full = "as many upgraded connections as `tunnels` of the origin allows";
    Place::take(group).ok_or_else(|| Failure::new(Reason::Overload, full))
}

/// What a request is placed by, hashed; `None` if it has none of it.
fn placed(by: &HashKey, head: &request::Parts, exchange: &Exchange) -> Option<u64> {
    match by {
        HashKey::Client => match client_prefix(exchange.peer.client.ip()) {
            IpAddr::V4(ip) => Some(maglev::key(&ip.octets())),
            IpAddr::V6(ip) => Some(maglev::key(&ip.octets())),
        },
        HashKey::Path => Some(maglev::key(head.uri.path().as_bytes())),
        HashKey::Header(name) => head.headers.get(name).map(|value| maglev::key(value.as_bytes())),
        HashKey::Cookie(name) => fields::cookies(&head.headers, name)
            .next()
            .map(|value| maglev::key(value.as_bytes())),
        HashKey::Random => None,
    }
}

/// How far the tries of one request are.
struct Tries {
    wish: Wish,
    /// What the request is placed by.
    key: Option<u64>,
    retries: u8,
    unprocessed: u8,
    made: u8,
    /// Servers that are not asked again if there are others.
    tried: Vec<usize>,
    /// The server that is asked next, whosever turn it is.
    again_at: Option<usize>,
}

impl Tries {
    fn new(wish: Wish, key: Option<u64>, retries: u8) -> Self {
        Self {
            wish,
            key,
            retries,
            unprocessed: UNPROCESSED,
            made: 0,
            tried: Vec::new(),
            again_at: None,
        }
    }

    /// The server for the next try. `led`: where the client's cookie leads.
    ///
    /// # Errors
    /// There is none.
    fn turn<'l>(&mut self, local: &'l Local, led: Option<usize>) -> Result<(usize, &'l Arc<Pool>), Failure> {
        let chosen = match self.again_at.take() {
            Some(at) => local.pools.get(at).map(|pool| (at, pool)),
            None => local.choose(&self.tried, self.key, led),
        };
        let Some(chosen) = chosen else {
            let mut failure = Failure::new(Reason::OriginUnreachable, "all servers are unhealthy");
            failure.attempts = self.made;
            return Err(failure);
        };
        self.made = self.made.saturating_add(1);
        Ok(chosen)
    }

    /// After a failure: the head for another try.
    ///
    /// # Errors
    /// The failure, if there is to be none.
    fn failed(
        &mut self,
        course: &Course<'_>,
        group: &Group,
        (at, server): (usize, &Server),
        mut failed: Failed,
    ) -> Result<request::Parts, Failure> {
        failed.failure.attempts = self.made;
        let back = failed.back.take().filter(|_| course.repeatable());
        let may = match failed.again {
            Again::Unseen | Again::Unprocessed => back,
            Again::Older if !self.wish.only_h1 && group.upstream.http == OriginHttp::Auto => back,
            Again::Perhaps if course.idempotent => back,
            Again::Older | Again::Perhaps | Again::No => None,
        };
        // An idle connection that the origin has just closed says nothing about the origin: ask it
        // again, on a new one.
        let stale = failed.reused && self.wish.fresh.is_none();
        let excused = failed.again == Again::Older || stale && failed.again != Again::No;
        if failed.servers_fault && !excused {
            group.failed(server);
        }
        let Some(back) = may else {
            return Err(failed.failure);
        };
        if failed.again == Again::Older {
            self.wish.only_h1 = true;
            self.again_at = Some(at);
            return Ok(back);
        }
        if stale {
            self.wish.fresh = Some(Instant::now());
            self.again_at = Some(at);
            return Ok(back);
        }
        // Once the server may have seen it, a try is load that it would not have had.
        let affordable = |group: &Group| failed.again != Again::Perhaps || group.budget.retry(server.now());
        if failed.again == Again::Unprocessed && self.unprocessed > 0 {
            self.unprocessed -= 1;
        } else if self.retries > 0 && affordable(group) {
            self.retries -= 1;
        } else {
            return Err(failed.failure);
        }
        // A connection that refuses would refuse again.
        self.wish.fresh = (failed.again == Again::Unprocessed).then(Instant::now);
        self.tried.push(at);
        Ok(back)
    }

    /// After a response with `status`: whether another server is to be asked instead.
    fn elsewhere(&mut self, local: &Local, at: usize, status: StatusCode) -> bool {
        let group = &local.group;
        if self.retries == 0 || !group.upstream.retry_status.contains(&status.as_u16()) {
            return false;
        }
        self.tried.push(at);
        let Some(other) = local.elsewhere(&self.tried, self.key) else {
            return false;
        };
        let now = group.servers.first().map_or(0, |server| server.now());
        if !group.budget.retry(now) {
            return false;
        }
        self.retries -= 1;
        self.wish.fresh = None;
        self.again_at = Some(other);
        true
    }
}

impl Course<'_> {
    /// Whether the content, if any, can be sent from its beginning.
    fn repeatable(&self) -> bool {
        self.progress.as_ref().is_none_or(|progress| progress.repeatable())
    }

    /// There will be no other try: the server at `at` has answered.
    fn settled(&self, mut response: Response, at: usize) -> Response {
        if let Some(progress) = &self.progress {
            progress.settle();
        }
        if let Some((sticky, led)) = self.sticky
            && led != Some(at)
        {
            sticky.lead(&mut response.head, at);
        }
        response
    }

    /// One try at the server of `pool`; with its response comes the head for another one, if the
    /// request could be sent again.
    async fn once(
        &self,
        group: &Group,
        pool: &Arc<Pool>,
        wish: Wish,
        head: request::Parts,
    ) -> Result<(Response, Option<request::Parts>), Failed> {
        let server = &pool.server;
        server.health.chosen(|| server.now());
        let load = Load::new(server);
        let mut lease = match pool.checkout(wish).await {
            Ok(lease) => lease,
            Err(error) => {
                let mut failed = Failed::checkout(&error);
                failed.back = Some(head);
                return Err(failed);
            }
        };
        lease.carry(load);
        let reused = lease.reused;
        if reused {
            group.metrics.reused.inc();
        }
        let spare = (self.idempotent || lease.is_h2()).then(|| head.clone());
        match self.attempt(group, server, lease, head).await {
            Ok(response) => Ok((response, spare)),
            Err(mut failed) => {
                failed.back = failed.back.or(spare);
                failed.reused = reused;
                Err(failed)
            }
        }
    }

    /// One try on `lease`.
    async fn attempt(
        &self,
        group: &Group,
        server: &Server,
        mut lease: Lease,
        mut head: request::Parts,
    ) -> Result<Response, Failed> {
        let target = Target {
            host: forward::host(&head.headers, self.exchange, &server.host, !self.own_host),
            scheme: &server.scheme,
        };
        let handshake = match &self.ask {
            None => None,
            Some(ask) => match Box::pin(ask.dress(&mut head, &lease)).await {
                Some(handshake) => Some(handshake),
                None => {
                    lease.give_back();
                    return Ok(Response::new(StatusCode::NOT_IMPLEMENTED, Body::Empty));
                }
            },
        };
        if lease.is_h2() {
            forward::for_h2(&mut head, &target, self.length);
        } else {
            forward::for_h1(&mut head, &target, self.length);
        }
        if let Some(handshake) = &handshake {
            handshake.finish(&mut head);
        }
        let sent = Instant::now();
        let heard = Heard {
            progress: self.progress.as_ref(),
            interims: self.interims.as_ref(),
        };
        let response = attempt::send(&mut lease, head, heard, group.upstream.response_timeout).await?;
        let first_byte = sent.elapsed();
        group.metrics.first_byte.observe(first_byte.as_secs_f64());
        let (mut head, mut incoming) = response.into_parts();
        let malformed = |why: &str| Failed::malformed(Failure::new(Reason::OriginMalformed, why));
        let report = Report {
            origin: Some(server.name.clone()),
            first_byte: Some(first_byte),
            ..Report::default()
        };
        if let (Some(ask), Some(handshake)) = (&self.ask, &handshake)
            && handshake.accepted(&head).map_err(malformed)?
        {
            let on_origin = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
            let on_origin = on_origin.ok_or_else(|| malformed("an upgrade without a connection"))?;
            ask.reply(&mut head, handshake);
            group.succeeded(server);
            upgrade::join(ask, on_origin, lease, group, self.place.clone());
            return Ok(Response {
                head,
                body: Body::Empty,
                report,
            });
        }
        reply::clean(&mut head, &self.method).map_err(malformed)?;
        group.answered(server, head.status);
        if self.length == Length::None {
            group.took(server, first_byte);
        }
        let window = lease.window();
        let body = self.content(&mut incoming, lease).await;
        let body = match body {
            Content::Ended(body) => body,
            Content::Broken => return Err(malformed("the content broke off before its first byte")),
            Content::More(first, lease) => Body::boxed(Download::new(
                incoming,
                first,
                lease,
                self.progress.clone(),
                group.upstream.body_timeout,
            )),
        };
        if let Some(window) = window {
            head.extensions.insert(ReadAhead(window));
        }
        Ok(Response { head, body, report })
    }

    /// Looks once for content that came together with the head. Short answers then need no box, and
    /// the connection is free before the client has read a byte.
    async fn content(&self, incoming: &mut Incoming, lease: Lease) -> Content {
        let progress = self.progress.as_ref();
        if incoming.is_end_stream() {
            finish(lease, progress);
            return Content::Ended(Body::Empty);
        }
        let first = std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *incoming).poll_frame(cx))).await;
        match first {
            Poll::Pending => Content::More(None, lease),
            Poll::Ready(None) => {
                finish(lease, progress);
                Content::Ended(Body::Empty)
            }
            Poll::Ready(Some(Err(_))) => Content::Broken,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if incoming.is_end_stream() => {
                    finish(lease, progress);
                    Content::Ended(data.into())
                }
                Ok(data) => Content::More(Some(http_body::Frame::data(data)), lease),
                Err(trailers) => Content::More(Some(trailers), lease),
            },
        }
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "one for each response, on the stack, and taken apart at once"
)]
enum Content {
    Ended(Body),
    More(Option<http_body::Frame<bytes::Bytes>>, Lease),
    Broken,
}
