//! The cache's raw form, key by key, with the defaults of each. `defaults.toml` says what they mean.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::value::{Size, Time};

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn seconds(n: u64) -> Spanned<Time> {
    spanned(Time(Duration::from_secs(n)))
}

/// `[cache]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Node {
    pub(super) memory: Spanned<Size>,
    pub(super) disk: Spanned<Size>,
    pub(super) filling: Spanned<Size>,
    pub(super) directory: Spanned<PathBuf>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            memory: spanned(Size(128 << 20)),
            disk: spanned(Size(0)),
            filling: spanned(Size(64 << 20)),
            directory: spanned(PathBuf::from("/var/cache/edge")),
        }
    }
}

/// `[zone.cache]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Cache {
    pub(super) object_bytes: Spanned<Size>,
    pub(super) heuristic_percent: Spanned<u8>,
    pub(super) heuristic_most: Spanned<Time>,
    pub(super) stale_while_revalidate: Spanned<Time>,
    pub(super) stale_if_error: Spanned<Time>,
    pub(super) coalesce: Spanned<Time>,
    pub(super) obey_requests: bool,
    pub(super) status_field: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            object_bytes: spanned(Size(8 << 20)),
            heuristic_percent: spanned(10),
            heuristic_most: seconds(86_400),
            stale_while_revalidate: seconds(0),
            stale_if_error: seconds(0),
            coalesce: seconds(5),
            obey_requests: true,
            status_field: true,
        }
    }
}
