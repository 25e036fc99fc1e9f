//! `cargo xtask conform wpt`: the web-platform-tests (<https://github.com/web-platform-tests/wpt>)
//! on workers in JavaScript, from a checkout of the suite. Each file that is meant for any scope
//! (`*.any.js`) is evaluated in a request of its own, by a worker that `edge dev` serves; files
//! that ask the suite's server find none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edge_testbed::process::{self, Process, free_address};
use serde::Deserialize;
use serde_json::json;

use crate::workspace::{self, Profile};

/// JavaScript of workers, by the web-platform-tests: totals by directory, and each subtest that
/// fails.
#[derive(clap::Args)]
pub(crate) struct Wpt {
    /// A checkout of the suite
    suite: PathBuf,
    /// Directories of it
    #[arg(default_values = ["FileAPI", "WebCryptoAPI", "compression", "encoding", "fetch/api", "streams", "url", "urlpattern"])]
    directories: Vec<String>,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Print what passes, too
    #[arg(long)]
    all: bool,
}

const RUNNER: &str = include_str!("wpt.js");
const START: Duration = Duration::from_secs(120);
/// Of one file, and of the request that runs it.
const LIMIT: &str = "60s";
/// Bytes of one file or resource of the suite.
const LARGEST: u64 = 4 << 20;

/// What the worker says of a file.
#[derive(Deserialize)]
struct Said {
    /// 0: the harness itself came to a good end.
    harness: u32,
    said: Option<String>,
    /// Name, status (0 passed, 1 failed, 2 timed out, 3 not run, 4 not wanted here) and words of
    /// each subtest.
    tests: Vec<(String, u32, Option<String>)>,
}

#[derive(Default)]
struct Total {
    files: usize,
    broken: usize,
    passed: usize,
    subtests: usize,
}

/// Runs what the arguments name.
pub(crate) fn run(wpt: &Wpt) -> Result<()> {
    let harness = wpt.suite.join("resources/testharness.js");
    ensure!(
        harness.is_file(),
        "{} is not there: name a checkout of web-platform-tests",
        harness.display()
    );
    if !wpt.no_build {
        workspace::prepare(&[workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(Profile::Dev)?;
    }
    let directory = workspace::output("conform/wpt")?;
    let worker = directory.join("worker.js");
    fs::write(&worker, RUNNER)?;
    let address = free_address()?;
    let mut command = Command::new(workspace::binary("edge", Profile::Dev));
    command
        .arg("dev")
        .arg(&worker)
        .args(["--cpu", LIMIT, "--port"])
        .arg(address.port().to_string());
    command.env("XDG_CACHE_HOME", &directory);
    let mut dev = Process::spawn(&mut command, &directory.join("log"))?;
    dev.wait_port(address, START)?;
    let mut totals = BTreeMap::new();
    for name in &wpt.directories {
        let mut files = Vec::new();
        tests(&wpt.suite.join(name), &mut files)?;
        files.sort();
        let total: &mut Total = totals.entry(name.clone()).or_default();
        for file in files {
            one(wpt, &file, &harness, &directory, address.port(), total)?;
        }
    }
    println!(
        "{:24} {:>6} {:>7} {:>9} {:>9}",
        "directory", "files", "broken", "passed", "subtests"
    );
    for (name, total) in totals {
        println!(
            "{name:24} {:>6} {:>7} {:>9} {:>9}",
            total.files, total.broken, total.passed, total.subtests
        );
    }
    workspace::give_back(&directory)
}

/// Files for any scope, below `directory`.
fn tests(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            tests(&path, found)?;
        } else if path.to_string_lossy().ends_with(".any.js") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let size = path
        .metadata()
        .with_context(|| format!("{} is not there", path.display()))?
        .len();
    ensure!(size <= LARGEST, "{} is longer than {LARGEST} bytes", path.display());
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// Runs one file, and prints and counts what comes of it.
fn one(wpt: &Wpt, file: &Path, harness: &Path, scratch: &Path, port: u16, total: &mut Total) -> Result<()> {
    let name = file.strip_prefix(&wpt.suite)?.to_string_lossy().into_owned();
    total.files += 1;
    let said = order(wpt, file, harness).and_then(|order| ask(&order, scratch, port));
    let said = match said {
        Ok(said) if said.harness == 0 => said,
        Ok(said) => {
            println!(
                "{name}: the harness says {}: {}",
                said.harness,
                said.said.as_deref().unwrap_or_default()
            );
            total.broken += 1;
            said
        }
        Err(error) => {
            println!("{name}: {error:#}");
            total.broken += 1;
            return Ok(());
        }
    };
    for (test, status, words) in said.tests {
        total.subtests += 1;
        total.passed += usize::from(status == 0);
        if status != 0 || wpt.all {
            println!("{name}: {test}: {status} {}", words.unwrap_or_default());
        }
    }
    Ok(())
}

/// What the worker is to run: the harness, the scripts that the file names (`// META: script=`),
/// and the file; with what lies in `resources` beside it.
fn order(wpt: &Wpt, file: &Path, harness: &Path) -> Result<String> {
    let text = read(file)?;
    let beside = file.parent().context("a file has a directory")?;
    let mut scripts = vec![read(harness)?];
    for line in text
        .lines()
        .take_while(|line| line.starts_with("//") || line.trim().is_empty())
    {
        if let Some(script) = line.strip_prefix("// META: script=") {
            let path = match script.trim().strip_prefix('/') {
                Some(absolute) => wpt.suite.join(absolute),
                None => beside.join(script.trim()),
            };
            scripts.push(read(&path)?);
        }
    }
    scripts.push(text);
    let mut files = BTreeMap::new();
    if let Ok(resources) = fs::read_dir(beside.join("resources")) {
        for resource in resources {
            let path = resource?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.strip_prefix(&wpt.suite)?.to_string_lossy().into_owned();
                files.insert(format!("/{name}"), read(&path)?);
            }
        }
    }
    let name = file.strip_prefix(&wpt.suite)?.to_string_lossy().into_owned();
    let url = format!("https://web-platform.test/{name}");
    Ok(json!({ "url": url, "scripts": scripts, "files": files }).to_string())
}

fn ask(order: &str, scratch: &Path, port: u16) -> Result<Said> {
    let body = scratch.join("order.json");
    fs::write(&body, order)?;
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--max-time",
        "60",
        "--data-binary",
    ]);
    curl.arg(format!("@{}", body.display()))
        .arg(format!("http://127.0.0.1:{port}/"));
    let output = process::output(&mut curl, Duration::from_secs(70))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("the worker failed: {}", text.trim());
    }
    Ok(serde_json::from_str(&text)?)
}
