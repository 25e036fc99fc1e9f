//! The cache's part of the file: `[cache]`, what all zones share, and `[zone.cache]`.

pub(super) mod check;
pub(super) mod raw;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use check::MOST_OBJECT;

use super::Place;

/// What all zones' caches share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Bytes of responses in memory.
    pub memory: u64,
    /// Bytes of responses on disk; 0: none.
    pub disk: u64,
    /// Bytes of responses that are on their way into the store.
    pub filling: u64,
    /// Where the disk's part and the list of purges are.
    pub directory: (PathBuf, Place),
}

impl Node {
    /// Of a process without caches.
    pub(super) fn unused() -> Self {
        Self {
            memory: 0,
            disk: 0,
            filling: 0,
            directory: (PathBuf::new(), Place::nowhere()),
        }
    }
}

/// A zone's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The longest content that is stored.
    pub object_bytes: u64,
    /// Heuristic freshness: so many percent of the time since `Last-Modified`.
    pub heuristic_percent: u8,
    /// And at most so long.
    pub heuristic_most: Duration,
    /// Where a response does not say.
    pub stale_while_revalidate: Duration,
    /// Where a response does not say.
    pub stale_if_error: Duration,
    /// How long a request waits for another one's response; zero: not at all.
    pub coalesce: Duration,
    /// Obey `no-cache`, `max-age`, … of requests.
    pub obey_requests: bool,
    /// Send `Cache-Status`.
    pub status_field: bool,
}

impl Default for Cache {
    fn default() -> Self {
        check::zone_defaults()
    }
}
