//! What runs: clients and an edge in namespaces of their own, XDP between them, and on the edge's
//! side a key server, a far end, an origin, and a small disk for the node's state and cache.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edge_testbed::keys::Keys;
use edge_testbed::netns::{End, Netns, veth};
use edge_testbed::pins::Pins;
use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process};
use edge_testbed::test_run::{Program, verdict};
use rustix::process::Signal;

use super::level::sum;
use crate::workspace::{self, Profile};

/// The edge's interface.
pub(super) const EDGE_INTERFACE: &str = "edge0";
const CLIENT_INTERFACE: &str = "client0";
const ADDRESS: &str = "10.79.0.1";
const CLIENT: &str = "10.79.0.2";
/// Visitors of the gated zone, whose address gets penalties.
const GUEST: &str = "10.79.0.3";
const ORIGIN: &str = "127.0.0.1:8080";
const FAR_END: &str = "127.0.0.1:8443";
const FAR_NAME: &str = "far.soak.test";
const KEYSERVER: &str = "127.0.0.1:9443";
/// Zones that cannot answer without their origin.
pub(super) const ORIGIN_ZONES: [&str; 5] = ["plain", "keys", "cached", "delta", "script"];
const LOCAL: [&str; 7] = ["plain", "cached", "delta", "script", "rust", "files", "gated"];
/// The first start compiles workers.
const START: Duration = Duration::from_secs(240);
/// How long what was undone may take to work again.
const RECOVERY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(40);
/// The disk: 256 MiB of cache, and room for state.
const DISK: &str = "size=320m,mode=0700";

/// A process of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The daemon.
    Edge,
    /// The key server.
    KeyServer,
    /// The far end.
    FarEnd,
    /// The origin.
    Origin,
}

/// Everything; ended with it, the daemon first.
pub(super) struct World {
    edge: Option<Process>,
    far_end: Option<Process>,
    origin: Option<Process>,
    keyserver: Option<Process>,
    _pins: Pins,
    _receiver: OwnedFd,
    disk: Disk,
    client: Netns,
    inside: Netns,
    directory: PathBuf,
    profile: Profile,
    authority: Authority,
    keys: Keys,
    configuration: String,
    /// Starts, rotations and reloads, each of which has a number.
    turns: u32,
}

/// A file system in memory that can be full.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        // What an earlier run that crashed has left.
        let _ = process::output(Command::new("umount").arg("--lazy").arg(&path), STOP)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", DISK, "edge-soak"]).arg(&path);
        workspace::run(&mut command)?;
        Ok(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = process::output(Command::new("umount").arg("--lazy").arg(&self.0), STOP);
    }
}

impl World {
    /// Starts all of it, and sees every zone answer.
    pub(super) fn start(directory: &Path, profile: Profile) -> Result<Self> {
        let client = Netns::create("client")?;
        let inside = Netns::create("edge")?;
        veth(
            &End {
                netns: &client,
                interface: CLIENT_INTERFACE,
                addresses: &[&format!("{CLIENT}/24"), &format!("{GUEST}/24")],
            },
            &End {
                netns: &inside,
                interface: EDGE_INTERFACE,
                addresses: &[&format!("{ADDRESS}/24")],
            },
        )?;
        // Answers to spoofed packets have a way, as on a node with a default route.
        inside.ip(&["route", "add", "default", "via", CLIENT])?;
        // What the edge's program sends back (XDP_TX) arrives only where a program is.
        let index = client.index(CLIENT_INTERFACE)?;
        let receiver = client.enter(|| Program::bare(verdict::PASS)?.attach(index))??;
        let pins = Pins::prepare("bench")?;
        let disk = Disk::mount(directory.join("disk"))?;
        let authority = Authority::new("Edge soak CA")?;
        authority.write(&directory.join("ca.pem"))?;
        let keys = Keys::prepare(&directory.join("keyserver"), &authority, KEYSERVER.parse()?)?;
        let entry = keys.entry("keys", KEYSERVER.parse()?);
        let configuration = configuration(&pins.path().to_string_lossy(), directory, &disk.0) + &entry;
        let mut world = Self {
            edge: None,
            far_end: None,
            origin: None,
            keyserver: None,
            _pins: pins,
            _receiver: receiver,
            disk,
            client,
            inside,
            directory: directory.to_owned(),
            profile,
            authority,
            keys,
            configuration,
            turns: 0,
        };
        world.write_files()?;
        for role in [Role::Origin, Role::KeyServer, Role::FarEnd, Role::Edge] {
            world.begin(role)?;
        }
        world.answered()?;
        Ok(world)
    }

