//! The cache's part of the file: `[cache]`, what all zones share, and `[zone.cache]`. The store
//! relies on these bounds.

mod rule;
#[cfg(test)]
mod tests;
pub(in crate::config) mod ttl;

use std::path::PathBuf;

use super::checker::Checker;
use super::kind::{Bytes, Count, File, Flag, Span, Word, words};
use super::section::section;
use super::value::{Size, seconds};

pub use rule::{CacheRule, Key, Keys, MOST_QUERIES, Query};
pub use ttl::{ByStatus, Ttls};

/// The longest content that a store on disk can hold in one of its blocks.
pub const MOST_OBJECT: u64 = 256 << 20;

const DAY: u64 = 86_400;

section! {
    /// What all zones' caches share.
    NodeText => Node {
        /// Bytes of stored responses in memory.
        fixed memory: Bytes = Size(128 << 20), Size(1 << 20) => Size(1 << 40);
        /// Bytes of stored responses on disk, taken as files of the directory; 0B: none. At least
        /// 256MiB, and 16 times the largest `object_bytes`.
        fixed disk: Bytes = Size(0), Size(0) => Size(1 << 46);
        /// Bytes of responses that are on their way into the store; a response that finds no room
        /// is not stored.
        fixed filling: Bytes = Size(64 << 20), Size(1 << 20) => Size(1 << 36);
        /// Where the disk's part and the list of purges are.
        fixed directory: File = PathBuf::from("/var/cache/edge");
    }
}

words! {
    /// What a zone's cache stands in front of.
    After {
        /// The origin: what a worker asks of it is stored, and what a worker makes is not.
        Origin = "origin",
        /// The worker, and the origin: what it makes is stored, too.
        Worker = "worker",
    }
}

section! {
    /// A zone's cache.
    CacheText => Cache {
        /// The longest content that is stored.
        live object_bytes: Bytes = Size(8 << 20), Size(1 << 10) => Size(MOST_OBJECT);
        /// "worker": what the zone's worker makes is stored, too, as what comes from its origin is:
        /// docs/cache.md.
        live after: Word<After> = After::Origin;
        /// How long responses are fresh that say nothing of it themselves, by status, or by class
        /// as "5xx": docs/cache.md. Not those to requests with credentials or cookies.
        live ttl: ByStatus = ttl::Written::new(); like { "200" = "10m", "404" = "30s" };
        /// Freshness of a response that says neither how long it is fresh nor that it is not: this
        /// share of the time since its `Last-Modified`, in percent; 0: none.
        live heuristic_percent: Count<u8> = 10, 0 => 100;
        /// Upper bound on that freshness.
        live heuristic_most: Span = seconds(DAY), seconds(0) => seconds(30 * DAY);
        /// How long a stale response answers while it is validated (RFC 5861), if it does not say
        /// itself.
        live stale_while_revalidate: Span = seconds(0), seconds(0) => seconds(30 * DAY);
        /// How long a stale response answers while the origin fails (RFC 5861), if it does not say
        /// itself.
        live stale_if_error: Span = seconds(0), seconds(0) => seconds(30 * DAY);
        /// How long a request waits for the response to another one for the same resource; 0s: each
        /// goes to the origin.
        live coalesce: Span = seconds(5), seconds(0) => seconds(60);
        /// Obey `no-cache`, `max-age`, `only-if-cached` and the like of requests. Otherwise a
        /// reload does not reach the origin.
        live obey_requests: Flag = true;
        /// Send `Cache-Status` (RFC 9211).
        live status_field: Flag = true;
    }
}

/// `[cache]`; `largest`: the largest `object_bytes` of a zone.
pub(super) fn node(raw: &NodeText, largest: u64, checker: &mut Checker<'_>) -> Node {
    let node = raw.check(checker);
    // Blocks are twice an object, and the store needs a few of them to turn over.
    let least = (largest.saturating_mul(16)).max(256 << 20);
    if node.disk > 0 && node.disk < least {
        let mend = format!("write {} or more, 0B for none, or a smaller object_bytes", Size(least));
        checker.mistake(raw.disk.span(), "too small for the largest object_bytes", mend);
    }
    for (what, bytes, span) in [
        ("memory", node.memory, raw.memory.span()),
        ("filling", node.filling, raw.filling.span()),
    ] {
        if bytes < largest {
            let mend = format!("write {} or more, or a smaller object_bytes", Size(largest));
            checker.mistake(span, format!("{what} is less than one object_bytes"), mend);
        }
    }
    node
}
