//! One worker's connection to one key server: requests of all its handshakes go out in as few
//! writes as there are turns of the worker, answers come back in any order, and whoever does not
//! wait any more is forgotten. Made again when it breaks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::{Zeroize, Zeroizing};

use super::Refusal;
use super::target::Target;
use crate::keyserver::wire::{self, Answer, ErrorCode, KeyId, Query, Request};

type Stream = TlsStream<TcpStream>;

/// Requests that may wait on one connection; a key server takes some thousands of connections like
/// it.
const PENDING: usize = 16_384;
/// Connecting, TLS included.
const CONNECT: Duration = Duration::from_secs(3);
/// Waits between attempts to connect: the first, and the longest; jittered by half.
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_LONGEST: Duration = Duration::from_secs(2);
/// A connection that lasted so long was a good one.
const SOUND: Duration = Duration::from_secs(5);
/// How often a connection is looked after, and how long it may be silent when an answer is due.
const TICK: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);
/// A connection without traffic is asked for life this often.
const IDLE_PING: u32 = 5;

/// The worker's end; the connection itself is a task of the worker's.
#[derive(Debug)]
pub struct Link {
    state: Mutex<State>,
    /// There is something to write.
    wake: Notify,
    waiting: Gauge,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    /// The next request's id.
    next: u64,
    /// Frames to be written.
    out: Vec<u8>,
    pending: HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    /// A frame has come on the present connection: the server has let us in.
    let_in: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Being made: requests wait for it.
    Connecting,
    /// In use.
    Up,
    /// The server takes no more requests on it; answers still come.
    Draining,
    /// It could not be made; the next attempt is not yet due.
    Down,
}

/// A request under way; dropped, its answer is nobody's.
pub(super) struct Pending {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Result<Answer, Refusal>>,
}

impl Pending {
    pub(super) async fn answer(mut self) -> Result<Answer, Refusal> {
        (&mut self.answer).await.unwrap_or(Err(Refusal::Unreachable))
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.link.lock().pending.remove(&self.id);
        self.link.waiting.dec();
    }
}

