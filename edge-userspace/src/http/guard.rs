//! The socket as hyper sees it: incoming bytes pass the [`Framing`] first, outgoing ones tell
//! [`Life`] whether the client takes them. `server` puts it between a connection of `tls` and
//! hyper; after an upgrade it goes on as the tunnel's socket.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::data_frames::DataFrames;
use super::framing::{Framing, Verdict};
use super::heads::{self, Heads, Passage};
use super::holding::{Frames, Holding};
use super::life::{Life, Overdue, Upgrade};
use super::metrics::Metrics;
use crate::tls::Io;
use crate::tls::limits::Permit;

/// What hyper is given in place of an ambiguous head: NUL is an error in any part of one, and the
/// empty line makes hyper look. hyper itself then answers 400 after the answers to earlier
/// requests, and closes.
const POISON: &[u8] = b"\0\r\n\r\n";
/// Input read and thrown away so that the last answer arrives: in all, and in one turn, for the
/// thread has others to serve.
const DRAIN: usize = 256 << 20;
const DRAIN_TURN: usize = 256 << 10;

/// The socket itself, shared by the guard and the driver, which run in one task: the lock is never
/// waited for.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Io>>);

impl Shared {
    fn io(&self) -> MutexGuard<'_, Io> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what was written while the connection was corked.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>, life: &Life) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut *self.io()).poll_flush(cx);
        life.blocked(result.is_pending());
        result
    }

    /// Writes what goes before everything else, if there is something, and sends it.
    pub(super) fn poll_interjected(&self, cx: &mut Context<'_>, life: &Life) -> Poll<io::Result<()>> {
        if !life.interjected() {
            return Poll::Ready(Ok(()));
        }
        let mut io = self.io();
        let written = life.poll_before(|message| match Pin::new(&mut *io).poll_write(cx, message) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => written,
        });
        life.blocked(written.is_pending());
        ready!(written)?;
        drop(io);
        self.poll_flush(cx, life)
    }

    /// Ends a connection that nobody drives any more: over TLS by close_notify, so that the client
    /// knows that nothing was cut off (RFC 8446 section 6.1). A client that takes nothing is not
    /// waited for.
    pub(super) async fn close(&self) {
        let closed = std::future::poll_fn(|cx| Pin::new(&mut *self.io()).poll_shutdown(cx));
        let _ = tokio::time::timeout(GOODBYE, closed).await;
    }
}

/// How long the last bytes of a connection may take to leave.
const GOODBYE: std::time::Duration = std::time::Duration::from_millis(250);

/// A guarded socket.
pub(super) struct Guard {
    io: Shared,
    life: Arc<Life>,
    holding: Arc<Holding>,
    /// HTTP/2: what of the output is content.
    output: Option<Frames>,
    metrics: Metrics,
    input: Input,
    /// HTTP/2: small frames are joined on their way.
    frames: Option<DataFrames>,
    /// Bytes that came with a message whose answer decides how to read them.
    held: Vec<u8>,
    /// The outgoing side has been shut down.
    closed: bool,
    drained: usize,
    /// A tunnel's end, if its client's certificate has one.
    cut: Option<Pin<Box<Sleep>>>,
    /// Counted as long as the socket is open, tunnels included.
    _permit: Permit,
}

enum Input {
    /// HTTP/1.
    Judged(Framing),
    /// HTTP/2, whose frames cannot be ambiguous.
    Requests(Box<Requests>),
    /// Passed as it is.
    Raw,
    /// A head was refused; so many bytes of the poison are delivered.
    Poisoned(usize),
    /// Content was refused.
    Broken,
}

/// HTTP/2 on its way to the h2 crate.
struct Requests {
    heads: Passage,
    /// Bytes that have come, until the client's preface is whole.
    seen: usize,
}

/// The HTTP/2 client preface and the header of the SETTINGS frame that must follow it (RFC 9113
/// section 3.4).
const PREFACE: usize = heads::PREFACE + 9;

impl Guard {
    /// For HTTP/1 heads of up to `limit` bytes.
    pub(super) fn http1(
        io: Io,
        permit: Permit,
        (life, holding): (Arc<Life>, Arc<Holding>),
        metrics: Metrics,
        limit: usize,
    ) -> Self {
        Self::new(io, permit, life, holding, metrics, Input::Judged(Framing::new(limit)))
    }

