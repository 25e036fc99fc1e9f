//! Serves connections: hyper between the guarded socket and the service, and a driver that ends
//! what is overdue. `tls` hands connections over by [`Serve`]; requests go to the worker's handler.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::body::Body;
use super::delivery::Flow;
use super::guard::{self, Guard};
use super::handler::Front;
use super::holding::Holding;
use super::life::{Life, Overdue};
use super::metrics::Metrics;
use super::service::{Service, Wire};
use super::shared::Shared;
use crate::base::ledger::Holder;
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::Limits;
use crate::tls::{Connection, Protocol, Serve};

/// hyper's HTTP/1 parser keeps room for that many fields on the stack; another number costs an
/// allocation per request.
const FIELDS_ON_STACK: usize = 100;
/// HTTP/1: bytes buffered each way. As much as rustls seals at once, and what back-pressure lets a
/// fast origin get ahead.
const BUFFER: usize = 64 << 10;
/// HTTP/2: unread content per stream, 12 Mbit/s at 80 ms. A connection may have that for each of
/// its streams (16 MiB with the default of 128 streams), so that uploads that nobody reads on take
/// nothing from the others (RFC 9113 section 5.2).
const STREAM_WINDOW: u32 = 128 << 10;
/// HTTP/2: content handed over but not sent, per stream.
pub(super) const SEND_BUFFER: usize = 128 << 10;
/// HTTP/2: a peer silent for this long is asked for a sign of life, and has as long again.
const PING: Duration = Duration::from_secs(30);

/// Serves connections with one worker's handler.
#[derive(Clone)]
pub struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Arc<dyn Front>,
    pub(super) shutdown: Shutdown,
}

impl Server {
    /// For one worker and one handler; cheap to clone.
    pub fn new(shared: Arc<Shared>, handler: Arc<dyn Front>, shutdown: Shutdown) -> Self {
        Self {
            shared,
            handler,
            shutdown,
        }
    }
}

impl Serve for Server {
    async fn serve(&self, connection: Connection) {
        let Connection {
            io,
            peer,
            protocol,
            permit,
        } = connection;
        let limits = self.shared.settings.load().limits.clone();
        let metrics = self.shared.metrics.clone();
        let life = Arc::new(Life::new(peer.accepted));
        if let Some(ends) = peer.ends() {
            life.ends(ends);
        }
        let holding = Holding::new(self.shared.ledger.open(peer.client.ip()));
        let holder = holding.holder().clone();
        let service = Arc::new(Service {
            shared: self.shared.clone(),
            handler: self.handler.clone(),
            peer,
            life: life.clone(),
            wire: match protocol {
                Protocol::H1 => Wire::H1,
                Protocol::H2 => Wire::H2,
            },
            memory: Mutex::default(),
            holding: holding.clone(),
        });
        let vital = (life.clone(), holding);
        let shutdown = self.shutdown.clone();
        match protocol {
            Protocol::H1 => {
                let gauge = metrics.connections("1");
                gauge.inc();
                let io = Guard::http1(io, permit, vital, metrics.clone(), limits.header_bytes);
                let socket = io.shared();
                let service =
                    service_fn(move |request: hyper::Request<_>| service.call(request.map(Body::Client), None));
                let connection = http1_builder(&limits)
                    .serve_connection(TokioIo::new(io), service)
                    .with_upgrades();
                let output = Output::Interjected(socket.clone());
                if drive(connection, (&life, &holder), &limits, &metrics, shutdown, output).await {
                    socket.close().await;
                }
                gauge.dec();
            }
            Protocol::H2 => {
                let gauge = metrics.connections("2");
                gauge.inc();
                let io = Guard::http2(io, permit, vital, metrics.clone(), limits.header_bytes);
                let socket = io.shared();
                let spawner = Spawner {
                    next: Arc::default(),
                    patience: limits.write_timeout,
                };
                let next = spawner.next.clone();
                let service = service_fn(move |request: hyper::Request<_>| {
                    let flow = Flow::new();
                    // hyper calls the executor right after this, with the stream that this call
                    // belongs to.
                    *next.lock().unwrap_or_else(PoisonError::into_inner) = Some(flow.clone());
                    service.call(request.map(Body::Client), Some(flow))
                });
                let connection = http2_builder(&limits, spawner).serve_connection(TokioIo::new(io), service);
                let output = Output::Gathered(socket.clone());
                if drive(connection, (&life, &holder), &limits, &metrics, shutdown, output).await {
                    socket.close().await;
                }
                gauge.dec();
            }
        }
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Timeouts are the driver's. `pipeline_flush` stays off: with it hyper 1.12 buffers a response
    // without bound.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(BUFFER))
        .max_header_size(limits.header_bytes)
        .writev(true);
    if limits.header_count != FIELDS_ON_STACK {
        builder.max_headers(limits.header_count);
    }
    builder
}

fn http2_builder(limits: &Limits, spawner: Spawner) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(spawner);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_pending_accept_reset_streams(limits.resets_per_connection)
        .max_local_error_reset_streams(limits.resets_per_connection)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(limits.streams_per_connection))
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .enable_connect_protocol();
    builder
}

/// What all streams of a connection may hold together, within what a window can say (RFC 9113
/// section 6.9.1).
fn connection_window(streams: u32) -> u32 {
    STREAM_WINDOW
        .saturating_mul(streams)
        .clamp(65_535, i32::MAX.cast_unsigned())
}