    fn write_files(&mut self) -> Result<()> {
        let directory = self.directory.clone();
        for zone in LOCAL {
            let mut hosts = vec![format!("{zone}.soak.test")];
            if zone == "script" {
                // By this name the worker in Rust asks it.
                hosts.push("greeter.example".to_owned());
            }
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            self.authority.write_leaf(&directory, zone, &hosts)?;
        }
        self.new_remote_key()?;
        let hop = Authority::new("Edge soak hop CA")?;
        hop.write(&directory.join("hop-ca.pem"))?;
        hop.write_leaf(&directory, "far-end", &[FAR_NAME])?;
        hop.write_leaf(&directory, "near-end", &["near.soak.test"])?;
        fs::write(directory.join("far-end.toml"), far_end(&directory))?;
        let front = workspace::root().join("target/workers/front.wasm");
        fs::copy(&front, directory.join("front.wasm"))
            .with_context(|| format!("{}: run `cargo xtask build-workers`", front.display()))?;
        self.write_script()?;
        fs::create_dir_all(directory.join("www"))?;
        let mut files = Command::new(self.load());
        files
            .arg("files")
            .arg(format!("directory={}", directory.join("www").display()));
        workspace::run(&mut files)?;
        fs::write(directory.join("edge.toml"), &self.configuration)?;
        Ok(())
    }

    /// The worker, other code each time.
    fn write_script(&self) -> Result<()> {
        let script = fs::read_to_string(workspace::root().join("tests/workers/scripts/soak.js"))?;
        replace(&self.directory.join("soak.js"), &format!("{script}// {}\n", self.turns))
    }

    /// A new key at the key server and its certificate here.
    fn new_remote_key(&self) -> Result<()> {
        let (certificate, key) = self.authority.leaf(&["keys.soak.test"])?;
        self.keys.add(&format!("zone-{}", self.turns), &key)?;
        replace(&self.directory.join("keys.pem"), &certificate)
    }

    fn load(&self) -> PathBuf {
        workspace::binary("soak-load", self.profile)
    }

    /// Where the node's state and cache are.
    pub(super) fn disk(&self) -> &Path {
        &self.disk.0
    }

    /// The daemon's process.
    pub(super) fn edge_id(&self) -> u32 {
        self.edge.as_ref().map_or(0, Process::id)
    }

    /// Visitors at the edge for that long, of all zones or of some; those of the gated zone have an
    /// address of their own.
    pub(super) fn visitors(&self, name: &str, count: u32, zones: &str, lasts: Duration, seed: u64) -> Result<Visitors> {
        let all = "plain,keys,cached,delta,script,rust,files,gated";
        let wanted = if zones.is_empty() { all } else { zones };
        let (gated, others): (Vec<&str>, Vec<&str>) = wanted.split(',').partition(|zone| *zone == "gated");
        let mut processes = Vec::new();
        for (zones, source, count) in [(others, CLIENT, count), (gated, GUEST, count.div_ceil(8))] {
            if zones.is_empty() {
                continue;
            }
            let mut command = self.client.command(self.load())?;
            command
                .arg("visit")
                .args([
                    format!("target={ADDRESS}:443"),
                    format!("source={source}"),
                    format!("zones={}", zones.join(",")),
                    format!("seconds={}", lasts.as_secs()),
                    format!("visitors={count}"),
                    format!("seed={seed}"),
                    format!("pause_ms={}", if source == GUEST { 400 } else { 20 }),
                ])
                .arg(format!("ca={}", self.directory.join("ca.pem").display()));
            let log = self.directory.join(format!("{name}-{source}.log"));
            processes.push(Process::spawn(&mut command, &log)?);
        }
        Ok(Visitors(processes))
    }

