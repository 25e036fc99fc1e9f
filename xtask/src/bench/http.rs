//! `cargo xtask bench http`: the edge, nginx, HAProxy, Envoy and Caddy as HTTPS reverse proxies
//! before the same origin, taking turns.
//!
//! Each is one thread on one core; the load generator and the origin share another. What counts is
//! requests per CPU-second of the proxy's own processes: it does not depend on how fast the client
//! is.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::pki::{Authority, Files};
use edge_testbed::process::{self, Process, free_address};
use rustix::thread::sched_getaffinity;
use serde::Serialize;

use super::load::{self, Case, Protocol, Run, Setting, Target};
use super::peers::Peer;
use super::{edge, nginx};
use crate::workspace::{self, Profile};

const HOST: &str = "bench.example.test";

const CASES: &[Case] = &[
    case("h1-1k", Protocol::H1, 1 << 10, 0),
    case("h1-100k", Protocol::H1, 100 << 10, 0),
    case("h2-1k", Protocol::H2, 1 << 10, 0),
    case("h2-1k-one", Protocol::H2Many, 1 << 10, 0),
    case("h2-100k", Protocol::H2, 100 << 10, 0),
    case("h1-new", Protocol::H1New, 1 << 10, 0),
    case("h1-post", Protocol::H1, 1 << 10, 10 << 10),
    case("h2-post", Protocol::H2, 1 << 10, 10 << 10),
];

const fn case(name: &'static str, protocol: Protocol, bytes: u64, content: u64) -> Case {
    let path = if bytes > 10 << 10 { "/100k" } else { "/1k" };
    Case {
        name,
        protocol,
        path,
        bytes,
        content,
    }
}

/// Requests per CPU-second of an HTTPS reverse proxy, against nginx, HAProxy, Envoy and Caddy.
///
/// Answers of 1 KB and 100 KB from the same origin over HTTP/1.1 and HTTP/2, new connections and
/// requests with content, TLS 1.3 with the same ECDSA P-256 certificate; the proxies take turns in
/// one run. Writes target/bench/http.json.
#[derive(clap::Args)]
pub(crate) struct BenchHttp {
    /// Three short rounds instead of seven long ones, for a smoke test
    #[arg(long)]
    quick: bool,
    /// Put nginx in the edge's place: the ratio then shows the noise of this machine
    #[arg(long)]
    self_check: bool,
    /// Write no access log; by default all write one line of JSON per request to a file
    #[arg(long)]
    no_access_log: bool,
    /// Only these cases, by name
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// Only nginx beside the edge
    #[arg(long)]
    nginx_alone: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build: shows that the bench works, never how fast edge is
    #[arg(long)]
    dev: bool,
    /// Where configurations, logs and http.json go, instead of target/bench
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// How long, how often.
struct Effort {
    rounds: usize,
    window: Duration,
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    self_check: bool,
    dev: bool,
    /// Names and versions.
    peers: Vec<String>,
    access_log: bool,
    cases: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    name: &'static str,
    edge_req_per_cpu_s: f64,
    nginx_req_per_cpu_s: f64,
    /// The edge's over nginx's.
    ratio: f64,
    /// Medians, by the proxy's name.
    req_per_cpu_s: BTreeMap<&'static str, f64>,
    /// The edge's over each peer's, medians of the ratios in each round.
    ratios: BTreeMap<&'static str, f64>,
    /// The smallest of `ratios`: of the best peer.
    ratio_to_best: f64,
    runs: BTreeMap<&'static str, Vec<Run>>,
}

/// A proxy that takes part; the edge is the first.
struct Contestant {
    name: &'static str,
    target: Target,
    _process: Process,
}

/// Measures, prints, writes.
pub(crate) fn run(bench: &BenchHttp) -> Result<()> {
    let profile = if bench.dev { Profile::Dev } else { Profile::Release };
    if !bench.no_build {
        workspace::prepare(&[workspace::SETUP_BENCH])?;
        if !bench.self_check {
            workspace::prepare(&[workspace::BUILD_EBPF, workspace::BUILD_JS])?;
            workspace::build_binaries(profile)?;
        }
    }
    let effort = Effort::of(bench.quick);
    let stage = Stage::set(bench)?;
    let (contestants, peers) = stage.enter(bench, profile)?;
    let chosen = |case: &&Case| bench.cases.is_empty() || bench.cases.iter().any(|name| name == case.name);
    let cases: Vec<_> = CASES.iter().filter(chosen).collect();
    for contestant in &contestants {
        verify(&cases, contestant.target, &stage.ca).with_context(|| contestant.name)?;
    }

    let mut report = Report {
        quick: bench.quick,
        self_check: bench.self_check,
        dev: bench.dev,
        peers,
        access_log: !bench.no_access_log,
        cases: Vec::new(),
    };
    for case in cases {
        report
            .cases
            .push(compare(case, &contestants, &effort, stage.load_core)?);
    }
    print!("{}", table(&report));
    let file = stage.directory.join("http.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written to {}", file.display());
    Ok(())
}

impl Effort {
    const fn of(quick: bool) -> Self {
        if quick {
            Self {
                rounds: 3,
                window: Duration::from_millis(800),
            }
        } else {
            Self {
                rounds: 7,
                window: Duration::from_secs(4),
            }
        }
    }
}

/// What all proxies stand on and before: files, certificate, cores, and the origin.
struct Stage {
    directory: PathBuf,
    ca: PathBuf,
    leaf: Files,
    origin: SocketAddr,
    _origin: Process,
    load_core: usize,
    proxy_core: usize,
    access_log: bool,
}

impl Stage {
    fn set(bench: &BenchHttp) -> Result<Self> {
        let (load_core, proxy_core) = cores()?;
        let directory = match &bench.output {
            Some(directory) => directory
                .canonicalize()
                .with_context(|| format!("looking at {}", directory.display()))?,
            None => workspace::output("bench")?,
        };
        let authority = Authority::new("Edge bench CA")?;
        let ca = directory.join("ca.pem");
        authority.write(&ca)?;
        let leaf = authority.write_leaf(&directory, "leaf", &[HOST])?;
        let files = directory.join("origin/www");
        write_files(&files)?;
        let origin = free_address()?;
        Ok(Self {
            _origin: nginx::origin(&directory.join("origin"), origin, &files, load_core)?,
            directory,
            ca,
            leaf,
            origin,
            load_core,
            proxy_core,
            access_log: !bench.no_access_log,
        })
    }

