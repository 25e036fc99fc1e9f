//! quinn's streams as the h3 crate wants them. h3-quinn has the same, but hides when a client does
//! not want an answer any more: here each request's [`Stopped`] can be had, and `guard` decides
//! what h3 gets of what clients send. `h3` makes a [`Wire`] for each connection.

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

/// The code of streams that end here, as h3 is told it: no client can send it, as it is no integer
/// of QUIC's.
pub(super) const REFUSED: u64 = u64::MAX;

/// Ends when the client wants no answer on its stream any more: it has said so, or is gone. Never,
/// when it has it all.
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends when the client has acknowledged all of the answer on its stream, or wants no more of it,
/// or is gone.
pub(super) type Settled = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Of the request that was accepted last.
#[derive(Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<(Stopped, Settled)>>>);

impl Latest {
    /// To be called as soon as h3 has given a request: before the next one.
    pub(super) fn take(&self) -> Option<(Stopped, Settled)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, stream: &quinn::SendStream) {
        let (stopped, settled) = (stream.stopped(), stream.stopped());
        let stopped: Stopped = Box::pin(async move {
            if let Ok(None) = stopped.await {
                std::future::pending::<()>().await;
            }
        });
        let settled: Settled = Box::pin(async move { drop(settled.await) });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((stopped, settled));
    }
}

/// A connection.
pub(super) struct Wire {
    opener: Opener,
    requests: Option<Pending<Both>>,
    streams: Option<Pending<quinn::RecvStream>>,
    latest: Latest,
    /// `limits.header_bytes`.
    header_bytes: usize,
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
}

/// Its half, or a stream, to the client.
pub(super) struct Sending {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
}

/// Its half, or a stream, from the client.
pub(super) struct Receiving {
    id: StreamId,
    /// `None` once a [`Watch`] reads on.
    stream: Option<quinn::RecvStream>,
    quic: quinn::Connection,
    guard: Guard,
}

/// What decides about a client's bytes.
enum Guard {
    /// On a request stream.
    Request(Box<guard::Frames>),
    /// On a stream of one direction.
    One(guard::Streams),
    /// On a request stream that is not read on.
    Broken(guard::Broken),
}

/// A client's QPACK stream behind its first bytes: h3 keeps such a stream and never reads on, so
/// that neither what comes nor that nothing more will come would be noticed. Nothing is kept of
/// what is read.
struct Watch {
    stream: quinn::RecvStream,
    guard: guard::Streams,
    quic: quinn::Connection,
}

