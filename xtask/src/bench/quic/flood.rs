//! The flood: two namespaces, an edge in one, newcomers and a flood of Initials in the other.
//! Everything ends with a turn.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::netns::{End, Netns, veth};
use edge_testbed::pins::Pins;
use edge_testbed::pki::{Authority, Files};
use edge_testbed::process::{self, Process};
use edge_testbed::test_run::{Program, verdict};
use serde::{Deserialize, Serialize};

use crate::bench::http::median;
use crate::bench::keyless::load;
use crate::bench::keyless::world::Plan;
use crate::bench::storm::world::{poller, station};
use crate::workspace;

const HOST: &str = "flood.example.test";
const TARGET: &str = "10.77.0.1:443";
const ADMIN: &str = "127.0.0.1:9180";
/// Newcomers a second: what one core of clients has time for beside the flood.
const GOOD_RATE: f64 = 50.0;
/// Initials a second where each begins a handshake: more than a core has time for.
const HANDSHAKES: f64 = 10_000.0;
const START: Duration = Duration::from_secs(20);

/// Figures of all turns.
#[derive(Serialize)]
pub(super) struct Flood {
    pub(super) cpu_s_per_million_initials_userspace: f64,
    pub(super) cpu_s_per_million_initials_xdp_retry: f64,
    pub(super) cpu_s_per_million_initials_no_lockdown: f64,
    pub(super) goodput_ratio_lockdown: f64,
    pub(super) goodput_ratio_lockdown_userspace: f64,
    pub(super) goodput_ratio_no_lockdown: f64,
    pub(super) initials_per_s: f64,
    turns: Vec<Turn>,
}

/// How an edge meets the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// Locked down, the kernel answers.
    Xdp,
    /// Locked down, without XDP.
    Userspace,
    /// Not locked down.
    Open,
}

#[derive(Serialize)]
struct Turn {
    way: Way,
    quiet: Window,
    flood: Window,
    cpu_s_per_million_initials: f64,
    goodput_ratio: f64,
}

