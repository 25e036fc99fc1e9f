//! `cargo xtask bench quic`: what handshakes, requests and content cost over HTTP/3, beside HTTP/2
//! of the same daemon and beside Caddy (quic-go); a burst and a crowd of handshakes whose key is
//! far away; and a flood of Initial packets from addresses that are nobody's.
//!
//! [`world`] has the servers of the first part, [`peer`] Caddy, [`flood`] the namespaces of the
//! second.

mod flood;
mod peer;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use edge_testbed::{netns, pins};
use serde::Serialize;

use self::flood::Flood;
use self::world::{Crowd, World};
use super::http::{cores, median};
use super::keyless::world::Plan;
use crate::workspace::{self, Profile};

const HOW: &[&str] = &[
    "edge and Caddy are one worker on one core each in their turn; load, key server, relays and origin share the other; CPU is that of all of a server's processes",
    "handshakes: full, TLS 1.3, ECDSA P-256, X25519, AES-128-GCM, 32 at once, each counted when the server has opened its control stream; `keyless`: the key is at edge-keyserver on the same machine",
    "burst500: 500 keyless handshakes begun at once, 50 ms to the key server and back (a relay in user space, no netem): milliseconds until the last is over, median of the rounds",
    "crowd: 5,000 keyless handshakes begun at once, 2.4 s to the key server and back; waiting_peak is the edge's own metric",
    "requests: 1 KB answers of an nginx origin, TLS, reverse proxy, 4 connections with 8 requests at once on each, no access log; goodput: 100 MB answers, one at a time; HTTP/3 by quinn and h3, HTTP/2 by h2load; contenders take turns in each round, figures are medians",
    "flood: client and edge are network namespaces joined by a veth pair, made anew for each turn, threaded NAPI pinned to each side's core; Initials are whole ones of quinn clients from 198.18.0.0/15, by AF_PACKET; good clients: newcomers without tokens at a fixed rate from 100 addresses, full handshake and 1 KB each, 4 s of patience",
    "cpu_s_per_million_initials_*: CPU of the daemon and of the kernel thread that polls its interface beyond the quiet window's, by Initials answered; userspace: lockdown without XDP, the daemon answers with the Retry; xdp_retry: lockdown with XDP, the kernel does; no_lockdown: handshakes are begun",
    "goodput_ratio_*: good clients served in time under the flood, by those served in the quiet window of the same turn, at the same rate",
];

/// What QUIC and HTTP/3 cost, beside HTTP/2 and Caddy, and under a flood of Initial packets.
///
/// Handshakes per CPU-second with a local key and with one at a key server; 500 keyless ones at
/// once with the key server 50 ms away, and 5,000 in flight; requests and content per CPU-second
/// over HTTP/3 and HTTP/2, alternating with Caddy; CPU per million spoofed Initials with and
/// without XDP, and what real clients keep meanwhile. Needs root and two cores; the flood stays
/// inside network namespaces of its own. Writes target/bench/quic.json. Takes about five minutes.
#[derive(clap::Args)]
pub(crate) struct BenchQuic {
    /// Short windows, fewer of them: under a minute and a half once built, for a smoke test
    #[arg(long)]
    quick: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build: shows that the bench works, never how fast edge is
    #[arg(long)]
    dev: bool,
    /// Leave the flood out
    #[arg(long)]
    no_flood: bool,
    /// Initials per second of the flood
    #[arg(long, value_name = "RATE", default_value_t = 120_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    flood: u32,
    /// Where configurations, logs and quic.json go, instead of target/bench
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// How long, how often.
struct Effort {
    rounds: usize,
    /// Seconds of one window.
    window: f64,
    crowd: usize,
    /// Answers of 100 MB in one window.
    large: u64,
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    dev: bool,
    hs_per_cpu_s: Handshakes,
    burst500_ms: f64,
    burst500_runs: Vec<f64>,
    crowd: Crowd,
    h3_req_per_cpu_s: f64,
    h2_req_per_cpu_s: f64,
    goodput_mbit_per_cpu_s: Goodput,
    flood: Option<Flood>,
    peer: Peer,
    how: &'static [&'static str],
    runs: BTreeMap<&'static str, Vec<f64>>,
}

