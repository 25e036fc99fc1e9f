//! What is measured: an edge with local and remote keys, nginx with the same certificates, the key
//! server, and relays that put it farther away.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edge_testbed::keys::Keys;
use edge_testbed::pki::{self, Authority};
use edge_testbed::process::{self, Process, free_address};

use super::Inflight;
use super::load::{self, Run, Shake};
use crate::bench::nginx;
use crate::workspace::{self, Profile};

const START: Duration = Duration::from_secs(20);
/// Clients at once while CPU is measured.
const PARALLEL: usize = 32;
/// Where keys are: here, and at the key server, with so many milliseconds one way.
const PLACES: [(&str, Option<f64>); 5] = [
    ("local", None),
    ("keys0", Some(0.0)),
    ("keys10", Some(5.0)),
    ("keys50", Some(25.0)),
    ("slow", Some(500.0)),
];

/// Where and with what; of this bench and of `quic`'s.
pub(in crate::bench) struct Plan {
    pub(in crate::bench) directory: PathBuf,
    pub(in crate::bench) load_core: usize,
    pub(in crate::bench) server_core: usize,
    pub(in crate::bench) profile: Profile,
}

impl Plan {
    /// A key server with `keys`, which say that it listens at `address`.
    pub(in crate::bench) fn keyserver(&self, keys: &Keys, address: SocketAddr) -> Result<Process> {
        let mut command = pinned(self.load_core, &workspace::binary("edge-keyserver", self.profile));
        command
            .args(["run", "--log-format", "json", "--config"])
            .arg(keys.configuration());
        self.listening(&mut command, "keyserver", address)
    }

    /// A relay at `address` that puts `to` so many milliseconds farther away, one way.
    pub(in crate::bench) fn relay(
        &self,
        name: &str,
        address: SocketAddr,
        to: SocketAddr,
        delay: f64,
    ) -> Result<Process> {
        let mut command = pinned(self.load_core, &workspace::binary("tls-load", self.profile));
        command
            .arg("relay")
            .args([format!("listen={address}"), format!("to={to}")])
            .arg(format!("delay_ms={delay}"));
        self.listening(&mut command, name, address)
    }

    /// An edge of this configuration, which says that it listens at `address`.
    pub(in crate::bench) fn edge(&self, configuration: &str, address: SocketAddr) -> Result<Process> {
        let file = self.directory.join("edge.toml");
        fs::write(&file, configuration)?;
        let mut command = pinned(self.server_core, &workspace::binary("edge", self.profile));
        command
            .args(["run", "--no-xdp", "--log-format", "json", "--config"])
            .arg(file);
        self.listening(&mut command, "edge", address)
    }

    fn listening(&self, command: &mut Command, name: &str, address: SocketAddr) -> Result<Process> {
        let mut process = Process::spawn(command, &self.directory.join(name).with_extension("log"))?;
        process.wait_port(address, START)?;
        Ok(process)
    }
}

