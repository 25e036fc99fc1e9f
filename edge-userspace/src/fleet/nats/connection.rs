//! A connection to a NATS server: two tasks, which end with it. Requests are matched with their
//! replies; everything else that is subscribed to waits to be taken.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::codec::{self, Message, Op};
use super::{Login, Server};
use crate::fleet::carrier::Error;
use crate::fleet::signed;

/// Messages that wait to be taken, at most; more are dropped, and found again by their numbers.
pub(super) const HELD: usize = 4_096;
/// Requests under way, at most.
const REQUESTS: usize = 256;
/// Writes that wait, at most: each is a message.
const WRITES: usize = 64;
/// Connecting to one server, the greeting included.
const CONNECT: Duration = Duration::from_secs(3);
/// Waiting for a reply.
const REPLY: Duration = Duration::from_secs(5);
/// One write.
const WRITE: Duration = Duration::from_secs(10);
/// Silence after which the server is asked whether it is there, and after which it is not.
const QUIET: Duration = Duration::from_secs(10);
const DEAD: u32 = 2;
/// The subscription of replies.
const REPLIES: u64 = 1;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What the server answered.
pub(super) struct Reply(pub(super) Message);

#[derive(Default)]
struct Waiting {
    requests: HashMap<u64, oneshot::Sender<Result<Message, String>>>,
    closed: bool,
}

/// See the module.
pub(super) struct Connection {
    writes: mpsc::Sender<Bytes>,
    messages: AsyncMutex<mpsc::Receiver<Message>>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
    inbox: String,
    tasks: [JoinHandle<()>; 2],
}

/// What a server says of itself.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    tls_available: bool,
    #[serde(default)]
    headers: bool,
}

