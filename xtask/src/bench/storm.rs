//! `cargo xtask bench storm`: what well-behaved clients keep while others retry without waiting,
//! and what a rejected retry costs. [`world`] makes the namespaces and measures a window,
//! [`target`] the three servers, [`plot`] the picture.

mod plot;
mod spoofed;
mod target;
pub(in crate::bench) mod world;

use std::fs;

use anyhow::{Result, bail};
use edge_testbed::pki::Authority;
use edge_testbed::{netns, pins};
use serde::Serialize;

use super::http::{cores, median};
use super::nginx;
use crate::workspace::{self, Profile};
use target::Kind;
use world::{Path, Plan, Turn};

const HOW: &[&str] = &[
    "client and edge are network namespaces joined by a veth pair, made anew for each turn; the three servers take turns",
    "every request has a connection and a full TLS 1.3 handshake of its own; the same ECDSA P-256 certificate, 1 KB from a file; server and loads each have one core",
    "good clients: open loop at a fixed rate from 100 addresses, latency counted from when the request was due, 2000 ms for one without a good answer within 2 s",
    "retriers: 50 addresses, one TLS client each, that asks again 1 ms after any answer or 500 ms without one; the rule is 2 requests per second and address, 5 at once",
    "windows of a turn: quiet (good clients), retries (and retriers, each attempt a full handshake), storm (and SYNs from the retriers' addresses)",
    "SYNs are sent as XDP frames, 192 at a time, by a program that BPF_PROG_TEST_RUN runs on live pages: like a network card's, they meet XDP without an skb, and the next ones come together; those that veth's ring of 256 has no room for are not counted",
    "CPU: the server's processes and the kernel thread that polls the server's end of the veth (threaded NAPI with GRO on and TSO off at both ends, each pinned to the core of its side, so that dropping is not done in the sender's time)",
    "cpu_s_per_million_rejected: CPU beyond the quiet window's (the good clients send the same), less what the retries that the rule's burst served would cost as good clients' requests of the quiet window, by retries rejected: 429s and SYNs dropped by the kernel (edge's counters, nftables' counter); the runs' cpu_s_per_million_with_served takes those served as rejected. edge and nginx_nft: storm window. nginx_limit_req: retries window, because it rejects no SYN and the flood would only be added to its cost",
    "path_only: the same flood against a program of two instructions in edge's place, CPU of the polling thread; what it costs is the way through veth, waking up, and handing pages back to who sends",
    "program_ns_per_drop: the kernel's own count (bpf_stats) in a window by itself, retriers and flood; it includes reading the clock, of which path_only's shows how much",
    "spoofed: SYNs from 16,384 ports of addresses that are nobody's, as fast as --spoofed says or this machine sends, beside the good clients; CPU is that of the server and the polling thread beyond the quiet window's, by SYNs that the interface's ring had room for; kernel_cookies is edge without XDP, nft_synproxy the same behind nftables",
    "offered_retries_per_s: retriers' attempts and SYNs sent in the storm window, over all turns; figures are medians over the rounds",
];

/// What well-behaved clients keep while others retry without waiting, against nginx.
///
/// HTTPS clients at a fixed rate, first alone, then beside clients that were told to wait and retry
/// at once, then with a flood of SYNs from those clients' addresses. edge with a rate rule and XDP,
/// nginx with limit_req, and nginx behind nftables with a meter of the SYNs of each address take
/// turns. Reports goodput and p99 of the well-behaved, and the CPU seconds of a million rejected
/// retries. Then SYNs of nobody, as fast as this machine sends: SYN cookies of edge's XDP program,
/// of the kernel, and nftables' synproxy. Needs root and two cores; all load stays inside network
/// namespaces of its own, which end with it. Writes target/bench/storm.json and storm.svg. Takes
/// about eight minutes.
#[derive(clap::Args)]
pub(crate) struct BenchStorm {
    /// One short round instead of five: under a minute once built, for a smoke test
    #[arg(long)]
    quick: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// SYNs per second of the flood
    #[arg(long, value_name = "RATE", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    flood: u32,
    /// SYNs per second of the flood from nobody
    #[arg(long, value_name = "RATE", default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    spoofed: u32,
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    offered_retries_per_s: f64,
    edge: Figures,
    nginx_limit_req: Figures,
    nginx_nft: Figures,
    path_only: Path,
    program_ns_per_drop: f64,
    how: &'static [&'static str],
    peer: String,
    runs: Runs,
}

