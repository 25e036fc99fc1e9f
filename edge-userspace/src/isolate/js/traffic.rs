//! What one request's script has under way: operations that it waits for, and streams of content,
//! in and out. All of it bounded, and dropped with the request.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::code::Code;
use super::outside::{Doing, Told, Wire};
use super::sockets::{self, Incoming, Outgoing, Socket};
use crate::http::body::{Body, BodyError};
use crate::isolate::budget::Meter;
use crate::isolate::coding::{self, Coding};
use crate::isolate::memory::{Account, Held};

/// Operations at once; more wait for their turn.
const OPERATIONS: usize = 64;
/// Operations that wait, at most; each holds [`PLACE`] bytes of the account beside what it carries.
const WAITING: usize = 10_000;
/// Bytes that one operation costs the host, whatever it is about.
const PLACE: usize = 1 << 10;
/// Streams at once.
const STREAMS: usize = 128;
/// Chunks between the script and who reads what it writes.
const AHEAD: usize = 2;
/// Bytes of such a chunk; the prelude cuts larger ones.
const CHUNK: usize = 128 << 10;

/// How an operation ended.
pub(super) enum Outcome {
    /// A sub-request's response; the content becomes a stream.
    Response(http::response::Parts, Body),
    /// The next chunk of a stream, with the rest; the end without.
    Chunk(i32, Option<(Bytes, Body)>),
    /// All that was left of a stream.
    Whole(i32, Bytes, Vec<Held>),
    /// What was written was taken.
    Written,
    /// A store's answer.
    Told(Told),
    /// What came on a socket, with the socket unless that was its end.
    Message(i32, Option<Box<Socket>>, Incoming),
    /// Nobody waits for the response any more: whether the client has gone before it had all of it.
    Left(bool),
    /// It failed. A stream that it was about is gone.
    Failed(Code, Option<i32>),
}

type Operation = Abortable<Pin<Box<dyn Future<Output = (i32, Outcome)> + Send>>>;

/// A stream that the script has a number for.
enum Stream {
    /// Content to be read.
    In(Body),
    /// Content as it came, with the codings that are undone when it is read.
    Coded(Body, Vec<Coding>),
    /// Being read: the operation has it.
    Lent,
    /// Content that the script writes.
    Out(Writer),
    /// A WebSocket.
    Socket(Box<Socket>),
}

/// The script's end of a stream that it writes.
#[derive(Clone)]
struct Writer {
    chunks: mpsc::Sender<(Bytes, Held)>,
    whole: Arc<AtomicBool>,
}

/// The other end: content as the script writes it. Only an end that the script asked for is a good
/// one.
struct Written {
    chunks: mpsc::Receiver<(Bytes, Held)>,
    whole: Arc<AtomicBool>,
}

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match std::task::ready!(self.chunks.poll_recv(cx)) {
            // On the account of whoever takes it from here on.
            Some((chunk, _held)) => Some(Ok(Frame::data(chunk))),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err(BodyError::Worker("exception"))),
        })
    }
}

/// All of it.
pub(super) struct Traffic {
    account: Arc<Account>,
    /// Who pays for long work.
    meter: Option<Arc<Meter>>,
    operations: FuturesUnordered<Operation>,
    waiting: VecDeque<Operation>,
    handles: HashMap<i32, AbortHandle>,
    streams: HashMap<i32, Stream>,
    next_operation: i32,
    next_stream: i32,
    /// The scripts' sides of open sockets.
    outgoing: HashMap<i32, Outgoing>,
    /// An operation that nobody waits for: that the client leaves.
    watch: Option<i32>,
    /// There is no response yet.
    pub(super) owed: bool,
}

/// What a wait brought.
pub(super) enum Event {
    /// An operation ended.
    Ended(i32, Outcome),
    /// The time is over.
    Time,
    /// Nothing is under way, and no time was given.
    Nothing,
}

