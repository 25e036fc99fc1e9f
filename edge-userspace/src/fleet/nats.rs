//! NATS with JetStream as a carrier: what of its protocol a fleet needs, and no more. Three streams
//! keep blobs, heads and events; both logs are republished by the server with the numbers that it
//! gave, so that no node needs a consumer of its own.
//!
//! Why not the client of the project: it would switch on features of `bytes` and `tokio` (a clock
//! for tests, among others) in the whole daemon, and it grows with what the server sends. This one
//! holds what it says it holds: [`codec`] bounds every line and message, a connection has
//! `connection::HELD` arrivals and as many requests.
//!
//! Served by 2.9 and later: <https://docs.nats.io/reference/reference-protocols>.

pub mod codec;
mod connection;
pub mod trust;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Digest;
use super::carrier::{Arrival, Carrier, Channel, Engine, Error, Extent, Log, Pending};
use crate::base::file;
use crate::config::fleet::EngineAddress;
use connection::{Connection, Reply};

/// How long events are kept: who was away for longer voids what it stored.
const EVENTS_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of events that are kept.
const EVENTS_BYTES: u64 = 64 << 20;
/// Heads that are kept, to go back to.
const HEADS_KEPT: u64 = 64;

/// Who a node is to the server, beside its certificate.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS is demanded.
    pub tls: bool,
}

impl From<&EngineAddress> for Server {
    fn from(address: &EngineAddress) -> Self {
        Self {
            host: address.host.clone(),
            port: address.port,
            tls: address.tls,
        }
    }
}

impl Login {
    /// A user, and the first line of the file with the password.
    ///
    /// # Errors
    /// The file cannot be read, in words for the operator.
    pub fn read(user: &str, password: &Path) -> Result<Self, String> {
        let wrong = |what: String| format!("the password file {} {what}", password.display());
        let bytes = file::read(password).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not text".to_owned()))?;
        let line = text.lines().next().unwrap_or_default();
        Ok(Self {
            user: user.to_owned(),
            password: Zeroizing::new(line.to_owned()),
        })
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Nats(Arc<Inner>);

struct Inner {
    servers: Vec<Server>,
    tls: Arc<rustls::ClientConfig>,
    login: Option<Login>,
    names: Names,
    /// How many servers keep each stream.
    replicas: u8,
}

impl Nats {
    /// For a fleet's name.
    pub fn new(
        fleet: &str,
        servers: Vec<Server>,
        tls: Arc<rustls::ClientConfig>,
        login: Option<Login>,
        replicas: u8,
    ) -> Self {
        Self(Arc::new(Inner {
            servers,
            tls,
            login,
            names: Names::new(fleet),
            replicas,
        }))
    }
}

/// Subjects and streams of a fleet.
#[derive(Clone, Debug)]
struct Names {
    /// `edge.FLEET`
    root: String,
    /// `EDGE-FLEET`
    stream: String,
}

impl Names {
    fn new(fleet: &str) -> Self {
        Self {
            root: format!("edge.{fleet}"),
            stream: format!("EDGE-{}", fleet.to_ascii_uppercase()),
        }
    }

    fn blobs(&self) -> String {
        format!("{}-BLOBS", self.stream)
    }

    fn log(&self, log: Log) -> String {
        match log {
            Log::Heads => format!("{}-HEADS", self.stream),
            Log::Events => format!("{}-EVENTS", self.stream),
        }
    }

    fn subject(&self, log: Log) -> String {
        match log {
            Log::Heads => format!("{}.heads", self.root),
            Log::Events => format!("{}.events", self.root),
        }
    }

    fn republished(&self, log: Log) -> String {
        match log {
            Log::Heads => format!("{}.new.heads", self.root),
            Log::Events => format!("{}.new.events", self.root),
        }
    }

    fn channel(&self, channel: &Channel) -> String {
        match channel {
            Channel::Tails => format!("{}.said.tails", self.root),
            Channel::Roll => format!("{}.said.roll", self.root),
            Channel::Receipts(to) => format!("{}.said.receipts.{to}", self.root),
            Channel::Tickets(None) => format!("{}.said.tickets", self.root),
            Channel::Tickets(Some(to)) => format!("{}.said.tickets.{to}", self.root),
        }
    }

    fn blob(&self, digest: &Digest, part: u32) -> String {
        format!("{}.blobs.{digest}.{part}", self.root)
    }

    /// What a message that arrived is.
    fn arrival(&self, message: codec::Message) -> Option<Arrival> {
        let rest = message.subject.strip_prefix(&self.root)?.strip_prefix('.')?;
        let bytes = message.payload.clone();
        let entry = |log| {
            Some(Arrival::Entry {
                log,
                number: message.header("Nats-Sequence")?.parse().ok()?,
                bytes: bytes.clone(),
            })
        };
        let channel = match rest {
            "new.heads" => return entry(Log::Heads),
            "new.events" => return entry(Log::Events),
            "said.tails" => Channel::Tails,
            "said.roll" => Channel::Roll,
            "said.tickets" => Channel::Tickets(None),
            _ => match rest.strip_prefix("said.tickets.") {
                Some(to) => Channel::Tickets(Some(to.to_owned())),
                None => Channel::Receipts(rest.strip_prefix("said.receipts.")?.to_owned()),
            },
        };
        Some(Arrival::Message { channel, bytes })
    }
}

impl Engine for Nats {
    fn connect(&self) -> Pending<'_, Box<dyn Carrier>> {
        Box::pin(async move {
            let inner = &self.0;
            let connection = Connection::open(&inner.servers, &inner.tls, inner.login.as_ref()).await?;
            let link = Link {
                connection,
                names: inner.names.clone(),
            };
            link.make_streams(inner.replicas).await?;
            for log in [Log::Heads, Log::Events] {
                link.connection.subscribe(&link.names.republished(log)).await?;
            }
            let link: Box<dyn Carrier> = Box::new(link);
            Ok(link)
        })
    }
}

struct Link {
    connection: Connection,
    names: Names,
}

/// What every answer of the server's interface may be.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<Refusal>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    created: String,
    #[serde(default)]
    state: Option<State>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
}

