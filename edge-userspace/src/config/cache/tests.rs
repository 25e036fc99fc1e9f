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
        (
            "[zone.cache]\nttl = { \"206\" = \"1m\" }\n",
            9,
            "206 is the answer",
            "never",
        ),
        ("[zone.cache]\nttl = { \"1xx\" = \"1m\" }\n", 9, "not a status", "5xx"),
        ("[zone.cache]\nttl = { \"+20\" = \"1m\" }\n", 9, "not a status", "5xx"),
        ("[zone.cache]\nttl = { \"200\" = \"366d\" }\n", 9, "longer", "365d"),
        ("[zone.cache]\nafter = \"worker\"\n", 9, "no worker", "[zone.worker]"),
        ("[zone.cache]\nafter = \"files\"\n", 9, "or `worker`", ""),
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

/// A rule's caching.
fn rule(cache: &str) -> Result<Config, Mistakes> {
    parse(&format!("[zone.cache]\n[[zone.rule]]\nname = \"r\"\ncache = {cache}\n"))
}

/// An operator would find out by what visitors see.
#[test]
fn mistakes_of_rules() {
    for (cache, what, mend) in [
        ("true", "changes nothing", "cache = false"),
        ("\"10m\"", "", "ttl"),
        ("{}", "says nothing", "ttl"),
        ("{ time = \"1m\" }", "time", ""),
        ("{ force = true }", "without `ttl`", "200"),
        ("{ ttl = { \"304\" = \"1m\" } }", "304", "never"),
        ("{ stale_if_error = \"31d\" }", "out of bounds", "30d"),
        ("{ slice = \"1KiB\" }", "out of bounds", "16KiB"),
        ("{ key = { headers = [\"Authorization\"] } }", "nobody else", "public"),
        ("{ key = { headers = [\"cookie\"] } }", "all cookies", "NAME"),
        (
            "{ key = { headers = [\"X-Forwarded-For\"] } }",
            "writes x-forwarded-for itself",
            "",
        ),
        ("{ key = { headers = [\"a b\"] } }", "field name", ""),
        ("{ key = { cookies = [\"a=b\"] } }", "valid name", ""),
        ("{ key = { query = {} } }", "changes nothing", "keep"),
        (
            "{ key = { query = { keep = [\"a\"], drop = [\"b\"] } } }",
            "both",
            "one",
        ),
    ] {
        let found = rule(cache).unwrap_err().0;
        let hit = |m: &crate::config::Mistake| {
            let words = format!("{} {}", m.what, m.mend);
            m.line == 11 && words.contains(what) && words.contains(mend)
        };
        assert!(found.iter().any(hit), "{cache}: {found:#?}");
    }
    let without = parse("[[zone.rule]]\nname = \"r\"\ncache = { public = true }\n").unwrap_err();
    assert!(without.0[0].what.contains("stores nothing"), "{without}");
    let long = rule("{ slice = \"16MiB\" }").unwrap_err();
    assert!(long.0[0].what.contains("longer than what the zone stores"), "{long}");
    // Each change of queries makes one more purge of each URL.
    let one = |n: usize| {
        format!("[[zone.rule]]\nname = \"r{n}\"\ncache = {{ key = {{ query = {{ drop = [\"a{n}\"] }} }} }}\n")
    };
    let many = |n: usize| parse(&format!("[zone.cache]\n{}", (0..n).map(one).collect::<String>()));
    assert!(many(super::MOST_QUERIES).is_ok());
    assert!(many(super::MOST_QUERIES + 1).is_err());
}

/// Pages would be kept for another time than the operator wrote.
#[test]
fn times_by_status() {
    let config = rule("{ ttl = { \"2xx\" = \"1m\", \"204\" = \"2m\", \"4xx\" = \"3s\" } }").unwrap();
    let rules = config.zones[0].rules.as_ref().unwrap();
    let ttl = &rules.all[0].act.cache.as_ref().unwrap().ttl;
    for (status, seconds) in [
        (200, Some(60)),
        (204, Some(120)),
        (206, None),
        (404, Some(3)),
        (401, None),
        (301, None),
        (999, None),
    ] {
        assert_eq!(ttl.of(status), seconds, "{status}");
    }
}
