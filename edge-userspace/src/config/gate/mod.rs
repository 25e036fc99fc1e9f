//! A zone's gate as the file describes it: which requests are judged, by which policy, and what who is told to wait gets.

pub(super) mod check;
mod key;
pub(super) mod raw;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

pub use key::KeyPart;

use super::Place;

/// What all gates of a node share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Token buckets, 24 bytes each; taken at the start.
    pub clients: usize,
    /// Buckets of keys that rate rules count by, 32 bytes each; taken at the start.
    pub keys: usize,
    /// Records of offences and penalties; taken at the start.
    pub penalties: usize,
    /// Penalised addresses at once that count for shared ones until it is seen whether they are; each may cost 33 handshakes a second.
    pub trials: usize,
    /// Used tokens that are remembered, 18 bytes each as they come.
    pub used_tokens: usize,
    /// The cluster's secret: a file, or a directory for one that the node makes for itself.
    pub secret: Secret,
    /// Tokens' keys are replaced this often.
    pub key_epoch: Duration,
}

impl Node {
    /// Of a process without gates: takes no memory and reads no secret.
    pub(super) fn unused() -> Self {
        Self {
            clients: 0,
            keys: 0,
            penalties: 0,
            trials: 0,
            used_tokens: 0,
            secret: Secret::Own(PathBuf::new(), Place::nowhere()),
            key_epoch: Duration::ZERO,
        }
    }
}

/// Where the cluster's secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In this file, which the nodes of a cluster share.
    File(PathBuf, Place),
    /// In this directory, made at the first start.
    Own(PathBuf, Place),
}

/// A zone's gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Count what would be done, and do nothing.
    pub dry_run: bool,
    /// Networks that are never judged.
    pub allow: Vec<IpNet>,
    /// The wait told where the policy knows none.
    pub defer: Duration,
    /// How long a token is good for once its wait is over, at least a minute.
    pub token_life: Duration,
    /// Early attempts in one wait that bring no strike.
    pub grace: u32,
    /// The first strike's penalty.
    pub strike_base: Duration,
    /// The longest penalty.
    pub strike_cap: Duration,
    /// One strike is forgiven for each such time without another.
    pub forgive: Duration,
    /// How many clients one address may stand for, at least 1.
    pub clients_per_address: u32,
    /// Template of the waiting page instead of the built-in one.
    pub page: Option<(PathBuf, Place)>,
    /// The texts of the waiting page in each language.
    pub texts: Option<(PathBuf, Place)>,
    /// Patterns of paths that `manual` and `queue` let pass when they are read.
    pub pass: Vec<String>,
    /// The cookie that carries tokens.
    pub cookie: Cookie,
    /// Crawlers that are known by their signatures.
    pub crawlers: Vec<Crawler>,
    /// Each request is judged by every rule that matches it.
    pub rules: Vec<Rule>,
}

/// A crawler that signs its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crawler {
    /// As rules name it.
    pub name: String,
    /// The file of its keys.
    pub keys: (PathBuf, Place),
}

/// The cookie that carries a zone's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// With which requests of other sites it is sent.
    pub same_site: SameSite,
    /// The hosts of this domain share it; `None`: it is of one host.
    pub domain: Option<String>,
    /// Within a page of another site it is that site's own (CHIPS).
    pub partitioned: bool,
}

/// With which requests of other sites the cookie is sent (RFC 6265bis section 5.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// With links that are followed.
    #[default]
    Lax,
    /// With all.
    None,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names the policy towards clients; unique in the zone.
    pub name: String,
    /// Which requests.
    pub matches: Matches,
    /// What they must meet.
    pub policy: Policy,
    /// Count what the rule would do, and do nothing.
    pub dry_run: bool,
}

/// Which requests a rule is for: those that meet all that is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matches {
    /// Path prefix, or a glob where `*` stands for any characters.
    pub path: Option<String>,
    /// Any of these; empty: all.
    pub methods: Vec<Method>,
    /// A field, and its value where equality is asked for.
    pub header: Option<Field>,
    /// None of these paths.
    pub not_path: Vec<String>,
    /// None of these methods.
    pub not_methods: Vec<Method>,
    /// Not this field, or not with this value.
    pub not_header: Option<Field>,
    /// Signed by one of these crawlers; empty: by anybody or nobody.
    pub crawlers: Vec<String>,
    /// Signed by none of these crawlers.
    pub not_crawlers: Vec<String>,
}

/// A field's name, and its value where equality is asked for.
pub type Field = (HeaderName, Option<HeaderValue>);

/// What a request must meet.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// A token bucket per client.
    Rate(Rate),
    /// So many requests at the origin at once.
    Concurrency(usize),
    /// A waiting room.
    Queue(Queue),
    /// Everybody waits once.
    Manual(Duration),
    /// Everybody proves work once, or waits.
    Challenge(Work),
}

/// A token bucket per client, or per key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in `per`.
    pub requests: u32,
    /// The time of `requests`.
    pub per: Duration,
    /// Requests at once.
    pub burst: u32,
    /// Only a connection's first request counts.
    pub connections: bool,
    /// What has a bucket of its own: all of these together. Never empty.
    pub key: Vec<KeyPart>,
    /// The response's field that says how many requests a request counts for; `None`: each for one.
    pub cost_field: Option<HeaderName>,
}

/// A proof of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Zero bits that the hash begins with, when all is quiet.
    pub bits: u8,
    /// Who cannot work it out waits for so long instead.
    pub wait: Duration,
}

/// A waiting room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Visitors at once.
    pub active: usize,
    /// Visitors at once of one IPv6 /48 or IPv4 /24.
    pub per_network: usize,
    /// A visitor counts for so long after its last request.
    pub session: Duration,
    /// Nobody new enters.
    pub paused: bool,
    /// The longest time between two visits of who waits.
    pub poll: Duration,
}
