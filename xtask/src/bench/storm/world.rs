//! One turn: two namespaces, a server in one, loads in the other, and three windows measured. Everything ends with it.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edge_testbed::interrupt;
use edge_testbed::netns::{End, Netns, veth};
use edge_testbed::pki::Files;
use edge_testbed::process::{self, Process};
use serde::{Deserialize, Serialize};

use super::target::{Kind, Server};
use crate::workspace::{self, Profile};

pub(super) const HOST: &str = "storm.example.test";
const TARGET: &str = "10.77.0.1:443";
/// Requests per second of all good clients: half of what the rule leaves each of them.
const GOOD_RATE: f64 = 100.0;
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// What stays the same over all turns.
pub(super) struct Plan {
    pub(super) directory: PathBuf,
    pub(super) leaf: Files,
    pub(super) ca: PathBuf,
    pub(super) load_core: usize,
    pub(super) server_core: usize,
    /// Of one window.
    pub(super) seconds: f64,
    /// SYNs per second.
    pub(super) flood: u32,
}

/// What one server did.
#[derive(Serialize)]
pub(super) struct Turn {
    #[serde(skip)]
    kind: Kind,
    pub(super) quiet: Window,
    pub(super) retries: Window,
    pub(super) storm: Window,
    pub(super) cpu_s_per_million_rejected: f64,
    /// The same of the retries window alone: how a server rejects clients with TLS and all.
    cpu_s_per_million_rejected_retries_only: f64,
}

/// A span of time under one kind of load.
#[derive(Serialize)]
pub(super) struct Window {
    pub(super) good: Counts,
    retriers: Counts,
    flood: Counts,
    /// SYNs dropped by the kernel.
    dropped: u64,
    server_cpu_s: f64,
    /// Of the thread that polls the server's end of the veth pair.
    kernel_cpu_s: f64,
}

/// What a load says of itself.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Counts {
    attempts: u64,
    ok: u64,
    rejected: u64,
    unanswered: u64,
    seconds: f64,
    p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Window {
    pub(super) fn goodput(&self) -> f64 {
        self.good.ok as f64 / self.good.seconds
    }

    pub(super) fn offered_per_s(&self) -> f64 {
        (self.retriers.attempts + self.flood.attempts) as f64 / self.good.seconds
    }

    fn cpu(&self) -> f64 {
        self.server_cpu_s + self.kernel_cpu_s
    }

    /// CPU seconds beyond the quiet window's, per million retries dealt with: dropped, told to wait, or served within the
    /// rule's burst. A retry served and one told 429 cost nearly the same, which is the handshake.
    fn cost(&self, quiet: &Self) -> f64 {
        let retries = (self.retriers.ok + self.retriers.rejected + self.dropped).max(1) as f64;
        (self.cpu() - quiet.cpu()).max(0.0) / retries * 1e6
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:<16} quiet {:>5.1} req/s, storm {:>5.1} req/s, p99 {:>6.1} and {:>6.1} ms, {:>8.0} retries/s offered, \
             rejected {} by 429, {} SYNs dropped, CPU {:.2} s",
            self.kind.name(),
            self.quiet.goodput(),
            self.storm.goodput(),
            self.quiet.good.p99_ms,
            self.storm.good.p99_ms,
            self.storm.offered_per_s(),
            self.retries.retriers.rejected + self.storm.retriers.rejected,
            self.retries.dropped + self.storm.dropped,
            self.retries.cpu() + self.storm.cpu(),
        )
    }
}

/// Makes everything, measures, and takes everything down.
pub(super) fn turn(plan: &Plan, kind: Kind) -> Result<Turn> {
    let client = Netns::create("client")?;
    let inside = Netns::create("edge")?;
    // Names of this process's own: the threads that poll them carry them, and threads are the whole machine's.
    let interface = format!("st{}", std::process::id());
    let outside = format!("sc{}", std::process::id());
    let end = |netns, interface, address| End {
        netns,
        interface,
        addresses: address,
    };
    veth(
        &end(&client, &outside, &["10.77.0.2/16"]),
        &end(&inside, &interface, &["10.77.0.1/16"]),
    )?;
    for network in ["10.77.1.0/24", "10.77.2.0/24"] {
        client.ip(&["route", "add", "local", network, "dev", &outside])?;
    }
    poller(&client, &outside, plan.load_core)?;
    let kernel = poller(&inside, &interface, plan.server_core)?;
    let address: SocketAddr = TARGET.parse()?;
    let mut server = Server::start(kind, plan, &inside, &interface, address)?;
    ready(&mut server, &client, &inside, address)?;
    let mut world = World {
        plan,
        kernel,
        from: station(&client, &outside)?,
        to: station(&inside, &interface)?,
        server,
        outside,
        client,
        inside,
    };
    // Caches warm, addresses resolved.
    world.window(&["good"], 1.0)?;
    let quiet = world.window(&["good"], plan.seconds)?;
    ensure!(
        quiet.goodput() > 0.9 * GOOD_RATE,
        "{}: only {:.1} of {GOOD_RATE} requests per second are answered before any storm:\n{}",
        kind.name(),
        quiet.goodput(),
        world.server.process.tail()
    );
    let retries = world.window(&["good", "retry"], plan.seconds)?;
    let storm = world.window(&["good", "retry", "flood"], plan.seconds)?;
    let retries_only = retries.cost(&quiet);
    let cost = if kind == Kind::LimitReq {
        retries_only
    } else {
        storm.cost(&quiet)
    };
    world.server.process.stop(STOP).ok();
    Ok(Turn {
        kind,
        quiet,
        retries,
        storm,
        cpu_s_per_million_rejected: cost,
        cpu_s_per_million_rejected_retries_only: retries_only,
    })
}

