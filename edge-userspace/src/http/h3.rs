//! Serves QUIC connections by HTTP/3 (RFC 9114): takes their streams, and ends a connection that is
//! overdue. `quic` hands connections over by [`Serve`](crate::quic::Serve).
//!
//! A layer of our own over quinn's streams: `frames` and `streams` read what clients send and
//! refuse it before it is kept, `qpack` reads and writes fields, `link` is what the streams of a
//! connection share, `exchange` is one request.

mod body;
pub mod code;
mod exchange;
pub mod frames;
mod link;
pub mod priority;
pub mod qpack;
pub mod request;
mod stream;
pub mod streams;
pub(super) mod window;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use quinn::VarInt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::holding::Holding;
use super::life::{Life, Overdue};
use super::server::{Server, Timer};
use super::service::{Service, Wire};
use crate::base::ledger::Kind;
use crate::base::shutdown::Phase;
use crate::base::varint::put_varint;
use crate::quic;
use code::Code;
use exchange::Exchange;
use link::Link;
pub(super) use link::TABLES;
use stream::OneWay;
use window::Window;

/// GOAWAY before it is known which request is the last: the highest number of a request stream (RFC
/// 9114 section 5.2).
const NOT_YET: u64 = (1 << 62) - 4;
/// Requests of one connection whose first turn is still to come. A thread's tasks take turns in the
/// order in which they come, so a connection has few in line, and the others of its requests come
/// after those of other connections.
const FRESH: usize = 8;
/// How long requests that were sent before the client read that are still taken, at least: some
/// turns.
const GRACE: Duration = Duration::from_millis(100);

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
        let _tables = holding.holder().must(Kind::Quic, None, TABLES);
        let window = Arc::new(Window::new(quic.clone(), &holding));
        let service = Arc::new(Service {
            shared: self.shared.clone(),
            handler: self.handler.clone(),
            peer,
            life: life.clone(),
            wire: Wire::H3,
            memory: Mutex::default(),
            holding,
        });
        let link = Link::open(quic.clone(), limits.header_bytes, life.clone());
        match tokio::time::timeout(limits.header_timeout, link).await {
            Ok(Ok((link, control))) => {
                let exchange = Arc::new(Exchange {
                    service,
                    limits,
                    window,
                    link: Arc::new(link),
                });
                let mut session = Session::new(exchange, control);
                match session.run(self).await {
                    Ok(()) => {}
                    Err(End::Wrong(code)) => session.exchange.link.close(code),
                    Err(End::Overdue(overdue)) => {
                        metrics.overdue(overdue);
                        tracing::debug!(reason = overdue, "HTTP/3 connection dropped");
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "no HTTP/3 connection"),
            Err(_) => metrics.overdue(Overdue::Head.label()),
        }
        // Says nothing to a connection that has ended.
        quic.close(Code::NO_ERROR.into(), b"");
        gauge.dec();
        drop(permit);
    }
}

/// The next request, once there is a place in line for it. Nothing is lost by not waiting for it.
async fn request(
    fresh: &Arc<Semaphore>,
    quic: &quinn::Connection,
) -> (
    Option<OwnedSemaphorePermit>,
    Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>,
) {
    // It is never closed.
    let place = fresh.clone().acquire_owned().await.ok();
    (place, quic.accept_bi().await)
}

/// What ends a connection before its time.
enum End {
    /// It is overdue with this.
    Overdue(&'static str),
    /// The client broke the rules.
    Wrong(Code),
}

/// One connection being served.
struct Session {
    exchange: Arc<Exchange>,
    control: quinn::SendStream,
    /// Streams of one direction that the client has opened; as many as quinn lets it.
    streams: FuturesUnordered<OneWay>,
    /// [`FRESH`] places.
    fresh: Arc<Semaphore>,
    /// The number of the first request that has not come.
    next: u64,
    /// The end in good order, once it has begun.
    farewell: Option<Farewell>,
}

/// How far the end in good order is.
enum Farewell {
    /// The client knows of it, or will soon; what it has asked for by then is served.
    Told(Pin<Box<Sleep>>),
    /// It knows the last request that is served.
    Closed,
}

impl Session {
    fn new(exchange: Arc<Exchange>, control: quinn::SendStream) -> Self {
        Self {
            exchange,
            control,
            streams: FuturesUnordered::new(),
            fresh: Arc::new(Semaphore::new(FRESH)),
            next: 0,
            farewell: None,
        }
    }