#[derive(Serialize)]
struct Handshakes {
    local: f64,
    keyless: f64,
}

#[derive(Serialize)]
struct Goodput {
    h3: f64,
    h2: f64,
}

#[derive(Serialize)]
struct Peer {
    name: String,
    hs_per_cpu_s: f64,
    h3_req_per_cpu_s: f64,
    h2_req_per_cpu_s: f64,
    goodput_mbit_per_cpu_s: Goodput,
}

/// Measures, prints, writes.
pub(crate) fn run(bench: &BenchQuic) -> Result<()> {
    if !bench.no_flood && !rustix::process::geteuid().is_root() {
        bail!(
            "network namespaces and XDP need root: `sudo -E env PATH=$PATH cargo xtask bench quic`, or say --no-flood"
        );
    }
    let profile = if bench.dev { Profile::Dev } else { Profile::Release };
    if !bench.no_build {
        workspace::prepare(&[workspace::SETUP_BENCH, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(profile)?;
        // By itself: the daemon's build need not know of this load's features.
        let mut arguments = vec!["build"];
        if profile == Profile::Release {
            arguments.push("--release");
        }
        arguments.extend(["-p", "edge-testbed", "--no-default-features"]);
        arguments.extend(["--features", "quic", "--bin", "quic-load"]);
        workspace::cargo(&arguments)?;
        super::keyless::build_load(profile)?;
    }
    let effort = if bench.quick {
        Effort {
            rounds: 2,
            window: 0.5,
            crowd: 1_000,
            large: 1,
        }
    } else {
        Effort {
            rounds: 7,
            window: 3.0,
            crowd: 5_000,
            large: 5,
        }
    };
    let (load_core, server_core) = cores()?;
    let directory = match &bench.output {
        Some(directory) => directory.canonicalize()?,
        None => workspace::output("bench/quic")?,
    };
    let plan = Plan {
        directory: directory.clone(),
        load_core,
        server_core,
        profile,
    };
    let mut world = World::start(&plan)?;
    let mut runs = BTreeMap::new();
    measure(&world, &effort, &mut runs)?;
    let crowd = world.crowd(effort.crowd)?;
    let peer = peer::version()?;
    drop(world);
    let flood = if bench.no_flood {
        None
    } else {
        netns::sweep()?;
        pins::sweep();
        Some(flood::measure(&plan, bench.flood, bench.quick)?)
    };

    let of = |name: &str| median(runs[name].clone());
    let report = Report {
        quick: bench.quick,
        dev: bench.dev,
        hs_per_cpu_s: Handshakes {
            local: of("hs_local"),
            keyless: of("hs_keyless"),
        },
        burst500_ms: of("burst500_ms"),
        burst500_runs: runs["burst500_ms"].clone(),
        crowd,
        h3_req_per_cpu_s: of("h3_req"),
        h2_req_per_cpu_s: of("h2_req"),
        goodput_mbit_per_cpu_s: Goodput {
            h3: of("h3_mbit"),
            h2: of("h2_mbit"),
        },
        flood,
        peer: Peer {
            name: peer,
            hs_per_cpu_s: of("peer_hs"),
            h3_req_per_cpu_s: of("peer_h3_req"),
            h2_req_per_cpu_s: of("peer_h2_req"),
            goodput_mbit_per_cpu_s: Goodput {
                h3: of("peer_h3_mbit"),
                h2: of("peer_h2_mbit"),
            },
        },
        how: HOW,
        runs,
    };
    print!("{}", table(&report));
    let file = match &bench.output {
        Some(directory) => directory.join("quic.json"),
        None => workspace::output("bench")?.join("quic.json"),
    };
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written to {}", file.display());
    workspace::give_back(&directory)
}

/// Everything that takes turns.
fn measure(world: &World, effort: &Effort, runs: &mut BTreeMap<&'static str, Vec<f64>>) -> Result<()> {
    use world::{Server::Caddy, Server::Edge, Version::H2, Version::H3};
    let count = |per_second: f64| ((per_second * effort.window) as u64).max(100);
    // What a core does in a second here, roughly: windows are to be of about the length asked for.
    let shakes = count(world.handshakes(Edge, "keys0", 200)?.per_second);
    let answers = count(world.requests(Caddy, H3, "/1k", 1 << 10, 1000)?.per_second);
    for round in 1..=effort.rounds {
        let mut note = |name: &'static str, figure: f64| {
            print!("  {name} {figure:.0}");
            runs.entry(name).or_default().push(figure);
        };
        print!("{round}/{}", effort.rounds);
        note("hs_local", world.handshakes(Edge, "local", shakes)?.per_cpu_second());
        note("hs_keyless", world.handshakes(Edge, "keys0", shakes)?.per_cpu_second());
        note("peer_hs", world.handshakes(Caddy, "local", shakes)?.per_cpu_second());
        note("burst500_ms", world.burst(500)?);
        for (name, server, version) in [
            ("h3_req", Edge, H3),
            ("h2_req", Edge, H2),
            ("peer_h3_req", Caddy, H3),
            ("peer_h2_req", Caddy, H2),
        ] {
            let run = world.requests(server, version, "/1k", 1 << 10, answers)?;
            note(name, run.per_cpu_second());
        }
        for (name, server, version) in [
            ("h3_mbit", Edge, H3),
            ("h2_mbit", Edge, H2),
            ("peer_h3_mbit", Caddy, H3),
            ("peer_h2_mbit", Caddy, H2),
        ] {
            let run = world.requests(server, version, "/100m", world::LARGE, effort.large)?;
            note(name, run.per_cpu_second() * world::LARGE as f64 * 8e-6);
        }
        println!();
    }
    Ok(())
}

fn table(report: &Report) -> String {
    let peer = &report.peer;
    let mut table = format!("\nper CPU-second (medians){:>22}{:>24}\n", "edge", peer.name);
    let (ours, theirs) = (&report.goodput_mbit_per_cpu_s, &peer.goodput_mbit_per_cpu_s);
    for (name, edge, peer) in [
        ("handshakes, local key", report.hs_per_cpu_s.local, peer.hs_per_cpu_s),
        ("handshakes, keyless", report.hs_per_cpu_s.keyless, f64::NAN),
        ("HTTP/3 requests", report.h3_req_per_cpu_s, peer.h3_req_per_cpu_s),
        ("HTTP/2 requests", report.h2_req_per_cpu_s, peer.h2_req_per_cpu_s),
        ("HTTP/3 Mbit", ours.h3, theirs.h3),
        ("HTTP/2 Mbit", ours.h2, theirs.h2),
    ] {
        let peer = if peer.is_nan() {
            "-".to_owned()
        } else {
            format!("{peer:.0}")
        };
        table += &format!("{name:<24}{edge:>22.0}{peer:>24}\n");
    }
    let verdict = |reached: bool| if reached { "reached" } else { "MISSED" };
    let crowd = &report.crowd;
    table += &format!(
        "500 keyless handshakes at once, key server 50 ms away: {:.0} ms (at most 1000: {})\n\
         {} at once, key server 2.4 s away: {} served in {:.1} s, {} waiting at most, {} threads at most (at most 6: {}), \
         memory {:.0} MB idle, {:.0} at most\n",
        report.burst500_ms,
        verdict(report.burst500_ms <= 1000.0),
        crowd.n,
        crowd.ok,
        crowd.seconds,
        crowd.waiting_peak,
        crowd.threads_peak,
        verdict(crowd.threads_peak <= 6),
        crowd.rss_idle_mb,
        crowd.rss_peak_mb,
    );
    if let Some(flood) = &report.flood {
        table += &format!(
            "{:.0} spoofed Initials a second: CPU s per million {:.2} by the kernel's Retry, {:.2} by the daemon's, {:.0} for \
             handshakes; goodput kept {:.3} (at least 0.95: {}), by the daemon alone {:.3}, without lockdown {:.3}\n",
            flood.initials_per_s,
            flood.cpu_s_per_million_initials_xdp_retry,
            flood.cpu_s_per_million_initials_userspace,
            flood.cpu_s_per_million_initials_no_lockdown,
            flood.goodput_ratio_lockdown,
            verdict(flood.goodput_ratio_lockdown >= 0.95),
            flood.goodput_ratio_lockdown_userspace,
            flood.goodput_ratio_no_lockdown,
        );
    }
    table
}
