//! One turn: two namespaces, a server in one, loads in the other, and three windows measured.
//! Everything ends with it.

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
use edge_testbed::test_run::{Program, Stats, verdict};
use serde::{Deserialize, Serialize};

use super::target::{Kind, Server};
use crate::workspace::{self, Profile};

pub(super) const HOST: &str = "storm.example.test";
const TARGET: &str = "10.77.0.1:443";
/// Requests per second of all good clients: half of what the rule leaves each of them.
pub(super) const GOOD_RATE: f64 = 100.0;
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
    /// SYNs per second, of retriers and of nobody.
    pub(super) flood: u32,
    pub(super) spoofed: u32,
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
    /// The same, with retries that the rule's burst served taken as rejected ones.
    cpu_s_per_million_with_served: f64,
    /// The first of the retries window alone: how a server rejects clients with TLS and all.
    cpu_s_per_million_rejected_retries_only: f64,
    /// Nanoseconds in edge's XDP program while nearly all that comes is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program_ns_per_drop: Option<f64>,
}

/// A span of time under one kind of load.
#[derive(Serialize)]
pub(super) struct Window {
    pub(super) good: Counts,
    retriers: Counts,
    pub(super) flood: Counts,
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
    pub(super) attempts: u64,
    ok: u64,
    rejected: u64,
    unanswered: u64,
    pub(super) seconds: f64,
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

    pub(super) fn cpu(&self) -> f64 {
        self.server_cpu_s + self.kernel_cpu_s
    }

    /// CPU seconds beyond the quiet window's, per million retries rejected: dropped, or told to
    /// wait. What the rule's burst served is no rejection; it is taken off at what a good client's
    /// request cost in the quiet window.
    fn cost(&self, quiet: &Self) -> f64 {
        let request = quiet.cpu() / quiet.good.ok.max(1) as f64;
        let rejecting = self.cpu() - quiet.cpu() - self.retriers.ok as f64 * request;
        rejecting.max(0.0) / (self.retriers.rejected + self.dropped).max(1) as f64 * 1e6
    }

    /// The same, with a retry that was served taken as one that was rejected.
    fn cost_with_served(&self, quiet: &Self) -> f64 {
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

/// What dropping a SYN costs when nothing is decided: a program of two instructions in edge's
/// place.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Path {
    pub(super) cpu_s_per_million_dropped: f64,
    /// Of which inside the program, where nearly all is the kernel's reading of the clock.
    pub(super) program_ns_per_drop: f64,
}

/// The two namespaces and what joins them.
pub(super) struct Ends {
    client: Netns,
    pub(super) inside: Netns,
    /// The interface of the loads, and that of the server.
    outside: String,
    interface: String,
    /// Their stations.
    from: String,
    to: String,
    /// The thread that polls the server's interface.
    kernel: u32,
}

impl Ends {
    fn make(plan: &Plan) -> Result<Self> {
        let client = Netns::create("client")?;
        let inside = Netns::create("edge")?;
        // Names of this process's own: the threads that poll them carry them, and threads are the
        // whole machine's.
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
        Ok(Self {
            kernel: poller(&inside, &interface, plan.server_core)?,
            from: station(&client, &outside)?,
            to: station(&inside, &interface)?,
            client,
            inside,
            outside,
            interface,
        })
    }

    fn load(&self, plan: &Plan, role: &str, seconds: f64) -> Result<Process> {
        // They share a core: what the good see must not be the wait for it. The flood waits by
        // looking at the clock, and takes what nobody else wants.
        let (nice, source, sources, rate) = match role {
            "good" => ("-15", "10.77.2.1", 100, GOOD_RATE),
            "retry" => ("5", "10.77.1.1", 50, 0.0),
            "spoofed" => ("10", "198.18.0.1", 1024, f64::from(plan.spoofed)),
            _ => ("10", "10.77.1.1", 50, f64::from(plan.flood)),
        };
        let mut command = self.client.command("taskset")?;
        command
            .args(["-c", &plan.load_core.to_string(), "nice", "-n", nice])
            .arg(workspace::binary("storm-load", Profile::Release))
            .arg(if role == "spoofed" { "flood" } else { role })
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

    /// Seconds of the thread that polls the server's interface.
    fn polled(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.kernel))?;
        let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
        Ok(nanoseconds / 1e9)
    }