/// A connection of hyper's that can be asked to end in good order.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, B, S> Graceful for http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> Graceful for http2::Connection<I, S, E>
where
    Self: Future<Output = hyper::Result<()>>,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// What is done about a connection's output after each of its turns.
enum Output {
    /// HTTP/1.1: what was put before hyper's next message leaves.
    Interjected(guard::Shared),
    /// HTTP/2: all that was written in the turn leaves at once. The h2 crate would flush after each
    /// DATA frame.
    Gathered(guard::Shared),
}

impl Output {
    fn poll(&self, cx: &mut Context<'_>, life: &Life) -> Poll<std::io::Result<()>> {
        match self {
            Self::Interjected(socket) => socket.poll_interjected(cx, life),
            Self::Gathered(socket) => socket.poll_flush(cx, life),
        }
    }
}

/// Runs a connection to its end, or to the end of its time. True: it was ended for its time, and
/// the client is there to be told.
async fn drive(
    connection: impl Graceful,
    (life, holder): (&Life, &Holder),
    limits: &Limits,
    metrics: &Metrics,
    mut shutdown: Shutdown,
    output: Output,
) -> bool {
    let mut stopping = shutdown.clone();
    let mut connection = pin!(connection);
    let mut drain = pin!(shutdown.reached(Phase::Draining));
    let mut stop = pin!(stopping.reached(Phase::Stopped));
    let mut timer = pin!(Timer::new(limits.idle_timeout));
    let mut ending = false;
    let outcome = std::future::poll_fn(|cx| {
        loop {
            life.turn();
            life.cork(matches!(output, Output::Gathered(_)));
            let turn = connection.as_mut().poll(cx);
            life.cork(false);
            if let Poll::Ready(result) = turn {
                return Poll::Ready(Ok(result));
            }
            if let Poll::Ready(Err(_)) = output.poll(cx, life) {
                // The client left.
                return Poll::Ready(Err(None));
            }
            if !ending && (life.finishing() || drain.as_mut().poll(cx).is_ready()) {
                ending = true;
                connection.as_mut().end();
                continue;
            }
            if ending && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(None));
            }
            if life.stormy(limits.resets_per_connection) {
                return Poll::Ready(Err(Some("resets")));
            }
            if let Poll::Ready(cut) = holder.poll_cut(cx) {
                return Poll::Ready(Err(Some(cut.label())));
            }
            match timer.as_mut().poll(cx, || life.deadline(limits, ending)) {
                Poll::Pending => return Poll::Pending,
                // In good order first: an idle client is no enemy.
                // So is one whose certificate has ended, which may be busy.
                Poll::Ready(Overdue::Idle | Overdue::Expired) if !ending => {
                    ending = true;
                    life.rest();
                    connection.as_mut().end();
                }
                Poll::Ready(what) => return Poll::Ready(Err(Some(what.label()))),
            }
        }
    })
    .await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(None) => {}
        Err(Some(reason)) => {
            metrics.overdue(reason);
            tracing::debug!(reason, "connection dropped");
            return reason != Overdue::Write.label();
        }
    }
    false
}

pin_project! {
    /// One timer for all deadlines of a connection. It is moved forward only when a nearer deadline
    /// appears; one that moves away, as with each request, is noticed when the old one passes.
    pub(super) struct Timer {
        #[pin]
        sleep: Sleep,
        recheck: Duration,
        armed: bool,
    }
}

impl Timer {
    /// Looks again after `recheck` when there is no deadline; the shortest time in which an unseen
    /// one could pass.
    pub(super) fn new(recheck: Duration) -> Self {
        Self {
            sleep: tokio::time::sleep(recheck),
            recheck,
            armed: false,
        }
    }

    /// Ready with what a deadline that has passed is for.
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        deadline: impl Fn() -> Option<(Instant, Overdue)>,
    ) -> Poll<Overdue> {
        let mut this = self.project();
        loop {
            let next = deadline();
            if let Some((at, _)) = next
                && at < this.sleep.deadline().into_std()
            {
                this.sleep.as_mut().reset(at.into());
                *this.armed = false;
            }
            if *this.armed && !this.sleep.is_elapsed() {
                return Poll::Pending;
            }
            if this.sleep.as_mut().poll(cx).is_pending() {
                *this.armed = true;
                return Poll::Pending;
            }
            let now = Instant::now();
            match next {
                Some((at, what)) if at <= now => return Poll::Ready(what),
                Some((at, _)) => this.sleep.as_mut().reset(at.into()),
                None => this.sleep.as_mut().reset((now + *this.recheck).into()),
            }
            *this.armed = false;
        }
    }
}

/// Runs HTTP/2 streams as tasks, each watched for a client that does not take it.
#[derive(Clone)]
struct Spawner {
    next: Arc<Mutex<Option<Arc<Flow>>>>,
    patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, stream: F) {
        let flow = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        match flow {
            None => drop(tokio::spawn(stream)),
            Some(flow) => drop(tokio::spawn(Watched {
                stream,
                flow,
                patience: self.patience,
                timer: None,
            })),
        }
    }
}

pin_project! {
    /// A stream that is reset (by dropping it) when its client takes nothing of it for too long,
    /// while the connection lives.
    struct Watched<F> {
        #[pin]
        stream: F,
        flow: Arc<Flow>,
        patience: Duration,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = this.flow.stuck_since() else {
            return Poll::Pending;
        };
        let due = tokio::time::Instant::from_std(since + *this.patience);
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}
