//! What is measured on loopback: an edge with local and remote keys before an origin, Caddy before
//! the same origin, the key server, and relays that put it farther away.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edge_testbed::keys::Keys;
use edge_testbed::pki::{Authority, Files};
use edge_testbed::process::{self, Process, free_address};
use serde::{Deserialize, Serialize};

use super::peer;
use crate::bench::keyless::load;
use crate::bench::keyless::world::{Plan, pinned, threads, waiting_peak};
use crate::bench::load::{Case, Protocol, Target};
use crate::bench::nginx;
use crate::workspace;

/// Handshakes at once while CPU is measured.
const PARALLEL: u64 = 32;
/// Bytes of the large answer: 100 MB.
pub(super) const LARGE: u64 = 100_000_000;
/// Where keys are: here, and at the key server, with so many milliseconds one way.
const PLACES: [(&str, Option<f64>); 4] = [
    ("local", None),
    ("keys0", Some(0.0)),
    ("keys50", Some(25.0)),
    ("slow", Some(1200.0)),
];

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Edge,
    Caddy,
}

/// Of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    H2,
    H3,
}

/// One measured window.
pub(super) struct Run {
    count: u64,
    cpu: Duration,
    /// By the clock on the wall.
    pub(super) per_second: f64,
}

impl Run {
    pub(super) fn per_cpu_second(&self) -> f64 {
        self.count as f64 / self.cpu.as_secs_f64()
    }
}

/// Many handshakes that wait at once.
#[derive(Serialize)]
pub(super) struct Crowd {
    pub(super) n: usize,
    pub(super) ok: usize,
    threads_idle: usize,
    pub(super) threads_peak: usize,
    pub(super) rss_idle_mb: f64,
    pub(super) rss_peak_mb: f64,
    /// Waiting for the key server at one moment, by the edge's own metric.
    pub(super) waiting_peak: usize,
    pub(super) seconds: f64,
}

/// What `quic-load` says.
#[derive(Deserialize)]
struct Said {
    ok: usize,
    failed: usize,
    error: Option<String>,
    seconds: f64,
    #[serde(default)]
    max_ms: f64,
}

/// Everything that runs; ended with it.
pub(super) struct World {
    edge: Process,
    caddy: Process,
    _others: Vec<Process>,
    edge_address: SocketAddr,
    caddy_address: SocketAddr,
    directory: PathBuf,
    load_core: usize,
    load: PathBuf,
}

fn host(place: &str) -> String {
    format!("{place}.example.test")
}

impl World {
    pub(super) fn start(plan: &Plan) -> Result<Self> {
        let directory = plan.directory.clone();
        let authority = Authority::new("Edge bench CA")?;
        authority.write(&directory.join("ca.pem"))?;
        let hosts = PLACES.map(|(place, _)| host(place));
        let leaf = authority.write_leaf(&directory, "leaf", &hosts.each_ref().map(String::as_str))?;
        let (mut others, entries) = key_servers(plan, &authority, &leaf)?;

        let www = directory.join("www");
        fs::create_dir_all(&www)?;
        fs::write(www.join("1k"), vec![b'x'; 1 << 10])?;
        // A file without blocks: the origin sends zeros of it as fast as of any.
        fs::File::create(www.join("100m"))?.set_len(LARGE)?;
        let origin = free_address()?;
        others.push(nginx::origin(&directory.join("origin"), origin, &www, plan.load_core)?);

        let edge_address = free_address()?;
        let edge = edge(plan, edge_address, origin, &entries, &leaf)?;
        let caddy_address = free_address()?;
        let mut command = Command::new("taskset");
        command.args(["-c", &plan.server_core.to_string()]);
        let prefix = directory.join("caddy");
        let caddy = peer::proxy(command, &prefix, caddy_address, &host("local"), &leaf, origin)?;
        Ok(Self {
            edge,
            caddy,
            _others: others,
            edge_address,
            caddy_address,
            directory,
            load_core: plan.load_core,
            load: workspace::binary("quic-load", plan.profile),
        })
    }

    fn target(&self, server: Server) -> Target {
        let (address, process) = match server {
            Server::Edge => (self.edge_address, &self.edge),
            Server::Caddy => (self.caddy_address, &self.caddy),
        };
        Target {
            address,
            pid: process.id(),
        }
    }

    fn command(&self, role: &str, server: Server, place: &str) -> Command {
        let mut command = pinned(self.load_core, &self.load);
        command
            .arg(role)
            .arg(format!("target={}", self.target(server).address))
            .arg(format!("host={}", host(place)))
            .arg(format!("ca={}", self.directory.join("ca.pem").display()));
        command
    }

    fn measure(&self, server: Server, command: &mut Command, count: u64) -> Result<Run> {
        let pid = self.target(server).pid;
        let before = process::cpu_time(pid)?;
        let said = said(&load::output(command)?)?;
        let cpu = process::cpu_time(pid)? - before;
        ensure!(!cpu.is_zero(), "{count} are too few to measure");
        Ok(Run {
            count,
            cpu,
            per_second: said.ok as f64 / said.seconds,
        })
    }

    /// Full handshakes with a server whose key is at `place`.
    pub(super) fn handshakes(&self, server: Server, place: &str, count: u64) -> Result<Run> {
        let mut command = self.command("shake", server, place);
        command.args([format!("count={count}"), format!("parallel={PARALLEL}")]);
        self.measure(server, &mut command, count)
    }

    /// Milliseconds until the last of `count` keyless handshakes, begun at once, is over.
    pub(super) fn burst(&self, count: usize) -> Result<f64> {
        let mut command = self.command("shake", Server::Edge, "keys50");
        command.args([format!("count={count}"), format!("parallel={count}")]);
        let said = said(&load::output(&mut command)?)?;
        // From the first hello, also for those whose turn to begin came later.
        Ok((said.seconds * 1e3).max(said.max_ms))
    }