impl Link {
    /// Starts connecting, on the runtime of the calling thread; ends with `over`.
    pub(super) fn start(target: Arc<Target>, over: watch::Receiver<()>) -> Arc<Self> {
        let link = Arc::new(Self {
            state: Mutex::new(State {
                stage: Stage::Connecting,
                next: 1,
                out: Vec::new(),
                pending: HashMap::new(),
                let_in: false,
            }),
            wake: Notify::new(),
            waiting: target.handles.pending.clone(),
        });
        tokio::spawn(keep(link.clone(), target, over));
        link
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests can be sent, or will be in a moment.
    pub(super) fn usable(&self) -> bool {
        matches!(self.lock().stage, Stage::Up | Stage::Connecting)
    }

    /// Sends a request with what else is to be sent in this turn.
    pub(super) fn send(self: &Arc<Self>, key: KeyId, request: Request) -> Result<Pending, Refusal> {
        let finishes = matches!(request, Request::KxFinish { .. });
        let mut state = self.lock();
        match state.stage {
            Stage::Connecting | Stage::Up => {}
            // What it keeps for us it still gives.
            Stage::Draining if finishes => {}
            Stage::Draining | Stage::Down => return Err(Refusal::Unreachable),
        }
        if state.pending.len() >= PENDING {
            return Err(Refusal::Crowded);
        }
        let id = state.next;
        state.next = id.wrapping_add(1).max(1);
        let first = state.out.is_empty();
        Query { id, key, request }.encode(&mut state.out);
        let (give, answer) = oneshot::channel();
        state.pending.insert(id, give);
        drop(state);
        self.waiting.inc();
        if first {
            self.wake.notify_one();
        }
        Ok(Pending {
            link: self.clone(),
            id,
            answer,
        })
    }

    /// Nobody gets an answer any more. True when somebody waited for one.
    fn fail(&self, stage: Stage) -> bool {
        let mut state = self.lock();
        state.stage = stage;
        state.out.zeroize();
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        let waited = !pending.is_empty();
        for (_, give) in pending {
            let _ = give.send(Err(Refusal::Unreachable));
        }
        waited
    }

    /// Whether the server is on its way down, and has given what it kept for us.
    fn spent(&self) -> bool {
        let state = self.lock();
        state.stage == Stage::Draining && state.pending.is_empty()
    }

    fn enter(&self, stage: Stage) {
        let mut state = self.lock();
        state.stage = stage;
        if stage == Stage::Connecting {
            state.let_in = false;
        }
    }
}

/// Half to one and a half times as long, so that workers and nodes do not come back all at once.
fn jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(time);
    time / 2 + time.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no connection within {CONNECT:?}")]
    Slow,
    #[error("the server does not speak edge-keyless/1")]
    Protocol,
    #[error("the server has closed the connection")]
    Closed,
    #[error("{0}")]
    Frame(#[from] wire::Broken),
    #[error("the server is silent")]
    Wedged,
    #[error("the server ends the connection: {0}")]
    Told(ErrorCode),
}

/// The connection's life, over and over.
async fn keep(link: Arc<Link>, target: Arc<Target>, mut over: watch::Receiver<()>) {
    let mut backoff = BACKOFF;
    loop {
        link.enter(Stage::Connecting);
        let connected = tokio::select! {
            biased;
            _ = over.changed() => break,
            connected = tokio::time::timeout(CONNECT, connect(&target)) => connected.unwrap_or(Err(Broken::Slow)),
        };
        match connected {
            Ok(stream) => {
                let made = Instant::now();
                link.enter(Stage::Up);
                target.handles.connections.inc();
                target.connected();
                let ended = tokio::select! {
                    biased;
                    _ = over.changed() => None,
                    broken = serve(stream, &link, &target) => Some(broken),
                };
                target.handles.connections.dec();
                let Some(broken) = ended else { break };
                tracing::info!(server = target.name, reason = %broken, "the connection to the key server ended");
                if matches!(broken, Broken::Wedged) {
                    target.wedged();
                }
                let let_in = link.lock().let_in;
                // In TLS 1.3 a client's certificate is refused after its handshake is over: nothing
                // has been said yet then.
                let waited = link.fail(Stage::Down);
                let opened = (waited || !let_in) && target.failed();
                if opened && !let_in {
                    tracing::warn!(
                        server = target.name,
                        reason = %broken,
                        "the key server ends connections before it answers: is this edge's certificate valid, and on its list?"
                    );
                }
                if made.elapsed() > SOUND {
                    backoff = BACKOFF;
                }
            }
            Err(broken) => {
                if target.failed() {
                    tracing::warn!(server = target.name, reason = %broken, "the key server cannot be reached");
                }
                link.fail(Stage::Down);
            }
        }
        let wait = jitter(backoff);
        backoff = (backoff * 2).min(BACKOFF_LONGEST);
        tokio::select! {
            biased;
            _ = over.changed() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    link.fail(Stage::Down);
}

async fn connect(target: &Target) -> Result<Stream, Broken> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let name: ServerName<'static> = target.server_name.clone();
    let stream = TlsConnector::from(target.tls.clone()).connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(wire::ALPN) {
        return Err(Broken::Protocol);
    }
    Ok(stream)
}

async fn serve(stream: Stream, link: &Arc<Link>, target: &Target) -> Broken {
    let (reader, writer) = tokio::io::split(stream);
    let heard = Mutex::new(Instant::now());
    let ended = tokio::select! {
        ended = read(reader, link, target, &heard) => ended,
        ended = write(writer, link) => ended,
        ended = watch_over(link, target, &heard) => ended,
    };
    match ended {
        Ok(never) => match never {},
        Err(broken) => broken,
    }
}

enum Never {}

/// Everything that has gathered goes out at once.
async fn write(mut writer: WriteHalf<Stream>, link: &Link) -> Result<Never, Broken> {
    let mut batch = Vec::new();
    loop {
        std::mem::swap(&mut batch, &mut link.lock().out);
        if batch.is_empty() {
            link.wake.notified().await;
            continue;
        }
        writer.write_all(&batch).await?;
        writer.flush().await?;
        batch.clear();
        if batch.capacity() > 1 << 20 {
            batch = Vec::new();
        }
    }
}

async fn read(
    mut reader: ReadHalf<Stream>,
    link: &Link,
    target: &Target,
    heard: &Mutex<Instant>,
) -> Result<Never, Broken> {
    let mut buffer = Zeroizing::new(vec![0u8; 16 << 10]);
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            // No frame is longer than this.
            let longer = (buffer.len() * 2).min(wire::LENGTH + wire::MAX_REPLY);
            let mut larger = Zeroizing::new(vec![0; longer]);
            if let Some(place) = larger.get_mut(..filled) {
                place.copy_from_slice(&buffer);
            }
            buffer = larger;
        }
        let n = reader.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if n == 0 {
            return Err(Broken::Closed);
        }
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        filled += n;
        let mut used = 0;
        while let Some(frame) = wire::Reply::decode(buffer.get(used..filled).unwrap_or_default())? {
            used += frame.used;
            deliver(frame, link, target)?;
        }
        // Behind the frames that were read there may have been secrets.
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if let Some(rest) = buffer.get_mut(filled..filled + used) {
            rest.zeroize();
        }
    }
}