impl Traffic {
    /// None yet; the host will hold at most so many bytes for it.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            account: Account::alone(bytes),
            meter: None,
            operations: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            handles: HashMap::new(),
            streams: HashMap::new(),
            next_operation: 0,
            next_stream: 0,
            outgoing: HashMap::new(),
            watch: None,
            owed: true,
        }
    }

    /// None yet; what the host holds for it is on `account`, and what takes long is paid by
    /// `meter`.
    pub(super) fn of(account: Arc<Account>, meter: Arc<Meter>) -> Self {
        Self {
            account,
            meter: Some(meter),
            ..Self::new(0)
        }
    }

    /// Takes so many bytes into the account, until the result is dropped.
    pub(super) fn hold(&self, bytes: usize) -> Result<Held, Code> {
        self.account.hold(bytes).map_err(|_| Code::TooLarge)
    }

    /// Begins an operation, or has it wait for its turn; its number.
    pub(super) fn begin(&mut self, doing: impl Future<Output = Outcome> + Send + 'static) -> Result<i32, Code> {
        if self.waiting.len() >= WAITING {
            return Err(Code::Busy);
        }
        let place = self.hold(PLACE)?;
        let id = self.next_operation;
        self.next_operation = id.checked_add(1).ok_or(Code::Busy)?;
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(id, handle);
        let named: Pin<Box<dyn Future<Output = (i32, Outcome)> + Send>> = Box::pin(async move {
            let _place = place;
            (id, doing.await)
        });
        let operation = Abortable::new(named, registration);
        if self.operations.len() < OPERATIONS {
            self.operations.push(operation);
        } else {
            self.waiting.push_back(operation);
        }
        Ok(id)
    }

    /// Ends an operation before its time; nobody hears of it again.
    pub(super) fn cancel(&mut self, operation: i32) {
        if let Some(handle) = self.handles.remove(&operation) {
            handle.abort();
        }
    }

    /// The number that the next operation will have.
    pub(super) fn upcoming(&self) -> i32 {
        self.next_operation
    }

    /// A number for content to be read.
    pub(super) fn open(&mut self, body: Body) -> Result<i32, Code> {
        let id = self.next_stream;
        self.next_stream = id.checked_add(1).ok_or(Code::Busy)?;
        self.put(id, Stream::In(body))?;
        Ok(id)
    }

    /// As [`Traffic::open`], for content with `codings`.
    pub(super) fn open_coded(&mut self, body: Body, codings: Vec<Coding>) -> Result<i32, Code> {
        let id = self.open(body)?;
        if !codings.is_empty()
            && let Some(Stream::In(body)) = self.streams.remove(&id)
        {
            self.streams.insert(id, Stream::Coded(body, codings));
        }
        Ok(id)
    }

    fn put(&mut self, id: i32, stream: Stream) -> Result<(), Code> {
        if self.streams.len() >= STREAMS {
            return Err(Code::Busy);
        }
        self.streams.insert(id, stream);
        Ok(())
    }

    /// Content that the script will write as stream `id`, or as the next number.
    pub(super) fn writable(&mut self, id: Option<i32>) -> Result<(i32, Body), Code> {
        let id = match id {
            Some(id) => id,
            None => {
                let id = self.next_stream;
                self.next_stream = id.checked_add(1).ok_or(Code::Busy)?;
                id
            }
        };
        let (sender, chunks) = mpsc::channel(AHEAD);
        let whole = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            chunks: sender,
            whole: whole.clone(),
        };
        self.put(id, Stream::Out(writer))?;
        Ok((id, Body::boxed(Written { chunks, whole })))
    }

    /// Takes a stream that nobody reads from, to hand it on as it is.
    pub(super) fn take(&mut self, id: i32) -> Result<Body, Code> {
        match self.take_as_it_came(id)? {
            (body, codings) if codings.is_empty() => Ok(body),
            (body, codings) => Ok(coding::decoded(body, &codings)),
        }
    }

    /// As [`Traffic::take`], with its codings, which are not undone.
    pub(super) fn take_as_it_came(&mut self, id: i32) -> Result<(Body, Vec<Coding>), Code> {
        match self.streams.remove(&id) {
            Some(Stream::In(body)) => Ok((body, Vec::new())),
            Some(Stream::Coded(body, codings)) => Ok((body, codings)),
            Some(other) => {
                self.streams.insert(id, other);
                Err(Code::Malformed)
            }
            None => Err(Code::Broken),
        }
    }

    /// A number for a WebSocket over the connection that comes of `opening`.
    pub(super) fn socket(&mut self, opening: Doing<Box<dyn Wire>>, role: Role) -> Result<i32, Code> {
        let held = self.hold(sockets::OPEN)?;
        let id = self.next_stream;
        self.next_stream = id.checked_add(1).ok_or(Code::Busy)?;
        let (socket, outgoing) = Socket::new(opening, role, held);
        self.put(id, Stream::Socket(Box::new(socket)))?;
        self.outgoing.insert(id, outgoing);
        Ok(id)
    }

    /// Gives a socket a message to send.
    pub(super) fn send(&mut self, id: i32, message: Message) -> Result<(), Code> {
        let held = self.hold(message.len().saturating_add(PLACE))?;
        let outgoing = self.outgoing.get(&id).ok_or(Code::Broken)?;
        outgoing.send((message, held)).map_err(|_| Code::Broken)
    }

    /// Whether the script has sockets.
    pub(super) fn has_sockets(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Begins to wait for the client to leave, once. As long as the response is owed, no wait waits
    /// for that alone.
    pub(super) fn watch(&mut self, left: impl Future<Output = bool> + Send + 'static) -> Result<i32, Code> {
        let id = self.begin(async move { Outcome::Left(left.await) })?;
        self.watch = Some(id);
        Ok(id)
    }

    /// Reads the next chunk, or all that is left, as far as the account goes.
    pub(super) fn read(&mut self, id: i32, whole: bool) -> Result<i32, Code> {
        if let Some(Stream::Socket(_)) = self.streams.get(&id)
            && let Some(Stream::Socket(mut socket)) = self.streams.insert(id, Stream::Lent)
        {
            return self.begin(async move {
                let incoming = socket.next().await;
                let ended = matches!(incoming, Incoming::Closed(..));
                Outcome::Message(id, (!ended).then_some(socket), incoming)
            });
        }
        let window = match self.streams.get(&id) {
            Some(Stream::Coded(_, codings)) => codings.iter().map(|coding| coding.window()).sum(),
            _ => 0,
        };
        let body = match window {
            0 => self.take(id)?,
            window => {
                let held = self.hold(window)?;
                Body::boxed(Accounted(self.take(id)?, held))
            }
        };
        self.streams.insert(id, Stream::Lent);
        if whole {
            let (account, meter) = (self.account.clone(), self.meter.clone());
            self.begin(async move {
                match all(body, &account, meter.as_ref()).await {
                    Ok((bytes, held)) => Outcome::Whole(id, bytes, held),
                    Err(code) => Outcome::Failed(code, Some(id)),
                }
            })
        } else {
            self.begin(async move {
                match chunk(body).await {
                    Ok(next) => Outcome::Chunk(id, next),
                    Err(code) => Outcome::Failed(code, Some(id)),
                }
            })
        }
    }

    /// Writes a chunk; the operation ends when there is room for the next.
    pub(super) fn write(&mut self, id: i32, chunk: Bytes) -> Result<i32, Code> {
        let Some(Stream::Out(writer)) = self.streams.get(&id) else {
            return Err(Code::Broken);
        };
        if chunk.len() > CHUNK {
            return Err(Code::TooLarge);
        }
        let writer = writer.chunks.clone();
        let held = self.hold(chunk.len())?;
        self.begin(async move {
            match writer.send((chunk, held)).await {
                Ok(()) => Outcome::Written,
                Err(_) => Outcome::Failed(Code::Broken, Some(id)),
            }
        })
    }

    /// Ends a stream: one that is written is whole, unless `broken`; one that is read is not wanted
    /// any more.
    pub(super) fn close(&mut self, id: i32, broken: bool) {
        self.outgoing.remove(&id);
        if let Some(Stream::Out(writer)) = self.streams.remove(&id)
            && !broken
        {
            writer.whole.store(true, Ordering::Release);
        }
    }

    /// Puts back, or takes out, what the end of an operation says of its stream.
    pub(super) fn settle(&mut self, outcome: &mut Outcome) {
        match outcome {
            Outcome::Chunk(id, Some((_, rest))) => {
                let rest = std::mem::take(rest);
                // Closed meanwhile: not wanted.
                if let Some(stream) = self.streams.get_mut(id) {
                    *stream = Stream::In(rest);
                }
            }
            Outcome::Message(id, socket, _) => match (socket.take(), self.streams.get_mut(id)) {
                (Some(socket), Some(stream)) => *stream = Stream::Socket(socket),
                _ => {
                    self.streams.remove(id);
                    self.outgoing.remove(id);
                }
            },
            Outcome::Chunk(id, None) | Outcome::Whole(id, ..) | Outcome::Failed(_, Some(id)) => {
                self.streams.remove(id);
            }
            _ => {}
        }
    }

    /// Waits for the first operation to end, `milliseconds` at most; without end if negative.
    pub(super) async fn wait(&mut self, milliseconds: f64) -> Event {
        let limit = (milliseconds >= 0.0).then(|| Duration::from_secs_f64((milliseconds / 1e3).min(86_400.0)));
        let timer = limit.map(tokio::time::sleep);
        let mut timer = std::pin::pin!(timer);
        loop {
            while self.operations.len() < OPERATIONS
                && let Some(next) = self.waiting.pop_front()
            {
                self.operations.push(next);
            }
            if self.handles.is_empty()
                || self.owed && self.handles.len() == 1 && self.watch.is_some_and(|id| self.handles.contains_key(&id))
            {
                if self.handles.is_empty() {
                    // Those left were cancelled.
                    self.operations = FuturesUnordered::new();
                }
                if limit.is_none() {
                    return Event::Nothing;
                }
            }
            if self.operations.is_empty() {
                if let Some(timer) = timer.as_mut().as_pin_mut() {
                    timer.await;
                }
                return Event::Time;
            }
            let ended = match timer.as_mut().as_pin_mut() {
                None => self.operations.next().await,
                Some(timer) => tokio::select! {
                    biased;
                    ended = self.operations.next() => ended,
                    () = timer => return Event::Time,
                },
            };
            if let Some(Ok((id, outcome))) = ended
                && self.handles.remove(&id).is_some()
            {
                return Event::Ended(id, outcome);
            }
        }
    }
}