/// Waits until it takes connections and its drops can be asked for.
fn ready(server: &mut Server, client: &Netns, inside: &Netns, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START;
    server.process.wait_until("listening", START, || {
        let connection = client.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)))?;
        Ok(connection.is_ok())
    })?;
    // edge's admin endpoint opens after its listeners.
    while let Err(error) = server.drops(inside) {
        ensure!(
            Instant::now() < deadline && !interrupt::requested(),
            "no counters: {error:#}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Dropped from first to last: the server before its namespace.
struct World<'a> {
    plan: &'a Plan,
    server: Server,
    /// The thread that polls the server's interface.
    kernel: u32,
    from: String,
    to: String,
    /// The interface of the loads.
    outside: String,
    client: Netns,
    inside: Netns,
}

impl World<'_> {
    fn window(&mut self, roles: &[&'static str], seconds: f64) -> Result<Window> {
        let drops = self.server.drops(&self.inside)?;
        let (server, kernel) = self.cpu()?;
        let mut loads: Vec<(&str, Process)> = roles
            .iter()
            .map(|role| Ok((*role, self.load(role, seconds)?)))
            .collect::<Result<_>>()?;
        let (mut good, mut retriers, mut flood) = (Counts::default(), Counts::default(), Counts::default());
        for (role, load) in &mut loads {
            let status = load.wait(Duration::from_secs_f64(seconds + 15.0))?;
            ensure!(status.success(), "the {role} load failed ({status}): {}", load.tail());
            let counts = serde_json::from_str(load.log().trim())
                .with_context(|| format!("the {role} load said {:?}", load.log()))?;
            match *role {
                "good" => good = counts,
                "retry" => retriers = counts,
                _ => flood = counts,
            }
        }
        let (server_after, kernel_after) = self.cpu()?;
        Ok(Window {
            good,
            retriers,
            flood,
            dropped: self.server.drops(&self.inside)?.saturating_sub(drops),
            server_cpu_s: server_after - server,
            kernel_cpu_s: kernel_after - kernel,
        })
    }

    fn load(&self, role: &str, seconds: f64) -> Result<Process> {
        let plan = self.plan;
        // They share a core: what the good see must not be the wait for it.
        let (nice, source, sources, rate) = match role {
            "good" => ("-15", "10.77.2.1", 100, GOOD_RATE),
            "retry" => ("10", "10.77.1.1", 50, 0.0),
            _ => ("5", "10.77.1.1", 50, f64::from(plan.flood)),
        };
        let mut command = self.client.command("taskset")?;
        command
            .args(["-c", &plan.load_core.to_string(), "nice", "-n", nice])
            .arg(workspace::binary("storm-load", Profile::Release))
            .arg(role)
            .args([format!("target={TARGET}"), format!("host={HOST}")])
            .arg(format!("ca={}", plan.ca.display()))
            .args([format!("source={source}"), format!("sources={sources}")])
            .args([format!("rate={rate}"), format!("seconds={seconds}")])
            .args([
                format!("interface={}", self.outside),
                format!("from={}", self.from),
                format!("to={}", self.to),
            ]);
        Process::spawn(&mut command, &plan.directory.join(format!("{role}.log")))
    }

    /// Seconds of the server's processes, and of the thread that polls its interface.
    fn cpu(&self) -> Result<(f64, f64)> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.kernel))?;
        let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
        Ok((
            process::cpu_time(self.server.process.id())?.as_secs_f64(),
            nanoseconds / 1e9,
        ))
    }
}

/// Makes a thread of its own poll this end of the veth pair, on the core of those behind it, and gives its id. Otherwise the
/// kernel would receive and drop packets in the time of the program that sends them, and nobody could tell the two apart.
fn poller(netns: &Netns, interface: &str, core: usize) -> Result<u32> {
    let limit = Duration::from_secs(10);
    let ethtool = workspace::need("ethtool", workspace::SETUP_BENCH)?;
    let mut gro = netns.command(ethtool)?;
    // With GRO there is something to poll even without XDP, but only for what a peer without TSO sends.
    let status = process::run(gro.args(["-K", interface, "gro", "on", "tso", "off"]), limit)?;
    ensure!(status.success(), "ethtool could not set {interface}");
    let mut threaded = std::process::Command::new("ip");
    // In the /sys of that namespace, which only `ip netns exec` mounts.
    threaded.args(["netns", "exec", netns.name(), "sh", "-c"]);
    threaded.arg(format!("echo 1 > /sys/class/net/{interface}/threaded"));
    ensure!(
        process::run(&mut threaded, limit)?.success(),
        "this kernel has no threaded NAPI"
    );
    let name = format!("napi/{interface}-");
    let threads: Vec<u32> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(&name)))
        .collect();
    let [thread] = threads[..] else {
        anyhow::bail!("{} threads poll {interface}, not one", threads.len());
    };
    let mut pin = std::process::Command::new("taskset");
    pin.args(["-p", "-c", &core.to_string(), &thread.to_string()]);
    let output = process::output(&mut pin, limit)?;
    ensure!(
        output.status.success(),
        "pinning the polling thread: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(thread)
}

fn station(netns: &Netns, interface: &str) -> Result<String> {
    let text = netns.ip(&["-o", "link", "show", "dev", interface])?;
    let (_, rest) = text
        .split_once("link/ether ")
        .context("an interface without an address")?;
    Ok(rest.split(' ').next().unwrap_or_default().to_owned())
}