    /// For HTTP/2, with fields of up to `limit` bytes. The preface counts as a head that is being
    /// read.
    pub(super) fn http2(
        io: Io,
        permit: Permit,
        (life, holding): (Arc<Life>, Arc<Holding>),
        metrics: Metrics,
        limit: usize,
    ) -> Self {
        life.head(true);
        let requests = Requests {
            heads: Passage::new(Heads::new(limit)),
            seen: 0,
        };
        Self {
            frames: Some(DataFrames::from_client()),
            output: Some(Frames::default()),
            ..Self::new(io, permit, life, holding, metrics, Input::Requests(Box::new(requests)))
        }
    }

    fn new(io: Io, permit: Permit, life: Arc<Life>, holding: Arc<Holding>, metrics: Metrics, input: Input) -> Self {
        Self {
            io: Shared(Arc::new(Mutex::new(io))),
            life,
            holding,
            output: None,
            metrics,
            input,
            frames: None,
            held: Vec::new(),
            closed: false,
            drained: 0,
            cut: None,
            _permit: permit,
        }
    }

    /// The socket, for the driver.
    pub(super) fn shared(&self) -> Shared {
        self.io.clone()
    }

    /// Judges what was filled into `buf` behind `before`.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let Input::Judged(framing) = &mut self.input else {
            return Ok(());
        };
        let new = buf.filled().get(before..).unwrap_or_default();
        match framing.feed(new) {
            Verdict::Pass => {}
            Verdict::Hold(at) => {
                self.held.extend_from_slice(new.get(at..).unwrap_or_default());
                buf.set_filled(before + at);
            }
            Verdict::Refuse { at, why, in_head } => {
                self.metrics.refused_framing(why);
                self.life.leave_unread();
                buf.set_filled(before + at);
                if in_head {
                    self.input = Input::Poisoned(0);
                    self.life.head(true);
                    self.poison(buf);
                } else {
                    self.input = Input::Broken;
                    if at == 0 {
                        return Err(broken());
                    }
                }
                return Ok(());
            }
        }
        self.life.head(framing.in_head());
        self.life.content(framing.in_content());
        Ok(())
    }

    fn poison(&mut self, buf: &mut ReadBuf<'_>) {
        if let Input::Poisoned(given) = &mut self.input {
            let left = POISON.get(*given..).unwrap_or_default();
            let now = left.get(..left.len().min(buf.remaining())).unwrap_or_default();
            buf.put_slice(now);
            *given += now.len();
        }
    }

    /// What comes through a tunnel, as it is.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // No driver looks after a tunnel.
        if self.holding.holder().poll_cut(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.cut.is_none() {
            self.cut = self.life.cut().map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        }
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(cx).is_ready()
        {
            self.metrics.overdue(Overdue::Expired.label());
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if !self.held.is_empty() {
            return Poll::Ready(self.release(buf));
        }
        match &mut self.frames {
            Some(frames) => frames.poll_read(Pin::new(&mut *self.io.io()), cx, buf),
            None => Pin::new(&mut *self.io.io()).poll_read(cx, buf),
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "ambiguous framing")
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.input {
            Input::Raw => return this.poll_tunnel(cx, buf),
            Input::Requests(requests) => {
                let before = buf.filled().len();
                requests.heads.give(buf);
                while buf.filled().len() == before {
                    if this.life.had_its_turn(cx.waker()) {
                        return Poll::Pending;
                    }
                    ready!(match &mut this.frames {
                        Some(frames) => frames.poll_read(Pin::new(&mut *this.io.io()), cx, buf),
                        None => Pin::new(&mut *this.io.io()).poll_read(cx, buf),
                    })?;
                    let new = buf.filled().get(before..).unwrap_or_default();
                    if new.is_empty() {
                        break;
                    }
                    this.life.read(new.len());
                    if requests.seen < PREFACE {
                        requests.seen = requests.seen.saturating_add(new.len());
                        if requests.seen >= PREFACE {
                            this.life.head(false);
                        }
                    }
                    requests.heads.pass(buf, before);
                }
                return Poll::Ready(Ok(()));
            }
            Input::Poisoned(given) => {
                // Never an end of file: hyper would take it for a client that left, and drop the
                // request under way.
                if *given >= POISON.len() {
                    return Poll::Pending;
                }
                this.poison(buf);
                return Poll::Ready(Ok(()));
            }
            Input::Broken => return Poll::Ready(Err(broken())),
            Input::Judged(framing) => {
                if framing.held() {
                    match this.life.decision(cx.waker()) {
                        Upgrade::Open => return Poll::Pending,
                        Upgrade::Accepted => {
                            framing.switch_off();
                            this.input = Input::Raw;
                            return Pin::new(this).poll_read(cx, buf);
                        }
                        Upgrade::Declined => framing.resume(),
                    }
                }
                if !this.held.is_empty() {
                    return Poll::Ready(this.release(buf));
                }
            }
        }
        if this.life.had_its_turn(cx.waker()) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *this.io.io()).poll_read(cx, buf))?;
        this.life.read(buf.filled().len().saturating_sub(before));
        if buf.filled().len() == before {
            // hyper would take the end of the client's direction for the end of the client, and
            // drop the request under way.
            let rests = matches!(&this.input, Input::Judged(framing) if framing.at_rest());
            if rests && this.life.outlives_input(cx.waker()) {
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        }
        this.judge(buf, before)?;
        if buf.filled().len() == before {
            // All of it is held: an empty read would mean the end. The decision wakes us.
            return Pin::new(this).poll_read(cx, buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl Guard {
    fn wrote(&mut self, bufs: &[io::IoSlice<'_>], result: &Poll<io::Result<usize>>) {
        self.life.blocked(result.is_pending());
        if let Poll::Ready(Ok(bytes)) = result {
            self.life.wrote();
            self.written(bufs, *bytes);
        }
    }

    /// The first `bytes` of `bufs` are written, or sealed to be.
    fn written(&mut self, bufs: &[io::IoSlice<'_>], bytes: usize) {
        let content = match &mut self.output {
            // Heads and chunk lines count too: it is one response after the other, and then nothing
            // is left.
            None => bytes as u64,
            Some(frames) => {
                let mut left = bytes;
                bufs.iter().fold(0, |content, buf| {
                    let now = left.min(buf.len());
                    left -= now;
                    content + frames.content(buf.get(..now).unwrap_or_default())
                })
            }
        };
        self.holding.written(content);
    }

    /// Hands out what was held, judged anew where HTTP goes on.
    fn release(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let before = buf.filled().len();
        let now = self.held.len().min(buf.remaining());
        buf.put_slice(self.held.get(..now).unwrap_or_default());
        self.held.drain(..now);
        let rest = std::mem::take(&mut self.held);
        self.judge(buf, before)?;
        // What is held once more comes before what was not handed out yet.
        self.held.extend_from_slice(&rest);
        Ok(())
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.io.poll_interjected(cx, &this.life))?;
        if this.life.corked() {
            let sealed = this.io.io().seal(&[io::IoSlice::new(buf)])?;
            if sealed > 0 {
                this.written(&[io::IoSlice::new(buf)], sealed);
                return Poll::Ready(Ok(sealed));
            }
        }
        let result = Pin::new(&mut *this.io.io()).poll_write(cx, buf);
        this.wrote(&[io::IoSlice::new(buf)], &result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.io.poll_interjected(cx, &this.life))?;
        if this.life.corked() {
            let sealed = this.io.io().seal(bufs)?;
            if sealed > 0 {
                this.written(bufs, sealed);
                return Poll::Ready(Ok(sealed));
            }
        }
        let result = Pin::new(&mut *this.io.io()).poll_write_vectored(cx, bufs);
        this.wrote(bufs, &result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.io().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.io.poll_interjected(cx, &self.life))?;
        if self.life.corked() {
            // The driver flushes when this turn of the connection is over.
            return Poll::Ready(Ok(()));
        }
        self.io.poll_flush(cx, &self.life)
    }

    /// Ends the outgoing side; if input was left unread, reads on until the client ends its own,
    /// within bounds of bytes and time ([`DRAIN`], [`Life::lingers`]; RFC 9112 section 9.6):
    /// closing a socket with unread input resets it, and the reset can overtake the answer. Many
    /// clients write all of their content before they read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            let result = Pin::new(&mut *this.io.io()).poll_shutdown(cx);
            this.life.blocked(result.is_pending());
            ready!(result)?;
            this.closed = true;
        }
        if !this.life.unread() && !this.life.content_to_come() {
            return Poll::Ready(Ok(()));
        }
        this.life.lingers(false);
        let mut sink = [0u8; 16 << 10];
        let turn = this.drained.saturating_add(DRAIN_TURN);
        while this.drained < DRAIN {
            if this.drained >= turn {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut buf = ReadBuf::new(&mut sink);
            match ready!(Pin::new(&mut *this.io.io()).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    this.drained += buf.filled().len();
                    this.life.lingers(true);
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
