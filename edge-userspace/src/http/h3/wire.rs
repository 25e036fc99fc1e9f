//! quinn's streams as the h3 crate wants them. h3-quinn has the same, but hides when a client does not want an answer any
//! more: here each request's [`Stopped`] can be had, and `guard` sees what clients send. `h3` makes a [`Wire`] for each connection.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::guard;

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send + Sync>>;
type Both = (quinn::SendStream, quinn::RecvStream);

/// Ends when the client wants no answer on its stream any more: it has said so, or is gone. Never, when it has it all.
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Of the request that was accepted last.
#[derive(Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Stopped>>>);

impl Latest {
    /// To be called as soon as h3 has given a request: before the next one.
    pub(super) fn take(&self) -> Option<Stopped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, stream: &quinn::SendStream) {
        let stopped = stream.stopped();
        let stopped: Stopped = Box::pin(async move {
            if let Ok(None) = stopped.await {
                std::future::pending::<()>().await;
            }
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
    }
}

/// A connection.
pub(super) struct Wire {
    opener: Opener,
    requests: Option<Pending<Both>>,
    streams: Option<Pending<quinn::RecvStream>>,
    latest: Latest,
}

/// Opens streams of ours.
pub(super) struct Opener {
    quic: quinn::Connection,
    both: Option<Pending<Both>>,
    one: Option<Pending<quinn::SendStream>>,
}

/// A request's stream.
pub(super) struct Bidi {
    send: Sending,
    receive: Receiving,
    head: guard::Head,
}

/// Its half, or a stream, to the client.
pub(super) struct Sending {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
}

/// Its half, or a stream, from the client.
pub(super) struct Receiving {
    stream: quinn::RecvStream,
    /// Of a stream of one direction.
    guard: Option<(guard::Streams, quinn::Connection)>,
}

impl Wire {
    /// Around `quic`; `latest` follows the requests.
    pub(super) fn new(quic: quinn::Connection, latest: Latest) -> Self {
        Self {
            opener: Opener::new(quic),
            requests: None,
            streams: None,
            latest,
        }
    }
}

impl Opener {
    fn new(quic: quinn::Connection) -> Self {
        Self {
            quic,
            both: None,
            one: None,
        }
    }
}

impl Bidi {
    fn new((send, receive): Both) -> Self {
        Self {
            send: Sending::new(send),
            receive: Receiving {
                stream: receive,
                guard: None,
            },
            head: guard::Head::default(),
        }
    }
}

impl Sending {
    fn new(stream: quinn::SendStream) -> Self {
        Self { stream, writing: None }
    }
}

/// Polls what is under way, or begins it.
fn next<T>(
    slot: &mut Option<Pending<T>>,
    begin: impl FnOnce() -> Pending<T>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, ConnectionError>> {
    let result = ready!(slot.get_or_insert_with(begin).as_mut().poll(cx));
    *slot = None;
    Poll::Ready(result)
}

impl quic::Connection<Bytes> for Wire {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let quic = &self.opener.quic;
        let begin = || {
            let quic = quic.clone();
            Box::pin(async move { quic.accept_uni().await }) as _
        };
        next(&mut self.streams, begin, cx).map(|result| {
            let guard = Some((guard::Streams::default(), quic.clone()));
            result.map(|stream| Receiving { stream, guard }).map_err(lost)
        })
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, ConnectionErrorIncoming>> {
        let quic = &self.opener.quic;
        let begin = || {
            let quic = quic.clone();
            Box::pin(async move { quic.accept_bi().await }) as _
        };
        let result = ready!(next(&mut self.requests, begin, cx));
        if let Ok((send, _)) = &result {
            self.latest.put(send);
        }
        Poll::Ready(result.map(Bidi::new).map_err(lost))
    }

    fn opener(&self) -> Opener {
        Opener::new(self.opener.quic.clone())
    }
}

impl quic::OpenStreams<Bytes> for Wire {
    type BidiStream = Bidi;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Bidi;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        let quic = &self.quic;
        let begin = || {
            let quic = quic.clone();
            Box::pin(async move { quic.open_bi().await }) as _
        };
        next(&mut self.both, begin, cx).map(|result| result.map(Bidi::new).map_err(of_stream))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let quic = &self.quic;
        let begin = || {
            let quic = quic.clone();
            Box::pin(async move { quic.open_uni().await }) as _
        };
        next(&mut self.one, begin, cx).map(|result| result.map(Sending::new).map_err(of_stream))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.quic.close(varint(code.value()), reason);
    }
}

impl quic::BidiStream<Bytes> for Bidi {
    type SendStream = Sending;
    type RecvStream = Receiving;

    fn split(self) -> (Sending, Receiving) {
        (self.send, self.receive)
    }
}

impl quic::SendStream<Bytes> for Bidi {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for Bidi {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let data = ready!(self.receive.poll_data(cx));
        match data {
            Ok(Some(bytes)) if !self.head.sound(&bytes) => {
                // For h3 the client has ended the stream itself: it has nothing to add.
                let code = Code::H3_MESSAGE_ERROR.value();
                quic::SendStream::reset(&mut self.send, code);
                self.receive.stop_sending(code);
                Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code: code }))
            }
            data => Poll::Ready(data),
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(unwritten)?;
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            // h3 asks `poll_ready` first.
            return Err(StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: ConnectionErrorIncoming::InternalError("a stream is written to out of turn".into()),
            });
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let finished = self.stream.finish();
        Poll::Ready(finished.map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, code: u64) {
        // Fails only for one that has ended.
        let _ = self.stream.reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // The future holds nothing but the stream: dropping it loses nothing.
        let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
        if let Some((guard, quic)) = &mut self.guard {
            let verdict = match &read {
                Ok(Some(chunk)) => guard.look(&chunk.bytes),
                Ok(None) | Err(ReadError::Reset(_)) => guard.end(),
                Err(_) => Ok(()),
            };
            if let Err(guard::Fatal(code)) = verdict {
                quic.close(varint(code), b"");
            }
        }
        Poll::Ready(read.map(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(unread))
    }

    fn stop_sending(&mut self, code: u64) {
        // Fails only for one that has ended.
        let _ = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose {
            error_code: close.error_code.into_inner(),
        },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn of_stream(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: lost(error),
    }
}

fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => of_stream(error),
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

fn unwritten(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => of_stream(error),
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

#[expect(clippy::expect_used, reason = "both are varints of 62 bits")]
fn id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(VarInt::from(id).into_inner()).expect("a varint")
}