    /// Starts a role that does not run.
    pub(super) fn begin(&mut self, role: Role) -> Result<()> {
        self.turns += 1;
        let log = |name: &str| self.directory.join(format!("{name}-{}.log", self.turns));
        match role {
            Role::Origin => {
                let mut command = self.inside.command(self.load())?;
                command.arg("origin").arg(format!("listen={ORIGIN}"));
                let mut process = Process::spawn(&mut command, &log("origin"))?;
                process.wait_line("listening", START)?;
                self.origin = Some(process);
            }
            Role::KeyServer => {
                let binary = workspace::binary("edge-keyserver", self.profile);
                let mut command = self.inside.command(binary)?;
                command.args(["run", "--log-format", "json", "--config"]);
                command.arg(self.keys.configuration());
                let mut process = Process::spawn(&mut command, &log("keyserver"))?;
                let (address, inside): (SocketAddr, _) = (KEYSERVER.parse()?, &self.inside);
                process.wait_until("key server", START, || {
                    inside.enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)))??;
                    Ok(true)
                })?;
                self.keyserver = Some(process);
            }
            Role::FarEnd => {
                let mut command = self.inside.command(self.binary())?;
                command
                    .args(["far-end", "--config"])
                    .arg(self.directory.join("far-end.toml"));
                let mut process = Process::spawn(&mut command, &log("far-end"))?;
                process.wait_line("serving near ends", START)?;
                self.far_end = Some(process);
            }
            Role::Edge => {
                let mut command = self.inside.command(self.binary())?;
                command.args(["run", "--log-format", "json", "--config"]);
                command.arg(self.directory.join("edge.toml"));
                let mut process = Process::spawn(&mut command, &log("edge"))?;
                process.wait_line("\"serving\"", START)?;
                self.edge = Some(process);
            }
        }
        Ok(())
    }

    fn binary(&self) -> PathBuf {
        workspace::binary("edge", self.profile)
    }

    fn role(&mut self, role: Role) -> &mut Option<Process> {
        match role {
            Role::Edge => &mut self.edge,
            Role::KeyServer => &mut self.keyserver,
            Role::FarEnd => &mut self.far_end,
            Role::Origin => &mut self.origin,
        }
    }

    /// Kills a role without a warning.
    pub(super) fn end(&mut self, role: Role) -> Result<()> {
        self.role(role).take().context("it does not run")?.kill()
    }

    /// Kills and starts anew.
    pub(super) fn kill(&mut self, role: Role) -> Result<()> {
        self.end(role)?;
        self.begin(role)
    }

    /// Stops a role for a while, as a machine does that is out of memory.
    pub(super) fn stall(&mut self, role: Role, for_a_while: &mut dyn FnMut()) -> Result<()> {
        let process = self.role(role).as_ref().context("it does not run")?;
        process.signal(Signal::STOP)?;
        for_a_while();
        process.signal(Signal::CONT)
    }

    /// A successor beside a daemon that drains.
    pub(super) fn restart(&mut self) -> Result<()> {
        let mut old = self.edge.take().context("it does not run")?;
        old.signal(Signal::TERM)?;
        self.begin(Role::Edge)?;
        let status = old.wait(STOP)?;
        ensure!(status.success(), "the old daemon ended with {status}:\n{}", old.tail());
        Ok(())
    }

    /// The edge's end of the link, or the clients', down or up.
    pub(super) fn link(&self, edge: bool, up: bool) -> Result<()> {
        let (netns, interface) = match edge {
            true => (&self.inside, EDGE_INTERFACE),
            false => (&self.client, CLIENT_INTERFACE),
        };
        netns.ip(&["link", "set", interface, if up { "up" } else { "down" }])?;
        if edge && up {
            // It went with the interface.
            netns.ip(&["route", "replace", "default", "via", CLIENT])?;
        }
        Ok(())
    }

    /// New certificates with new keys.
    pub(super) fn rotate(&mut self) -> Result<()> {
        self.turns += 1;
        self.authority
            .write_leaf(&self.directory, "plain", &["plain.soak.test"])?;
        self.new_remote_key()?;
        // The key server looks for keys five times a second.
        std::thread::sleep(Duration::from_secs(1));
        self.hang_up("taken")
    }

    /// A changed limit and a changed worker.
    pub(super) fn reload(&mut self) -> Result<()> {
        self.turns += 1;
        let limits = format!("idle_timeout = \"{}s\"", 60 + self.turns % 30);
        let text = self.configuration.replace("idle_timeout = \"75s\"", &limits);
        ensure!(text.contains(&limits), "the configuration has no such line");
        replace(&self.directory.join("edge.toml"), &text)?;
        self.write_script()?;
        self.hang_up("taken")
    }

    /// A configuration that cannot be, then the one that was.
    pub(super) fn reload_bad(&mut self) -> Result<()> {
        let path = self.directory.join("edge.toml");
        let before = fs::read_to_string(&path)?;
        replace(&path, &before.replace("[limits]", "[limits]\nno_such_key = 1"))?;
        self.hang_up("refused")?;
        replace(&path, &before)
    }

    /// SIGHUP, and the count of reloads that came out so.
    fn hang_up(&mut self, outcome: &str) -> Result<()> {
        let count = |world: &Self| -> Result<f64> {
            let metrics = world.metrics()?;
            let line = metrics
                .lines()
                .filter(|line| line.contains(&format!("outcome=\"{outcome}\"")))
                .collect::<Vec<_>>()
                .join("\n");
            Ok(sum(&line, "edge_config_reloads_total"))
        };
        let before = count(self)?;
        let edge = self.edge.as_ref().context("no daemon")?;
        edge.signal(Signal::HUP)?;
        let start = Instant::now();
        while count(self)? <= before {
            ensure!(start.elapsed() < RECOVERY, "no reload was {outcome}:\n{}", edge.tail());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// A flood out of the clients' interface; how many packets.
    pub(super) fn flood(&mut self, kind: &str, rate: f64, seconds: f64) -> Result<String> {
        let station = |netns: &Netns, interface: &str| -> Result<String> {
            let text = netns.ip(&["-o", "link", "show", "dev", interface])?;
            let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
            Ok(words.nth(1).context("an interface without an address")?.to_owned())
        };
        let mut command = self.client.command(self.load())?;
        command.arg("flood").args([
            format!("kind={kind}"),
            format!("rate={rate}"),
            format!("seconds={seconds}"),
            format!("interface={CLIENT_INTERFACE}"),
            format!("from={}", station(&self.client, CLIENT_INTERFACE)?),
            format!("to={}", station(&self.inside, EDGE_INTERFACE)?),
            format!("target={ADDRESS}:443"),
        ]);
        let output = process::output(&mut command, RECOVERY)?;
        ensure!(
            output.status.success(),
            "the flood: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.answered()?;
        Ok(format!(" {}", String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// A control command of the running daemon.
    pub(super) fn command(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(self.binary());
        command.args(words).arg("--admin").arg(self.admin());
        let output = process::output(&mut command, RECOVERY)?;
        if !output.status.success() {
            bail!("edge {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn admin(&self) -> String {
        format!("unix:{}", self.directory.join("admin.sock").display())
    }

    /// What `/metrics` says.
    pub(super) fn metrics(&self) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--unix-socket",
        ])
        .arg(self.directory.join("admin.sock"))
        .arg("http://localhost/metrics");
        let output = process::output(&mut curl, RECOVERY)?;
        ensure!(
            output.status.success(),
            "/metrics: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until every zone answers a client of its own that comes for the first time.
    pub(super) fn answered(&mut self) -> Result<()> {
        let mut paths = vec![("rust", "/greet/x"), ("script", "/greet/x"), ("files", "/1.txt")];
        paths.extend([
            ("plain", "/data/1/100"),
            ("keys", "/data/1/100"),
            ("cached", "/kept/1/100"),
        ]);
        paths.push(("delta", "/changing/1/100"));
        let Self {
            edge: Some(edge),
            client,
            directory,
            ..
        } = self
        else {
            bail!("no daemon runs");
        };
        for (zone, path) in paths {
            let host = format!("{zone}.soak.test");
            edge.wait_until(&format!("answer for {host}"), RECOVERY, || {
                let mut curl = client.command("curl")?;
                curl.args([
                    "--silent",
                    "--show-error",
                    "--fail",
                    "--max-time",
                    "10",
                    "--output",
                    "/dev/null",
                ])
                .args(["--resolve", &format!("{host}:443:{ADDRESS}"), "--interface", CLIENT])
                .arg("--cacert")
                .arg(directory.join("ca.pem"))
                .arg(format!("https://{host}{path}"));
                let output = process::output(&mut curl, Duration::from_secs(15))?;
                if !output.status.success() {
                    bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// That every role still runs.
    ///
    /// # Errors
    /// One has ended by itself; the end of its log.
    pub(super) fn check(&mut self) -> Result<()> {
        for role in [Role::Edge, Role::KeyServer, Role::FarEnd, Role::Origin] {
            let Some(process) = self.role(role) else {
                bail!("{role:?} does not run");
            };
            if let Some(status) = process.ended()? {
                bail!("{role:?} ended by itself ({status}):\n{}", process.tail());
            }
        }
        Ok(())
    }
}

/// Visitors under way.
pub(super) struct Visitors(Vec<Process>);

impl Visitors {
    /// Waits for their end.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<()> {
        for process in &mut self.0 {
            let status = process.wait(patience)?;
            ensure!(
                status.success(),
                "the visitors ended with {status}:\n{}",
                process.tail()
            );
        }
        Ok(())
    }

    /// What each of them printed.
    pub(super) fn logs(&self) -> Vec<String> {
        self.0.iter().map(Process::log).collect()
    }
}

/// Writes a file in one step: a reload sees the old one or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, text)?;
    fs::rename(&next, path).with_context(|| format!("replacing {}", path.display()))
}

fn configuration(pins: &str, directory: &Path, disk: &Path) -> String {
    let mut text = format!(
        r#"# Written by `cargo xtask soak`.
[server]
https = ["0.0.0.0:443"]
workers = 2
drain = "20s"
[dataplane]
interfaces = ["{EDGE_INTERFACE}"]
xdp = "native"
pin_directory = "{pins}"
[tls]
key_server_timeout = "5s"
[limits]
idle_timeout = "75s"
[quic]
lockdown_hold = "3s"
[admin]
listen = "unix:{directory}/admin.sock"
[gate]
state_directory = "{disk}/gate"
[cache]
memory = "8MiB"
disk = "256MiB"
directory = "{disk}/cache"
[coding]
memory = "8MiB"
[delta]
memory = "8MiB"
[isolate]
instances = 60
state_directory = "{disk}/workers"
[log]
access = false
[[far_end]]
name = "beside"
servers = [{{ address = "https://{FAR_END}" }}]
server_name = "{FAR_NAME}"
ca = "hop-ca.pem"
certificate = "near-end.pem"
key = "near-end.key"
passive = {{ failures = 5, cooldown = "1s", status = [] }}
"#,
        directory = directory.display(),
        disk = disk.display(),
    );
    let origin = format!(
        "[zone.origin]\nservers = [{{ address = \"http://{ORIGIN}\" }}]\nresponse_timeout = \"10s\"\n\
         passive = {{ failures = 5, cooldown = \"1s\" }}\n"
    );
    let gate = "[zone.gate]\nstrike_base = \"2s\"\nstrike_cap = \"4s\"\nforgive = \"10s\"\n[[zone.gate.rule]]\n\
                rate = { requests = 120, per = \"1m\", burst = 10 }\n";
    let files = "[zone.origin]\ndirectory = \"www\"\n";
    for (zone, more) in [
        ("plain", origin.clone()),
        ("keys", origin.clone()),
        ("cached", format!("{origin}[zone.cache]\n[zone.coding]\n")),
        ("delta", origin.clone()),
        (
            "script",
            format!("{origin}[zone.worker]\nfile = \"soak.js\"\n[zone.worker.keyvalue]\n"),
        ),
        (
            "rust",
            "[zone.worker]\nfile = \"front.wasm\"\nzones = [\"script\"]\n".to_owned(),
        ),
        ("files", files.to_owned()),
        ("gated", format!("{files}{gate}")),
    ] {
        let host = match zone {
            "script" => "\"script.soak.test\", \"greeter.example\"".to_owned(),
            _ => format!("\"{zone}.soak.test\""),
        };
        let key = match zone {
            "keys" => "key_servers = [\"keys\"]".to_owned(),
            _ => format!("key = \"{zone}.key\""),
        };
        let delta = if zone == "delta" { "delta = \"beside\"\n" } else { "" };
        text += &format!(
            "[[zone]]\nname = \"{zone}\"\nhosts = [{host}]\ncertificate = \"{zone}.pem\"\n{key}\n{delta}{more}"
        );
    }
    text
}

fn far_end(directory: &Path) -> String {
    format!(
        r#"# Written by `cargo xtask soak`.
[server]
listen = ["{FAR_END}"]
certificate = "far-end.pem"
key = "far-end.key"
near_ends = "hop-ca.pem"
[store]
directory = "far-end"
[admin]
listen = "unix:{directory}/far-end.sock"
[[zone]]
name = "delta"
hosts = ["delta.soak.test"]
[zone.origin]
servers = [{{ address = "http://{ORIGIN}" }}]
"#,
        directory = directory.display(),
    )
}
