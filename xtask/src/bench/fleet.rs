//! `cargo xtask bench fleet`: real nodes, and simulated ones that run the daemon's own agent, on
//! one engine on loopback. How long a deployment, a purge with its proof and a penalty take until
//! they hold on every node, and a new node with a thousand zones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edge_testbed::fleet::{Bed, HOST, nats_server, until};
use edge_testbed::process::{self, Process};
use serde::Deserialize;
use serde_json::json;

use crate::workspace::{self, Profile};

const REAL: [&str; 3] = ["a", "b", "c"];
const PATIENCE: Duration = Duration::from_secs(120);
/// Zones of the manifest that a new node takes.
const ZONES: usize = 1_000;

/// Deployments, purges and penalties on many nodes at once.
///
/// Writes target/bench/fleet.json.
#[derive(clap::Args)]
pub(crate) struct BenchFleet {
    /// Fewer nodes and rounds: a smoke run
    #[arg(long)]
    quick: bool,
    /// Simulated nodes beside the three real ones
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build
    #[arg(long)]
    dev: bool,
    /// Where fleet.json goes instead of target/bench
    #[arg(long)]
    output: Option<PathBuf>,
}

/// The last word of the simulated nodes.
#[derive(Clone, Copy, Default, Deserialize)]
struct Heard {
    lowest: u64,
    fetched: u64,
    connected: usize,
}

fn heard(load: &Process) -> Heard {
    let log = load.log();
    // The last line may be half written.
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    lines.next().unwrap_or_default()
}