fn broken(error: BodyError) -> Code {
    match error {
        BodyError::Damaged(_) => Code::Coding,
        _ => Code::Broken,
    }
}

/// Content that something is held for.
struct Accounted(Body, #[expect(dead_code, reason = "held as long as the content")] Held);

impl http_body::Body for Accounted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// The next data of a body, and what is left of it. Trailers are dropped.
async fn chunk(mut body: Body) -> Result<Option<(Bytes, Body)>, Code> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some((data, body)));
                }
            }
        }
    }
}

async fn all(mut body: Body, account: &Arc<Account>, meter: Option<&Arc<Meter>>) -> Result<(Bytes, Vec<Held>), Code> {
    let mut held = Vec::new();
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if let Some(meter) = meter {
            // What is decoded costs more than what is copied. Beyond the budget the guest ends at
            // its own next step.
            meter.breathe().await.map_err(|_| Code::Broken)?;
        }
        held.push(account.hold(data.len()).map_err(|_| Code::TooLarge)?);
        if first.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
    }
    Ok((if more.is_empty() { first } else { more.freeze() }, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script that throws amid its response would look as if it had said all.
    #[tokio::test]
    async fn only_an_end_that_was_asked_for_is_good() {
        for (broken, good) in [(false, true), (true, false)] {
            let mut traffic = Traffic::new(64 << 10);
            let (id, body) = traffic.writable(None).unwrap();
            let write = traffic.write(id, Bytes::from_static(b"part")).unwrap();
            assert!(matches!(traffic.wait(-1.0).await, Event::Ended(op, Outcome::Written) if op == write));
            traffic.close(id, broken);
            let read = body.collect().await;
            assert_eq!(read.is_ok(), good);
            assert!(matches!(traffic.write(id, Bytes::new()), Err(Code::Broken)));
        }
    }

    /// A script that asks for a list of things at once would fail, or could make the node hold
    /// operations and streams without end.
    #[tokio::test]
    async fn operations_wait_for_their_turn_and_are_bounded() {
        let mut traffic = Traffic::new(PLACE * (OPERATIONS + 3));
        let pending: Vec<_> = (0..OPERATIONS)
            .map(|_| traffic.begin(std::future::pending()).unwrap())
            .collect();
        let (first, second) = (
            traffic.begin(async { Outcome::Written }).unwrap(),
            traffic.begin(async { Outcome::Written }).unwrap(),
        );
        assert!(matches!(traffic.wait(10.0).await, Event::Time), "no turn yet");
        traffic.cancel(pending[3]);
        assert!(matches!(traffic.wait(1000.0).await, Event::Ended(id, _) if id == first));
        assert!(matches!(traffic.wait(1000.0).await, Event::Ended(id, _) if id == second));
        let more = std::iter::from_fn(|| traffic.begin(std::future::pending()).ok()).count();
        assert_eq!(more, 4, "each costs its place");
        let mut traffic = Traffic::new(3);
        let held = traffic.hold(2).unwrap();
        assert_eq!(traffic.hold(2).unwrap_err(), Code::TooLarge);
        drop(held);
        assert!(traffic.hold(3).is_ok());
        for _ in 0..STREAMS {
            traffic.open(Body::Empty).unwrap();
        }
        assert_eq!(traffic.open(Body::Empty).unwrap_err(), Code::Busy);
    }

    /// The reader of a stream would get what was cut off, or the same twice.
    #[tokio::test]
    async fn reading_goes_on_where_it_stopped() {
        let mut traffic = Traffic::new(PLACE * 8);
        let (id, body) = traffic.writable(None).unwrap();
        let input = traffic.open(body).unwrap();
        for word in ["one ", "two ", "three"] {
            traffic.write(id, Bytes::from(word)).unwrap();
        }
        let read = traffic.read(input, false).unwrap();
        assert!(
            matches!(traffic.read(input, false), Err(Code::Malformed)),
            "two readers at once"
        );
        let mut got = None;
        for _ in 0..3 {
            if let Event::Ended(op, mut outcome) = traffic.wait(1000.0).await
                && op == read
            {
                traffic.settle(&mut outcome);
                let Outcome::Chunk(_, Some((chunk, _))) = outcome else {
                    panic!()
                };
                got = Some(chunk);
                break;
            }
        }
        assert_eq!(got.unwrap(), "one ");
        traffic.read(input, true).unwrap();
        traffic.close(id, false);
        loop {
            match traffic.wait(1000.0).await {
                Event::Ended(_, Outcome::Whole(_, all, _)) => break assert_eq!(all, "two three"),
                Event::Ended(_, Outcome::Written) => {}
                _ => panic!(),
            }
        }
    }

    /// `setTimeout` would never fire, or a script that waits for nothing hang until its wall limit.
    #[tokio::test]
    async fn waits_end() {
        let mut traffic = Traffic::new(PLACE * 8);
        assert!(matches!(traffic.wait(-1.0).await, Event::Nothing));
        assert!(matches!(traffic.wait(20.0).await, Event::Time));
        let pending = traffic.begin(std::future::pending()).unwrap();
        assert!(matches!(traffic.wait(20.0).await, Event::Time));
        traffic.cancel(pending);
        assert!(matches!(traffic.wait(-1.0).await, Event::Nothing));
        assert!(matches!(traffic.wait(f64::NAN).await, Event::Nothing));
    }
}
