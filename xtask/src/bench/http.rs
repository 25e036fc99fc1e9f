//! `cargo xtask bench http`: the edge and nginx as HTTPS reverse proxies before the same origin,
//! taking turns.
//!
//! Both are one worker on one core; the load generator and the origin share another. What counts is
//! requests per CPU-second of the proxy's own processes: it does not depend on how fast the client
//! is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::pki::Authority;
use edge_testbed::process::{self, free_address};
use rustix::thread::sched_getaffinity;
use serde::Serialize;

use super::load::{self, Case, Protocol, Run, Setting, Target};
use super::{edge, nginx};
use crate::workspace::{self, Profile};

const HOST: &str = "bench.example.test";

const CASES: &[Case] = &[
    Case {
        name: "h1-1k",
        protocol: Protocol::H1,
        path: "/1k",
        bytes: 1 << 10,
    },
    Case {
        name: "h1-100k",
        protocol: Protocol::H1,
        path: "/100k",
        bytes: 100 << 10,
    },
    Case {
        name: "h2-1k",
        protocol: Protocol::H2,
        path: "/1k",
        bytes: 1 << 10,
    },
    Case {
        name: "h2-100k",
        protocol: Protocol::H2,
        path: "/100k",
        bytes: 100 << 10,
    },
];

/// Requests per CPU-second of an HTTPS reverse proxy, against nginx.
///
/// 1 KB and 100 KB answers from the same origin over HTTP/1.1 and HTTP/2, TLS 1.3 with the same
/// ECDSA P-256 certificate; the proxies take turns in one run. Writes target/bench/http.json.
#[derive(clap::Args)]
pub(crate) struct BenchHttp {
    /// Three short pairs instead of seven long ones: under a minute, for a smoke test
    #[arg(long)]
    quick: bool,
    /// Put nginx in the edge's place: the ratio then shows the noise of this machine
    #[arg(long)]
    self_check: bool,
    /// Write no access log; by default both write one line of JSON per request to a file
    #[arg(long)]
    no_access_log: bool,
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
    pairs: usize,
    window: Duration,
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    self_check: bool,
    dev: bool,
    peer: String,
    access_log: bool,
    cases: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    name: &'static str,
    edge_req_per_cpu_s: f64,
    nginx_req_per_cpu_s: f64,
    ratio: f64,
    runs: Runs,
}

#[derive(Default, Serialize)]
struct Runs {
    edge: Vec<Run>,
    nginx: Vec<Run>,
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
    let effort = if bench.quick {
        Effort {
            pairs: 3,
            window: Duration::from_millis(800),
        }
    } else {
        Effort {
            pairs: 7,
            window: Duration::from_secs(4),
        }
    };
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
    write_files(&directory.join("origin/www"))?;

    let origin = free_address()?;
    let _origin = nginx::origin(
        &directory.join("origin"),
        origin,
        &directory.join("origin/www"),
        load_core,
    )?;
    let setting = |name: &str| -> Result<Setting<'_>> {
        Ok(Setting {
            prefix: directory.join(name),
            address: free_address()?,
            origin,
            host: HOST,
            leaf: &leaf,
            core: proxy_core,
            access_log: !bench.no_access_log,
        })
    };
    let ours = setting("edge")?;
    let edge = if bench.self_check {
        nginx::proxy(&ours)?
    } else {
        edge::proxy(&workspace::binary("edge", profile), &ours)?
    };
    let theirs = setting("nginx")?;
    let peer = nginx::proxy(&theirs)?;
    let edge_target = Target {
        address: ours.address,
        pid: edge.id(),
    };
    let peer_target = Target {
        address: theirs.address,
        pid: peer.id(),
    };
    for target in [edge_target, peer_target] {
        verify(target, &ca)?;
    }

    let mut report = Report {
        quick: bench.quick,
        self_check: bench.self_check,
        dev: bench.dev,
        peer: nginx::version()?,
        access_log: !bench.no_access_log,
        cases: Vec::new(),
    };
    for case in CASES {
        report
            .cases
            .push(compare(case, edge_target, peer_target, &effort, load_core)?);
    }
    print!("{}", table(&report));
    let file = directory.join("http.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written to {}", file.display());
    Ok(())
}

fn compare(case: &Case, edge: Target, nginx: Target, effort: &Effort, core: usize) -> Result<Outcome> {
    // The same number of requests for both, so that each window takes about the time that was asked
    // for.
    let mut rate = f64::INFINITY;
    for target in [edge, nginx] {
        let few = if case.bytes > 10_000 { 400 } else { 4000 };
        let run = load::measure(case, target, few, core, HOST)?;
        rate = rate.min(run.requests as f64 / run.wall_s);
    }
    let requests = ((rate * effort.window.as_secs_f64()) as u64).max(200);
    let mut runs = Runs::default();
    for pair in 1..=effort.pairs {
        // Who goes first changes from pair to pair: the second finds warmer caches.
        let (ours, theirs) = if pair % 2 == 1 {
            let ours = load::measure(case, edge, requests, core, HOST)?;
            (ours, load::measure(case, nginx, requests, core, HOST)?)
        } else {
            let theirs = load::measure(case, nginx, requests, core, HOST)?;
            (load::measure(case, edge, requests, core, HOST)?, theirs)
        };
        println!("{:<8} {pair}/{}  edge {ours}   nginx {theirs}", case.name, effort.pairs);
        if ours.tls != theirs.tls {
            bail!(
                "the proxies agreed on different ciphers: edge {}, nginx {}",
                ours.tls,
                theirs.tls
            );
        }
        runs.edge.push(ours);
        runs.nginx.push(theirs);
    }
    // By pairs: what disturbs a machine for seconds disturbs both runs of a pair.
    let ratios: Vec<f64> = runs
        .edge
        .iter()
        .zip(&runs.nginx)
        .map(|(edge, nginx)| edge.req_per_cpu_s / nginx.req_per_cpu_s)
        .collect();
    let rate = |runs: &[Run]| median(runs.iter().map(|run| run.req_per_cpu_s).collect());
    Ok(Outcome {
        name: case.name,
        edge_req_per_cpu_s: rate(&runs.edge),
        nginx_req_per_cpu_s: rate(&runs.nginx),
        ratio: median(ratios),
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
        "\nRequests per CPU-second (medians; ratio by pairs), HTTPS reverse proxy, TLS 1.3, against {}\n{:<10}{:>10}{:>10}{:>8}\n",
        report.peer, "case", "edge", "nginx", "ratio"
    );
    for case in &report.cases {
        table += &format!(
            "{:<10}{:>10.0}{:>10.0}{:>8.2}\n",
            case.name, case.edge_req_per_cpu_s, case.nginx_req_per_cpu_s, case.ratio
        );
    }
    table
}

/// Before anything is measured: each proxy gives each file byte for byte over both protocols.
fn verify(target: Target, ca: &Path) -> Result<()> {
    workspace::need("curl", workspace::SETUP_BENCH)?;
    for case in CASES {
        let (flag, version) = match case.protocol {
            Protocol::H1 => ("--http1.1", "1.1"),
            Protocol::H2 | Protocol::H2Single => ("--http2", "2"),
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
