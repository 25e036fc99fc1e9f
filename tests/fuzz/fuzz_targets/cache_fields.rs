//! Fields that decide what is stored and what is sent: directives of requests and responses,
//! targeted ones (a structured field), ranges, and weights of codings. Whatever they hold, reading
//! them ends, and ranges lie within the content. `cd tests/fuzz && cargo +nightly fuzz run
//! cache_fields`.
#![no_main]

use edge::cache::directives::{Directives, FOREVER, Wishes};
use edge::cache::{Verdict, ranges};
use edge::delta::coding::negotiate::Accepted;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Lines of a field are separated by line feeds, which no value can hold.
    let mut headers = HeaderMap::new();
    for line in input.split(|b| *b == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            continue;
        };
        for name in ["cache-control", "cdn-cache-control", "pragma", "accept-encoding"] {
            headers.append(name, value.clone());
        }
    }
    let directives = Directives::of(&headers);
    for seconds in [
        directives.max_age,
        directives.s_maxage,
        directives.stale_while_revalidate,
    ] {
        assert!(seconds.is_none_or(|n| n <= FOREVER));
    }
    let _ = Wishes::of(&headers);
    assert!(Accepted::of(&headers).weight("br") <= 1_000);
    for length in [0, 1, 10, u64::MAX] {
        if let Verdict::Parts(spans) = ranges(input, length) {
            assert!(!spans.is_empty() && spans.iter().all(|span| span.from < span.to && span.to <= length));
            for (n, span) in spans.iter().enumerate() {
                assert!(
                    spans[n + 1..]
                        .iter()
                        .all(|other| other.from >= span.to || span.from >= other.to),
                    "overlap"
                );
            }
        }
    }
});
