//! The operator's side of the node: logs, metrics, health, status and the control commands. Imports
//! nothing to its right; `node` injects what it shows and does through [`Control`].

#[cfg(feature = "node")]
pub mod access;
#[cfg(feature = "node")]
mod answer;
#[cfg(feature = "node")]
pub mod client;
#[cfg(feature = "node")]
pub mod guard;
pub mod log;
pub mod metrics;
#[cfg(feature = "node")]
mod page;
#[cfg(feature = "node")]
mod reply;
#[cfg(feature = "node")]
pub mod server;
#[cfg(feature = "node")]
mod warm;
#[cfg(feature = "node")]
mod worker;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::base::penalty::{Level, Subject};
use crate::config::LockdownMode;

/// What the endpoint can ask of the node. Implemented by `node`; calls are short and may take a
/// lock, never the network. A process answers for the parts that it has; a command to another one
/// is refused.
pub trait Control: Send + Sync + 'static {
    /// The node's state, for `/status`.
    fn status(&self) -> serde_json::Value;

    /// Whether requests are answered, for `/readyz`.
    fn ready(&self) -> bool;

    /// What does not work although the node is ready, a line each, for `/readyz`: zones that could
    /// not be prepared.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The networks whose attempts are dropped.
    ///
    /// # Errors
    /// Why the list cannot be read, in words for the operator.
    fn denied(&self) -> Result<Vec<Denied>, ControlError> {
        Err(lacking("XDP program"))
    }

    /// Drops attempts from `network` from now on, across restarts.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn deny(&self, _network: IpNet) -> Result<Denial, ControlError> {
        Err(lacking("XDP program"))
    }

    /// Ends the connections of clients in a denied network; how many there were.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn cut(&self, _network: IpNet) -> Result<usize, ControlError> {
        Err(lacking("XDP program"))
    }

    /// Whom the packets come from that XDP drops, most first.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn top_sources(&self) -> Result<Vec<TopSource>, ControlError> {
        Err(lacking("XDP program"))
    }

    /// Lifts a denial made by [`Control::deny`].
    ///
    /// # Errors
    /// Why not, in words for the operator: it was not denied, or the file denies it.
    fn lift(&self, _network: IpNet) -> Result<(), ControlError> {
        Err(lacking("XDP program"))
    }

    /// Whom the gate penalises now.
    ///
    /// # Errors
    /// No zone has a gate.
    fn penalties(&self) -> Result<Vec<Penalty>, ControlError> {
        Err(lacking("gate"))
    }

    /// Penalises a client or an address in all zones.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn penalise(&self, _penalty: &Penalty) -> Result<(), ControlError> {
        Err(lacking("gate"))
    }

    /// Lifts whatever penalty is in force against `subject`.
    ///
    /// # Errors
    /// Why not, in words for the operator: none was in force.
    fn forgive(&self, _subject: Subject) -> Result<(), ControlError> {
        Err(lacking("gate"))
    }

    /// Voids what the cache has stored, or is about to, or makes it stale.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn purge(&self, _order: &PurgeOrder) -> Result<(), ControlError> {
        Err(lacking("cache"))
    }

    /// Has the cache filled with what these URLs answer; takes as long as the slowest of them.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn warm(&self, _order: WarmOrder) -> Ordered<'_> {
        Box::pin(async { Err(lacking("cache")) })
    }

    /// Drains a server of an origin, or gives it another weight.
    ///
    /// # Errors
    /// Why not, in words for the operator: no zone or pool has it.
    fn origin(&self, order: &OriginOrder) -> Result<(), ControlError>;

    /// Does something with zones' workers; may take seconds.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn worker(&self, _order: WorkerOrder) -> Ordered<'_> {
        Box::pin(async { Err(lacking("workers")) })
    }

    /// Makes something happen on every node of the fleet, as the JSON says; may take seconds.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn fleet(&self, _order: Bytes) -> Ordered<'_> {
        Box::pin(async { Err(ControlError("this process is in no fleet".to_owned())) })
    }

    /// Gives up the endpoint's address, for a daemon that takes this one's place.
    ///
    /// # Errors
    /// This one does not drain.
    fn leave(&self) -> Result<(), ControlError>;

    /// Whether the node is locked down, and why.
    ///
    /// # Errors
    /// The node speaks no QUIC.
    fn lockdown(&self) -> Result<Lockdown, ControlError> {
        Err(lacking("lockdown"))
    }

    /// Locks the node down, opens it, or leaves that to the rate of attempts, until the next order
    /// or the end of the process.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn lock_down(&self, _mode: LockdownMode) -> Result<Lockdown, ControlError> {
        Err(lacking("lockdown"))
    }
}

/// Why a command is refused: the process lacks the part that it is for.
fn lacking(part: &str) -> ControlError {
    ControlError(format!("this process has no {part}"))
}

/// What [`Control::worker`] gives back.
pub type Ordered<'a> = Pin<Box<dyn Future<Output = Result<serde_json::Value, ControlError>> + Send + 'a>>;

/// What operators want of a zone's store.
#[derive(Clone, Debug)]
pub enum KeyOrder {
    /// The value of a key.
    Get(String),
    /// Keys that begin with this, behind that one if it is given.
    List(String, Option<String>),
    /// A value for a key, until milliseconds since 1970; 0: for ever.
    Put(String, Bytes, u64),
    /// No value for a key any more.
    Delete(String),
}

/// What operators want of a zone's secrets.
#[derive(Clone)]
pub enum SecretOrder {
    /// Their names.
    List,
    /// A value for a name.
    Put(String, Bytes),
    /// No value for a name any more.
    Delete(String),
}

