//! What `bench attack` runs: an origin, a far end, a node that is started anew for each attack, and
//! loads.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edge_testbed::pki::{Authority, Files};
use edge_testbed::process::{self, Process, free_address};
use serde::Deserialize;

use crate::bench::http::cores;
use crate::bench::nginx;
use crate::workspace::{self, Profile};

const DOMAIN: &str = "attack.example.test";
/// The attackers' zone, and that with a far end.
const VICTIM: &str = "victim.attack.example.test";
const DISTANT: &str = "distant.attack.example.test";
const FAR: &str = "far.example.test";
/// The attackers' address, and that of the good.
const BAD: &str = "127.0.0.66";
const GOOD: &str = "127.0.0.77";
const ZONES: usize = 20;
const START: Duration = Duration::from_secs(20);
/// How long loads may take beyond their time.
const SLACK: Duration = Duration::from_secs(30);

/// What stands in the attacked place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Edge,
    Nginx,
}

pub(super) struct World {
    directory: PathBuf,
    profile: Profile,
    load_core: usize,
    node_core: usize,
    leaf: Files,
    origin: SocketAddr,
    far: SocketAddr,
    _origin: Process,
    _far: Process,
}

/// A node that runs.
pub(super) struct Node {
    process: Process,
    address: SocketAddr,
}

/// A load that runs.
pub(super) struct Load(Process);

/// Good clients that run.
pub(super) struct GoodLoad(Load);

/// What good clients say.
#[derive(Debug, Deserialize)]
pub(super) struct Good {
    pub(super) failed: u64,
    pub(super) p99_ms: f64,
}

#[derive(Deserialize)]
struct Attacked {
    connections: u64,
}

impl World {
    pub(super) fn start(directory: &Path, profile: Profile) -> Result<Self> {
        let (load_core, node_core) = cores()?;
        let clients = Authority::new("Edge bench CA")?;
        clients.write(&directory.join("ca.pem"))?;
        let leaf = clients.write_leaf(directory, "leaf", &[&format!("*.{DOMAIN}")])?;
        let hop = Authority::new("Edge bench hop CA")?;
        hop.write(&directory.join("hop-ca.pem"))?;
        hop.write_leaf(directory, "far-end", &[FAR])?;
        hop.write_leaf(directory, "near-end", &["near.example.test"])?;
        let (origin, far) = (free_address()?, free_address()?);
        let mut command = load(profile, load_core, "origin");
        command.arg(format!("listen={origin}"));
        let mut origin_process = Process::spawn(&mut command, &directory.join("origin.log"))?;
        origin_process.wait_port(origin, START)?;
        fs::write(directory.join("far.toml"), far_file(far, origin, directory))?;
        let mut command = pinned(load_core, &workspace::binary("edge", profile));
        command.args(["far-end", "--config"]).arg(directory.join("far.toml"));
        let mut far_process = Process::spawn(&mut command, &directory.join("far.log"))?;
        far_process.wait_port(far, START)?;
        Ok(Self {
            directory: directory.to_owned(),
            profile,
            load_core,
            node_core,
            leaf,
            origin,
            far,
            _origin: origin_process,
            _far: far_process,
        })
    }

    /// A new node, or nginx in its place.
    pub(super) fn node(&self, side: Side) -> Result<Node> {
        let address = free_address()?;
        let process = match side {
            Side::Edge => {
                let file = self.directory.join("edge.toml");
                fs::write(&file, self.edge_file(address))?;
                let mut command = pinned(self.node_core, &workspace::binary("edge", self.profile));
                command
                    .args(["run", "--xdp", "off", "--log-format", "json", "--config"])
                    .arg(&file);
                let mut process = Process::spawn(&mut command, &self.directory.join("edge.log"))?;
                process.wait_port(address, START)?;
                process
            }
            Side::Nginx => {
                let prefix = self.directory.join("nginx");
                nginx::start(&prefix, &self.nginx_http(address), address, self.node_core)?
            }
        };
        Ok(Node { process, address })
    }

    /// Starts an attack of `connections` for `window`.
    pub(super) fn attack(&self, node: &Node, name: &str, connections: usize, window: Duration) -> Result<Load> {
        let host = if name.contains("-far-") { DISTANT } else { VICTIM };
        let mut command = self.load(node, name, BAD, window);
        command.args([format!("host={host}"), format!("connections={connections}")]);
        Ok(Load(Process::spawn(
            &mut command,
            &self.directory.join(format!("{name}.log")),
        )?))
    }

