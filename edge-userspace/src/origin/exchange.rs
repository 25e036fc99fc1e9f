//! One request's life: chooses a server, gets a connection, sends, and hands the answer to the client; once more elsewhere
//! when that cannot do harm.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use http::{Method, StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempt::{self, Again, Failed};
use super::balance::Balancer;
use super::early::Early;
use super::fleet::{Group, Server};
use super::forward::{self, Length, Looped, Target};
use super::lease::Load;
use super::pool::{Lease, Pool, Wish};
use super::reply;
use super::stream::{Download, Progress, finish};
use super::upgrade::{self, Ask};
use crate::config::OriginHttp;
use crate::http::body::Body;
use crate::http::handler::{Failure, Reason};
use crate::http::message::{Exchange, Report, Request, Response};

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
            balancer: Mutex::new(Balancer::new(group.upstream.balance, group.servers.len(), first)),
            group,
        }
    }

    fn choose(&self, tried: &[usize]) -> Option<(usize, &Arc<Pool>)> {
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = &self.group.servers;
        let at = balancer
            .choose(servers, tried)
            // Nowhere else: the same server may have another connection, or another mood.
            .or_else(|| {
                if tried.is_empty() {
                    None
                } else {
                    balancer.choose(servers, &[])
                }
            })?;
        Some((at, self.pools.get(at)?))
    }
}

/// What stays the same over the tries of one request.
struct Course<'a> {
    exchange: &'a Exchange,
    method: Method,
    ask: Option<Ask>,
    length: Length,
    progress: Option<Arc<Progress>>,
    own_host: bool,
}

/// Answers `request` from the servers of `local`.
///
/// # Errors
/// When no server gave an answer that can be forwarded.
pub(super) async fn run(local: &Local, request: Request) -> Result<Response, Failure> {
    let group = &local.group;
    let upstream = &group.upstream;
    let Request {
        mut head,
        body,
        exchange,
    } = request;
    let ask = Ask::take(&mut head, upstream.upgrades, body.is_end_stream())?;
    if forward::prepare(&mut head, &exchange) == Err(Looped) {
        return Ok(Response::new(StatusCode::LOOP_DETECTED, Body::Empty));
    }
    // An extended CONNECT's content is the tunnel.
    let body = if ask.is_some() { Body::Empty } else { body };
    let length = Length::of(&body);
    let course = Course {
        exchange: &exchange,
        method: head.method.clone(),
        ask,
        length,
        progress: (length != Length::None).then(Arc::default),
        own_host: !upstream.preserve_host,
    };
    let repeatable = course.ask.is_none() && length == Length::None && forward::idempotent(&course.method);
    let mut early = Early::begin(&exchange.peer, &mut head, repeatable).await?;
    let mut wish = Wish {
        fresh: false,
        only_h1: course.ask.is_some() && upstream.http != OriginHttp::V2,
    };
    let mut retries = upstream.retries;
    let mut attempts = 0_u8;
    let mut tried = Vec::new();
    let mut message = (head, body);
    let mut again_at: Option<usize> = None;
    loop {
        let chosen = match again_at.take() {
            Some(at) => local.pools.get(at).map(|pool| (at, pool)),
            None => local.choose(&tried),
        };
        let Some((at, pool)) = chosen else {
            let mut failure = Failure::new(Reason::OriginUnreachable, "all servers are unhealthy");
            failure.attempts = attempts;
            return Err(failure);
        };
        attempts = attempts.saturating_add(1);
        let server = &pool.server;
        server.health.chosen(|| server.now());
        let load = Load::new(server);
        let (mut failed, reused) = match pool.checkout(wish).await {
            Err(error) => {
                let mut failed = Failed::checkout(&error);
                failed.back = Some(message);
                (failed, false)
            }
            Ok(mut lease) => {
                lease.carry(load);
                if lease.reused {
                    group.metrics.reused.inc();
                }
                let reused = lease.reused;
                let (head, body) = message;
                let spare = repeatable.then(|| head.clone());
                match course.attempt(group, server, lease, head, body).await {
                    Ok(mut response) => {
                        response.report.attempts = attempts;
                        let Some(mut head) = spare.filter(|_| early.is_refused(response.head.status)) else {
                            return Ok(response);
                        };
                        drop(response);
                        early.wait(&exchange.peer, &mut head).await?;
                        group.counts.retries.inc();
                        message = (head, Body::Empty);
                        continue;
                    }
                    Err(mut failed) => {
                        if failed.back.is_none() {
                            failed.back = spare.map(|head| (head, Body::Empty));
                        }
                        (failed, reused)
                    }
                }
            }
        };
        failed.failure.attempts = attempts;
        let may = match (failed.again, failed.back.take()) {
            (Again::Unseen, Some(back)) => Some(back),
            (Again::Perhaps, Some(back)) if repeatable => Some(back),
            _ => None,
        };
        // An idle connection that the origin has just closed says nothing about the origin: ask it again, on a new one.
        let stale = reused && !wish.fresh;
        if failed.servers_fault && !(stale && failed.again != Again::No) {
            group.failed(server);
        }
        let Some(back) = may else {
            return Err(failed.failure);
        };
        message = back;
        if stale {
            wish.fresh = true;
            again_at = Some(at);
        } else if let Some(left) = retries.checked_sub(1) {
            retries = left;
            wish.fresh = false;
            tried.push(at);
        } else {
            return Err(failed.failure);
        }
        group.counts.retries.inc();
    }
}

impl Course<'_> {
    /// One try on `lease`.
    async fn attempt(
        &self,
        group: &Group,
        server: &Server,
        mut lease: Lease,
        mut head: request::Parts,
        body: Body,
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
        let progress = self.progress.as_ref();
        let response = attempt::send(&mut lease, head, body, progress, group.upstream.response_timeout).await?;
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
            upgrade::join(ask, on_origin, lease, group);
            return Ok(Response {
                head,
                body: Body::Empty,
                report,
            });
        }
        reply::clean(&mut head, &self.method).map_err(malformed)?;
        group.succeeded(server);
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
        Ok(Response { head, body, report })
    }

    /// Looks once for content that came together with the head. Short answers then need no box, and the connection is
    /// free before the client has read a byte.
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

enum Content {
    Ended(Body),
    More(Option<http_body::Frame<bytes::Bytes>>, Lease),
    Broken,
}