    /// Frames that a program in the driver has dropped, as the driver counts them.
    fn driver_drops(&self) -> Result<u64> {
        self.driver("_xdp_drops:")
    }

    /// Frames that came in as XDP frames: those of floods.
    pub(super) fn received(&self) -> Result<u64> {
        self.driver("_xdp_packets:")
    }

    fn driver(&self, counter: &str) -> Result<u64> {
        let ethtool = workspace::need("ethtool", workspace::SETUP_BENCH)?;
        let mut ask = self.inside.command(ethtool)?;
        let output = process::output(ask.args(["-S", &self.interface]), Duration::from_secs(10))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let counts = text.lines().filter_map(|line| line.split_once(counter));
        counts.map(|(_, count)| Ok(count.trim().parse::<u64>()?)).sum()
    }
}

/// Measures the way to the program and back, without a server, without a decision.
pub(super) fn path(plan: &Plan) -> Result<Path> {
    let ends = Ends::make(plan)?;
    let program = Program::bare(verdict::DROP)?;
    let index = ends.inside.index(&ends.interface)?;
    let _link = ends
        .inside
        .enter(|| program.attach(index))?
        .context("attaching a program that drops")?;
    let flood = |seconds: f64| {
        let mut load = ends.load(plan, "flood", seconds)?;
        let status = load.wait(Duration::from_secs_f64(seconds + 15.0))?;
        ensure!(status.success(), "the flood failed ({status}): {}", load.tail());
        anyhow::Ok(())
    };
    flood(0.5)?;
    let (drops, polled) = (ends.driver_drops()?, ends.polled()?);
    flood(plan.seconds)?;
    let drops = ends.driver_drops()?.saturating_sub(drops).max(1);
    let polled = ends.polled()? - polled;
    Ok(Path {
        cpu_s_per_million_dropped: polled / drops as f64 * 1e6,
        program_ns_per_drop: counted(&program, || flood(plan.seconds / 2.0))?,
    })
}

/// Nanoseconds in a run of `program` while `load` lasts, by the kernel's own count. It costs time,
/// so nothing else is measured meanwhile.
fn counted(program: &Program, load: impl FnOnce() -> Result<()>) -> Result<f64> {
    let _stats = Stats::enable().context("having programs' time counted")?;
    let before = program.ran()?;
    load()?;
    let after = program.ran()?;
    let runs = after.runs.saturating_sub(before.runs).max(1);
    Ok(after.nanoseconds.saturating_sub(before.nanoseconds) as f64 / runs as f64)
}

