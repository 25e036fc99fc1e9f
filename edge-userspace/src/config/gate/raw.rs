//! The gate's raw form, key by key, with the defaults of each. `defaults.toml` says what they mean.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::value::{Network, Time};

const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// `[gate]`: what all zones' gates share.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Node {
    pub(super) clients: Spanned<usize>,
    pub(super) keys: Spanned<usize>,
    pub(super) penalties: Spanned<usize>,
    pub(super) trials: Spanned<usize>,
    pub(super) used_tokens: Spanned<usize>,
    pub(super) secret: Option<Spanned<PathBuf>>,
    pub(super) state_directory: Spanned<PathBuf>,
    pub(super) key_epoch: Spanned<Time>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            clients: spanned(262_144),
            keys: spanned(65_536),
            penalties: spanned(65_536),
            trials: spanned(8),
            used_tokens: spanned(1 << 20),
            secret: None,
            state_directory: spanned(PathBuf::from("/var/lib/edge")),
            key_epoch: spanned(seconds(6 * 3_600)),
        }
    }
}

/// `[zone.gate]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Gate {
    pub(super) dry_run: bool,
    pub(super) allow: Vec<Network>,
    pub(super) defer: Spanned<Time>,
    pub(super) token_life: Spanned<Time>,
    pub(super) grace: Spanned<u32>,
    pub(super) strike_base: Spanned<Time>,
    pub(super) strike_cap: Spanned<Time>,
    pub(super) forgive: Spanned<Time>,
    pub(super) clients_per_address: Spanned<u32>,
    pub(super) page: Option<Spanned<PathBuf>>,
    pub(super) texts: Option<Spanned<PathBuf>>,
    pub(super) pass: Vec<Spanned<String>>,
    pub(super) cookie: Spanned<Cookie>,
    pub(super) crawler: Vec<Crawler>,
    pub(super) rule: Vec<Spanned<Rule>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            dry_run: false,
            allow: Vec::new(),
            defer: spanned(seconds(10)),
            token_life: spanned(seconds(3_600)),
            grace: spanned(16),
            strike_base: spanned(seconds(10)),
            strike_cap: spanned(seconds(3_600)),
            forgive: spanned(seconds(600)),
            clients_per_address: spanned(64),
            page: None,
            texts: None,
            pass: Vec::new(),
            cookie: spanned(Cookie::default()),
            crawler: Vec::new(),
            rule: Vec::new(),
        }
    }
}

/// The cookie that carries a zone's tokens.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Cookie {
    pub(super) same_site: SameSite,
    pub(super) domain: Option<String>,
    pub(super) partitioned: bool,
}

/// With which requests of other sites the cookie is sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SameSite {
    /// With none.
    Strict,
    /// With links that are followed.
    #[default]
    Lax,
    /// With all.
    None,
}

/// `[[zone.gate.crawler]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Crawler {
    pub(super) name: Spanned<String>,
    pub(super) keys: Spanned<PathBuf>,
}

/// `[[zone.gate.rule]]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Rule {
    pub(super) name: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) methods: Vec<Spanned<String>>,
    pub(super) header: Option<Spanned<String>>,
    pub(super) not_path: Vec<Spanned<String>>,
    pub(super) not_methods: Vec<Spanned<String>>,
    pub(super) not_header: Option<Spanned<String>>,
    pub(super) crawlers: Vec<Spanned<String>>,
    pub(super) not_crawlers: Vec<Spanned<String>>,
    pub(super) rate: Option<Spanned<Rate>>,
    pub(super) concurrency: Option<Spanned<usize>>,
    pub(super) queue: Option<Spanned<Queue>>,
    pub(super) manual: Option<Spanned<Manual>>,
    pub(super) challenge: Option<Spanned<Challenge>>,
    pub(super) dry_run: bool,
}

/// A token bucket.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Rate {
    pub(super) requests: u32,
    pub(super) per: Time,
    pub(super) burst: u32,
    pub(super) count: Count,
    pub(super) key: Parts,
    pub(super) cost_field: Option<String>,
}

/// What a bucket is of: one part of a key, or several.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(in crate::config) enum Parts {
    /// `key = "client"`.
    One(String),
    /// `key = ["header:X-Api-Key", "segment:1"]`.
    Several(Vec<String>),
}

impl Parts {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Several(parts) => parts,
        }
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            requests: 100,
            per: seconds(60),
            burst: 20,
            count: Count::Requests,
            key: Parts::One("client".to_owned()),
            cost_field: None,
        }
    }
}

/// What a bucket counts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Count {
    /// Every request.
    Requests,
    /// A connection's first.
    Connections,
}

/// A waiting room.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Queue {
    pub(super) active: usize,
    pub(super) session: Time,
    pub(super) paused: bool,
    pub(super) poll: Time,
    pub(super) per_network: Option<usize>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            active: 500,
            session: seconds(300),
            paused: false,
            poll: seconds(10),
            per_network: None,
        }
    }
}

/// Everybody proves something once.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Challenge {
    pub(super) kind: ChallengeKind,
    pub(super) bits: u8,
    pub(super) wait: Time,
}

/// What is proven.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ChallengeKind {
    /// Work.
    Work,
}

impl Default for Challenge {
    fn default() -> Self {
        Self {
            kind: ChallengeKind::Work,
            bits: 16,
            wait: seconds(30),
        }
    }
}

/// Everybody waits once.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Manual {
    pub(super) wait: Time,
}

impl Default for Manual {
    fn default() -> Self {
        Self { wait: seconds(5) }
    }
}
