//! What an operator writes for a worker is what it gets, and each mistake is told with its mend.

use std::path::Path;

use super::*;
use crate::config::{Config, Mistakes, Origin};

fn parse(zone: &str) -> Result<Config, Mistakes> {
    let text = format!("[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n{zone}");
    Config::parse(Path::new("dir/edge.toml"), &text)
}

/// A worker without an origin answers alone, and gets every request.
#[test]
fn worker_alone() {
    let config = parse("[zone.worker]\nfile = \"a.wasm\"\ncpu = \"10ms\"\norigins = [{ address = \"http://10.0.0.1\" }, { address = \"https://x.example\" }]\n").unwrap();
    let zone = &config.zones[0];
    let worker = zone.worker.as_ref().unwrap();
    assert_eq!(worker.file.as_ref().unwrap().0, Path::new("dir/a.wasm"));
    assert_eq!(worker.limits.cpu.as_millis(), 10);
    assert!(matches!(zone.origin, Origin::None));
    assert_eq!(
        zone.routes,
        [Route {
            path: "/".to_owned(),
            to: To::Worker
        }]
    );
    let public: Vec<bool> = worker.origins.iter().map(|o| o.public_only).collect();
    assert_eq!(
        public,
        [false, true],
        "an address that is written is meant, a name is not trusted"
    );
}

/// An operator sees what is wrong and how to mend it.
#[test]
fn mistakes() {
    let worker = "[zone.worker]\n";
    for (zone, what, mend) in [
        (String::new(), "nothing answers", "[zone.worker]"),
        (
            format!("{worker}memory = \"1GiB\"\n"),
            "out of bounds",
            "64KiB to 256MiB",
        ),
        (format!("{worker}zones = [\"b\"]\n"), "no zone \"b\"", "[[zone]]"),
        (
            format!("{worker}secrets = {{ a = \"none.key\" }}\n"),
            "cannot be read",
            "file",
        ),
        (format!("{worker}cpus = \"1s\"\n"), "unknown key", "`cpu`"),
        (
            format!("{worker}assets = \"none\"\n"),
            "is not a directory",
            "name another",
        ),
        (
            format!("{worker}previews = \"*.a.example\"\n"),
            "not one of the zone's hosts",
            "among `hosts`",
        ),
        (
            format!("{worker}worker_first = [\"/api/\"]\n"),
            "without `assets`",
            "assets =",
        ),
        (
            format!("{worker}assets = \".\"\nworker_first = [\"api\"]\n"),
            "not a path",
            "prefix",
        ),
        (
            "[[zone.route]]\npath = \"/a\"\nto = \"worker\"\n".to_owned(),
            "no worker",
            "[zone.worker]",
        ),
        (
            format!("{worker}[[zone.route]]\npath = \"a\"\nto = \"worker\"\n"),
            "not a path",
            "prefix",
        ),
        (
            format!("{worker}[[zone.route]]\npath = \"/a\"\nto = \"origin\"\n"),
            "no origin",
            "[zone.origin]",
        ),
        (
            format!("{worker}[[zone.route]]\npath = \"/a\"\nto = \"files\"\n"),
            "without `directory`",
            "directory =",
        ),
    ] {
        let mistakes = parse(&zone).and_then(|config| config.faults.or(())).unwrap_err().0;
        let said = mistakes.iter().any(|m| m.what.contains(what) && m.mend.contains(mend));
        assert!(said, "{zone}: {mistakes:?}");
    }
}