impl Wire {
    /// Around `quic`, whose client may send `header_bytes` of fields; `latest` follows the
    /// requests.
    pub(super) fn new(quic: quinn::Connection, latest: Latest, header_bytes: usize) -> Self {
        Self {
            opener: Opener::new(quic),
            requests: None,
            streams: None,
            latest,
            header_bytes,
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
    fn new((send, receive): Both, quic: quinn::Connection, header_bytes: usize) -> Self {
        let frames = Box::new(guard::Frames::new(header_bytes));
        Self {
            send: Sending::new(send),
            receive: Receiving::new(receive, quic, Guard::Request(frames)),
        }
    }
}

impl Sending {
    fn new(stream: quinn::SendStream) -> Self {
        Self { stream, writing: None }
    }
}

impl Receiving {
    fn new(stream: quinn::RecvStream, quic: quinn::Connection, guard: Guard) -> Self {
        Self {
            id: id(stream.id()),
            stream: Some(stream),
            quic,
            guard,
        }
    }

    /// Has a QPACK stream read to its end by somebody else than h3.
    fn part(&mut self) {
        if let Guard::One(guard) = &mut self.guard
            && guard.is_qpack()
            && let Some(stream) = self.stream.take()
        {
            let (guard, quic) = (std::mem::take(guard), self.quic.clone());
            tokio::spawn(Watch { stream, guard, quic }.run());
        }
    }

    /// What h3 gets next of what has come; `None` if more has to come.
    fn passed(&mut self) -> Result<Option<Bytes>, guard::Broken> {
        match &mut self.guard {
            Guard::Request(frames) => frames.pull(),
            Guard::One(_) => Ok(None),
            Guard::Broken(broken) => Err(*broken),
        }
    }

    /// Takes what was read; what h3 gets of it at once.
    fn take(&mut self, read: Option<Bytes>) -> Result<Option<Bytes>, guard::Broken> {
        match (&mut self.guard, read) {
            (Guard::Request(frames), Some(bytes)) => {
                frames.feed(bytes);
                frames.pull()
            }
            (Guard::Request(frames), None) => frames.end().map(|()| None),
            (Guard::One(streams), Some(bytes)) => {
                let passed = streams
                    .pass(&bytes)
                    .map_err(|fatal| guard::Broken::Connection(fatal.0))?;
                Ok(Some(passed).filter(|passed| !passed.is_empty()))
            }
            (Guard::One(streams), None) => {
                let ended = streams.end().map_err(|fatal| guard::Broken::Connection(fatal.0));
                ended.map(|()| None)
            }
            (Guard::Broken(broken), _) => Err(*broken),
        }
    }

    /// Ends stream or connection. For h3 the client has ended the stream itself: it has nothing to
    /// add.
    fn end(&mut self, broken: guard::Broken) -> StreamErrorIncoming {
        match broken {
            guard::Broken::Stream(code) => quic::RecvStream::stop_sending(self, code),
            guard::Broken::Connection(code) => self.quic.close(varint(code), b""),
        }
        if let Guard::Request(_) = self.guard {
            self.guard = Guard::Broken(broken);
        }
        StreamErrorIncoming::StreamTerminated { error_code: REFUSED }
    }
}

impl Watch {
    /// Ends with the stream or, as every connection is closed by whoever serves it, with the
    /// connection.
    async fn run(mut self) {
        loop {
            let read = self.stream.read_chunk(usize::MAX, true).await;
            let verdict = match &read {
                Ok(Some(chunk)) => self.guard.pass(&chunk.bytes).map(drop),
                Ok(None) | Err(ReadError::Reset(_)) => self.guard.end(),
                Err(_) => Ok(()),
            };
            if let Err(guard::Fatal(code)) = verdict {
                self.quic.close(varint(code), b"");
                return;
            }
            if !matches!(read, Ok(Some(_))) {
                return;
            }
        }
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
            let guard = Guard::One(guard::Streams::default());
            result
                .map(|stream| Receiving::new(stream, quic.clone(), guard))
                .map_err(lost)
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
        let quic = self.opener.quic.clone();
        let bidi = |both| Bidi::new(both, quic, self.header_bytes);
        Poll::Ready(result.map(bidi).map_err(lost))
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
        let bidi = |both| Bidi::new(both, quic.clone(), 0);
        next(&mut self.both, begin, cx).map(|result| result.map(bidi).map_err(of_stream))
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
        if let (Err(_), Guard::Broken(guard::Broken::Stream(code))) = (&data, &self.receive.guard) {
            quic::SendStream::reset(&mut self.send, *code);
        }
        Poll::Ready(data)
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
        loop {
            match self.passed() {
                Ok(None) => {}
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
                Err(broken) => return Poll::Ready(Err(self.end(broken))),
            }
            let Some(stream) = &mut self.stream else {
                // Whoever watches it ends the connection when there is something to say.
                return Poll::Pending;
            };
            // The future holds nothing but the stream: dropping it loses nothing. One look reads no
            // more than flow control has let in.
            let read = match ready!(pin!(stream.read_chunk(usize::MAX, true)).poll(cx)) {
                Ok(chunk) => chunk.map(|chunk| chunk.bytes),
                Err(error) => {
                    // A critical stream must not be reset either.
                    if let (ReadError::Reset(_), Guard::One(streams)) = (&error, &self.guard)
                        && let Err(guard::Fatal(code)) = streams.end()
                    {
                        self.quic.close(varint(code), b"");
                    }
                    return Poll::Ready(Err(unread(error)));
                }
            };
            let ended = read.is_none();
            let passed = self.take(read);
            self.part();
            match passed {
                Err(broken) => return Poll::Ready(Err(self.end(broken))),
                Ok(None) if !ended => {}
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        if let Some(stream) = &mut self.stream {
            // Fails only for one that has ended.
            let _ = stream.stop(varint(code));
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::{Duration, Instant};

    use quinn::crypto::rustls::QuicClientConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Two ends of one connection on loopback, and the endpoints that hold them.
    async fn pair() -> (quinn::Connection, quinn::Connection, [quinn::Endpoint; 2]) {
        let pair = rcgen::generate_simple_self_signed(vec!["h3.test".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
        let mut config = quinn::ServerConfig::with_single_cert(vec![pair.cert.der().clone()], key.into()).unwrap();
        config.migration(false);
        let server = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pair.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = client
            .connect_with(config, server.local_addr().unwrap(), "h3.test")
            .unwrap();
        let (theirs, ours) = tokio::join!(connecting, async { server.accept().await.unwrap().await });
        (theirs.unwrap(), ours.unwrap(), [client, server])
    }

    /// A node would keep something of each connection that it ever had.
    #[tokio::test]
    async fn nothing_watches_streams_of_a_connection_that_ended() {
        let (theirs, ours, _endpoints) = pair().await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let wire = Wire::new(ours.clone(), Latest::default(), 32 << 10);
        let mut h3 = h3::server::builder().build::<_, Bytes>(wire).await.unwrap();
        let mut open = Vec::new();
        for bytes in [&[0, 4, 0][..], &[2, 0x20], &[3, 0x44]] {
            let mut stream = theirs.open_uni().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            open.push(stream);
        }
        let start = Instant::now();
        while tasks() != before + 2 {
            assert!(start.elapsed() < PATIENCE, "{} tasks, {before} before", tasks());
            let turn = tokio::time::timeout(Duration::from_millis(20), h3.accept()).await;
            assert!(turn.is_err(), "no request was sent");
        }
        ours.close(varint(Code::H3_NO_ERROR.value()), b"");
        while tasks() > before {
            assert!(start.elapsed() < PATIENCE, "{} tasks, {before} before", tasks());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