/// Makes everything, measures, and takes everything down.
pub(super) fn turn(plan: &Plan, kind: Kind) -> Result<Turn> {
    let mut world = World::make(plan, kind)?;
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
    let program_ns_per_drop = match kind {
        Kind::Edge => Some(world.program()?),
        _ => None,
    };
    let retries_only = retries.cost(&quiet);
    let judged = if kind == Kind::LimitReq { &retries } else { &storm };
    let (cost, with_served) = (judged.cost(&quiet), judged.cost_with_served(&quiet));
    world.stop();
    Ok(Turn {
        kind,
        quiet,
        retries,
        storm,
        cpu_s_per_million_rejected: cost,
        cpu_s_per_million_with_served: with_served,
        cpu_s_per_million_rejected_retries_only: retries_only,
        program_ns_per_drop,
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
pub(super) struct World<'a> {
    plan: &'a Plan,
    pub(super) server: Server,
    pub(super) ends: Ends,
}

impl<'a> World<'a> {
    /// Both namespaces, and a server that takes connections.
    pub(super) fn make(plan: &'a Plan, kind: Kind) -> Result<Self> {
        let ends = Ends::make(plan)?;
        let address: SocketAddr = TARGET.parse()?;
        let mut server = Server::start(kind, plan, &ends.inside, &ends.interface, address)?;
        ready(&mut server, &ends.client, &ends.inside, address)?;
        Ok(Self { plan, server, ends })
    }

    pub(super) fn stop(mut self) {
        self.server.process.stop(STOP).ok();
    }

    pub(super) fn window(&mut self, roles: &[&'static str], seconds: f64) -> Result<Window> {
        let drops = self.server.drops(&self.ends.inside)?;
        let (server, kernel) = self.cpu()?;
        let mut loads: Vec<(&str, Process)> = roles
            .iter()
            .map(|role| Ok((*role, self.ends.load(self.plan, role, seconds)?)))
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
            dropped: self.server.drops(&self.ends.inside)?.saturating_sub(drops),
            server_cpu_s: server_after - server,
            kernel_cpu_s: kernel_after - kernel,
        })
    }

    /// Nanoseconds in the program for a packet of the storm, nearly all of which it drops.
    fn program(&mut self) -> Result<f64> {
        let text = self
            .ends
            .inside
            .ip(&["-json", "-details", "link", "show", "dev", &self.ends.interface])?;
        let link: serde_json::Value = serde_json::from_str(&text)?;
        let id = link.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64);
        let program = Program::by_id(u32::try_from(id.context("edge has no program there")?)?)?;
        let seconds = self.plan.seconds / 2.0;
        counted(&program, || self.window(&["retry", "flood"], seconds).map(drop))
    }

    /// Seconds of the server's processes, and of the thread that polls its interface.
    fn cpu(&self) -> Result<(f64, f64)> {
        Ok((
            process::cpu_time(self.server.process.id())?.as_secs_f64(),
            self.ends.polled()?,
        ))
    }
}

/// Makes a thread of its own poll this end of the veth pair, on the core of those behind it, and
/// gives its id. Otherwise the kernel would receive and drop packets in the time of the program
/// that sends them, and nobody could tell the two apart.
pub(in crate::bench) fn poller(netns: &Netns, interface: &str, core: usize) -> Result<u32> {
    let limit = Duration::from_secs(10);
    let ethtool = workspace::need("ethtool", workspace::SETUP_BENCH)?;
    let mut gro = netns.command(ethtool)?;
    // With GRO there is something to poll even without XDP, but only for what a peer without TSO
    // sends.
    let status = process::run(gro.args(["-K", interface, "gro", "on", "tso", "off"]), limit)?;
    ensure!(status.success(), "ethtool could not set {interface}");
    // A thread of the device that had this name before, in a namespace that is being taken down,
    // may still be there.
    let name = format!("napi/{interface}-");
    let before = kernel_threads(&name)?;
    let mut threaded = std::process::Command::new("ip");
    // In the /sys of that namespace, which only `ip netns exec` mounts.
    threaded.args(["netns", "exec", netns.name(), "sh", "-c"]);
    threaded.arg(format!("echo 1 > /sys/class/net/{interface}/threaded"));
    ensure!(
        process::run(&mut threaded, limit)?.success(),
        "this kernel has no threaded NAPI"
    );
    let mut threads = kernel_threads(&name)?;
    threads.retain(|thread| !before.contains(thread));
    let [thread] = threads[..] else {
        anyhow::bail!("{} threads poll {interface}, not one", threads.len());
    };
    let (core, id) = (core.to_string(), thread.to_string());
    // It does an interrupt's work, and should not wait for the server for long: its ring of 256
    // would overflow.
    for words in [["taskset", "-p", "-c", &core, &id], ["renice", "-n", "-10", "-p", &id]] {
        let [program, arguments @ ..] = words;
        let output = process::output(std::process::Command::new(program).args(arguments), limit)?;
        ensure!(
            output.status.success(),
            "{program} for the polling thread: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(thread)
}

/// Ids of the threads whose name begins so, of the whole machine.
fn kernel_threads(name: &str) -> Result<Vec<u32>> {
    Ok(fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name)))
        .collect())
}

pub(in crate::bench) fn station(netns: &Netns, interface: &str) -> Result<String> {
    let text = netns.ip(&["-o", "link", "show", "dev", interface])?;
    let (_, rest) = text
        .split_once("link/ether ")
        .context("an interface without an address")?;
    Ok(rest.split(' ').next().unwrap_or_default().to_owned())
}