/// Everything that runs; ended with it.
pub(super) struct World {
    edge: Process,
    nginx: Process,
    keyserver: Process,
    _relays: Vec<Process>,
    edge_address: SocketAddr,
    nginx_address: SocketAddr,
    /// Where edges find the key server: itself, and the relays before it.
    ways: Vec<(&'static str, SocketAddr)>,
    directory: PathBuf,
    load_core: usize,
    load: PathBuf,
    keyserver_binary: PathBuf,
}

pub(in crate::bench) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

fn host(place: &str, key: &str) -> String {
    format!("{place}-{key}.example.test")
}

impl World {
    pub(super) fn start(plan: &Plan) -> Result<Self> {
        let directory = plan.directory.clone();
        let load = workspace::binary("tls-load", plan.profile);
        let keyserver_binary = workspace::binary("edge-keyserver", plan.profile);
        let keyserver_address = free_address()?;
        let authority = Authority::new("Edge bench CA")?;
        authority.write(&directory.join("ca.pem"))?;
        let keys = Keys::prepare(&directory.join("keyserver"), &authority, keyserver_address)?;
        let certificates = certificates(&directory, &authority, &keys)?;

        let keyserver = plan.keyserver(&keys, keyserver_address)?;

        let (mut relays, mut ways, mut entries) = (Vec::new(), Vec::new(), String::new());
        for (place, delay) in PLACES {
            let mut address = keyserver_address;
            match delay {
                None => continue,
                Some(0.0) => {}
                Some(delay) => {
                    address = free_address()?;
                    relays.push(plan.relay(place, address, keyserver_address, delay)?);
                }
            }
            ways.push((place, address));
            entries += &keys.entry(place, address);
        }

        let edge_address = free_address()?;
        let edge = edge(plan, edge_address, &entries, &certificates)?;
        let nginx_address = free_address()?;
        let nginx = nginx_server(plan, nginx_address, &certificates)?;
        Ok(Self {
            edge,
            nginx,
            keyserver,
            _relays: relays,
            edge_address,
            nginx_address,
            ways,
            directory,
            load_core: plan.load_core,
            load,
            keyserver_binary,
        })
    }

    /// Handshakes with the edge whose key is at `place`; the load's word, and handshakes per
    /// CPU-second of the edge.
    pub(super) fn edge(&self, shake: &Shake, place: &str, count: usize) -> Result<(Run, f64)> {
        self.measure(self.edge_address, self.edge.id(), shake, place, count)
    }

    /// The same with nginx.
    pub(super) fn nginx(&self, shake: &Shake, count: usize) -> Result<(Run, f64)> {
        self.measure(self.nginx_address, self.nginx.id(), shake, "local", count)
    }

    fn measure(&self, address: SocketAddr, pid: u32, shake: &Shake, place: &str, count: usize) -> Result<(Run, f64)> {
        let before = process::cpu_time(pid)?;
        let run = Run::parse(&load::output(&mut self.shake(address, shake, place, count, PARALLEL))?)?;
        let cpu = process::cpu_time(pid)? - before;
        ensure!(!cpu.is_zero(), "{count} handshakes are too few to measure");
        let rate = run.ok as f64 / cpu.as_secs_f64();
        Ok((run, rate))
    }

    /// Median milliseconds of one handshake at a time.
    pub(super) fn latency(&self, shake: &Shake, place: &str, count: usize) -> Result<f64> {
        let mut command = self.shake(self.edge_address, shake, place, count, 1);
        Ok(Run::parse(&load::output(&mut command)?)?.p50_ms)
    }

    fn shake(&self, address: SocketAddr, shake: &Shake, place: &str, count: usize, parallel: usize) -> Command {
        let mut command = pinned(self.load_core, &self.load);
        command
            .arg("shake")
            .arg(format!("target={address}"))
            .arg(format!("host={}", host(place, shake.key)))
            .arg(format!("ca={}", self.directory.join("ca.pem").display()))
            .arg(format!("version={}", shake.version))
            .arg(format!("group={}", shake.group))
            .arg(format!("resume={}", u8::from(shake.resume)))
            .arg(format!("count={count}"))
            .arg(format!("parallel={parallel}"));
        command
    }