    /// What one proxy is set up by.
    fn setting(&self, name: &str) -> Result<Setting<'_>> {
        Ok(Setting {
            prefix: self.directory.join(name),
            address: free_address()?,
            origin: self.origin,
            host: HOST,
            leaf: &self.leaf,
            core: self.proxy_core,
            access_log: self.access_log,
        })
    }

    /// Starts the proxies, the edge first; with the names and versions of the others.
    fn enter(&self, bench: &BenchHttp, profile: Profile) -> Result<(Vec<Contestant>, Vec<String>)> {
        let (mut contestants, mut peers) = (Vec::new(), vec![nginx::version()?]);
        let mut enter = |name, setting: &Setting<'_>, process: Process| {
            contestants.push(Contestant {
                name,
                target: Target {
                    address: setting.address,
                    pid: process.id(),
                },
                _process: process,
            });
        };
        let ours = self.setting("edge")?;
        let edge = if bench.self_check {
            nginx::proxy(&ours)?
        } else {
            edge::proxy(&workspace::binary("edge", profile), &ours)?
        };
        enter("edge", &ours, edge);
        let theirs = self.setting("nginx")?;
        enter("nginx", &theirs, nginx::proxy(&theirs)?);
        for peer in Peer::ALL.into_iter().filter(|_| !bench.nginx_alone) {
            if peer.program().is_none() {
                println!("without {}: `cargo xtask setup bench` could not have it", peer.name());
                continue;
            }
            let setting = self.setting(peer.name())?;
            enter(peer.name(), &setting, peer.proxy(&setting)?);
            peers.push(peer.version()?);
        }
        Ok((contestants, peers))
    }
}