const MALFORMED: Error = Error::Protocol("an answer of its interface cannot be read");

impl Link {
    async fn ask(&self, subject: &str, body: Bytes) -> Result<Answer, Error> {
        let reply = self.connection.request(subject, body).await?;
        if reply.status().is_some() {
            return Err(Error::Refused(
                "JetStream is off, or the stream is not there".to_owned(),
            ));
        }
        serde_json::from_slice(&reply.0.payload).map_err(|_| MALFORMED)
    }

    async fn make_streams(&self, replicas: u8) -> Result<(), Error> {
        let names = &self.names;
        let kept = |log, more: Value| {
            let mut config = json!({
                "name": names.log(log),
                "subjects": [names.subject(log)],
                "republish": { "src": names.subject(log), "dest": names.republished(log) },
                "max_msg_size": super::signed::MOST,
            });
            merge(&mut config, more);
            config
        };
        let nanos = u64::try_from(EVENTS_KEPT.as_nanos()).unwrap_or(u64::MAX);
        let streams = [
            json!({
                "name": names.blobs(),
                "subjects": [format!("{}.blobs.>", names.root)],
                "max_msgs_per_subject": 1,
            }),
            kept(Log::Heads, json!({ "max_msgs": HEADS_KEPT })),
            kept(Log::Events, json!({ "max_age": nanos, "max_bytes": EVENTS_BYTES })),
        ];
        for mut config in streams {
            let name = config
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), Bytes::new()).await?;
            match info.error {
                None => continue,
                Some(error) if error.code == 404 => {}
                Some(error) => return Err(Error::Refused(error.description)),
            }
            merge(
                &mut config,
                json!({
                    "retention": "limits",
                    "discard": "old",
                    "storage": "file",
                    "num_replicas": replicas,
                    "allow_direct": true,
                    "duplicate_window": 0,
                }),
            );
            let made = self
                .ask(&format!("$JS.API.STREAM.CREATE.{name}"), config.to_string().into())
                .await?;
            // Another node may have made it by now.
            if let Some(error) = made.error.filter(|error| error.code != 400) {
                return Err(Error::Refused(error.description));
            }
        }
        Ok(())
    }

    async fn direct(&self, stream: &str, what: Value) -> Result<Option<Bytes>, Error> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let reply = self.connection.request(&subject, what.to_string().into()).await?;
        match reply.status() {
            None => Ok(Some(reply.0.payload)),
            Some(404) => Ok(None),
            Some(_) => Err(Error::Refused(format!("{stream} cannot be read"))),
        }
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

impl Carrier for Link {
    fn put<'a>(&'a self, digest: &'a Digest, part: u32, bytes: Bytes) -> Pending<'a, ()> {
        Box::pin(async move {
            let answer = self.ask(&self.names.blob(digest, part), bytes).await?;
            answer
                .error
                .map_or(Ok(()), |error| Err(Error::Refused(error.description)))
        })
    }

    fn part<'a>(&'a self, digest: &'a Digest, part: u32) -> Pending<'a, Option<Bytes>> {
        Box::pin(async move {
            let subject = self.names.blob(digest, part);
            self.direct(&self.names.blobs(), json!({ "last_by_subj": subject }))
                .await
        })
    }

    fn append(&self, log: Log, bytes: Bytes) -> Pending<'_, u64> {
        Box::pin(async move {
            let answer = self.ask(&self.names.subject(log), bytes).await?;
            match answer.error {
                None if answer.seq > 0 => Ok(answer.seq),
                None => Err(MALFORMED),
                Some(error) => Err(Error::Refused(error.description)),
            }
        })
    }

    fn entry(&self, log: Log, number: u64) -> Pending<'_, Option<Bytes>> {
        Box::pin(async move {
            if number == 0 {
                return Ok(None);
            }
            self.direct(&self.names.log(log), json!({ "seq": number })).await
        })
    }

    fn extent(&self, log: Log) -> Pending<'_, Extent> {
        Box::pin(async move {
            let subject = format!("$JS.API.STREAM.INFO.{}", self.names.log(log));
            let answer = self.ask(&subject, Bytes::new()).await?;
            if let Some(error) = answer.error {
                return Err(Error::Refused(error.description));
            }
            let state = answer.state.ok_or(MALFORMED)?;
            Ok(Extent {
                first: state.first_seq,
                last: state.last_seq,
                series: answer.created,
            })
        })
    }

    fn say<'a>(&'a self, channel: &'a Channel, bytes: Bytes) -> Pending<'a, ()> {
        Box::pin(async move { self.connection.publish(&self.names.channel(channel), None, bytes).await })
    }

    fn listen<'a>(&'a self, channel: &'a Channel) -> Pending<'a, ()> {
        Box::pin(async move { self.connection.subscribe(&self.names.channel(channel)).await })
    }

    fn arrival(&self) -> Pending<'_, Arrival> {
        Box::pin(async move {
            loop {
                let message = self.connection.message().await?;
                if let Some(arrival) = self.names.arrival(message) {
                    return Ok(arrival);
                }
            }
        })
    }
}

impl Reply {
    /// The status line's number, if it is not a message but says why there is none.
    fn status(&self) -> Option<u16> {
        self.0.status
    }
}