    /// Answers of `bytes` bytes each.
    pub(super) fn requests(
        &self,
        server: Server,
        version: Version,
        path: &'static str,
        bytes: u64,
        count: u64,
    ) -> Result<Run> {
        let (connections, streams) = if bytes == LARGE { (1, 1) } else { (4, 8) };
        match version {
            Version::H3 => {
                let mut command = self.command("requests", server, "local");
                command
                    .args([
                        format!("path={path}"),
                        format!("bytes={bytes}"),
                        format!("count={count}"),
                    ])
                    .args([format!("connections={connections}"), format!("streams={streams}")]);
                self.measure(server, &mut command, count)
            }
            Version::H2 => {
                let case = Case {
                    name: "h2",
                    protocol: if connections == 1 {
                        Protocol::H2Single
                    } else {
                        Protocol::H2
                    },
                    path,
                    bytes,
                    content: 0,
                };
                let run =
                    crate::bench::load::measure(&case, self.target(server), count, self.load_core, &host("local"))?;
                Ok(Run {
                    count,
                    cpu: Duration::from_secs_f64(run.cpu_s),
                    per_second: count as f64 / run.wall_s,
                })
            }
        }
    }

    /// So many handshakes at once, while the key server is seconds away; what it takes of the edge.
    pub(super) fn crowd(&mut self, n: usize) -> Result<Crowd> {
        let pid = self.edge.id();
        let megabytes = || Ok::<_, anyhow::Error>(process::resident_memory(pid)? as f64 / 1e6);
        let (threads_idle, rss_idle_mb) = (threads(pid)?, megabytes()?);
        let mut command = self.command("shake", Server::Edge, "slow");
        command.args([format!("count={n}"), format!("parallel={n}")]);
        let mut load = Process::spawn(&mut command, &self.directory.join("crowd.log"))?;
        let (mut threads_peak, mut rss_peak_mb) = (threads_idle, rss_idle_mb);
        let (start, ended) = (Instant::now(), AtomicBool::new(false));
        let this = &*self;
        let waiting_peak = std::thread::scope(|scope| {
            // By itself: the edge is busy, and its metrics take their turn with the handshakes.
            let waiting = scope.spawn(|| waiting_peak(&this.directory, this.load_core, &ended));
            let watched = (|| {
                while load.ended()?.is_none() {
                    ensure!(start.elapsed() < Duration::from_secs(150), "the crowd does not end");
                    threads_peak = threads_peak.max(threads(pid)?);
                    rss_peak_mb = rss_peak_mb.max(megabytes()?);
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(())
            })();
            ended.store(true, Relaxed);
            let peak = waiting
                .join()
                .map_err(|_| anyhow::anyhow!("the metrics' reader panicked"));
            watched.and(peak?)
        })?;
        let said = said(&load.log())?;
        Ok(Crowd {
            n,
            ok: said.ok,
            threads_idle,
            threads_peak,
            rss_idle_mb,
            rss_peak_mb,
            waiting_peak,
            seconds: said.seconds,
        })
    }
}

fn said(output: &str) -> Result<Said> {
    let said: Said = serde_json::from_str(output.trim()).with_context(|| format!("the load said {output:?}"))?;
    ensure!(
        said.failed == 0,
        "{} failed, one by: {}",
        said.failed,
        said.error.unwrap_or_default()
    );
    Ok(said)
}

/// The key server with the leaf's key, relays before it, and the edge's entries for all of them.
fn key_servers(plan: &Plan, authority: &Authority, leaf: &Files) -> Result<(Vec<Process>, String)> {
    let directory = &plan.directory;
    let listen = free_address()?;
    let keys = Keys::prepare(&directory.join("keyserver"), authority, listen)?;
    keys.add("p256", &fs::read_to_string(&leaf.key)?)?;
    let (mut processes, mut entries) = (vec![plan.keyserver(&keys, listen)?], String::new());
    for (place, delay) in PLACES {
        let mut address = listen;
        match delay {
            None => continue,
            Some(0.0) => {}
            Some(delay) => {
                address = free_address()?;
                processes.push(plan.relay(place, address, listen, delay)?);
            }
        }
        entries += &keys.entry(place, address);
    }
    Ok((processes, entries))
}

fn edge(plan: &Plan, address: SocketAddr, origin: SocketAddr, key_servers: &str, leaf: &Files) -> Result<Process> {
    let directory = &plan.directory;
    let zones: String = PLACES
        .map(|(place, delay)| {
            let way = match delay {
                None => format!("key = \"{}\"", leaf.key.display()),
                Some(_) => format!("key_servers = [\"{place}\"]"),
            };
            format!(
                "[[zone]]\nname = \"{place}\"\nhosts = [\"{}\"]\ncertificate = \"{}\"\n{way}\n\
                 [zone.origin]\nservers = [{{ address = \"http://{origin}\" }}]\n",
                host(place),
                leaf.certificate.display()
            )
        })
        .concat();
    let configuration = format!(
        r#"[server]
https = ["{address}"]
workers = 1
[dataplane]
xdp = "off"
[quic]
lockdown = "off"
[tls]
# Thousands of handshakes of one address share one core.
handshake_timeout = "60s"
key_server_timeout = "30s"
handshakes_waiting = 20000
handshakes_waiting_per_address = 20000
[limits]
connections_per_address = 65536
# As Caddy in its place: a connection is never ended for having been used a lot.
requests_per_connection = 0
[log]
access = false
[admin]
listen = "unix:{admin}"
{key_servers}{zones}"#,
        admin = directory.join("admin.sock").display(),
    );
    plan.edge(&configuration, address)
}