#[derive(Serialize)]
struct Window {
    good: Counts,
    flood: Counts,
    /// Retries sent, by whoever sends them here; handshakes begun where nobody is to.
    answered: u64,
    server_cpu_s: f64,
    /// Of the thread that polls the edge's end of the veth pair.
    kernel_cpu_s: f64,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Counts {
    attempts: u64,
    ok: u64,
    unsent: u64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Window {
    fn cpu(&self) -> f64 {
        self.server_cpu_s + self.kernel_cpu_s
    }
}

/// All turns: one of each way, three where it is not quick.
pub(super) fn measure(plan: &Plan, rate: u32, quick: bool) -> Result<Flood> {
    let authority = Authority::new("Edge bench CA")?;
    let directory = plan.directory.join("flood");
    fs::create_dir_all(directory.join("www"))?;
    fs::write(directory.join("www/page"), vec![b'x'; 1 << 10])?;
    authority.write(&directory.join("ca.pem"))?;
    let leaf = authority.write_leaf(&directory, "leaf", &[HOST])?;
    let (rounds, seconds) = if quick { (1, 3.0) } else { (3, 6.0) };
    let mut turns = Vec::new();
    for round in 1..=rounds {
        for way in [Way::Xdp, Way::Userspace, Way::Open] {
            let turn = turn(plan, &directory, &leaf, way, f64::from(rate), seconds)?;
            println!(
                "{round}/{rounds} {way:?}: {:.0} Initials a second, {} answered, {:.2} CPU s per million, good clients \
                 {} of {} (quiet {} of {}), p99 {:.0} ms (quiet {:.0})",
                turn.flood.flood.attempts as f64 / turn.flood.flood.seconds,
                turn.flood.answered,
                turn.cpu_s_per_million_initials,
                turn.flood.good.ok,
                turn.flood.good.attempts,
                turn.quiet.good.ok,
                turn.quiet.good.attempts,
                turn.flood.good.p99_ms,
                turn.quiet.good.p99_ms,
            );
            turns.push(turn);
        }
    }
    let of =
        |way: Way, figure: fn(&Turn) -> f64| median(turns.iter().filter(|turn| turn.way == way).map(figure).collect());
    let cost = |way| of(way, |turn| turn.cpu_s_per_million_initials);
    let kept = |way| of(way, |turn| turn.goodput_ratio);
    Ok(Flood {
        cpu_s_per_million_initials_userspace: cost(Way::Userspace),
        cpu_s_per_million_initials_xdp_retry: cost(Way::Xdp),
        cpu_s_per_million_initials_no_lockdown: cost(Way::Open),
        goodput_ratio_lockdown: kept(Way::Xdp),
        goodput_ratio_lockdown_userspace: kept(Way::Userspace),
        goodput_ratio_no_lockdown: kept(Way::Open),
        initials_per_s: of(Way::Xdp, |turn| {
            turn.flood.flood.attempts as f64 / turn.flood.flood.seconds
        }),
        turns,
    })
}

fn turn(plan: &Plan, directory: &std::path::Path, leaf: &Files, way: Way, rate: f64, seconds: f64) -> Result<Turn> {
    let client = Netns::create("client")?;
    let inside = Netns::create("edge")?;
    // Names of this process's own: the threads that poll them carry them, and threads are the whole
    // machine's.
    let (interface, outside) = (format!("qf{}", std::process::id()), format!("qc{}", std::process::id()));
    let end = |netns, interface, addresses| End {
        netns,
        interface,
        addresses,
    };
    veth(
        &end(&client, &outside, &["10.77.0.2/16"]),
        &end(&inside, &interface, &["10.77.0.1/16"]),
    )?;
    client.ip(&["route", "add", "local", "10.77.2.0/24", "dev", &outside])?;
    // Where answers to addresses that are nobody's go: as far as the wire.
    inside.ip(&["route", "add", "198.18.0.0/15", "via", "10.77.0.2"])?;
    poller(&client, &outside, plan.load_core)?;
    // veth wakes the receiver of frames that a program sends back only where a program receives
    // them.
    let program = Program::bare(verdict::PASS)?;
    let at = client.index(&outside)?;
    let receiving = client
        .enter(|| program.attach(at))?
        .context("attaching a program that passes")?;
    let kernel = poller(&inside, &interface, plan.server_core)?;
    let pins = Pins::prepare("bench")?;
    let mut edge = edge(plan, directory, &inside, leaf, way, &interface, &pins)?;
    let address: SocketAddr = TARGET.parse()?;
    edge.wait_until("listening", START, || {
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        Ok(client.enter(connect)?.is_ok())
    })?;
    let world = World {
        plan,
        directory: directory.to_owned(),
        way,
        kernel,
        from: station(&client, &outside)?,
        to: station(&inside, &interface)?,
        edge,
        _receiving: receiving,
        outside,
        client,
        inside,
    };
    // Caches warm, addresses resolved.
    world.window(1.0, 0.0)?;
    let quiet = world.window(seconds, 0.0)?;
    ensure!(
        quiet.good.ok as f64 > 0.9 * quiet.good.attempts as f64,
        "only {} of {} newcomers are served before any flood:\n{}",
        quiet.good.ok,
        quiet.good.attempts,
        world.edge.tail()
    );
    if way != Way::Open {
        world.control("on")?;
    }
    let rate = if way == Way::Open { HANDSHAKES } else { rate };
    let flood = world.window(seconds, rate)?;
    let per_million = (flood.cpu() - quiet.cpu()).max(0.0) / flood.answered.max(1) as f64 * 1e6;
    Ok(Turn {
        way,
        cpu_s_per_million_initials: per_million,
        goodput_ratio: flood.good.ok as f64 / quiet.good.ok as f64,
        quiet,
        flood,
    })
}

fn edge(
    plan: &Plan,
    directory: &std::path::Path,
    netns: &Netns,
    leaf: &Files,
    way: Way,
    interface: &str,
    pins: &Pins,
) -> Result<Process> {
    let xdp = if way == Way::Userspace { "off" } else { "native" };
    let configuration = format!(
        r#"[server]
https = ["{TARGET}"]
workers = 1
[dataplane]
interfaces = ["{interface}"]
xdp = "{xdp}"
pin_directory = "{pins}"
[quic]
lockdown = "off"
[log]
access = false
[admin]
listen = "{ADMIN}"
[[zone]]
name = "flood"
hosts = ["{HOST}"]
certificate = "{certificate}"
key = "{key}"
[zone.origin]
directory = "{www}"
"#,
        pins = pins.path().display(),
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
        www = directory.join("www").display(),
    );
    let file = directory.join("edge.toml");
    fs::write(&file, configuration)?;
    let mut command = netns.command("taskset")?;
    command
        .args(["-c", &plan.server_core.to_string()])
        .arg(workspace::binary("edge", plan.profile))
        .args(["run", "--xdp", xdp, "--log-format", "json", "--config"])
        .arg(&file);
    Process::spawn(&mut command, &directory.join("edge.log"))
}

/// Dropped from first to last: the edge before its namespace.
struct World<'a> {
    plan: &'a Plan,
    directory: PathBuf,
    way: Way,
    edge: Process,
    /// The program on the loads' interface, while this is open.
    _receiving: OwnedFd,
    /// The thread that polls the edge's interface.
    kernel: u32,
    from: String,
    to: String,
    /// The interface of the loads.
    outside: String,
    client: Netns,
    inside: Netns,
}

impl World<'_> {
    /// Newcomers, and a flood if `rate` is not 0.
    fn window(&self, seconds: f64, rate: f64) -> Result<Window> {
        let distinct = if self.way == Way::Open { 40_000 } else { 16_384 };
        let mut flood = None;
        if rate > 0.0 {
            let mut load = self.load("flood", 5, seconds + 2.0, rate)?;
            load.arg(format!("distinct={distinct}"));
            load.args([
                format!("interface={}", self.outside),
                format!("from={}", self.from),
                format!("to={}", self.to),
            ]);
            let before = self.answered()?;
            let mut process = Process::spawn(&mut load, &self.directory.join("flood.log"))?;
            // Its frames are made before the first is sent.
            process.wait_until("the flood", START * 3, || Ok(self.answered()? > before + 100))?;
            flood = Some(process);
        }
        let mut good = Process::spawn(
            &mut self.load("good", -15, seconds, GOOD_RATE)?,
            &self.directory.join("good.log"),
        )?;
        let (answered, server, kernel) = (self.answered()?, self.server()?, self.kernel()?);
        let good = counts(&mut good, seconds)?;
        let (server, kernel) = (self.server()? - server, self.kernel()? - kernel);
        let answered = self.answered()? - answered;
        Ok(Window {
            good,
            flood: match flood {
                Some(mut flood) => counts(&mut flood, seconds)?,
                None => Counts::default(),
            },
            answered,
            server_cpu_s: server,
            kernel_cpu_s: kernel,
        })
    }