    /// Starts the good clients, for `window`.
    pub(super) fn good(&self, node: &Node, window: Duration) -> Result<GoodLoad> {
        let mut command = self.load(node, "good", GOOD, window);
        command.arg(format!("domain={DOMAIN}"));
        Ok(GoodLoad(Load(Process::spawn(
            &mut command,
            &self.directory.join("good.log"),
        )?)))
    }

    fn load(&self, node: &Node, role: &str, source: &str, window: Duration) -> Command {
        let mut command = load(self.profile, self.load_core, role);
        command.args([
            format!("target={}", node.address),
            format!("source={source}"),
            format!("ca={}", self.directory.join("ca.pem").display()),
            format!("seconds={}", window.as_secs_f64()),
        ]);
        command
    }

    fn zone(&self, name: &str, host: &str, more: &str) -> String {
        format!(
            "[[zone]]\nname = \"{name}\"\nhosts = [\"{host}\"]\ncertificate = \"{}\"\nkey = \"{}\"\n{more}\
             [zone.origin]\nservers = [{{ address = \"http://{}\" }}]\n",
            self.leaf.certificate.display(),
            self.leaf.key.display(),
            self.origin
        )
    }

    /// Default limits: that is what is measured.
    fn edge_file(&self, address: SocketAddr) -> String {
        let good: String = (0..ZONES)
            .map(|n| self.zone(&format!("good{n}"), &format!("good{n}.{DOMAIN}"), ""))
            .collect();
        let victim = self.zone("victim", VICTIM, "[zone.cache]\n");
        let distant = self.zone("distant", DISTANT, "delta = \"far\"\n");
        format!(
            r#"[server]
https = ["{address}"]
workers = 1
[dataplane]
xdp = "off"
[admin]
listen = "unix:{admin}"
[[far_end]]
name = "far"
servers = [{{ address = "https://{far}" }}]
server_name = "{FAR}"
ca = "hop-ca.pem"
certificate = "near-end.pem"
key = "near-end.key"
{victim}{distant}{good}"#,
            far = self.far,
            admin = self.directory.join("edge.sock").display(),
        )
    }

    /// nginx as Debian has it: TLS, both protocols, a proxy.
    fn nginx_http(&self, address: SocketAddr) -> String {
        format!(
            r#"access_log off;
    server {{
        listen {address} ssl http2;
        server_name *.{DOMAIN};
        ssl_certificate "{}";
        ssl_certificate_key "{}";
        ssl_protocols TLSv1.3;
        location / {{ proxy_pass http://{}; }}
    }}"#,
            self.leaf.certificate.display(),
            self.leaf.key.display(),
            self.origin
        )
    }
}

impl Node {
    /// Of all its processes.
    pub(super) fn memory_mb(&self) -> Result<f64> {
        let own = self.process.id();
        let mut bytes = process::resident_memory(own)?;
        for child in process::descendants(own) {
            bytes += process::resident_memory(child).unwrap_or(0);
        }
        Ok(bytes as f64 / f64::from(1 << 20))
    }

    /// The most it takes in `window`.
    pub(super) fn watch(&self, window: Duration) -> Result<f64> {
        let end = Instant::now() + window;
        let mut most: f64 = 0.0;
        while Instant::now() < end {
            most = most.max(self.memory_mb().context("the node is gone")?);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(most)
    }
}

impl Load {
    fn report<T: for<'a> Deserialize<'a>>(mut self, window: Duration) -> Result<T> {
        let status = self.0.wait(window + SLACK)?;
        let log = self.0.log();
        if !status.success() {
            bail!("a load failed:\n{}", self.0.tail());
        }
        let line = log.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("a load said {log:?}"))
    }

    /// Waits for its end; how many connections it had.
    pub(super) fn finish(self, window: Duration) -> Result<u64> {
        Ok(self.report::<Attacked>(window)?.connections)
    }
}

impl GoodLoad {
    /// Waits for its end.
    pub(super) fn finish(self, window: Duration) -> Result<Good> {
        self.0.report(window)
    }
}

fn load(profile: Profile, core: usize, role: &str) -> Command {
    let mut command = pinned(core, &workspace::binary("attack-load", profile));
    command.arg(role);
    command
}

fn pinned(core: usize, binary: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(binary);
    command
}

fn far_file(address: SocketAddr, origin: SocketAddr, directory: &Path) -> String {
    format!(
        r#"[server]
listen = ["{address}"]
certificate = "far-end.pem"
key = "far-end.key"
near_ends = "hop-ca.pem"
workers = 1
[store]
directory = "far-end-store"
[log]
format = "json"
access = false
[admin]
listen = "unix:{admin}"
[[zone]]
name = "distant"
hosts = ["{DISTANT}"]
[zone.origin]
servers = [{{ address = "http://{origin}" }}]
"#,
        admin = directory.join("far.sock").display()
    )
}