impl std::fmt::Debug for SecretOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretOrder(…)")
    }
}

/// What operators want of workers.
#[derive(Clone, Debug)]
pub enum WorkerOrder {
    /// Make `bytes` the zone's worker.
    Deploy {
        /// The zone's name.
        zone: String,
        /// The file.
        bytes: Bytes,
        /// The percentage of its clients that get it; `None`: all.
        percent: Option<u8>,
        /// Of those who ask under a host of its own.
        preview: bool,
    },
    /// Give the version on trial to another part of the clients.
    Rollout {
        /// The zone's name.
        zone: String,
        /// 0: nobody; 100: all, and it is the active one.
        percent: u8,
    },
    /// Something of the secrets that operators gave.
    Secret {
        /// The zone's name.
        zone: String,
        /// What.
        order: SecretOrder,
    },
    /// Activate an earlier version.
    Rollback {
        /// The zone's name.
        zone: String,
        /// Which; `None`: the one before.
        version: Option<u64>,
    },
    /// Versions and figures.
    List {
        /// The zone's name; `None`: all.
        zone: Option<String>,
    },
    /// Something of what a zone's workers stored.
    Key {
        /// The zone's name.
        zone: String,
        /// What.
        order: KeyOrder,
    },
    /// What a zone's worker said.
    Logs {
        /// The zone's name.
        zone: String,
        /// Lines behind this number.
        after: u64,
    },
}

/// Whether attempts that prove nothing are answered with a Retry.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Lockdown {
    /// They are.
    pub on: bool,
    /// By the rate, or by an operator's word or the settings.
    pub mode: LockdownMode,
    /// Such attempts a second, over the last second.
    pub attempts_per_second: u64,
    /// The kernel answers, not the daemon.
    pub kernel: bool,
    /// TCP SYNs are answered with SYN cookies before the network stack.
    pub syn_cookies: bool,
}

/// One entry of the deny list.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The network.
    pub network: IpNet,
    /// Denied by the configuration file.
    pub file: bool,
    /// Denied by `edge deny add`.
    pub operator: bool,
    /// Without effect: the allow list covers it.
    pub allowed: bool,
}

/// A source of packets that XDP drops.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct TopSource {
    /// IPv4 address, or the first address of an IPv6 /64.
    pub prefix: IpAddr,
    /// The value of the metrics' label `reason`.
    pub reason: String,
    /// By the samples: about as many packets in `seconds`.
    pub packets: u64,
    /// What is counted: up to two minutes.
    pub seconds: u64,
}

/// What operators want of a server of an origin.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OriginOrder {
    /// The server's address, as the file has it.
    pub server: String,
    /// The zone or pool; `None`: wherever it is.
    #[serde(default)]
    pub of: Option<String>,
    /// Its weight; 0: no new requests; `None`: as the file says.
    #[serde(default)]
    pub weight: Option<u16>,
}

/// What operators want of what is stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PurgeOrder {
    /// What is meant.
    #[serde(flatten)]
    pub what: Purged,
    /// It is stale from now on, not void: it answers for a while as it is brought up to date.
    #[serde(default)]
    pub soft: bool,
}

impl From<Purged> for PurgeOrder {
    /// What is meant is void.
    fn from(what: Purged) -> Self {
        Self { what, soft: false }
    }
}

/// URLs whose responses are to be stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WarmOrder {
    /// Whole: `https://host/path?query`. At most [`WarmOrder::MOST`].
    pub urls: Vec<String>,
    /// Requests under way at once, 1 to 64.
    pub at_once: usize,
    /// Requests begun in a second, 1 to 1,000.
    pub per_second: u32,
    /// Fields that are sent with each, by which variants are told apart.
    #[serde(default)]
    pub fields: Vec<(String, String)>,
}

impl WarmOrder {
    /// URLs of one order.
    pub const MOST: usize = 100;
}

/// What became of one URL that was to be stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Warmed {
    /// It.
    pub url: String,
    /// Whether it is stored.
    pub state: WarmState,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// Why it is not stored.
    pub why: Option<String>,
}

/// Whether a URL's response is stored.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmState {
    /// It is now.
    Stored,
    /// It was before.
    Known,
    /// It is not.
    Not,
}

/// What `edge cache purge` voids.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Purged {
    /// One URL.
    Url {
        /// Whole: `https://host/path?query`.
        url: String,
    },
    /// All that begin so.
    Prefix {
        /// With scheme and host.
        prefix: String,
    },
    /// All of a zone with a tag.
    Tag {
        /// The zone's name.
        zone: String,
        /// One word of `Cache-Tag` or `Surrogate-Key`.
        tag: String,
    },
    /// All of a zone.
    Zone {
        /// The zone's name.
        zone: String,
    },
    /// Everything.
    All {
        /// `true`.
        all: bool,
    },
}

impl fmt::Display for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url } => write!(f, "{url}"),
            Self::Prefix { prefix } => write!(f, "all below {prefix}"),
            Self::Tag { zone, tag } => write!(f, "all of zone {zone} tagged {tag}"),
            Self::Zone { zone } => write!(f, "all of zone {zone}"),
            Self::All { .. } => f.write_str("everything"),
        }
    }
}

/// One penalty.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// Against whom.
    pub subject: Subject,
    /// How hard.
    pub level: Level,
    /// For how many seconds from now.
    pub seconds: u64,
}

/// What [`Control::deny`] did.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Denial {
    /// Attempts from the network are dropped from now on.
    Denied,
    /// They were before.
    Already,
    /// The entry is kept, but the allow list covers it.
    Allowed,
}

/// A control command that failed; the words go to the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(pub String);
