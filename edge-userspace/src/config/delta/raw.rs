//! The raw form of `[delta]` and `[[far_end]]`. `defaults.toml` says what the keys mean.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::raw::{Balance, OriginServer, Passive};
use crate::config::value::{Size, Time};

const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

/// `[delta]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Node {
    pub(super) memory: Spanned<Size>,
    pub(super) object_bytes: Spanned<Size>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            memory: Spanned::new(0..0, Size(64 << 20)),
            object_bytes: Spanned::new(0..0, Size(16 << 20)),
        }
    }
}

/// `[[far_end]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FarEnd {
    pub(super) name: Spanned<String>,
    pub(super) servers: Spanned<Vec<Spanned<OriginServer>>>,
    pub(super) ca: Spanned<PathBuf>,
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
    #[serde(default)]
    pub(super) server_name: Option<Spanned<String>>,
    #[serde(default = "round_robin")]
    pub(super) balance: Balance,
    #[serde(default = "second")]
    pub(super) connect_timeout: Time,
    #[serde(default = "minute")]
    pub(super) response_timeout: Time,
    #[serde(default = "minute")]
    pub(super) body_timeout: Time,
    #[serde(default)]
    pub(super) passive: Passive,
    #[serde(default)]
    pub(super) keep_no_store: bool,
}

fn round_robin() -> Balance {
    Balance::RoundRobin
}

fn second() -> Time {
    seconds(1)
}

fn minute() -> Time {
    seconds(60)
}