fn compare(case: &Case, contestants: &[Contestant], effort: &Effort, core: usize) -> Result<Outcome> {
    // Each gets as many requests as it can answer in a window of about the time that was asked for.
    let mut requests = Vec::new();
    for contestant in contestants {
        let few = match case.protocol {
            Protocol::H1New => 400,
            _ if case.bytes > 10_000 => 400,
            _ => 4_000,
        };
        let run = load::measure(case, contestant.target, few, core, HOST)?;
        let rate = run.requests as f64 / run.wall_s;
        requests.push(((rate * effort.window.as_secs_f64()) as u64).max(400));
    }
    let mut runs: BTreeMap<&'static str, Vec<Run>> = BTreeMap::new();
    for round in 1..=effort.rounds {
        // Who goes first changes from round to round: the second finds warmer caches.
        let mut order: Vec<_> = contestants.iter().zip(&requests).collect();
        order.rotate_left(round % contestants.len());
        print!("{:<10} {round}/{}", case.name, effort.rounds);
        let mut tls: Option<String> = None;
        for (contestant, requests) in order {
            let run = load::measure(case, contestant.target, *requests, core, HOST)?;
            if tls.as_ref().is_some_and(|tls| *tls != run.tls) {
                bail!(
                    "the proxies agreed on different ciphers: {} on {}",
                    contestant.name,
                    run.tls
                );
            }
            tls = Some(run.tls.clone());
            print!("  {} {:.0}", contestant.name, run.req_per_cpu_s);
            runs.entry(contestant.name).or_default().push(run);
        }
        println!();
    }
    let rates = |name: &str| runs.get(name).into_iter().flatten().map(|run| run.req_per_cpu_s);
    // By rounds: what disturbs a machine for seconds disturbs all runs of a round.
    let ratios: BTreeMap<_, _> = contestants
        .iter()
        .skip(1)
        .map(|peer| {
            let pairs = rates("edge").zip(rates(peer.name));
            (peer.name, median(pairs.map(|(ours, theirs)| ours / theirs).collect()))
        })
        .collect();
    let of = |values: &BTreeMap<_, f64>, name| values.get(name).copied().unwrap_or_default();
    let req_per_cpu_s = runs.keys().map(|name| (*name, median(rates(name).collect()))).collect();
    Ok(Outcome {
        name: case.name,
        edge_req_per_cpu_s: of(&req_per_cpu_s, "edge"),
        nginx_req_per_cpu_s: of(&req_per_cpu_s, "nginx"),
        ratio: of(&ratios, "nginx"),
        req_per_cpu_s,
        ratio_to_best: ratios.values().copied().fold(f64::INFINITY, f64::min),
        ratios,
        runs,
    })
}

/// Of at least one value.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    }
}

fn table(report: &Report) -> String {
    let mut table = format!(
        "\nRequests per CPU-second (medians; ratios by rounds), HTTPS reverse proxy, TLS 1.3, beside {}\n",
        report.peers.join(", ")
    );
    for (at, case) in report.cases.iter().enumerate() {
        let peers = || case.ratios.keys();
        if at == 0 {
            table += &format!("{:<10}{:>9}", "case", "edge");
            table += &peers().map(|peer| format!("{peer:>9} ratio")).collect::<String>();
            table += "\n";
        }
        let rate = |name: &str| case.req_per_cpu_s.get(name).copied().unwrap_or_default();
        table += &format!("{:<10}{:>9.0}", case.name, rate("edge"));
        table += &peers()
            .map(|peer| format!("{:>9.0}{:>6.2}", rate(peer), case.ratios[peer]))
            .collect::<String>();
        table += "\n";
    }
    table
}

/// Before anything is measured: each proxy gives each file byte for byte over both protocols.
fn verify(cases: &[&Case], target: Target, ca: &Path) -> Result<()> {
    workspace::need("curl", workspace::SETUP_BENCH)?;
    for case in cases {
        let (flag, version) = match case.protocol.is_1() {
            true => ("--http1.1", "1.1"),
            false => ("--http2", "2"),
        };
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            flag,
            "--cacert",
        ])
        .arg(ca)
        .args(["--write-out", "%{stderr}%{http_version}"])
        .args(["--connect-to", &format!("::{}", target.address)])
        .arg(format!("https://{HOST}{}", case.path));
        let output = process::output(&mut curl, Duration::from_secs(20))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said != version || output.stdout != content(case.bytes) {
            bail!(
                "{}: the proxy at {} answered {} bytes, HTTP version or error {said:?}",
                case.name,
                target.address,
                output.stdout.len()
            );
        }
    }
    Ok(())
}

fn write_files(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for case in CASES {
        fs::write(directory.join(case.path.trim_start_matches('/')), content(case.bytes))?;
    }
    Ok(())
}

/// Bytes in which a lost or repeated part shows.
fn content(length: u64) -> Vec<u8> {
    (0..length).map(|index| b'a' + ((index / 7) % 26) as u8).collect()
}

/// The core for load generator and origin, and the one for the proxies.
pub(super) fn cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None).context("asking which cores this process may use")?;
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| allowed.is_set(core))
        .take(2)
        .collect();
    match cores[..] {
        [load, proxy] => Ok((load, proxy)),
        _ => bail!("this bench needs two cores: one for the proxy, one for load generator and origin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_withstands_one_disturbed_run() {
        assert_eq!(median(vec![10.0, 9000.0, 11.0]), 11.0);
        assert_eq!(median(vec![12.0, 10.0]), 11.0);
    }
}