    /// So many at once, while the key server is a second away; what it takes of the edge.
    pub(super) fn flood(&mut self, n: usize) -> Result<Inflight> {
        let shake = Shake {
            version: "1.3",
            key: "p256",
            group: "x25519",
            resume: false,
        };
        let pid = self.edge.id();
        let megabytes = || Ok::<_, anyhow::Error>(process::resident_memory(pid)? as f64 / 1e6);
        let (threads_idle, rss_idle_mb) = (threads(pid)?, megabytes()?);
        let mut command = self.shake(self.edge_address, &shake, "slow", n, n);
        let mut load = Process::spawn(&mut command, &self.directory.join("flood.log"))?;
        let (mut threads_peak, mut rss_peak_mb) = (threads_idle, rss_idle_mb);
        let (start, ended) = (Instant::now(), AtomicBool::new(false));
        let this = &*self;
        let waiting_peak = std::thread::scope(|scope| {
            // By itself: the edge is busy, and its metrics take their turn with the handshakes.
            let waiting = scope.spawn(|| waiting_peak(&this.directory, this.load_core, &ended));
            let watched = (|| {
                while load.ended()?.is_none() {
                    ensure!(start.elapsed() < Duration::from_secs(120), "the flood does not end");
                    threads_peak = threads_peak.max(threads(pid)?);
                    rss_peak_mb = rss_peak_mb.max(megabytes()?);
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            })();
            ended.store(true, Relaxed);
            let peak = waiting
                .join()
                .map_err(|_| anyhow::anyhow!("the metrics' reader panicked"));
            watched.and(peak?)
        })?;
        let run = Run::parse(&load.log())?;
        // The stacks are given back within a few seconds.
        std::thread::sleep(Duration::from_secs(11));
        Ok(Inflight {
            n,
            ok: run.ok,
            threads_idle,
            threads_peak,
            rss_idle_mb,
            rss_peak_mb,
            rss_after_mb: megabytes()?,
            waiting_peak,
            seconds: run.seconds,
        })
    }

    /// Median milliseconds of one ping of the key server at a time, by the way of `place`.
    pub(super) fn ping(&self, place: &str, count: usize) -> Result<f64> {
        let mut command = self.client("ping", place)?;
        Ok(Run::parse(&load::output(command.arg(format!("count={count}")))?)?.p50_ms)
    }

    /// A client of the key server, with the edge's certificate.
    fn client(&self, role: &str, place: &str) -> Result<Command> {
        let way = self.ways.iter().find(|(name, _)| *name == place);
        let (_, address) = way.with_context(|| format!("no way to {place}"))?;
        let file = |name: &str| self.directory.join("keyserver").join(name).display().to_string();
        let mut command = pinned(self.load_core, &self.load);
        command
            .arg(role)
            .arg(format!("target={address}"))
            .arg(format!("host={}", edge_testbed::keys::NAME))
            .arg(format!("ca={}", file("ca.pem")))
            .arg(format!("certificate={}", file("edge.pem")))
            .arg(format!("key={}", file("edge.key")));
        Ok(command)
    }

    /// P-256 signatures per CPU-second of the key server, asked for on one connection without a
    /// pause.
    pub(super) fn signatures(&self, count: usize) -> Result<f64> {
        let mut list = Command::new(&self.keyserver_binary);
        list.args(["list", "--config"])
            .arg(self.directory.join("keyserver/keyserver.toml"));
        let listed = load::output(&mut list)?;
        let id = listed
            .lines()
            .find_map(|line| line.strip_prefix("p256\t")?.rsplit('\t').next())
            .context("the key server has no key p256")?
            .to_owned();
        let mut command = self.client("sign", "keys0")?;
        command
            .arg(format!("id={id}"))
            .arg(format!("count={count}"))
            .arg("window=256");
        let before = process::cpu_time(self.keyserver.id())?;
        let run = Run::parse(&load::output(&mut command)?)?;
        let cpu = process::cpu_time(self.keyserver.id())? - before;
        Ok(run.ok as f64 / cpu.as_secs_f64())
    }
}

/// The most handshakes that waited at once until `ended`, by the metric of the edge whose admin
/// socket is in `directory`.
///
/// # Errors
/// The metric could not be read once.
pub(in crate::bench) fn waiting_peak(directory: &Path, load_core: usize, ended: &AtomicBool) -> Result<usize> {
    let mut peak = None;
    let mut wrong = None;
    while !ended.load(Relaxed) {
        match waiting(directory, load_core) {
            Ok(now) => peak = peak.max(Some(now)),
            Err(error) => wrong = Some(error),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    match (peak, wrong) {
        (Some(peak), _) => Ok(peak),
        (None, Some(error)) => Err(error.context("how many handshakes wait could not be read once")),
        (None, None) => anyhow::bail!("the load ended before the first look at how many handshakes wait"),
    }
}

/// Handshakes that wait now.
fn waiting(directory: &Path, load_core: usize) -> Result<usize> {
    let mut curl = pinned(load_core, &workspace::need("curl", workspace::SETUP_BENCH)?);
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "20",
        "--unix-socket",
    ])
    .arg(directory.join("admin.sock"))
    // The admin endpoint answers to addresses and to this name, and to no other.
    .arg("http://localhost/metrics");
    let text = load::output(&mut curl)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("edge_tls_handshakes_waiting "));
    Ok(line.context("no such metric")?.trim().parse()?)
}

pub(in crate::bench) fn threads(pid: u32) -> Result<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Threads:"));
    Ok(line.context("no Threads in /proc/PID/status")?.trim().parse()?)
}

