//! Serves QUIC connections by HTTP/3 (RFC 9114): the h3 crate between the connection and the
//! service, and what ends a connection that is overdue. `quic` hands connections over by
//! [`Serve`](crate::quic::Serve).

mod body;
pub mod guard;
mod head;
pub(super) mod window;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::Notify;

use super::body::Body;
use super::delivery::{Delivery, Flow};
use super::holding::Holding;
use super::life::{Life, Overdue};
use super::server::Server;
use super::service::{Service, Wire};
use crate::base::ledger::Kind;
use crate::base::shutdown::Phase;
use crate::config::Limits;
use crate::quic;
use window::{Turn, Window};

type Sending = RequestStream<wire::Sending, Bytes>;
type Resolver = RequestResolver<wire::Wire, Bytes>;
type Accepting = h3::server::Connection<wire::Wire, Bytes>;

impl quic::Serve for Server {
    async fn serve_quic(&self, connection: quic::Connection) {
        let quic::Connection { quic, peer, permit } = connection;
        let limits = self.shared.settings.load().limits.clone();
        let metrics = self.shared.metrics.clone();
        let gauge = metrics.connections("3");
        gauge.inc();
        let life = Arc::new(Life::new(peer.accepted));
        if let Some(ends) = peer.ends() {
            life.ends(ends);
        }
        let holding = Holding::new(self.shared.ledger.open(peer.client.ip()));
        let window = Arc::new(Window::new(quic.clone(), &holding));
        let service = Arc::new(Service {
            shared: self.shared.clone(),
            handler: self.handler.clone(),
            peer,
            life: life.clone(),
            wire: Wire::H3,
            memory: Mutex::default(),
            holding: holding.clone(),
        });
        let mut builder = h3::server::builder();
        builder.max_field_section_size(limits.header_bytes as u64);
        let latest = wire::Latest::default();
        let h3 = wire::Wire::new(quic.clone(), latest.clone(), limits.header_bytes);
        let opened = tokio::time::timeout(limits.header_timeout, builder.build(h3)).await;
        match opened {
            Ok(Ok(accepting)) => {
                let mut session = Session {
                    accepting,
                    latest,
                    service,
                    life,
                    limits,
                    turn: Arc::default(),
                    ending: false,
                    holding,
                    window,
                };
                if let Err(Some(overdue)) = session.run(self).await {
                    metrics.overdue(overdue);
                    tracing::debug!(reason = overdue, "HTTP/3 connection dropped");
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "no HTTP/3 connection"),
            Err(_) => metrics.overdue(Overdue::Head.label()),
        }
        quic.close(varint(Code::H3_NO_ERROR), b"");
        gauge.dec();
        drop(permit);
    }
}

/// One connection being served.
struct Session {
    accepting: Accepting,
    latest: wire::Latest,
    service: Arc<Service>,
    life: Arc<Life>,
    limits: Arc<Limits>,
    /// A request has ended: the connection may be finished, or idle.
    turn: Arc<Notify>,
    ending: bool,
    holding: Arc<Holding>,
    window: Arc<Window>,
}

impl Session {
    /// Takes requests until the connection ends or is overdue; what it was overdue with.
    async fn run(&mut self, server: &Server) -> Result<(), Option<&'static str>> {
        let (mut shutdown, mut stopping) = (server.shutdown.clone(), server.shutdown.clone());
        let drain = shutdown.reached(Phase::Draining);
        let stop = stopping.reached(Phase::Stopped);
        tokio::pin!(drain, stop);
        loop {
            let deadline = self.life.deadline(&self.limits, self.ending);
            let wake = deadline.map_or_else(|| Instant::now() + self.limits.idle_timeout, |(at, _)| at);
            let turn = self.turn.clone();
            tokio::select! {
                resolver = self.accepting.accept() => match resolver {
                    Ok(Some(resolver)) => self.spawn(resolver),
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        tracing::debug!(%error, "HTTP/3 connection ended");
                        return Ok(());
                    }
                },
                () = turn.notified() => {
                    if self.life.finishing() {
                        self.end().await?;
                    }
                }
                cut = std::future::poll_fn(|cx| self.holding.holder().poll_cut(cx)) => return Err(Some(cut.label())),
                () = &mut drain, if !self.ending => self.end().await?,
                () = &mut stop => return Err(None),
                () = tokio::time::sleep_until(wake.into()) => {
                    if let Some((at, overdue)) = deadline && at <= Instant::now() {
                        if self.ending || !matches!(overdue, Overdue::Idle | Overdue::Expired) {
                            return Err((!self.ending).then(|| overdue.label()));
                        }
                        // In good order first: an idle client is no enemy.
                        self.life.rest();
                        self.end().await?;
                    }
                }
            }
            if self.life.stormy(self.limits.resets_per_connection) {
                return Err(Some("resets"));
            }
        }
    }

    /// GOAWAY: what has been taken is answered, what comes later is rejected (RFC 9114 section
    /// 5.2).
    async fn end(&mut self) -> Result<(), Option<&'static str>> {
        if std::mem::replace(&mut self.ending, true) {
            return Ok(());
        }
        // One beyond the last: the identifier names the first request that will not be served.
        let sent = tokio::time::timeout(self.limits.write_timeout, self.accepting.shutdown(1)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(None),
            Err(_) => Err(Some(Overdue::Write.label())),
        }
    }

    fn spawn(&self, resolver: Resolver) {
        let exchange = Exchange {
            service: self.service.clone(),
            life: self.life.clone(),
            limits: self.limits.clone(),
            holding: self.holding.clone(),
            window: self.window.clone(),
        };
        let turn = self.turn.clone();
        let (stopped, settled) = self.latest.take().unzip();
        tokio::spawn(async move {
            exchange.run(resolver, stopped, settled).await;
            turn.notify_one();
        });
    }
}