    fn load(&self, role: &str, nice: i32, seconds: f64, rate: f64) -> Result<std::process::Command> {
        // They share a core: what the good see must not be the wait for it.
        let mut command = self.client.command("taskset")?;
        command
            .args(["-c", &self.plan.load_core.to_string(), "nice", "-n", &nice.to_string()])
            .arg(workspace::binary("quic-load", self.plan.profile))
            .arg(role)
            .args([format!("target={TARGET}"), format!("host={HOST}")])
            .arg(format!("ca={}", self.directory.join("ca.pem").display()))
            .args(["source=10.77.2.1", "sources=100"])
            .args([format!("rate={rate}"), format!("seconds={seconds}")]);
        Ok(command)
    }

    fn server(&self) -> Result<f64> {
        Ok(process::cpu_time(self.edge.id())?.as_secs_f64())
    }

    fn kernel(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.kernel))?;
        Ok(text.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9)
    }

    /// Initials answered so far.
    fn answered(&self) -> Result<u64> {
        let mut curl = self.inside.command("curl")?;
        curl.args(["--silent", "--fail", &format!("http://{ADMIN}/metrics")]);
        let text = load::output(&mut curl)?;
        let metric = match self.way {
            Way::Xdp => "edge_dataplane_packets_total{verdict=\"answer\",reason=\"retry\"} ",
            Way::Userspace => "edge_quic_retries_total{by=\"daemon\"} ",
            Way::Open => "edge_quic_incoming_total ",
        };
        let value = text.lines().find_map(|line| line.strip_prefix(metric));
        Ok(value
            .with_context(|| format!("no metric {metric}"))?
            .trim()
            .parse::<f64>()? as u64)
    }

    fn control(&self, word: &str) -> Result<()> {
        let mut command = self.inside.command(workspace::binary("edge", self.plan.profile))?;
        command.args(["lockdown", word, "--admin", ADMIN]);
        load::output(&mut command).map(drop)
    }
}

fn counts(load: &mut Process, seconds: f64) -> Result<Counts> {
    let status = load.wait(Duration::from_secs_f64(seconds + 60.0))?;
    ensure!(status.success(), "the load failed ({status}): {}", load.tail());
    serde_json::from_str(load.log().trim()).with_context(|| format!("the load said {:?}", load.log()))
}
