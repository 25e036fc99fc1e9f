//! HTTP on a connected socket: hyper's client connections as the room sets them up, and the tasks
//! that drive them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::{Connected, Socket};
use super::connection::{H1, H2, Home, STREAMS, Slot, Streams, Wear};
use super::error::ConnectError;
use super::upload::Upload;
use crate::config::HeaderCase;
use crate::http::data_frames::DataFrames;
use crate::http::heads::{self, Heads, Passage};

/// A response head and what was read behind it may fill that much: the bound on an origin's head,
/// and the largest single read of its content. hyper's own bound of 100 fields comes on top.
const READ_BUFFER: usize = 128 << 10;

/// HTTP/2: bytes of an origin's fields that are looked at; longer ones are the h2 crate's to
/// refuse.
const HEAD: usize = 64 << 10;

/// HTTP/2: what an origin may send ahead of a client that reads slowly, per stream: 100 Mbit/s over
/// the round trip that was seen when connecting, within these bounds.
const STREAM_WINDOW: (u64, u64) = (256 << 10, 1 << 20);
const BYTES_A_SECOND: u64 = 12_500_000;
/// The connection's window is more than all its streams' together, so that clients that do not read
/// take nothing from those that do (RFC 9113 section 5.2). What is held for them is the streams'
/// windows: 25 MiB (100 MiB over a long way) if each of 100 clients stands still. Half of this is
/// what the h2 crate allows for the bookkeeping of small DATA frames that nobody has read yet and
/// that came too far apart to be joined.
const CONNECTION_WINDOW: u32 = 128 << 20;
const _: () = assert!(CONNECTION_WINDOW as u64 >= STREAM_WINDOW.1 * STREAMS as u64);
/// Unless the peer has said how many streams it takes, the h2 crate is told this, which nobody
/// says.
const UNSAID: usize = 0x7fff_fffe;

/// A silent HTTP/2 connection with requests under way is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/1.1 on a connection.
///
/// # Errors
/// It is closed at once.
pub(super) async fn open_h1(socket: Socket, slot: Arc<Slot>, wear: Wear, case: HeaderCase) -> Result<H1, ConnectError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER)
        .title_case_headers(case == HeaderCase::Title)
        // White space in front of a colon is taken away (RFC 9112 section 5.1).
        .allow_spaces_after_header_name_in_responses(true)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|_| ConnectError::Handshake)?;
    let held = slot.clone();
    tokio::spawn(async move {
        // Its errors reach the request that is under way; an idle connection has none to tell.
        let _ = connection.with_upgrades().await;
        drop(held);
    });
    Ok(H1::new(sender, slot, wear))
}

/// HTTP/2 on a connection of `home`, which is told when more streams may be opened.
pub(super) async fn open_h2(
    connected: Connected,
    slot: Arc<Slot>,
    wear: Wear,
    home: Weak<dyn Home>,
) -> Result<H2, ConnectError> {
    let (least, most) = STREAM_WINDOW;
    let a_round_trip = connected
        .round_trip
        .as_micros()
        .saturating_mul(u128::from(BYTES_A_SECOND))
        / 1_000_000;
    let stream_window = u64::try_from(a_round_trip).unwrap_or(most).clamp(least, most);
    let shared = Arc::new(Streams::new(wear, stream_window));
    let socket = Frames {
        frames: DataFrames::from_server(),
        heads: Passage::new(Heads::of_server(HEAD)),
        socket: connected.socket,
    };
    let (sender, mut connection) = hyper::client::conn::http2::Builder::new(Executor(shared.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(u32::try_from(stream_window).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(UNSAID)
        .max_frame_size(heads::LONGEST as u32)
        .max_header_list_size(64 << 10)
        .max_send_buf_size(256 << 10)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake::<_, Upload>(TokioIo::new(socket))
        .await
        .map_err(|_| ConnectError::Handshake)?;
    let seen = shared.clone();
    tokio::spawn(async move {
        std::future::poll_fn(|cx| {
            seen.nudge.register(cx.waker());
            let outcome = Pin::new(&mut connection).poll(cx);
            // The peer's SETTINGS, which hyper tells only through the connection.
            let said = Some(connection.current_max_send_streams()).filter(|most| *most != UNSAID);
            seen.extended
                .store(connection.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
            if seen.settle(said)
                && let Some(home) = home.upgrade()
            {
                home.changed();
            }
            outcome.map(drop)
        })
        .await;
        drop(slot);
    });
    Ok(H2 { sender, shared })
}

/// Runs hyper's tasks of one connection. The one that reads learns of the peer's SETTINGS, and
/// hyper tells nobody: until they have come, each turn of a task has the driver look.
#[derive(Clone)]
struct Executor(Arc<Streams>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        tokio::spawn(Nudging {
            task,
            shared: self.0.clone(),
        });
    }
}

pin_project! {
    struct Nudging<F> {
        #[pin]
        task: F,
        shared: Arc<Streams>,
    }
}

impl<F: Future<Output = ()>> Future for Nudging<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let outcome = this.task.poll(cx);
        if !this.shared.settled() {
            this.shared.nudge.wake();
        }
        outcome
    }
}

/// The socket as the h2 crate is to see it.
#[derive(Debug)]
struct Frames {
    frames: DataFrames,
    heads: Passage,
    socket: Socket,
}

impl AsyncRead for Frames {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        this.heads.give(buf);
        while buf.filled().len() == before {
            ready!(this.frames.poll_read(Pin::new(&mut this.socket), cx, buf))?;
            if buf.filled().len() == before {
                break;
            }
            this.heads.pass(buf, before);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
