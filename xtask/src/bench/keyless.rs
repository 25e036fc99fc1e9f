//! `cargo xtask bench keyless`: what a handshake costs with a key that is elsewhere, against the
//! same edge with a local key and nginx with a local key; how much longer it takes; and how the
//! edge bears ten thousand that wait.
//!
//! edge and nginx are one worker on one core each in their turn; load, key server and relays share
//! the other. What counts is handshakes per CPU-second of the process that terminates TLS.

pub(in crate::bench) mod load;
pub(in crate::bench) mod world;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use self::load::Shake;
use self::world::{Plan, World};
use super::http::{cores, median};
use super::nginx;
use crate::workspace::{self, Profile};

/// Handshakes per CPU-second with keys at a key server, against local keys and nginx.
///
/// TLS 1.3 and 1.2, ECDSA P-256 and RSA-2048, full and resumed, contenders alternating; added
/// latency at three distances of the key server; ten thousand handshakes at once while it takes a
/// second; the key server's signatures per CPU-second against `openssl speed`. Writes
/// target/bench/keyless.json.
#[derive(clap::Args)]
pub(crate) struct BenchKeyless {
    /// Short windows, fewer of them, and a thousand handshakes at once: for a smoke test
    #[arg(long)]
    quick: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build: shows that the bench works, never how fast edge is
    #[arg(long)]
    dev: bool,
    /// Only this part: prints its figures, and leaves keyless.json as it is
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Where configurations, logs and keyless.json go, instead of target/bench
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// A part that can be measured alone.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    /// Handshakes per CPU-second
    Rates,
    /// Time added by the way to the key server
    Latency,
    /// Ten thousand at once
    Inflight,
    /// The key server's signatures
    Signatures,
}

/// How long, how often.
struct Effort {
    pairs: usize,
    /// Seconds of one window.
    window: f64,
    /// Handshakes for one median of latency.
    latencies: usize,
    waiting: usize,
    signatures: usize,
}

#[derive(Serialize)]
struct Report {
    quick: bool,
    dev: bool,
    peer: String,
    hs_per_cpu_s: Rates,
    /// p50 keyless minus p50 local minus the round trip as it was measured.
    added_latency_ms_p50: Latencies,
    /// The same minus the round trip as it was asked for: what the relay is late counts against the
    /// edge.
    added_latency_nominal_ms_p50: Latencies,
    /// How much longer a ping of the key server takes through the relay than without it, p50.
    round_trip_ms_p50: Latencies,
    /// A ping of the key server without a relay.
    ping_ms_p50: f64,
    inflight: Inflight,
    keyserver_sign_per_cpu_s: f64,
    openssl_sign_per_cpu_s: f64,
    distance: &'static str,
}

#[derive(Default, Serialize)]
struct Rates {
    tls13_p256: Outcome,
    tls13_rsa2048: Outcome,
    tls12_p256: Outcome,
    tls12_rsa2048: Outcome,
    tls13_resumed: Outcome,
    tls13_hybrid: Outcome,
}

#[derive(Default, Serialize)]
struct Outcome {
    local: f64,
    keyless: f64,
    nginx_local: f64,
    /// CPU of a keyless handshake by that of a local one, median of the rounds.
    keyless_cost: f64,
    /// Of the edge's local handshakes to nginx's, median of the rounds.
    local_by_nginx: f64,
    tls: String,
    runs: Vec<Round>,
}