    /// Takes requests until the connection ends.
    async fn run(&mut self, server: &Server) -> Result<(), End> {
        let (mut shutdown, mut stopping) = (server.shutdown.clone(), server.shutdown.clone());
        let mut drain = pin!(shutdown.reached(Phase::Draining));
        let mut stop = pin!(stopping.reached(Phase::Stopped));
        let exchange = self.exchange.clone();
        let Exchange {
            service, limits, link, ..
        } = &*exchange;
        let (life, holding) = (&service.life, &service.holding);
        let mut timer = pin!(Timer::new(limits.idle_timeout));
        let quic = &link.quic;
        let error = loop {
            let ending = self.farewell.is_some();
            tokio::select! {
                (place, accepted) = request(&self.fresh, quic) => match accepted {
                    Ok((send, receive)) => self.take(place, send, receive),
                    Err(error) => break error,
                },
                accepted = quic.accept_uni() => match accepted {
                    Ok(stream) => self.streams.push(OneWay::new(stream, link.clone())),
                    Err(error) => break error,
                },
                Some(ended) = self.streams.next(), if !self.streams.is_empty() => ended.map_err(End::Wrong)?,
                () = link.turn.notified() => {}
                cut = poll_fn(|cx| holding.holder().poll_cut(cx)) => return Err(End::Overdue(cut.label())),
                () = &mut drain, if !ending => life.finish(),
                () = &mut stop => return Ok(()),
                () = Farewell::told(&mut self.farewell) => self.say(self.next).await?,
                overdue = poll_fn(|cx| timer.as_mut().poll(cx, || life.deadline(limits, ending))) => {
                    if ending || !matches!(overdue, Overdue::Idle | Overdue::Expired) {
                        // One that was told to leave, and does not, is not a failure.
                        return if ending { Ok(()) } else { Err(End::Overdue(overdue.label())) };
                    }
                    // In good order first: an idle client is not an enemy.
                    life.rest();
                    life.finish();
                }
            }
            if life.stormy(limits.resets_per_connection) {
                return Err(End::Overdue("resets"));
            }
            if life.finishing() && self.farewell.is_none() {
                self.say(NOT_YET).await?;
            }
        };
        tracing::debug!(%error, "HTTP/3 connection ended");
        Ok(())
    }

    /// Answers a request, unless it has come after the last one (RFC 9114 section 5.2).
    fn take(
        &mut self,
        mut place: Option<OwnedSemaphorePermit>,
        mut send: quinn::SendStream,
        mut receive: quinn::RecvStream,
    ) {
        let id = VarInt::from(send.id()).into_inner();
        if matches!(self.farewell, Some(Farewell::Closed)) {
            // Both fail only for a stream that has ended.
            let _ = send.reset(Code::REQUEST_REJECTED.into());
            let _ = receive.stop(Code::REQUEST_REJECTED.into());
            return;
        }
        self.next = self.next.max(id.saturating_add(4));
        let exchange = self.exchange.clone();
        tokio::spawn(async move {
            let mut run = pin!(exchange.run(send, receive));
            poll_fn(|cx| {
                let polled = run.as_mut().poll(cx);
                place = None;
                polled
            })
            .await;
        });
    }

    /// GOAWAY: requests from stream `first` on will not be served, and may be sent elsewhere. Said
    /// twice, since a client may have sent some before it reads the first one.
    async fn say(&mut self, first: u64) -> Result<(), End> {
        self.farewell = Some(match first {
            NOT_YET => {
                let turns = self.exchange.link.quic.rtt().saturating_mul(3);
                Farewell::Told(Box::pin(tokio::time::sleep(
                    turns.clamp(GRACE, super::life::FAREWELL / 2),
                )))
            }
            _ => Farewell::Closed,
        });
        let (mut id, mut goaway) = (Vec::new(), Vec::new());
        put_varint(&mut id, first);
        frames::put_front(&mut goaway, frames::GOAWAY, id.len());
        goaway.extend(id);
        let sent = tokio::time::timeout(self.exchange.limits.write_timeout, self.control.write_all(&goaway)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            // The client may not stop this stream (section 6.2.1).
            Ok(Err(_)) => Err(End::Wrong(Code::CLOSED_CRITICAL_STREAM)),
            Err(_) => Err(End::Overdue(Overdue::Write.label())),
        }
    }
}

impl Farewell {
    /// Ends when the time of one that was told is over.
    async fn told(farewell: &mut Option<Self>) {
        match farewell {
            Some(Self::Told(sleep)) => sleep.as_mut().await,
            _ => std::future::pending().await,
        }
    }
}
