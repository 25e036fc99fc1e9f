//! `cargo xtask conform cache-tests`: <https://github.com/http-tests/cache-tests>, from a checkout
//! of it. The suite brings its client and its origin, both for Node.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::process::{self, Process, free_address};
use serde::Deserialize;

use super::node::Node;
use crate::workspace::{self, Profile};

/// The cache, by cache-tests: totals by kind, each test that is not met, and a failure if a
/// required one is not met without a reason that is written down.
///
/// Starts an edge on loopback before the suite's origin. A minute.
#[derive(clap::Args)]
pub(crate) struct CacheTests {
    /// A checkout of cache-tests; its npm packages are installed there
    suite: PathBuf,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
}

const HOST: &str = "localhost";
const READER: &str = include_str!("cache_tests.mjs");
const START: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(600);

/// The suite breaks connections on purpose, and asks what must not be served stale, which a cache
/// has to do first.
const ZONE: &str = r#"[zone.origin.passive]
failures = 0
[zone.cache]
stale_if_error = "60s"
"#;

/// Required tests that are not met, with the reason.
pub(super) const EXPLAINED: &[(&str, &str)] = &[
    (
        "headers-store-Content-Encoding",
        "the origin's coding is one that the request did not list; the edge passes it on and does not store it",
    ),
    (
        "headers-store-Set-Cookie",
        "a cookie is stored only with `public` or `s-maxage`, and never served from the store",
    ),
    (
        "headers-store-Transfer-Encoding",
        "the origin's `Transfer-Encoding` is one that nobody can frame by; the edge refuses it with 502",
    ),
];

/// What came of a test.
#[derive(Deserialize)]
struct Test {
    /// `required`, `optimal` or `check`.
    kind: String,
    id: String,
    /// As the suite names it: `pass`, `fail`, `setup_fail`, `untested`, …
    outcome: String,
    why: String,
}

impl Test {
    /// Asked by the suite of every cache.
    fn required(&self) -> bool {
        self.kind == "required"
    }

    fn met(&self) -> bool {
        matches!(self.outcome.as_str(), "pass" | "yes")
    }

    /// The suite has it, and does not run it.
    fn untested(&self) -> bool {
        self.outcome == "untested"
    }
}

/// Starts what the suite talks to, and runs it.
pub(crate) fn run(cache_tests: &CacheTests) -> Result<()> {
    let suite = &cache_tests.suite;
    ensure!(
        suite.join("test-engine/cli.mjs").is_file(),
        "{} is not a checkout of cache-tests",
        suite.display()
    );
    let suite = suite.canonicalize()?;
    if !cache_tests.no_build {
        workspace::prepare(&[workspace::SETUP_CONFORM, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(Profile::Dev)?;
    }
    if !suite.join("node_modules/undici").is_dir() {
        let mut npm = Command::new("npm");
        npm.current_dir(&suite)
            .args(["install", "--omit=dev", "--no-audit", "--no-fund"]);
        workspace::run(&mut npm)?;
    }
    let directory = workspace::output("conform/cache-tests")?;
    let origin = free_address()?;
    let mut command = node(&suite);
    command
        .arg("test-engine/server/server.mjs")
        .env("npm_config_protocol", "http")
        .env("npm_config_port", origin.port().to_string())
        .env("npm_config_pidfile", directory.join("origin.pid"));
    let mut server = Process::spawn(&mut command, &directory.join("origin.log"))?;
    server.wait_port(origin, START)?;
    let address = free_address()?;
    let edge = Node {
        host: HOST,
        address,
        origin,
        further: ZONE,
    };
    let _edge = edge.start(&directory)?;
    let tests = results(&suite, address.port(), &directory)?;
    workspace::give_back(&directory)?;
    report(&tests)
}

/// Runs the suite's client, and reads what it found.
fn results(suite: &Path, port: u16, directory: &Path) -> Result<Vec<Test>> {
    let mut client = node(suite);
    client
        .args(["--no-warnings", "test-engine/cli.mjs"])
        .env("npm_config_base", format!("https://{HOST}:{port}"))
        .env("npm_package_config_id", "")
        // The certificate is this run's own.
        .env("NODE_TLS_REJECT_UNAUTHORIZED", "0");
    let output = process::output(&mut client, LIMIT)?;
    ensure!(
        output.status.success(),
        "the suite's client failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let results = directory.join("results.json");
    fs::write(&results, output.stdout)?;
    let reader = directory.join("reader.mjs");
    fs::write(&reader, READER)?;
    let mut command = node(suite);
    command.arg(&reader).arg(suite).arg(&results);
    let output = process::output(&mut command, LIMIT)?;
    ensure!(
        output.status.success(),
        "the results could not be read: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a result: {line}")))
        .collect()
}

fn node(suite: &Path) -> Command {
    let mut command = Command::new("node");
    command.current_dir(suite);
    command
}

/// Prints totals and what is not met; the error names required tests without a reason.
fn report(tests: &[Test]) -> Result<()> {
    let mut totals: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for test in tests.iter().filter(|test| !test.untested()) {
        let (met, all) = totals.entry(&test.kind).or_default();
        *met += usize::from(test.met());
        *all += 1;
    }
    for test in tests
        .iter()
        .filter(|test| test.kind != "check" && !test.met() && !test.untested())
    {
        println!("{:9} {}: {}", test.kind, test.id, test.why);
    }
    for (kind, (met, all)) in &totals {
        println!("{kind}: {met} of {all}");
    }
    ensure!(totals.contains_key("required"), "the suite ran no required test");
    let unexplained = unexplained(tests);
    ensure!(
        unexplained.is_empty(),
        "required and not met: {}",
        unexplained.join(", ")
    );
    Ok(())
}

/// Required tests that are not met without a reason.
fn unexplained(tests: &[Test]) -> Vec<&str> {
    tests
        .iter()
        .filter(|test| test.required() && !test.met() && !test.untested())
        .map(|test| test.id.as_str())
        .filter(|id| EXPLAINED.iter().all(|(explained, _)| explained != id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A required test that is not met fails the run, whatever the others say.
    #[test]
    fn a_required_test_without_a_reason_fails_the_run() {
        let test = |kind: &str, id: &str, outcome: &str| Test {
            kind: kind.into(),
            id: id.into(),
            outcome: outcome.into(),
            why: String::new(),
        };
        let mut tests = vec![
            test("required", "a", "pass"),
            test("required", "headers-store-Set-Cookie", "setup_fail"),
            test("required", "b", "untested"),
            test("optimal", "c", "optional_fail"),
            test("check", "d", "no"),
        ];
        assert!(report(&tests).is_ok());
        tests.push(test("required", "e", "dependency_fail"));
        assert_eq!(unexplained(&tests), ["e"]);
        assert!(report(&tests).is_err());
        assert!(report(&[]).is_err());
    }
}
