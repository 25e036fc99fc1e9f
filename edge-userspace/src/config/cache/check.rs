//! From the cache's raw form to the checked one. The store relies on these bounds.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::{Cache, Node, raw};
use crate::config::mistake::{Mistake, Source};
use crate::config::value::{Size, Time};

/// The longest content that a store on disk can hold in one of its blocks.
pub const MOST_OBJECT: u64 = 256 << 20;
const DAY: Duration = Duration::from_secs(86_400);

struct Checker<'a> {
    source: &'a Source<'a>,
    mistakes: Vec<Mistake>,
}

/// `[cache]`, and what is wrong with it. `largest`: the largest `object_bytes` of a zone.
pub(in crate::config) fn node(raw: &raw::Node, largest: u64, source: &Source<'_>) -> (Node, Vec<Mistake>) {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    let memory = checker.size(&raw.memory, 1 << 20, 1 << 40);
    let disk = checker.size(&raw.disk, 0, 1 << 46);
    let filling = checker.size(&raw.filling, 1 << 20, 1 << 36);
    // Blocks are twice an object, and the store needs a few of them to turn over.
    let least = (largest.saturating_mul(16)).max(256 << 20);
    if disk > 0 && disk < least {
        let mend = format!(
            "write {}MiB or more, 0B for none, or a smaller object_bytes",
            least >> 20
        );
        checker.mistake(raw.disk.span(), "too small for the largest object_bytes", mend);
    }
    for (what, bytes, span) in [
        ("memory", memory, raw.memory.span()),
        ("filling", filling, raw.filling.span()),
    ] {
        if bytes < largest {
            let mend = format!(
                "write {}MiB or more, or a smaller object_bytes",
                largest.div_ceil(1 << 20)
            );
            checker.mistake(span, format!("{what} is less than one object_bytes"), mend);
        }
    }
    let directory = &raw.directory;
    let node = Node {
        memory,
        disk,
        filling,
        directory: (source.path(directory), source.place(directory.span())),
    };
    (node, checker.mistakes)
}

/// `[zone.cache]`, and what is wrong with it.
pub(in crate::config) fn zone(raw: &raw::Cache, source: &Source<'_>) -> (Cache, Vec<Mistake>) {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    let percent = *raw.heuristic_percent.get_ref();
    if percent > 100 {
        checker.mistake(raw.heuristic_percent.span(), "more than all", "write 0 to 100");
    }
    let cache = Cache {
        object_bytes: checker.size(&raw.object_bytes, 1 << 10, MOST_OBJECT),
        heuristic_percent: percent,
        heuristic_most: checker.time(&raw.heuristic_most, 30 * DAY),
        stale_while_revalidate: checker.time(&raw.stale_while_revalidate, 30 * DAY),
        stale_if_error: checker.time(&raw.stale_if_error, 30 * DAY),
        coalesce: checker.time(&raw.coalesce, Duration::from_secs(60)),
        obey_requests: raw.obey_requests,
        status_field: raw.status_field,
    };
    (cache, checker.mistakes)
}

/// What `[zone.cache]` without keys means.
pub(super) fn zone_defaults() -> Cache {
    let raw = raw::Cache::default();
    Cache {
        object_bytes: raw.object_bytes.get_ref().0,
        heuristic_percent: *raw.heuristic_percent.get_ref(),
        heuristic_most: raw.heuristic_most.get_ref().0,
        stale_while_revalidate: raw.stale_while_revalidate.get_ref().0,
        stale_if_error: raw.stale_if_error.get_ref().0,
        coalesce: raw.coalesce.get_ref().0,
        obey_requests: raw.obey_requests,
        status_field: raw.status_field,
    }
}

impl Checker<'_> {
    fn mistake(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(self.source.place(span).mistake(what, mend));
    }

    fn size(&mut self, value: &Spanned<Size>, least: u64, most: u64) -> u64 {
        let bytes = value.get_ref().0;
        if bytes < least || bytes > most {
            let mend = format!("write {}KiB to {}MiB", least >> 10, most >> 20);
            self.mistake(value.span(), "out of bounds", mend);
        }
        bytes
    }

    fn time(&mut self, value: &Spanned<Time>, most: Duration) -> Duration {
        let time = value.get_ref().0;
        if time > most {
            self.mistake(
                value.span(),
                "out of bounds",
                format!("write 0s to {}s", most.as_secs()),
            );
        }
        time
    }
}