fn gone() -> Error {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

impl Connection {
    /// Connects to one of `servers`, beginning at any.
    pub(super) async fn open(
        servers: &[Server],
        tls: &Arc<rustls::ClientConfig>,
        login: Option<&Login>,
    ) -> Result<Self, Error> {
        let [first] = crate::fleet::random::<1>().unwrap_or_default();
        let mut failed = gone();
        for at in 0..servers.len() {
            let Some(server) = servers.get((usize::from(first) + at) % servers.len()) else {
                continue;
            };
            match timeout(CONNECT, greet(server, tls, login)).await {
                Ok(Ok((io, buffer))) => return Self::start(io, buffer).await,
                Ok(Err(error)) => failed = error,
                Err(_) => failed = Error::Timeout,
            }
        }
        Err(failed)
    }

    async fn start(io: Box<dyn Io>, buffer: BytesMut) -> Result<Self, Error> {
        let (read, write) = tokio::io::split(io);
        let (writes, to_write) = mpsc::channel(WRITES);
        let (to, messages) = mpsc::channel(HELD);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let random = crate::fleet::random::<16>().map_err(|_| Error::Protocol("the system has no random numbers"))?;
        let inbox = format!("_INBOX.{}", HEXLOWER.encode(&random));
        let reader = Reader {
            read,
            buffer,
            to,
            waiting: waiting.clone(),
            writes: writes.clone(),
            prefix: format!("{inbox}."),
        };
        let tasks = [tokio::spawn(write_all(write, to_write)), tokio::spawn(reader.run())];
        let this = Self {
            writes,
            messages: AsyncMutex::new(messages),
            waiting,
            next: AtomicU64::new(REPLIES + 1),
            tasks,
            inbox,
        };
        this.send(codec::subscribe(&format!("{}.*", this.inbox), REPLIES))
            .await?;
        Ok(this)
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Error> {
        let sent = timeout(WRITE, self.writes.send(bytes))
            .await
            .map_err(|_| Error::Timeout)?;
        sent.map_err(|_| gone())
    }

    pub(super) async fn publish(&self, subject: &str, reply: Option<&str>, payload: Bytes) -> Result<(), Error> {
        if payload.len() > codec::MOST_MESSAGE {
            return Err(Error::Protocol("a message is too long"));
        }
        self.send(codec::publish(subject, reply, &payload)).await
    }

    pub(super) async fn subscribe(&self, subject: &str) -> Result<(), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(codec::subscribe(subject, number)).await
    }

    pub(super) async fn request(&self, subject: &str, payload: Bytes) -> Result<Reply, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (to, reply) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.closed {
                return Err(gone());
            }
            if waiting.requests.len() >= REQUESTS {
                return Err(Error::Timeout);
            }
            waiting.requests.insert(number, to);
        }
        // Also if this future is dropped before the reply.
        let _forget = Forget(&self.waiting, number);
        let inbox = format!("{}.{number}", self.inbox);
        self.publish(subject, Some(&inbox), payload).await?;
        match timeout(REPLY, reply).await {
            Ok(Ok(Ok(message))) => Ok(Reply(message)),
            Ok(Ok(Err(words))) => Err(Error::Refused(words)),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// The next message of what is subscribed to.
    pub(super) async fn message(&self) -> Result<Message, Error> {
        self.messages.lock().await.recv().await.ok_or_else(gone)
    }
}

struct Forget<'a>(&'a Mutex<Waiting>, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.requests.remove(&self.1);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Connects, and comes to terms with the server. The buffer holds what came after its last word.
async fn greet(
    server: &Server,
    tls: &Arc<rustls::ClientConfig>,
    login: Option<&Login>,
) -> Result<(Box<dyn Io>, BytesMut), Error> {
    let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
    tcp.set_nodelay(true)?;
    let mut io: Box<dyn Io> = Box::new(tcp);
    let mut buffer = BytesMut::with_capacity(4 << 10);
    let Op::Info(info) = read_op(&mut io, &mut buffer).await? else {
        return Err(Error::Protocol("it does not begin with INFO"));
    };
    let info: Info = serde_json::from_slice(&info).map_err(|_| Error::Protocol("its INFO cannot be read"))?;
    if !info.headers {
        return Err(Error::Protocol("it is older than 2.2"));
    }
    if server.tls {
        if !info.tls_required && !info.tls_available {
            return Err(Error::Refused("the server does not speak TLS".to_owned()));
        }
        // What came in the clear before the handshake is nothing that was agreed on.
        if !buffer.is_empty() {
            return Err(Error::Protocol("it talks on before TLS"));
        }
        let name = ServerName::try_from(server.host.clone()).map_err(|_| Error::Protocol("its name is not one"))?;
        io = Box::new(TlsConnector::from(tls.clone()).connect(name, io).await?);
    } else if info.tls_required {
        return Err(Error::Refused(
            "the server wants TLS; write tls:// in [fleet] engine".to_owned(),
        ));
    }
    let mut connect = json!({
        "verbose": false, "pedantic": false, "tls_required": server.tls, "name": "edge", "lang": "edge",
        "version": env!("CARGO_PKG_VERSION"), "protocol": 1, "headers": true, "no_responders": true, "echo": true,
    });
    if let (Some(login), Some(connect)) = (login, connect.as_object_mut()) {
        connect.insert("user".to_owned(), login.user.clone().into());
        connect.insert("pass".to_owned(), login.password.as_str().into());
    }
    io.write_all(format!("CONNECT {connect}\r\nPING\r\n").as_bytes())
        .await?;
    io.flush().await?;
    loop {
        match read_op(&mut io, &mut buffer).await? {
            Op::Pong => return Ok((io, buffer)),
            Op::Refused(words) => return Err(Error::Refused(words)),
            Op::Ping => io.write_all(b"PONG\r\n").await?,
            Op::Info(_) | Op::Ok => {}
            Op::Message(_) => return Err(Error::Protocol("it sends messages that nobody asked for")),
        }
    }
}

async fn read_op(io: &mut Box<dyn Io>, buffer: &mut BytesMut) -> Result<Op, Error> {
    loop {
        if let Some(op) = codec::next(buffer).map_err(Error::Protocol)? {
            return Ok(op);
        }
        if io.read_buf(buffer).await? == 0 {
            return Err(gone());
        }
    }
}

/// Writes what waits, until there is nobody to send more.
async fn write_all(mut io: impl AsyncWrite + Unpin, mut writes: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = writes.recv().await {
        let wrote = timeout(WRITE, async {
            io.write_all(&bytes).await?;
            // What waits is written with it.
            while let Ok(more) = writes.try_recv() {
                io.write_all(&more).await?;
            }
            io.flush().await
        });
        if !matches!(wrote.await, Ok(Ok(()))) {
            return;
        }
    }
}

struct Reader<R> {
    read: R,
    buffer: BytesMut,
    to: mpsc::Sender<Message>,
    waiting: Arc<Mutex<Waiting>>,
    writes: mpsc::Sender<Bytes>,
    prefix: String,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(mut self) {
        if let Err(error) = self.read_on().await {
            tracing::debug!(target: "edge::fleet", %error, "the connection to the engine ends");
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.requests.clear();
    }

    async fn read_on(&mut self) -> Result<(), Error> {
        let mut quiet = 0;
        loop {
            while let Some(op) = codec::next(&mut self.buffer).map_err(Error::Protocol)? {
                self.did(op)?;
            }
            match timeout(QUIET, self.read.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(gone()),
                Ok(Ok(_)) => quiet = 0,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if quiet >= DEAD => return Err(Error::Timeout),
                Err(_) => {
                    quiet += 1;
                    self.answer(b"PING\r\n")?;
                }
            }
        }
    }

    fn answer(&self, bytes: &'static [u8]) -> Result<(), Error> {
        // A server that does not take what is sent to it is not there.
        self.writes.try_send(Bytes::from_static(bytes)).map_err(|_| gone())
    }

    fn did(&self, op: Op) -> Result<(), Error> {
        match op {
            Op::Ping => self.answer(b"PONG\r\n")?,
            Op::Message(message) if message.subscription == REPLIES => {
                let number = message
                    .subject
                    .strip_prefix(&self.prefix)
                    .and_then(|number| number.parse().ok());
                let request = number.and_then(|number: u64| {
                    let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.requests.remove(&number)
                });
                if let Some(request) = request {
                    // Who asked may be gone.
                    let _ = request.send(Ok(message));
                }
            }
            // Nothing that nodes say is longer; and what waits does not hold the buffer that it
            // came in.
            Op::Message(message) if message.payload.len() <= signed::MOST => {
                let payload = Bytes::copy_from_slice(&message.payload);
                // More than are held are found again by their numbers.
                let _ = self.to.try_send(message.with(payload));
            }
            Op::Message(_) => {}
            Op::Refused(words) => {
                let over = !words.to_ascii_lowercase().starts_with("permissions violation");
                tracing::warn!(target: "edge::fleet", words, "the engine refuses");
                // It does not say which: all that are under way ask again.
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                for (_, request) in waiting.requests.drain() {
                    let _ = request.send(Err(words.clone()));
                }
                if over {
                    return Err(Error::Refused(words));
                }
            }
            Op::Info(_) | Op::Pong | Op::Ok => {}
        }
        Ok(())
    }
}
