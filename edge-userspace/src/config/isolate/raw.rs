//! The raw form of `[isolate]`, `[zone.worker]` and `[[zone.route]]`, key by key, with the defaults of each.
//! `defaults.toml` says what they mean.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::value::{OriginAddress, Size, Time};

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// `[isolate]`: what all workers share.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Node {
    pub(super) state_directory: Spanned<PathBuf>,
    pub(super) instances: Spanned<u32>,
    pub(super) memory: Spanned<Size>,
    pub(super) worker_bytes: Spanned<Size>,
    pub(super) compile_time: Spanned<Time>,
    pub(super) compile_memory: Spanned<Size>,
    pub(super) versions: Spanned<usize>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            state_directory: spanned(PathBuf::from("/var/lib/edge/workers")),
            instances: spanned(1_000),
            memory: spanned(Size(0)),
            worker_bytes: spanned(Size(32 << 20)),
            compile_time: spanned(Time(Duration::from_secs(60))),
            compile_memory: spanned(Size(4 << 30)),
            versions: spanned(10),
        }
    }
}

/// `[zone.worker]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Worker {
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) reuse: Spanned<u32>,
    pub(super) memory: Spanned<Size>,
    pub(super) table_elements: Spanned<usize>,
    pub(super) cpu: Spanned<Time>,
    pub(super) wall: Spanned<Time>,
    pub(super) concurrency: Spanned<usize>,
    pub(super) nested: Spanned<usize>,
    pub(super) subrequests: Spanned<u32>,
    pub(super) response_bytes: Size,
    pub(super) log_bytes: Spanned<Size>,
    pub(super) log_rate: Spanned<u32>,
    pub(super) zones: Vec<Spanned<String>>,
    pub(super) origins: Vec<Spanned<Elsewhere>>,
    pub(super) settings: BTreeMap<String, Spanned<String>>,
    pub(super) secrets: BTreeMap<String, Spanned<PathBuf>>,
    pub(super) schedule: Vec<Spanned<String>>,
    pub(super) keyvalue: Option<Keyvalue>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            file: None,
            reuse: spanned(1),
            memory: spanned(Size(64 << 20)),
            table_elements: spanned(40_000),
            cpu: spanned(Time(Duration::from_millis(50))),
            wall: spanned(Time(Duration::from_secs(30))),
            concurrency: spanned(100),
            nested: spanned(50),
            subrequests: spanned(50),
            response_bytes: Size(0),
            log_bytes: spanned(Size(64 << 10)),
            log_rate: spanned(200),
            zones: Vec::new(),
            origins: Vec::new(),
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            schedule: Vec::new(),
            keyvalue: None,
        }
    }
}

impl Worker {
    /// The zones that the worker names, each with its place.
    pub(in crate::config) fn asked(&self) -> impl Iterator<Item = (std::ops::Range<usize>, &String)> {
        self.zones.iter().map(|zone| (zone.span(), zone.get_ref()))
    }
}

/// A server elsewhere that a worker may ask.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Elsewhere {
    pub(super) address: OriginAddress,
    #[serde(default)]
    pub(super) private: bool,
    #[serde(default)]
    pub(super) forwarded: bool,
    #[serde(default)]
    pub(super) ca: Option<Spanned<PathBuf>>,
}

/// `[zone.worker.keyvalue]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Keyvalue {
    pub(super) bytes: Spanned<Size>,
    pub(super) keys: Spanned<u64>,
    pub(super) value_bytes: Spanned<Size>,
}

impl Default for Keyvalue {
    fn default() -> Self {
        Self {
            bytes: spanned(Size(16 << 20)),
            keys: spanned(100_000),
            value_bytes: spanned(Size(1 << 20)),
        }
    }
}

/// `[[zone.route]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    pub(super) path: Spanned<String>,
    pub(super) to: Spanned<To>,
    #[serde(default)]
    pub(super) directory: Option<Spanned<PathBuf>>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum To {
    Worker,
    Origin,
    Files,
}
