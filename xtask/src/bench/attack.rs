//! `cargo xtask bench attack`: one node with default limits under attackers of one address, beside
//! twenty good clients of other zones and another address. What counts is the most memory that the
//! node took, and what the good clients noticed.
//!
//! Each attack runs by itself on a node that is started anew, then all of them together; nginx with
//! its defaults stands in the node's place for those of its protocols.

mod world;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::workspace::{self, Profile};
use world::{Good, Side, World};

/// An attack, as `attack-load` calls it.
#[derive(Clone, Copy, Debug)]
struct Attack {
    name: &'static str,
    /// nginx of Debian speaks HTTP/1.1 and HTTP/2, and has no far end.
    nginx: bool,
    connections: usize,
}

/// As many connections as one address may have by default, where each costs the attacker little.
const MANY: usize = 1_000;
const SOME: usize = 200;

const fn attack(name: &'static str, connections: usize, nginx: bool) -> Attack {
    Attack {
        name,
        nginx,
        connections,
    }
}

const ATTACKS: [Attack; 19] = [
    attack("slow-read-h1", MANY, true),
    attack("slow-read-h2", SOME, true),
    attack("slow-read-h3", SOME, false),
    attack("slow-read-far-h2", SOME, false),
    attack("slow-write-h1", MANY, true),
    attack("slow-write-h2", SOME, true),
    attack("huge-frames-h2", SOME, true),
    attack("huge-frames-h3", SOME, false),
    attack("ranges-h2", SOME, false),
    attack("uploads-h1", SOME, true),
    attack("uploads-h2", SOME, true),
    attack("uploads-h3", SOME, false),
    attack("trailers-h1", SOME, true),
    attack("trailers-h3", SOME, false),
    attack("small-frames-h2", SOME, true),
    attack("headers-h1", MANY, true),
    attack("headers-h2", SOME, true),
    attack("headers-h3", SOME, false),
    attack("crumbs-h2", SOME, true),
];
/// What one address may add to the node's memory.
const GOAL_MB: f64 = 256.0;

/// Memory of a node with default limits, and what good clients notice, under attacks of one
/// address.
///
/// Slow readers and writers, huge, endless and small frames, ranges, uploads, trailers and heads,
/// over HTTP/1.1, 2 and 3 and a far end; each by itself, then all together. Writes
/// target/bench/attack.json.
#[derive(clap::Args)]
pub(crate) struct BenchAttack {
    /// Three seconds each instead of twelve: for a smoke test
    #[arg(long)]
    quick: bool,
    /// Only attacks with this in their names, and not all together
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Leave nginx out
    #[arg(long)]
    no_nginx: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build
    #[arg(long)]
    dev: bool,
    /// Where configurations, logs and attack.json go, instead of target/bench
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    dev: bool,
    rss_quiet_mb: f64,
    rss_peak_mb: f64,
    good_p99_ms: Latency,
    good_failed: u64,
    attacks: Vec<Outcome>,
    nginx: Option<Peer>,
}