fn deliver(frame: wire::Decoded<wire::Reply>, link: &Link, target: &Target) -> Result<(), Broken> {
    let id = frame.id;
    link.lock().let_in = true;
    let answer = match frame.content {
        Ok(reply) => reply.answer,
        // It can be told apart from the next, so only this one is lost.
        Err(malformed) => {
            tracing::warn!(server = target.name, %malformed, "the key server's answer is malformed");
            if let Some(give) = link.lock().pending.remove(&id) {
                let _ = give.send(Err(Refusal::Unfitting));
            }
            return Ok(());
        }
    };
    if id == 0 {
        return match answer {
            Answer::Error(ErrorCode::Draining) => {
                link.enter(Stage::Draining);
                Ok(())
            }
            Answer::Error(code) => Err(Broken::Told(code)),
            _ => Ok(()),
        };
    }
    // Late answers are nobody's.
    if let Some(give) = link.lock().pending.remove(&id) {
        let answer = match answer {
            Answer::Error(code) => Err(Refusal::Refused(code)),
            answer => Ok(answer),
        };
        let _ = give.send(answer);
    }
    Ok(())
}

/// Asks a new connection, an idle server, or one whose breaker is open, for life, and gives a
/// silent one up.
async fn watch_over(link: &Arc<Link>, target: &Target, heard: &Mutex<Instant>) -> Result<Never, Broken> {
    // At once: whether the server lets this edge in shows with its first answer.
    let mut idle = IDLE_PING;
    let mut first = true;
    loop {
        if !std::mem::take(&mut first) {
            tokio::time::sleep(TICK).await;
        }
        if link.spent() {
            return Err(Broken::Closed);
        }
        let waiting = !link.lock().pending.is_empty();
        idle += 1;
        if !waiting && !target.health.is_open() && idle < IDLE_PING {
            continue;
        }
        idle = 1;
        let Ok(mut ping) = link.send(KeyId::NONE, Request::Ping) else {
            continue;
        };
        let sent = Instant::now();
        while tokio::time::timeout(TICK, &mut ping.answer).await.is_err() {
            // An answer to something else is a sign of life too.
            let last = *heard.lock().unwrap_or_else(PoisonError::into_inner);
            if last.max(sent).elapsed() > SILENCE {
                return Err(Broken::Wedged);
            }
        }
        target.answered();
    }
}