/// One request stream.
struct Exchange {
    service: Arc<Service>,
    life: Arc<Life>,
    limits: Arc<Limits>,
    holding: Arc<Holding>,
    window: Arc<Window>,
}

/// Why a response did not get out whole.
enum Broken {
    /// The client takes no more, or is gone.
    Client,
    /// The content broke off: the stream must not look whole.
    Content,
}

impl Exchange {
    /// Reads the head whatever the client wants of the answer, since a broken one ends the
    /// connection.
    async fn run(self, resolver: Resolver, stopped: Option<wire::Stopped>, settled: Option<wire::Settled>) {
        // A head in the making lies in h3 until it is whole, and each stream may have one.
        let most = self.limits.header_bytes as u64;
        let Some(making) = self.holding.holder().charge(Kind::Requests, None, most) else {
            return self.wasted();
        };
        let resolved = tokio::time::timeout(self.limits.header_timeout, resolver.resolve_request()).await;
        drop(making);
        let (request, mut stream) = match resolved {
            Ok(Ok(resolved)) => resolved,
            // h3 has ended the stream, or the connection, with the code that RFC 9114 asks for.
            // Time spent on streams that come to nothing counts towards the connection's resets.
            Ok(Err(_)) | Err(_) => return self.wasted(),
        };
        let (head, ()) = request.into_parts();
        let length = match head::check(&head) {
            Ok(length) => length,
            Err(why) => {
                self.service.shared.metrics.refused_framing(why);
                stream.stop_stream(Code::H3_MESSAGE_ERROR);
                stream.stop_sending(Code::H3_MESSAGE_ERROR);
                return self.wasted();
            }
        };
        if head::expects_continue(&head) && !self.invite(&mut stream).await {
            return self.wasted();
        }
        let held = self.service.peer.is_early() && !head.method.is_safe();
        if self.service.peer.is_early() {
            self.service.shared.metrics.early(held);
        }
        let answer = async {
            // What must not be done twice is not done for a copy (RFC 8470 section 3): the client
            // has to be there.
            if held && self.service.peer.proven().await.is_err() {
                return self.wasted();
            }
            let (mut sending, receiving) = stream.split();
            let body = body::content(receiving, length);
            let turn = Turn::begin(&self.window, !matches!(body, Body::Empty));
            let flow = Flow::new();
            let Ok(response) = self
                .service
                .call(http::Request::from_parts(head, body), Some(flow))
                .await;
            match self.deliver(&mut sending, response).await {
                // What quinn still holds stays on the account until the client has acknowledged it.
                Ok(sent) if sent >= window::PIECE => self.settle(turn, settled),
                Err(Broken::Content) => sending.stop_stream(Code::H3_INTERNAL_ERROR),
                Ok(_) | Err(Broken::Client) => {}
            }
        };
        match stopped {
            // Dropped, the answer lets go of everything, as with a stream of HTTP/2 that is reset.
            Some(stopped) => tokio::select! {
                () = stopped => {}
                () = answer => {}
            },
            None => answer.await,
        }
    }

    fn wasted(&self) {
        self.life.begin();
        self.life.end(Instant::now(), true);
    }

    /// 100 Continue. Sent at once: the content's limits are checked as it comes.
    async fn invite(&self, stream: &mut RequestStream<wire::Bidi, Bytes>) -> bool {
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        self.patient(stream.send_response(response)).await.is_ok()
    }

    /// Waits, behind the request, for the last acknowledgement. A client that gives none for as
    /// long as a piece may take is gone: its connection ends, and what is held for it.
    fn settle(&self, turn: Turn, settled: Option<wire::Settled>) {
        let Some(settled) = settled else { return };
        let (patience, metrics) = (self.limits.write_timeout, self.service.shared.metrics.clone());
        tokio::spawn(async move {
            if tokio::time::timeout(patience, settled).await.is_err() {
                metrics.overdue(Overdue::Write.label());
                turn.close(varint(Code::H3_NO_ERROR));
            }
        });
    }

    /// Hands the response over, piece by piece, at the client's pace. How many bytes of content it
    /// had.
    async fn deliver(&self, sending: &mut Sending, response: http::Response<Delivery>) -> Result<usize, Broken> {
        let (mut head, mut body) = response.into_parts();
        let mut sent = 0_usize;
        head::strip(&mut head.headers);
        self.patient(sending.send_response(http::Response::from_parts(head, ())))
            .await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Broken::Content)?;
            match frame.into_data() {
                Ok(data) => {
                    if data.len() >= window::PIECE {
                        self.window.follow();
                    }
                    sent = sent.saturating_add(data.len());
                    self.patient(sending.send_data(data)).await?;
                    self.holding.holder().moved();
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                    self.patient(sending.send_trailers(trailers)).await?;
                    break;
                }
            }
        }
        self.patient(sending.finish()).await?;
        Ok(sent)
    }

    /// Waits for the client, but not for longer than a piece may take. quinn takes a piece as what
    /// was sent before is acknowledged ([`Window`]), so that this is the time without
    /// acknowledgements.
    async fn patient<T>(&self, write: impl Future<Output = Result<T, h3::error::StreamError>>) -> Result<T, Broken> {
        match tokio::time::timeout(self.limits.write_timeout, write).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Broken::Client),
            Err(_) => Err(Broken::Content),
        }
    }
}

fn varint(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.value()).unwrap_or(quinn::VarInt::MAX)
}
