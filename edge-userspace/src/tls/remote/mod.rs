//! Private keys that are elsewhere. A zone's [`Route`] says which key its certificate has and which
//! key servers know it; the [`signer`] and the [`exchange`] ask it from within rustls (by
//! `suspend`); [`ask`] chooses the server, waits, hedges and gives up in time; a `link` is one
//! connection of one worker to one `server`.

pub mod ask;
pub mod exchange;
pub mod health;
mod link;
pub mod metrics;
pub mod server;
pub mod signer;
pub mod survey;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crate::keyserver::wire;
use health::Health;
pub use link::Link;
pub use metrics::Metrics;
pub use server::{KeyServers, Server};
pub use signer::{PublicKey, RemoteKey};

/// The way to one certificate's key.
#[derive(Debug)]
pub struct Route {
    /// Its zone, for the log.
    pub zone: Arc<str>,
    /// The key.
    pub key: PublicKey,
    /// Its servers, the preferred first.
    legs: Vec<Leg>,
    /// Turns among servers of the same priority.
    turn: AtomicUsize,
}

/// One server of a route.
#[derive(Debug)]
struct Leg {
    server: Arc<Server>,
    /// A signature of it has been verified: it has the key that it says it has.
    proven: AtomicBool,
    /// How it does with this key: a token that is away is no reason to leave the server's other
    /// keys alone.
    key: Health,
}

impl Route {
    /// A route for `key` by these servers, of which there is at least one.
    pub fn new(zone: Arc<str>, key: PublicKey, servers: Vec<Arc<Server>>) -> Arc<Self> {
        let mut legs: Vec<_> = servers
            .into_iter()
            .map(|server| Leg {
                server,
                proven: AtomicBool::new(false),
                key: Health::default(),
            })
            .collect();
        // Stable: the file's order within a priority.
        legs.sort_by_key(|leg| leg.server.priority());
        Arc::new(Self {
            zone,
            key,
            legs,
            turn: AtomicUsize::new(0),
        })
    }

    /// Requests to its servers that wait for an answer, by all workers and for all zones.
    pub fn pending(&self) -> i64 {
        self.legs
            .iter()
            .map(|leg| leg.server.target().handles.pending.get())
            .sum()
    }
}

/// What a handshake asks of its zone's key servers.
#[derive(Debug)]
pub struct Question {
    /// Whom, and about which key.
    pub route: Arc<Route>,
    /// What.
    pub request: wire::Request,
    /// An ephemeral key lives on the connection it was made on.
    pub on: Option<Arc<Link>>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The answer, never an error.
    pub answer: wire::Answer,
    /// The connection it came by.
    pub by: Arc<Link>,
}

/// What a suspended handshake is resumed with; `Ok(None)` only to begin.
pub type Answer = Result<Option<Reply>, Refusal>;

/// What code inside a suspended handshake knows of it.
#[derive(Debug, Default)]
pub struct Notes {
    /// Where ephemeral keys are made, if not here.
    pub exchange: Option<Arc<Route>>,
}

/// Why there is no answer. The client gets the alert `internal_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client's: it went away.
    #[error("the client went away")]
    Cancelled,
    /// Ours: asked where nobody can wait.
    #[error("a remote key was used outside a suspended handshake")]
    Outside,
    /// Ours: rustls wants something else signed than a handshake of ours.
    #[error("what is to be signed is no handshake")]
    Strange,
    /// A limit of ours: too many handshakes wait for key servers.
    #[error("too many handshakes wait for key servers")]
    Shed,
    /// A limit of ours, or the system's: no stack to wait on.
    #[error("no stack for a handshake")]
    NoStack,
    /// The key server's: no answer in time.
    #[error("no answer from a key server in time")]
    Timeout,
    /// The key server's, or the network's: no connection.
    #[error("no connection to a key server")]
    Unreachable,
    /// A limit of ours: too much is asked of one key server.
    #[error("too many requests wait for one key server")]
    Crowded,
    /// The key server's, or the operator's: it said no.
    #[error("the key server refuses: {0}")]
    Refused(wire::ErrorCode),
    /// The key server's: an answer to something else.
    #[error("the key server answers what was not asked")]
    Unfitting,
    /// The key server's: its signature is not by the certificate's key.
    #[error("the key server signs by another key")]
    WrongKey,
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::Other(rustls::OtherError(Arc::new(refusal)))
    }
}

impl Refusal {
    /// The refusal behind what rustls returned.
    pub fn behind(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::Other(other) => other.0.downcast_ref().copied(),
            _ => None,
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Outside | Self::Strange => "internal",
            Self::Shed => "shed",
            Self::NoStack => "no_stack",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Crowded => "crowded",
            Self::Refused(code) => code.name(),
            Self::Unfitting => "unfitting",
            Self::WrongKey => "wrong_key",
        }
    }
}