#[derive(Clone, Copy, Serialize)]
struct Figures {
    goodput_quiet_rps: f64,
    goodput_storm_rps: f64,
    p99_quiet_ms: f64,
    p99_storm_ms: f64,
    cpu_s_per_million_rejected: f64,
}

#[derive(Default, Serialize)]
struct Runs {
    edge: Vec<Turn>,
    nginx_limit_req: Vec<Turn>,
    nginx_nft: Vec<Turn>,
    path_only: Vec<Path>,
    spoofed_edge: Vec<spoofed::Turn>,
    spoofed_kernel_cookies: Vec<spoofed::Turn>,
    spoofed_nft_synproxy: Vec<spoofed::Turn>,
}

/// Measures, prints, writes.
pub(crate) fn run(bench: &BenchStorm) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces and XDP need root: `sudo -E env PATH=$PATH cargo xtask bench storm`");
    }
    if !bench.no_build {
        workspace::prepare(&[workspace::SETUP_BENCH, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(Profile::Release)?;
        // By itself: the daemon's release build need not know of this load's features.
        workspace::cargo(&[
            "build",
            "--release",
            "-p",
            "edge-testbed",
            "--no-default-features",
            "--features",
            "storm",
            "--bin",
            "storm-load",
        ])?;
    }
    netns::sweep()?;
    pins::sweep();
    let output = workspace::output("bench")?;
    let directory = workspace::output("bench/storm")?;
    let measured = measure(bench, &output, &directory);
    workspace::give_back(&output)?;
    measured
}

fn measure(bench: &BenchStorm, output: &std::path::Path, directory: &std::path::Path) -> Result<()> {
    let (load_core, server_core) = cores()?;
    let authority = Authority::new("Edge bench CA")?;
    let ca = directory.join("ca.pem");
    authority.write(&ca)?;
    let plan = Plan {
        leaf: authority.write_leaf(directory, "leaf", &[world::HOST])?,
        directory: directory.to_owned(),
        ca,
        load_core,
        server_core,
        seconds: if bench.quick { 3.0 } else { 6.0 },
        flood: bench.flood,
        spoofed: bench.spoofed,
    };
    fs::create_dir_all(directory.join("www"))?;
    fs::write(directory.join("www/page"), "0123456789abcde\n".repeat(64))?;

    let rounds = if bench.quick { 1 } else { 5 };
    let mut runs = Runs::default();
    for round in 1..=rounds {
        let path = world::path(&plan)?;
        println!(
            "{round}/{rounds} path only        {:.3} us a SYN dropped by two instructions",
            path.cpu_s_per_million_dropped
        );
        runs.path_only.push(path);
        for kind in [Kind::Edge, Kind::LimitReq, Kind::Nft] {
            let turn = world::turn(&plan, kind)?;
            println!("{round}/{rounds} {turn}");
            match kind {
                Kind::Edge => runs.edge.push(turn),
                Kind::LimitReq => runs.nginx_limit_req.push(turn),
                _ => runs.nginx_nft.push(turn),
            }
        }
        for kind in spoofed::KINDS {
            let turn = match spoofed::turn(&plan, kind) {
                // Not every kernel has it.
                Err(error) if kind == Kind::Synproxy => {
                    println!("{round}/{rounds} {:<16} not to be had here: {error:#}", kind.name());
                    continue;
                }
                turn => turn?,
            };
            println!("{round}/{rounds} {turn}");
            match kind {
                Kind::Edge => runs.spoofed_edge.push(turn),
                Kind::Kernel => runs.spoofed_kernel_cookies.push(turn),
                _ => runs.spoofed_nft_synproxy.push(turn),
            }
        }
    }
    let all = runs.edge.iter().chain(&runs.nginx_limit_req).chain(&runs.nginx_nft);
    let report = Report {
        quick: bench.quick,
        offered_retries_per_s: median(all.map(|turn| turn.storm.offered_per_s()).collect()),
        edge: figures(&runs.edge),
        nginx_limit_req: figures(&runs.nginx_limit_req),
        nginx_nft: figures(&runs.nginx_nft),
        path_only: path(&runs.path_only),
        program_ns_per_drop: median(runs.edge.iter().filter_map(|turn| turn.program_ns_per_drop).collect()),
        how: HOW,
        peer: nginx::version()?,
        runs,
    };
    print!("{}{}", table(&report), of_nobody(&report.runs));
    let file = output.join("storm.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(output.join("storm.svg"), plot::svg(&rows(&report)))?;
    println!("written to {}, and storm.svg beside it", file.display());
    Ok(())
}

/// What was measured of the flood from nobody, against what it should be.
fn of_nobody(runs: &Runs) -> String {
    let cost = |turns: &[spoofed::Turn]| median(turns.iter().map(|turn| turn.cpu_s_per_million).collect());
    let kept = median(runs.spoofed_edge.iter().map(|turn| turn.goodput_kept).collect());
    let ours = cost(&runs.spoofed_edge);
    let others = [
        ("the kernel's own cookies", &runs.spoofed_kernel_cookies),
        ("nftables' synproxy", &runs.spoofed_nft_synproxy),
    ];
    let mut text = format!(
        "SYNs of nobody: goodput kept, at least 0.95: {kept:.3}; CPU {ours:.2} s per million; of others at most 1/8:"
    );
    for (name, turns) in others.iter().filter(|(_, turns)| !turns.is_empty()) {
        text += &format!(" {name} {:.2} s, 1/{:.1};", cost(turns), cost(turns) / ours);
    }
    text + "\n"
}

fn figures(turns: &[Turn]) -> Figures {
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
    Figures {
        goodput_quiet_rps: of(|turn| turn.quiet.goodput()),
        goodput_storm_rps: of(|turn| turn.storm.goodput()),
        p99_quiet_ms: of(|turn| turn.quiet.good.p99_ms),
        p99_storm_ms: of(|turn| turn.storm.good.p99_ms),
        cpu_s_per_million_rejected: of(|turn| turn.cpu_s_per_million_rejected),
    }
}

fn path(runs: &[Path]) -> Path {
    let of = |figure: fn(&Path) -> f64| median(runs.iter().map(figure).collect());
    Path {
        cpu_s_per_million_dropped: of(|path| path.cpu_s_per_million_dropped),
        program_ns_per_drop: of(|path| path.program_ns_per_drop),
    }
}

fn rows(report: &Report) -> [(&'static str, Figures); 3] {
    [
        ("edge", report.edge),
        ("nginx limit_req", report.nginx_limit_req),
        ("nginx + nftables", report.nginx_nft),
    ]
}

fn table(report: &Report) -> String {
    let mut table = format!(
        "\nWell-behaved HTTPS clients beside {:.0} retries per second (medians), against {}\n{:<18}{:>12}{:>12}{:>8}{:>11}{:>11}{:>20}\n",
        report.offered_retries_per_s,
        report.peer,
        "",
        "quiet req/s",
        "storm req/s",
        "kept",
        "p99 quiet",
        "p99 storm",
        "CPU s/M rejected"
    );
    for (name, figures) in rows(report) {
        table += &format!(
            "{name:<18}{:>12.1}{:>12.1}{:>8.3}{:>8.1} ms{:>8.1} ms{:>20.3}\n",
            figures.goodput_quiet_rps,
            figures.goodput_storm_rps,
            figures.goodput_storm_rps / figures.goodput_quiet_rps,
            figures.p99_quiet_ms,
            figures.p99_storm_ms,
            figures.cpu_s_per_million_rejected,
        );
    }
    table += &format!(
        "the way to a program that drops whatever comes, and back: {:.0} ns a SYN; edge's program for one: {:.0} ns by the kernel's \
         count, of which {:.0} are the count itself\n",
        report.path_only.cpu_s_per_million_dropped * 1e3,
        report.program_ns_per_drop,
        report.path_only.program_ns_per_drop,
    );
    let kept = report.edge.goodput_storm_rps / report.edge.goodput_quiet_rps;
    let cost = report.edge.cpu_s_per_million_rejected / report.nginx_limit_req.cpu_s_per_million_rejected;
    let verdict = |reached: bool| if reached { "reached" } else { "MISSED" };
    table += &format!(
        "goodput kept, at least 0.95: {kept:.3}, {}; a rejected retry, at most 1/1000 of nginx's 429: 1/{:.0}, {}\n",
        verdict(kept >= 0.95),
        1.0 / cost,
        verdict(cost <= 0.001),
    );
    table
}