#[derive(Serialize)]
struct Latency {
    quiet: f64,
    attack: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Outcome {
    name: String,
    connections: u64,
    rss_quiet_mb: f64,
    rss_peak_mb: f64,
    good_p99_ms: f64,
    good_failed: u64,
}

#[derive(Serialize)]
struct Peer {
    version: String,
    rss_quiet_mb: f64,
    good_p99_quiet_ms: f64,
    attacks: Vec<Outcome>,
}

/// Measures, prints, writes.
pub(crate) fn run(bench: &BenchAttack) -> Result<()> {
    let profile = if bench.dev { Profile::Dev } else { Profile::Release };
    if !bench.no_build {
        workspace::prepare(&[workspace::SETUP_BENCH, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(profile)?;
        build_load(profile)?;
    }
    let directory = match &bench.output {
        Some(directory) => directory.canonicalize()?,
        None => workspace::output("bench/attack")?,
    };
    let window = Duration::from_secs(if bench.quick { 3 } else { 12 });
    let world = World::start(&directory, profile)?;
    let chosen: Vec<Attack> = ATTACKS
        .into_iter()
        .filter(|attack| {
            bench
                .only
                .as_ref()
                .is_none_or(|part| attack.name.contains(part.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        bail!(
            "no attack has {:?} in its name",
            bench.only.as_deref().unwrap_or_default()
        );
    }
    let (quiet_mb, quiet) = quiet(&world, Side::Edge, window)?;
    println!("quiet: {quiet_mb:.0} MB, good clients' p99 {:.1} ms", quiet.p99_ms);
    let mut attacks = Vec::new();
    for attack in &chosen {
        attacks.push(under(&world, Side::Edge, attack.name, &[*attack], window)?);
    }
    let all = match bench.only {
        Some(_) => None,
        None => Some(under(&world, Side::Edge, "all", &chosen, window)?),
    };
    attacks.extend(all);
    let nginx = if bench.no_nginx {
        None
    } else {
        Some(peer(&world, &chosen, window)?)
    };
    let peak = |value: fn(&Outcome) -> f64| attacks.iter().map(value).fold(0.0, f64::max);
    let report = Report {
        quick: bench.quick,
        dev: bench.dev,
        rss_quiet_mb: quiet_mb,
        rss_peak_mb: peak(|outcome| outcome.rss_peak_mb),
        good_p99_ms: Latency {
            quiet: quiet.p99_ms,
            attack: peak(|outcome| outcome.good_p99_ms),
        },
        good_failed: attacks.iter().map(|outcome| outcome.good_failed).sum(),
        attacks,
        nginx,
    };
    print!("{}", table(&report));
    let file = match &bench.output {
        Some(_) => directory.join("attack.json"),
        None => workspace::output("bench")?.join("attack.json"),
    };
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written to {}", file.display());
    let grown = |outcome: &&Outcome| outcome.rss_peak_mb - outcome.rss_quiet_mb > GOAL_MB;
    let over: Vec<&str> = report
        .attacks
        .iter()
        .filter(grown)
        .map(|outcome| outcome.name.as_str())
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    bail!("one address took more than {GOAL_MB} MB by: {}", over.join(", "))
}

fn build_load(profile: Profile) -> Result<()> {
    let mut arguments = vec!["build"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    // By itself: the daemon's build need not know of this load's features.
    arguments.extend(["-p", "edge-testbed", "--no-default-features"]);
    arguments.extend(["--features", "attack", "--bin", "attack-load"]);
    workspace::cargo(&arguments)
}

/// Good clients alone: the memory at the end, and what they notice.
fn quiet(world: &World, side: Side, window: Duration) -> Result<(f64, Good)> {
    let node = world.node(side)?;
    let good = world.good(&node, window)?.finish(window)?;
    Ok((node.memory_mb()?, good))
}

/// Good clients beside `attacks`.
fn under(world: &World, side: Side, name: &str, attacks: &[Attack], window: Duration) -> Result<Outcome> {
    let node = world.node(side)?;
    // What the first requests make the node take is not the attackers'.
    world
        .good(&node, Duration::from_secs(1))?
        .finish(Duration::from_secs(1))?;
    let before = node.memory_mb()?;
    // All of them share the connections that one address may have.
    let share = attacks.len().max(1);
    let loads = attacks
        .iter()
        .map(|attack| world.attack(&node, attack.name, (attack.connections / share).max(10), window))
        .collect::<Result<Vec<_>>>()?;
    let good = world.good(&node, window)?;
    let peak = node.watch(window)?;
    let good = good.finish(window)?;
    let mut connections = 0;
    for load in loads {
        connections += load.finish(window)?;
    }
    let outcome = Outcome {
        name: name.to_owned(),
        connections,
        rss_quiet_mb: before,
        rss_peak_mb: peak,
        good_p99_ms: good.p99_ms,
        good_failed: good.failed,
    };
    println!(
        "{side:?} {name:<18} {:>5} connections  {before:>5.0} -> {peak:>5.0} MB  p99 {:>7.1} ms  {} failed",
        connections, outcome.good_p99_ms, outcome.good_failed
    );
    Ok(outcome)
}

fn peer(world: &World, attacks: &[Attack], window: Duration) -> Result<Peer> {
    let (rss_quiet_mb, good) = quiet(world, Side::Nginx, window)?;
    let mut outcomes = Vec::new();
    for attack in attacks.iter().filter(|attack| attack.nginx) {
        outcomes.push(under(world, Side::Nginx, attack.name, &[*attack], window)?);
    }
    Ok(Peer {
        version: super::nginx::version()?,
        rss_quiet_mb,
        good_p99_quiet_ms: good.p99_ms,
        attacks: outcomes,
    })
}

fn table(report: &Report) -> String {
    let mut table = format!(
        "\nOne address against a node with default limits; quiet: {:.0} MB, good clients' p99 {:.1} ms\n{:<18}{:>10}{:>10}{:>10}{:>8}{:>12}{:>12}\n",
        report.rss_quiet_mb,
        report.good_p99_ms.quiet,
        "attack",
        "peak MB",
        "added",
        "p99 ms",
        "failed",
        "nginx added",
        "nginx p99"
    );
    for outcome in &report.attacks {
        let peer = report.nginx.iter().flat_map(|nginx| &nginx.attacks);
        let peer = peer.into_iter().find(|peer| peer.name == outcome.name);
        let (added, p99) = peer.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |peer| {
                let added = peer.rss_peak_mb - peer.rss_quiet_mb;
                (format!("{added:.0}"), format!("{:.1}", peer.good_p99_ms))
            },
        );
        table += &format!(
            "{:<18}{:>10.0}{:>10.0}{:>10.1}{:>8}{added:>12}{p99:>12}\n",
            outcome.name,
            outcome.rss_peak_mb,
            outcome.rss_peak_mb - outcome.rss_quiet_mb,
            outcome.good_p99_ms,
            outcome.good_failed
        );
    }
    table
}
