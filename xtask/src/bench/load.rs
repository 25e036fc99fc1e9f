//! One run of h2load against a proxy, and what the proxy's processes paid for it.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edge_testbed::pki::Files;
use edge_testbed::process;
use serde::Serialize;

use crate::workspace;

/// A request repeated over a protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// As in `http.json`.
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    /// Path at the origin, and how many bytes it answers.
    pub(super) path: &'static str,
    pub(super) bytes: u64,
    /// Bytes that each request brings; 0: it is a GET.
    pub(super) content: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    H1,
    /// A connection for each request, so many of them a second: [`NEW_PER_SECOND`].
    H1New,
    H2,
    /// As many connections as HTTP/1.1 has, one request at a time on each.
    H2Many,
    /// One request at a time on one connection.
    H2Single,
}

/// Below what the slowest proxy of one thread can do, or it is a queue that is measured.
const NEW_PER_SECOND: u64 = 300;

impl Protocol {
    /// Whether it is HTTP/1.1.
    pub(super) fn is_1(self) -> bool {
        matches!(self, Self::H1 | Self::H1New)
    }

    /// Connections, and requests in flight on each: the same number in flight for both protocols.
    pub(super) fn shape(self) -> (u32, u32) {
        match self {
            Self::H1 | Self::H1New | Self::H2Many => (32, 1),
            Self::H2 => (4, 8),
            Self::H2Single => (1, 1),
        }
    }
}

/// What both proxies are started with.
#[derive(Clone, Debug)]
pub(super) struct Setting<'a> {
    /// Directory for configuration and logs.
    pub(super) prefix: PathBuf,
    pub(super) address: SocketAddr,
    /// Plain HTTP/1.1.
    pub(super) origin: SocketAddr,
    pub(super) host: &'a str,
    pub(super) leaf: &'a Files,
    /// The processor core that the proxy may use.
    pub(super) core: usize,
    /// One line of JSON per request to a file.
    pub(super) access_log: bool,
}

/// A proxy that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// Its first process; descendants count too.
    pub(super) pid: u32,
}

/// One measured window.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) requests: u64,
    /// CPU seconds of all the proxy's processes and threads.
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
    pub(super) req_per_cpu_s: f64,
    /// Protocol and cipher that the client saw: both proxies must agree.
    pub(super) tls: String,
}

impl fmt::Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:>8.0} req/CPU-s  {:>7.0} req/s",
            self.req_per_cpu_s,
            self.requests as f64 / self.wall_s
        )
    }
}

/// Sends exactly `requests` requests; every one must be answered in full, or the run is an error.
pub(super) fn measure(case: &Case, target: Target, requests: u64, core: usize, host: &str) -> Result<Run> {
    let (connections, streams) = case.protocol.shape();
    let mut command = Command::new("taskset");
    command
        .args(["-c", &core.to_string()])
        .arg(workspace::need("h2load", workspace::SETUP_BENCH)?)
        .args(["--threads=1", "--tls13-ciphers=TLS_AES_128_GCM_SHA256"])
        .arg(format!("--requests={requests}"))
        .arg(format!("--max-concurrent-streams={streams}"))
        .arg(format!("--connect-to={}", target.address));
    if case.protocol.is_1() {
        command.arg("--h1");
    }
    match case.protocol {
        Protocol::H1New => command
            .arg(format!("--clients={requests}"))
            .arg(format!("--rate={NEW_PER_SECOND}")),
        _ => command.arg(format!("--clients={connections}")),
    };
    if case.content > 0 {
        let file = workspace::output("bench")?.join("content");
        let content = vec![b'c'; usize::try_from(case.content)?];
        fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
        command.arg("--data").arg(file);
    }
    command.arg(format!("https://{host}{}", case.path));

    let before = process::cpu_time(target.pid)?;
    let start = Instant::now();
    let output = process::output(&mut command, Duration::from_secs(120))?;
    let wall = start.elapsed();
    let cpu = process::cpu_time(target.pid)? - before;

    let text = String::from_utf8_lossy(&output.stdout);
    let report = Report::parse(&text)
        .with_context(|| format!("h2load said:\n{text}\n{}", String::from_utf8_lossy(&output.stderr)))?;
    if report.succeeded != requests || report.ok != requests || report.bytes < requests * case.bytes {
        bail!("{}: not every request was answered as it should:\n{text}", case.name);
    }
    if cpu.is_zero() {
        bail!("{}: {requests} requests are too few to measure", case.name);
    }
    Ok(Run {
        requests,
        cpu_s: cpu.as_secs_f64(),
        wall_s: wall.as_secs_f64(),
        req_per_cpu_s: requests as f64 / cpu.as_secs_f64(),
        tls: report.tls,
    })
}

/// What h2load prints at its end.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    succeeded: u64,
    /// Answers with a 2xx status.
    ok: u64,
    /// Bytes of bodies.
    bytes: u64,
    tls: String,
}

impl Report {
    fn parse(text: &str) -> Result<Self> {
        let line = |start: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(start))
                .with_context(|| format!("no line {start:?} in h2load's report"))
        };
        // `requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, …`
        let number = |line: &str, label: &str| -> Result<u64> {
            let part = line
                .split(',')
                .find_map(|part| part.trim().strip_suffix(label))
                .with_context(|| format!("no {label:?} in {line:?}"))?;
            Ok(part.trim().parse()?)
        };
        let traffic = line("traffic: ")?;
        // `traffic: 1.01MB (1059200) total, 33.20KB (34000) headers (space savings 0.00%),
        // 1000.00KB (1024000) data`
        let data = traffic
            .rsplit('(')
            .next()
            .and_then(|rest| rest.split(')').next())
            .unwrap_or_default();
        Ok(Self {
            succeeded: number(line("requests: ")?, "succeeded")?,
            ok: number(line("status codes: ")?, "2xx")?,
            bytes: data
                .parse()
                .with_context(|| format!("no bytes of data in {traffic:?}"))?,
            tls: format!("{} {}", line("TLS Protocol: ")?, line("Cipher: ")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_report_of_h2load_1_52() {
        let text = "TLS Protocol: TLSv1.3\nCipher: TLS_AES_128_GCM_SHA256\nServer Temp Key: X25519 253 bits\n\
            Application protocol: http/1.1\n\nfinished in 26.31ms, 38008.51 req/s, 38.39MB/s\n\
            requests: 1000 total, 1000 started, 1000 done, 999 succeeded, 1 failed, 0 errored, 0 timeout\n\
            status codes: 998 2xx, 0 3xx, 0 4xx, 2 5xx\n\
            traffic: 1.01MB (1059200) total, 33.20KB (34000) headers (space savings 0.00%), 1000.00KB (1024000) data\n";
        assert_eq!(
            Report::parse(text).unwrap(),
            Report {
                succeeded: 999,
                ok: 998,
                bytes: 1_024_000,
                tls: "TLSv1.3 TLS_AES_128_GCM_SHA256".to_owned()
            }
        );
        assert!(Report::parse("requests: none").is_err());
    }
}
