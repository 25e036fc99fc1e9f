//! HTTP on a connected socket: hyper's client connections as the room sets them up, and the tasks that drive them.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::connect::{ConnectError, Socket};
use super::lease::{H2, Shared};
use super::pool::Slot;
use super::stream::Upload;
use super::timer::Timer;

/// A response head and what was read behind it may fill that much: the bound on an origin's head, and the largest single
/// read of its content. hyper's own bound of 100 fields comes on top.
const READ_BUFFER: usize = 128 << 10;

/// HTTP/2 windows: what an origin may send ahead of a client that reads slowly, per stream and per connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A silent HTTP/2 connection with requests under way is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What hyper answers a request with; the error has the request when nothing of it was sent.
pub(super) type Sent = Result<http::Response<Incoming>, hyper::client::conn::TrySendError<http::Request<Upload>>>;

/// An established HTTP/1.1 connection that nobody uses.
#[derive(Debug)]
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<Upload>,
    /// Held by the driver as well: a tunnel's connection has no driver any more, and still counts.
    #[expect(dead_code, reason = "held for its drop")]
    slot: Arc<Slot>,
    pub(super) timer: Timer,
    /// When it became idle.
    pub(super) since: Instant,
}

impl H1 {
    /// Waits for a request, and has not been idle for `limit`.
    pub(super) fn usable(&self, now: Instant, limit: Duration) -> bool {
        self.sender.is_ready() && now.saturating_duration_since(self.since) < limit
    }
}

/// HTTP/1.1 on `socket`.
pub(super) async fn open_h1(socket: Socket, slot: Arc<Slot>) -> Result<H1, ConnectError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|_| ConnectError::Handshake)?;
    let held = slot.clone();
    tokio::spawn(async move {
        // Its errors reach the request that is under way; an idle connection has none to tell.
        let _ = connection.with_upgrades().await;
        drop(held);
    });
    Ok(H1 {
        sender,
        slot,
        timer: Timer::default(),
        since: Instant::now(),
    })
}

/// HTTP/2 on `socket`.
pub(super) async fn open_h2(socket: Socket, slot: Arc<Slot>) -> Result<H2, ConnectError> {
    let (sender, mut connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(64 << 10)
        .max_header_list_size(64 << 10)
        .max_send_buf_size(256 << 10)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake::<_, Upload>(TokioIo::new(socket))
        .await
        .map_err(|_| ConnectError::Handshake)?;
    let shared = Arc::new(Shared::new());
    let seen = shared.clone();
    tokio::spawn(async move {
        std::future::poll_fn(|cx| {
            seen.nudge.register(cx.waker());
            let outcome = std::pin::Pin::new(&mut connection).poll(cx);
            // The peer's SETTINGS, which hyper tells only through the connection.
            seen.limit
                .store(connection.current_max_send_streams(), Ordering::Relaxed);
            seen.extended
                .store(connection.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
            outcome.map(drop)
        })
        .await;
        drop(slot);
    });
    Ok(H2 { sender, shared })
}