/// Measures.
pub(crate) fn run(options: &BenchFleet) -> Result<()> {
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    if !options.no_build {
        workspace::prepare(&[workspace::SETUP_TEST, workspace::BUILD_JS])?;
        workspace::build_binaries(profile)?;
        let mut build = vec![
            "build",
            "-p",
            "edge-testbed",
            "--features",
            "fleet",
            "--bin",
            "fleet-load",
        ];
        if profile == Profile::Release {
            build.push("--release");
        }
        workspace::cargo(&build)?;
    }
    let server = nats_server(&workspace::root());
    if !server.exists() {
        bail!("{} is missing: `cargo xtask setup test` installs it", server.display());
    }
    let (agents, rounds) = if options.quick {
        (options.agents.min(50), 5)
    } else {
        (options.agents, 20)
    };
    let output = match &options.output {
        Some(output) => output.clone(),
        None => workspace::output("bench")?,
    };
    fs::create_dir_all(&output)?;
    let directory = workspace::output("bench-fleet")?;
    fs::remove_dir_all(&directory)?;
    fs::create_dir_all(&directory)?;
    let mut bed = Bed::start(&directory, &workspace::binary("edge", profile), &server)?;
    for name in REAL {
        bed.add(name)?;
    }
    // A thousand nodes would sync one disk a thousand times at once: theirs are in memory.
    let state = Scratch::new(&directory)?;
    let load = start_load(&bed, &state.0, agents, profile)?;
    until("all agents are connected", PATIENCE, || {
        heard(&load).connected == agents
    })?;
    let wait = ["--wait", "60s"];
    bed.signed(&["deploy"], &wait)?;
    until("all hold the first manifest", PATIENCE, || heard(&load).lowest >= 1)?;

    let measured = measure(&bed, &load, agents, rounds)?;
    let memory = process::resident_memory(load.id())? as f64 / f64::from(1 << 20) / agents.max(1) as f64;
    drop(load);
    let catch_up = catch_up(&mut bed)?;
    let report = json!({
        "quick": options.quick,
        "nodes": REAL.len(),
        "agents": agents,
        "rounds": rounds,
        "deploy_ms": { "p50": measured.deploy.at(50), "p99": measured.deploy.at(99) },
        "prepare_ms": { "p50": measured.prepare.at(50), "p99": measured.prepare.at(99) },
        "purge_proven_ms": { "p50": measured.purge.at(50), "p99": measured.purge.at(99) },
        "penalty_ms_p99": measured.penalty.at(99),
        "catch_up_s_1000_zones": catch_up,
        "bytes_per_deploy_per_node": measured.bytes,
        "cpu_ms_per_deploy_per_agent": measured.cpu,
        "engine_cpu_ms_per_purge": measured.engine_cpu,
        "agent_rss_mb": memory,
    });
    fs::write(output.join("fleet.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// A directory in memory, if the machine has one.
struct Scratch(PathBuf);

impl Scratch {
    fn new(otherwise: &Path) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory } else { otherwise };
        let path = above.join(format!("edge-bench-fleet-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is in memory, and small.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start_load(bed: &Bed, state: &Path, agents: usize, profile: Profile) -> Result<Process> {
    let mut command = Command::new(workspace::binary("fleet-load", profile));
    command
        .arg(bed.engine_address().to_string())
        .arg(bed.files())
        .arg(state)
        .arg(agents.to_string());
    let mut load = Process::spawn(&mut command, &bed.files().with_file_name("load.log"))?;
    load.wait_line("joined", PATIENCE)?;
    Ok(load)
}

/// Sorted milliseconds.
#[derive(Default)]
struct Sample(Vec<u64>);

impl Sample {
    fn at(&self, percent: usize) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(0)
    }
}

struct Measured {
    deploy: Sample,
    prepare: Sample,
    purge: Sample,
    penalty: Sample,
    bytes: u64,
    cpu: f64,
    engine_cpu: f64,
}

fn measure(bed: &Bed, load: &Process, agents: usize, rounds: usize) -> Result<Measured> {
    let (mut deploy, mut prepare) = (Sample::default(), Sample::default());
    let (fetched, used) = (heard(load).fetched, process::cpu_time(load.id())?);
    for round in 0..rounds {
        bed.write(&format!("round-{round}"))?;
        let printed = bed.signed(&["deploy"], &["--wait", "60s"])?;
        let nodes = in_force(&printed)?;
        if nodes.len() != agents + REAL.len() {
            bail!("{} nodes have answered", nodes.len());
        }
        for (whole, preparing) in nodes.values() {
            deploy.0.push(whole.saturating_sub(*preparing));
            prepare.0.push(*preparing);
        }
        until("the load has told", PATIENCE, || heard(load).lowest >= round as u64 + 2)?;
    }
    let many = (rounds * agents.max(1)) as u64;
    let bytes = (heard(load).fetched - fetched) / many;
    let cpu = (process::cpu_time(load.id())? - used).as_secs_f64() * 1_000.0 / many as f64;
    let engine = bed.engine().context("the engine is down")?;
    let engine_used = process::cpu_time(engine)?;
    let (mut purge, mut penalty) = (Sample::default(), Sample::default());
    for round in 0..rounds {
        let url = format!("http://{HOST}/{round}");
        purge.0.push(proven(
            &bed.ask("a", &["cache", "purge", &url, "--fleet", "--wait", "30s"])?,
        )?);
    }
    let engine_cpu = (process::cpu_time(engine)? - engine_used).as_secs_f64() * 1_000.0 / rounds as f64;
    for round in 0..rounds {
        let address = format!("203.0.113.{round}");
        let printed = bed.ask(
            "b",
            &["penalty", "add", &address, "--for", "5m", "--fleet", "--wait", "30s"],
        )?;
        penalty.0.push(proven(&printed)?);
    }
    Ok(Measured {
        deploy,
        prepare,
        purge,
        penalty,
        bytes,
        cpu,
        engine_cpu,
    })
}

/// `NAME in force after X ms, Y of them to prepare`.
fn in_force(printed: &str) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut nodes = BTreeMap::new();
    for line in printed.lines() {
        if let Some((name, rest)) = line.split_once("\tin force after ") {
            let (whole, rest) = rest.split_once(" ms, ").context("no milliseconds")?;
            let (preparing, _) = rest.split_once(' ').context("no preparation")?;
            nodes.insert(name.to_owned(), (whole.parse()?, preparing.parse()?));
        }
    }
    Ok(nodes)
}

/// `proven on ... after X ms`.
fn proven(printed: &str) -> Result<u64> {
    let (_, rest) = printed.rsplit_once(" after ").context("not proven")?;
    let (millis, _) = rest.split_once(' ').context("no milliseconds")?;
    Ok(millis.parse()?)
}

/// Seconds from the start of a new node to its first answer, with a thousand zones to fetch.
fn catch_up(bed: &mut Bed) -> Result<f64> {
    let zones = bed.files().join("zones.d");
    for number in 0..ZONES {
        let text = format!(
            "[[zone]]\nname = \"z{number}\"\nhosts = [\"z{number}.example\"]\n[zone.cache]\n[zone.origin]\n\
             servers = [{{ address = \"http://127.0.0.1:9\" }}]\n"
        );
        fs::write(zones.join(format!("z{number}.toml")), text)?;
    }
    // The simulated nodes are gone: they are not waited for.
    drop(bed.signed(&["deploy"], &["--wait", "5s"]));
    let begun = Instant::now();
    bed.add("d")?;
    // The last zone's origin is not there, but the host is known: it would be 421 before.
    let last = format!("z{}.example", ZONES - 1);
    until("the new node serves all zones", PATIENCE, || {
        bed.get("d", "/").is_ok_and(|(status, ..)| status == 200)
            && bed.get_of("d", &last, "/").is_ok_and(|(status, ..)| status == 502)
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bench would report what the command line does not say.
    #[test]
    fn figures_are_read_as_they_are_printed() {
        let printed =
            "manifest 3 of fleet demo: 2 files\na\tin force after 120 ms, 20 of them to prepare\nb\thas not answered\n";
        assert_eq!(
            in_force(printed).unwrap(),
            BTreeMap::from([("a".to_owned(), (120, 20))])
        );
        assert_eq!(proven("proven on a, b after 17 ms\n").unwrap(), 17);
        assert!(proven("no").is_err());
        let sample = Sample((1..=100).collect());
        assert_eq!((sample.at(50), sample.at(99), Sample::default().at(50)), (50, 99, 0));
    }
}
