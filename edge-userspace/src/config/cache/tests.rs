//! What an operator writes for the cache is what it does, and each mistake is told with its line
//! and mend.

use std::path::Path;
use std::time::Duration;

use crate::config::{Config, Mistakes};

fn parse(cache: &str) -> Result<Config, Mistakes> {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
         servers = [{{ address = \"http://127.0.0.1:8080\" }}]\n{cache}"
    );
    Config::parse(Path::new("dir/edge.toml"), &text)
}

/// A zone that did not ask for a cache has none.
#[test]
fn opt_in() {
    assert!(parse("").unwrap().zones[0].cache.is_none());
    let config = parse("[zone.cache]\nstale_if_error = \"1h\"\n[cache]\ndirectory = \"c\"\ndisk = \"1GiB\"\n").unwrap();
    let zone = config.zones[0].cache.as_ref().unwrap();
    assert_eq!(zone.stale_if_error, Duration::from_secs(3_600));
    assert_eq!(config.cache.directory.0, Path::new("dir/c"));
}

/// An operator sees where the mistake is and how to mend it.
#[test]
fn mistakes() {
    for (text, line, what, mend) in [
        (
            "[zone.cache]\nobject_byte = \"1MiB\"\n",
            9,
            "unknown key",
            "object_bytes",
        ),
        ("[zone.cache]\nobject_bytes = \"1GiB\"\n", 9, "out of bounds", "256MiB"),
        (
            "[zone.cache]\nheuristic_percent = 200\n",
            9,
            "out of bounds",
            "0 to 100",
        ),
        ("[zone.cache]\ncoalesce = \"5m\"\n", 9, "out of bounds", "0s to 1m"),
        ("[cache]\nmemory = \"0B\"\n", 9, "out of bounds", "MiB"),
        ("[cache]\ndisk = \"64MiB\"\n[zone.cache]\n", 0, "", ""),
        (
            "[zone.cache]\nobject_bytes = \"200MiB\"\n",
            1,
            "less than one",
            "object_bytes",
        ),
    ] {
        let found = parse(text).unwrap_err().0;
        let hit = |m: &crate::config::Mistake| {
            (line == 0 || m.line == line) && m.what.contains(what) && m.mend.contains(mend)
        };
        assert!(
            found.iter().any(hit),
            "wanted {line} {what:?} {mend:?}, got {found:#?}\nfor\n{text}"
        );
    }
}