/// Certificates of both kinds for every place: their kind, chain and key. The keys go to the key
/// server too.
fn certificates(directory: &Path, authority: &Authority, keys: &Keys) -> Result<Vec<(&'static str, PathBuf, PathBuf)>> {
    let mut files = Vec::new();
    for kind in ["p256", "rsa"] {
        let hosts: Vec<String> = PLACES.iter().map(|(place, _)| host(place, kind)).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (certificate, key) = if kind == "rsa" {
            let mut openssl = Command::new(workspace::need("openssl", workspace::SETUP_BENCH)?);
            openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
            authority.leaf_with(&hosts, &load::output(&mut openssl)?)?
        } else {
            authority.leaf(&hosts)?
        };
        let chain = directory.join(kind).with_extension("pem");
        fs::write(&chain, certificate)?;
        let file = directory.join(kind).with_extension("key");
        pki::write_key(&file, &key)?;
        keys.add(kind, &key)?;
        files.push((kind, chain, file));
    }
    Ok(files)
}

fn edge(
    plan: &Plan,
    address: SocketAddr,
    key_servers: &str,
    certificates: &[(&str, PathBuf, PathBuf)],
) -> Result<Process> {
    let directory = &plan.directory;
    let mut zones = String::new();
    for (kind, chain, key) in certificates {
        for (place, delay) in PLACES {
            let way = match delay {
                None => format!("key = \"{}\"", key.display()),
                Some(_) => format!("key_servers = [\"{place}\"]"),
            };
            zones += &format!(
                "[[zone]]\nname = \"{place}-{kind}\"\nhosts = [\"{}\"]\ncertificate = \"{}\"\n{way}\n\
                 [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:9\" }}]\n",
                host(place, kind),
                chain.display()
            );
        }
    }
    let configuration = format!(
        r#"[server]
https = ["{address}"]
workers = 1
[dataplane]
xdp = "off"
[tls]
# Ten thousand handshakes of one address share one core.
handshake_timeout = "60s"
key_server_timeout = "30s"
handshakes_waiting = 20000
handshakes_waiting_per_address = 20000
[limits]
connections_per_address = 65536
[log]
access = false
[admin]
listen = "unix:{admin}"
{key_servers}{zones}"#,
        admin = directory.join("admin.sock").display(),
    );
    plan.edge(&configuration, address)
}

/// nginx in its best reasonable shape for handshakes: the suites and the curve that the load has,
/// one ticket as edge sends.
fn nginx_server(plan: &Plan, address: SocketAddr, certificates: &[(&str, PathBuf, PathBuf)]) -> Result<Process> {
    let servers: String = certificates
        .iter()
        .map(|(kind, chain, key)| {
            format!(
                "server {{ listen {address} ssl; server_name {}; ssl_certificate \"{}\"; \
                 ssl_certificate_key \"{}\"; return 204; }}\n",
                host("local", kind),
                chain.display(),
                key.display()
            )
        })
        .collect();
    let http = format!(
        "access_log off;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_conf_command NumTickets 1;
    ssl_ecdh_curve X25519;
    ssl_session_cache off;
    ssl_session_tickets on;
    {servers}"
    );
    nginx::start(&plan.directory.join("nginx"), &http, address, plan.server_core)
}