#[derive(Serialize)]
struct Round {
    local: f64,
    keyless: f64,
    /// 0 where nginx does not take part.
    nginx_local: f64,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Latencies {
    rtt0: f64,
    rtt10: f64,
    rtt50: f64,
}

#[derive(Serialize)]
struct Inflight {
    n: usize,
    ok: usize,
    threads_idle: usize,
    threads_peak: usize,
    rss_idle_mb: f64,
    rss_peak_mb: f64,
    /// After all clients have gone.
    rss_after_mb: f64,
    /// Waiting for the key server at one moment, by the edge's own metric.
    waiting_peak: usize,
    seconds: f64,
}

/// Measures, prints, writes.
pub(crate) fn run(bench: &BenchKeyless) -> Result<()> {
    let profile = if bench.dev { Profile::Dev } else { Profile::Release };
    if !bench.no_build {
        workspace::prepare(&[workspace::SETUP_BENCH, workspace::BUILD_EBPF])?;
        workspace::build_binaries(profile)?;
        build_load(profile)?;
    }
    let effort = if bench.quick {
        Effort {
            pairs: 2,
            window: 0.5,
            latencies: 15,
            waiting: 1_000,
            signatures: 20_000,
        }
    } else {
        Effort {
            pairs: 7,
            window: 3.0,
            latencies: 200,
            waiting: 10_000,
            signatures: 200_000,
        }
    };
    let (load_core, server_core) = cores()?;
    let directory = match &bench.output {
        Some(directory) => directory.canonicalize()?,
        None => workspace::output("bench/keyless")?,
    };
    let mut world = World::start(&Plan {
        directory: directory.clone(),
        load_core,
        server_core,
        profile,
    })?;
    if let Some(part) = bench.only {
        let json = match part {
            Part::Rates => serde_json::to_string_pretty(&rates(&world, &effort)?),
            Part::Latency => serde_json::to_string_pretty(&distances(&world, &effort)?),
            Part::Inflight => serde_json::to_string_pretty(&world.flood(effort.waiting)?),
            Part::Signatures => serde_json::to_string_pretty(&world.signatures(effort.signatures)?),
        };
        println!("{}", json?);
        return workspace::give_back(&directory);
    }
    let distances = distances(&world, &effort)?;
    let report = Report {
        quick: bench.quick,
        dev: bench.dev,
        peer: nginx::version()?,
        added_latency_ms_p50: distances.added,
        added_latency_nominal_ms_p50: distances.nominal,
        round_trip_ms_p50: distances.round_trip,
        ping_ms_p50: distances.ping,
        hs_per_cpu_s: rates(&world, &effort)?,
        inflight: world.flood(effort.waiting)?,
        keyserver_sign_per_cpu_s: world.signatures(effort.signatures)?,
        openssl_sign_per_cpu_s: load::openssl_speed(server_core, if bench.quick { 1 } else { 3 })?,
        distance: "a relay in user space stands for the way to the key server (no netem): half the round trip each way",
    };
    print!("{}", table(&report));
    let file = match &bench.output {
        Some(directory) => directory.join("keyless.json"),
        None => workspace::output("bench")?.join("keyless.json"),
    };
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written to {}", file.display());
    workspace::give_back(&directory)
}

/// The load is a program of its own: the daemon's build need not know of its features.
pub(super) fn build_load(profile: Profile) -> Result<()> {
    let mut arguments = vec!["build"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    arguments.extend(["-p", "edge-testbed", "--no-default-features"]);
    arguments.extend(["--features", "handshakes", "--bin", "tls-load"]);
    workspace::cargo(&arguments)
}

fn rates(world: &World, effort: &Effort) -> Result<Rates> {
    let full = |version, key| Shake {
        version,
        key,
        group: "x25519",
        resume: false,
    };
    let compare = |name, shake: Shake, nginx| compare(world, effort, name, &shake, nginx);
    Ok(Rates {
        tls13_p256: compare("tls13_p256", full("1.3", "p256"), true)?,
        tls13_rsa2048: compare("tls13_rsa2048", full("1.3", "rsa"), true)?,
        tls12_p256: compare("tls12_p256", full("1.2", "p256"), true)?,
        tls12_rsa2048: compare("tls12_rsa2048", full("1.2", "rsa"), true)?,
        tls13_resumed: compare(
            "tls13_resumed",
            Shake {
                resume: true,
                ..full("1.3", "p256")
            },
            true,
        )?,
        // Debian's nginx has an OpenSSL without ML-KEM.
        tls13_hybrid: compare(
            "tls13_hybrid",
            Shake {
                group: "hybrid",
                ..full("1.3", "p256")
            },
            false,
        )?,
    })
}

fn compare(world: &World, effort: &Effort, name: &str, shake: &Shake, nginx: bool) -> Result<Outcome> {
    // The same number for all, about a window long for the slowest.
    let slowest = |few: f64| (few * effort.window) as usize;
    let (first, _) = world.edge(shake, "local", 400)?;
    let count = slowest(first.per_second).max(200);
    let mut outcome = Outcome::default();
    for pair in 0..effort.pairs {
        let (mut local, mut keyless, mut theirs) = (0.0, 0.0, 0.0);
        // Who goes first changes: the second finds warmer caches.
        for turn in 0..3 {
            match (turn + pair) % 3 {
                0 => {
                    let (run, rate) = world.edge(shake, "local", count)?;
                    local = rate;
                    outcome.tls = run.tls;
                }
                1 => keyless = world.edge(shake, "keys0", count)?.1,
                _ if nginx => theirs = world.nginx(shake, count)?.1,
                _ => {}
            }
        }
        println!(
            "{name:<14} {}/{}  local {local:>6.0}  keyless {keyless:>6.0}  nginx {theirs:>6.0} handshakes per CPU-second",
            pair + 1,
            effort.pairs
        );
        outcome.runs.push(Round {
            local,
            keyless,
            nginx_local: theirs,
        });
    }
    let over = |figure: &dyn Fn(&Round) -> f64| median(outcome.runs.iter().map(figure).collect());
    let (local, keyless, nginx_local) = (over(&|r| r.local), over(&|r| r.keyless), over(&|r| r.nginx_local));
    // By rounds: what disturbs a machine for seconds disturbs all runs of a round.
    let keyless_cost = over(&|r| r.local / r.keyless);
    let local_by_nginx = if nginx { over(&|r| r.local / r.nginx_local) } else { 0.0 };
    Ok(Outcome {
        local,
        keyless,
        nginx_local,
        keyless_cost,
        local_by_nginx,
        ..outcome
    })
}

/// What distance costs, in milliseconds.
#[derive(Serialize)]
struct Distances {
    added: Latencies,
    nominal: Latencies,
    round_trip: Latencies,
    ping: f64,
}

/// One handshake at a time: a local one, a distant one and a ping over the same distance in turns.
fn distances(world: &World, effort: &Effort) -> Result<Distances> {
    let shake = Shake {
        version: "1.3",
        key: "p256",
        group: "x25519",
        resume: false,
    };
    let count = effort.latencies;
    let measure = |place: &str, rtt: f64| -> Result<[f64; 4]> {
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let local = world.latency(&shake, "local", count)?;
            let keyless = world.latency(&shake, place, count)?;
            let near = world.ping("keys0", count)?;
            // Without a relay there is nothing to take off.
            let way = if rtt > 0.0 {
                world.ping(place, count)? - near
            } else {
                0.0
            };
            rounds.push([keyless - local - way, keyless - local - rtt, way, near]);
        }
        let over = |of: usize| median(rounds.iter().filter_map(|round| round.get(of)).copied().collect());
        Ok([over(0), over(1), over(2), over(3)])
    };
    let (zero, ten, fifty) = (
        measure("keys0", 0.0)?,
        measure("keys10", 10.0)?,
        measure("keys50", 50.0)?,
    );
    let [added, nominal, round_trip] = [0, 1, 2].map(|of| Latencies {
        rtt0: zero[of],
        rtt10: ten[of],
        rtt50: fifty[of],
    });
    Ok(Distances {
        added,
        nominal,
        round_trip,
        ping: zero[3],
    })
}

fn table(report: &Report) -> String {
    let rates = &report.hs_per_cpu_s;
    let mut table = format!(
        "\nHandshakes per CPU-second (medians; ratios by rounds), against {}\n{:<15}{:>8}{:>9}{:>8}{:>15}{:>16}\n",
        report.peer, "case", "local", "keyless", "nginx", "keyless/local", "local/nginx"
    );
    for (name, outcome) in [
        ("tls13_p256", &rates.tls13_p256),
        ("tls13_rsa2048", &rates.tls13_rsa2048),
        ("tls12_p256", &rates.tls12_p256),
        ("tls12_rsa2048", &rates.tls12_rsa2048),
        ("tls13_resumed", &rates.tls13_resumed),
        ("tls13_hybrid", &rates.tls13_hybrid),
    ] {
        table += &format!(
            "{name:<15}{:>8.0}{:>9.0}{:>8.0}{:>11.2} CPU{:>16.2}\n",
            outcome.local, outcome.keyless, outcome.nginx_local, outcome.keyless_cost, outcome.local_by_nginx
        );
    }
    let (latency, inflight) = (&report.added_latency_ms_p50, &report.inflight);
    table += &format!(
        "Added to the round trip to the key server, p50: {:.2} ms at 0, {:.2} ms at 10, {:.2} ms at 50 ms\n",
        latency.rtt0, latency.rtt10, latency.rtt50
    );
    let (nominal, way) = (&report.added_latency_nominal_ms_p50, &report.round_trip_ms_p50);
    table += &format!(
        "  round trips as measured by pings: {:.2} and {:.2} ms beyond {:.2} ms; by the nominal ones {:.2} and {:.2} ms were added\n",
        way.rtt10, way.rtt50, report.ping_ms_p50, nominal.rtt10, nominal.rtt50
    );
    table += &format!(
        "{} at once, key server 1 s away: {} served in {:.1} s, {} waiting at most, threads {} idle and {} at most, \
         memory {:.0} MB idle, {:.0} at most, {:.0} after\n",
        inflight.n,
        inflight.ok,
        inflight.seconds,
        inflight.waiting_peak,
        inflight.threads_idle,
        inflight.threads_peak,
        inflight.rss_idle_mb,
        inflight.rss_peak_mb,
        inflight.rss_after_mb
    );
    table += &format!(
        "Key server: {:.0} P-256 signatures per CPU-second, openssl speed {:.0}: {:.2}\n",
        report.keyserver_sign_per_cpu_s,
        report.openssl_sign_per_cpu_s,
        report.keyserver_sign_per_cpu_s / report.openssl_sign_per_cpu_s
    );
    table
}
